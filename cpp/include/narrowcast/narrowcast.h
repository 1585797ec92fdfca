/* narrowcast: numeric format conversion with the same bits on every CPU. This header is the one door of the core.
 *
 * Rules of the whole interface:
 *  - every function returns a status or a value; none prints, throws, aborts or keeps memory;
 *  - there is no global mutable state. What is cached, at first use, is what the CPU can do, the size of its cache, and
 *    the environment variable NARROWCAST_ISA;
 *  - wrong arguments give a status and one sentence in nc_error, and nothing is written to the output;
 *  - structs of options, facts, sums and errors begin with their own size in bytes, so that a newer library understands
 *    an older caller;
 *  - no threads are made unless the field threads of the options asks for them, and none outlives the call. Options
 *    begin as NC_CAST_OPTIONS_INIT; zeros alone would ask for one thread per core.
 */
#ifndef NARROWCAST_H
#define NARROWCAST_H

#include <stddef.h>
#include <stdint.h>

#if defined(NARROWCAST_STATIC)
#define NC_API
#elif defined(_WIN32)
#if defined(NARROWCAST_BUILDING)
#define NC_API __declspec(dllexport)
#else
#define NC_API __declspec(dllimport)
#endif
#else
#define NC_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#define NC_NOEXCEPT noexcept
#else
#define NC_NOEXCEPT
#endif

/* Format codes: NC_FORMAT_e4m3fn and so on, from the rows of formats.def. Any value may come from a caller: it is
 * checked before it is used. */
typedef enum nc_format {
    NC_FORMAT_INVALID = 0,
#define NC_FLOAT(number, id, ...) NC_FORMAT_##id = number,
#define NC_INT(number, id, ...) NC_FORMAT_##id = number,
#include "narrowcast/formats.def"
    NC_FORMAT_LIMIT = 64 /* all codes are below this */
} nc_format;

/* Pack layouts: NC_LAYOUT_lsb and so on, from the rows of layouts.def. */
typedef enum nc_layout {
    NC_LAYOUT_INVALID = 0,
#define NC_LAYOUT(number, id, ...) NC_LAYOUT_##id = number,
#include "narrowcast/layouts.def"
    NC_LAYOUT_LIMIT = 32 /* all codes are below this */
} nc_layout;

/* Quantization dialects: NC_DIALECT_onnx and so on, from the rows of dialects.def. */
typedef enum nc_dialect {
    NC_DIALECT_INVALID = 0,
#define NC_DIALECT(number, id, ...) NC_DIALECT_##id = number,
#include "narrowcast/dialects.def"
    NC_DIALECT_LIMIT = 32 /* all codes are below this */
} nc_dialect;

typedef enum nc_rounding {
    NC_NEAREST_EVEN = 0,
    NC_TOWARD_ZERO = 1,
    NC_UP = 2,
    NC_DOWN = 3,
    NC_NEAREST_AWAY = 4,
    NC_STOCHASTIC = 5
} nc_rounding;

typedef enum nc_overflow {
    NC_OVERFLOW_IEEE = 0,     /* to Inf if the format has it, else NaN, else the largest value */
    NC_OVERFLOW_SATURATE = 1, /* finite overflow and Inf both give the largest value */
    NC_OVERFLOW_RAISE = 2     /* NC_ERROR_OVERFLOW before anything is written */
} nc_overflow;

typedef enum nc_status {
    NC_OK = 0,
    NC_ERROR_ARGUMENT = 1, /* a null pointer, an unknown code, a negative extent, a size that overflows */
    NC_ERROR_FORMAT = 2,   /* this pair of formats is not converted (an integer target, TF32 as a source) */
    NC_ERROR_OVERLAP = 3,  /* the output overlaps the input, or itself, in a way that cannot be converted in place */
    NC_ERROR_OVERFLOW = 4, /* NC_OVERFLOW_RAISE found a value that the target cannot hold; a code too wide to pack */
    NC_ERROR_ISA = 5       /* an unknown instruction set, or one this CPU lacks */
} nc_status;

/* Why NC_ERROR_OVERFLOW came. */
typedef enum nc_reason {
    NC_REASON_NONE = 0,
    NC_REASON_FINITE = 1,   /* a finite value beyond the largest one, after rounding */
    NC_REASON_INFINITE = 2, /* an infinity, and the target has none */
    NC_REASON_NAN = 3,      /* a NaN, and the target has none */
    NC_REASON_ZERO = 4,     /* a zero, and the target has none (E8M0) */
    NC_REASON_NEGATIVE = 5  /* a negative value, and the target has no sign (E8M0) */
} nc_reason;

typedef struct nc_error {
    size_t size;       /* sizeof(nc_error), set by the caller */
    int32_t status;    /* nc_status */
    int32_t reason;    /* nc_reason, for NC_ERROR_OVERFLOW */
    uint64_t index;    /* smallest C-order index of an offending element, for NC_ERROR_OVERFLOW */
    double value;      /* that element, rounded to float64 */
    char message[240]; /* one sentence, always terminated; empty for NC_OK */
} nc_error;

/* An array in memory. Data may have any alignment; that of an input is never written. */
typedef struct nc_array {
    void* data;             /* first element (logical index 0, ..., 0); may be null if the array has no elements */
    const int64_t* shape;   /* ndim extents, each >= 0; may be null if ndim is 0 */
    const int64_t* strides; /* ndim strides in bytes, any sign; null means C-contiguous */
    int32_t ndim;           /* 0 to NC_MAX_NDIM */
    int32_t format;         /* nc_format */
    uint32_t flags;         /* NC_ARRAY_ flags */
    uint32_t reserved;      /* 0 */
} nc_array;

enum { NC_MAX_NDIM = 64 };
enum { NC_ARRAY_BYTE_SWAPPED = 1u };

typedef struct nc_cast_options {
    size_t size;                /* sizeof(nc_cast_options), set by the caller */
    int32_t rounding;           /* nc_rounding */
    int32_t overflow;           /* nc_overflow */
    uint64_t seed;              /* NC_STOCHASTIC only: the Philox4x32-10 key */
    uint64_t offset;            /* NC_STOCHASTIC only: logical index of the first element */
    int32_t threads;            /* 1: the calling thread alone; n: at most n threads; 0: one per core */
    int32_t reserved;           /* 0 */
    const char* isa;            /* null: NARROWCAST_ISA or the best one; else a name from nc_isa_name */
    struct nc_error_sums* lost; /* null, or where to add what the cast lost, at little more cost than the cast: as
                                   nc_cast_error does afterwards. Not for casts in place, which leave no x to compare */
} nc_cast_options;

/* The defaults, on one thread: nc_cast_options options = NC_CAST_OPTIONS_INIT; */
#define NC_CAST_OPTIONS_INIT {sizeof(nc_cast_options), 0, 0, 0, 0, 1, 0, NULL, NULL}

/* Converts x into out, element by element in C order. The shapes must be equal. options may be null (nearest-even,
 * ieee, one thread); error may be null. Out may be x itself when both are contiguous, start at the same address and
 * out's items are no larger than x's; any other overlap of their byte ranges is NC_ERROR_OVERLAP. */
NC_API nc_status nc_cast(const nc_array* x, const nc_array* out, const nc_cast_options* options,
                         nc_error* error) NC_NOEXCEPT;

/* Codes of 1 to 8 bits, a byte each, and the layouts in which they are packed. The codes are an array in C order, along
 * one axis of which runs the layout: n = (outer) * along * inner. Each line along that axis is packed by itself into
 * whole words, and the words lie as the codes did: so gptq's words down K of (K, N) are along = K, inner = N. The
 * layout marlin takes tiles of both axes, K a multiple of 16 and N one of 64. */
typedef struct nc_pack_options {
    size_t size;       /* sizeof(nc_pack_options), set by the caller */
    int32_t layout;    /* nc_layout */
    int32_t is_signed; /* 1: codes are two's complement: unpacking extends the sign, checking looks for it */
    int32_t check;     /* nc_pack: 1: NC_ERROR_OVERFLOW if a code does not fit, before anything is written */
    int32_t threads;   /* 1: the calling thread alone; n: at most n threads; 0: one per core */
    const char* isa;   /* null: NARROWCAST_ISA or the best one; else a name from nc_isa_name */
    size_t along;      /* codes along the layout's axis; 0: n / inner, which is one line if inner is 1 */
    size_t inner;      /* codes from one to the next of that axis: the extents of all later axes; 0: 1 */
} nc_pack_options;

/* The defaults, on one thread: nc_pack_options options = NC_PACK_OPTIONS_INIT; */
#define NC_PACK_OPTIONS_INIT {sizeof(nc_pack_options), 0, 0, 0, 1, NULL, 0, 0}

/* Bytes that one line of n codes takes in a layout; an array takes them once for each of its lines. NC_ERROR_ARGUMENT,
 * and *bytes left alone, for a null pointer, a layout that does not exist, a width it does not have, or a count that no
 * memory holds. */
NC_API nc_status nc_packed_bytes(size_t n, int32_t bits, int32_t layout, size_t* bytes) NC_NOEXCEPT;

/* Packs n codes into packed_bytes bytes, which must be what all lines take. Only the low `bits` bits of a code are
 * read; bits that no code fills are zero. options may be null (lsb, one line, unsigned, unchecked, one thread); error
 * may be null. A long line of lsb may be packed in pieces of a multiple of 8 codes, one behind the other. packed may
 * begin where codes begins if they are one line of lsb; any other overlap is NC_ERROR_OVERLAP. */
NC_API nc_status nc_pack(const void* codes, size_t n, int32_t bits, void* packed, size_t packed_bytes,
                         const nc_pack_options* options, nc_error* error) NC_NOEXCEPT;

/* The way back: n codes, a byte each, from packed_bytes bytes. The bits above a code are zero or, if options.is_signed,
 * copies of its top bit. Bits that belong to no code are ignored. No overlap is allowed. */
NC_API nc_status nc_unpack(const void* packed, size_t packed_bytes, int32_t bits, void* codes, size_t n,
                           const nc_pack_options* options, nc_error* error) NC_NOEXCEPT;

/* From one layout to another, as nc_unpack(from) and nc_pack(to) would, without an array between them. Their axes may
 * differ. Threads and isa are those of `to`. No overlap is allowed. */
NC_API nc_status nc_repack(const void* packed, size_t packed_bytes, size_t n, int32_t bits, void* out, size_t out_bytes,
                           const nc_pack_options* from, const nc_pack_options* to, nc_error* error) NC_NOEXCEPT;

/* Facts of one layout. */
typedef struct nc_layout_info {
    size_t size;        /* sizeof(nc_layout_info), set by the caller */
    const char* name;   /* "lsb" */
    int32_t layout;     /* nc_layout */
    int32_t least_bits; /* the narrowest and the widest codes that it has */
    int32_t most_bits;
    int32_t widths;      /* bit b is set if it has codes of b bits */
    int32_t word_bits;   /* of the items that it is stored in: 8 or 32 */
    int32_t axis;        /* that its owner packs along: -1 the last, -2 the one before it, 0 the first */
    int32_t biased;      /* 1: signed codes are stored as code + 2^(bits - 1) */
    int32_t inner_codes; /* what `inner` must be a multiple of */
} nc_layout_info;

/* How many codes of so many bits fill whole words: lines that are not a multiple of it end with zero bits. 0 for a
 * layout or a width that there is not. */
NC_API int32_t nc_layout_granule(int32_t layout, int32_t bits) NC_NOEXCEPT;

/* The layout codes in the order of layouts.def: nc_layout_at(0), ... until it returns NC_LAYOUT_INVALID. */
NC_API int32_t nc_layout_at(int32_t position) NC_NOEXCEPT;
/* Fills info; NC_ERROR_ARGUMENT for a null pointer or an unknown code. */
NC_API nc_status nc_layout_get_info(int32_t layout, nc_layout_info* info) NC_NOEXCEPT;
/* The code of a name; NC_LAYOUT_INVALID if there is none. */
NC_API int32_t nc_layout_from_name(const char* name) NC_NOEXCEPT;

/* What a cast lost. Every field from count on is added to (max_error: raised), so that an array may come in pieces, and
 * tensors may be added up; begin with zeros. From sum_x2 and sum_error2 follow RMSE and SQNR = 10 log10(x2 / error2).
 *
 * The counts are exact, and the same with every instruction set. The sums are over the finite pairs: elements of which
 * both x and out are finite. They are kept in float64 and are within 2^-19 (two millionths) of the exact sums,
 * max_error within 2^-24 of the exact maximum; beyond that only this is promised: the same instruction set and the same
 * pieces give the same sums. Squares that float64 cannot hold (of huge float64 values) make a sum Inf. */
typedef struct nc_error_sums {
    size_t size;          /* sizeof(nc_error_sums), set by the caller */
    int32_t squares_only; /* set by the caller: 1 leaves sum_error and max_error alone and takes less time; else 0 */
    int32_t reserved;     /* 0 */
    uint64_t count;       /* elements */
    uint64_t finite;      /* finite pairs */
    double sum_x2;        /* x * x */
    double sum_error2;    /* (x - out) * (x - out) */
    double sum_error;     /* |x - out| */
    double max_error;     /* the largest |x - out| */
    uint64_t overflowed;  /* finite x beyond the largest finite value of out's format after rounding, the rule of
                             NC_OVERFLOW_RAISE; by x alone, so also where saturation or toward_zero hides it. With
                             NC_STOCHASTIC: finite x whose magnitude is above the largest finite value (E8M0, which has
                             no sign: finite positive x) */
    uint64_t became_zero; /* x neither zero nor NaN, out zero */
    uint64_t became_nan;  /* x not NaN, out NaN */
} nc_error_sums;

/* Compares x with out, which nc_cast made of it with these options, and adds to sums. x and out are what nc_cast takes,
 * in any layout and byte order, and both are only read. Of the options rounding and isa matter, for out's format and
 * bits say the rest; all are checked. Runs on the calling thread. On an error sums is left alone. */
NC_API nc_status nc_cast_error(const nc_array* x, const nc_array* out, const nc_cast_options* options,
                               nc_error_sums* sums, nc_error* error) NC_NOEXCEPT;

/* Linear quantization: code = round(x / scale) + zero point, clamped, in the arithmetic of a dialect.
 *
 * One scale belongs to each box of `block` elements: the scales are an array with as many dimensions as x, of
 * ceil(extent / block extent) elements in each. So a block equal to the shape is one scale for all (and so is block =
 * null), one row is {1, K}, groups of 128 are {1, 128}, a channel of axis 0 is {1, K, ...}; the last box of an axis may
 * be short.
 *
 * The codes: one per item (signed or unsigned bytes; 16-bit items for more than 8 bits; an 8-, 6- or 4-bit float
 * format), or bytes packed along the last axis in the layout NC_LAYOUT_lsb, whose bits must end on a byte. Scales are
 * float32, float16, bfloat16 or float8_e8m0fnu; zero points int32, or float32 or float16 in the dialects whose zero is
 * a shift; row sums int32, of integer codes, with the shape of x without its last axis. Strides are free, but packed
 * bytes lie side by side along the last axis. What is written may not overlap anything. Zero points that are added to
 * rounded codes of a byte, in dialects that take others than codes, are at most 2^14 in magnitude. */
typedef struct nc_quantize_options {
    size_t size;       /* sizeof(nc_quantize_options), set by the caller */
    int32_t dialect;   /* nc_dialect */
    int32_t format;    /* nc_format of float codes; NC_FORMAT_INVALID: integer codes, of these: */
    int32_t bits;      /* 1 to 16 */
    int32_t is_signed; /* 1: two's complement */
    int32_t qmin;      /* the codes in use, inside what the bits hold; both 0: all of them */
    int32_t qmax;
    int32_t symmetric; /* computed scales: 1: the zero point is 0 (unsigned codes: the middle) */
    int32_t compute;   /* nc_format f32, f16 or bf16 that each step is rounded to; NC_FORMAT_INVALID: the dialect's */
    int32_t layout;    /* nc_layout: codes are packed; NC_LAYOUT_INVALID: they are not */
    int32_t dynamic;   /* nc_quantize: 1: scales and zero points are computed and written; 0: they are given */
    float scale_max;   /* computed scales are at most this; 0: no limit */
    int32_t threads;   /* 1: the calling thread alone; n: at most n threads; 0: one per core */
    const int64_t* block; /* extents of the boxes, as many as x has dimensions, each >= 1; null: all of x is one box */
    const char* isa;      /* null: NARROWCAST_ISA or the best one; else a name from nc_isa_name */
} nc_quantize_options;

/* int8, the arithmetic of onnxruntime, one given scale, one thread. */
#define NC_QUANTIZE_OPTIONS_INIT {sizeof(nc_quantize_options), 1, 0, 8, 1, 0, 0, 1, 0, 0, 0, 0, 1, NULL, NULL}

/* x (any float format) to codes. zero_point may be null (all zero); row_sums may be null (not wanted), else the sums of
 * the codes of each line of the last axis. With options.dynamic the boxes must each lie in one contiguous stretch of x
 * (rows, groups, or all of a contiguous array): for others call nc_range and nc_choose_qparams first. */
NC_API nc_status nc_quantize(const nc_array* x, const nc_array* codes, const nc_array* scale,
                             const nc_array* zero_point, const nc_array* row_sums, const nc_quantize_options* options,
                             nc_error* error) NC_NOEXCEPT;

/* Codes to (code - zero point) * scale, computed in float32 and rounded to out's float format; with a float zero point
 * code * scale - shift, as its dialect has it. Any codes may come in: bits above a code's width are ignored. */
NC_API nc_status nc_dequantize(const nc_array* codes, const nc_array* scale, const nc_array* zero_point,
                               const nc_array* out, const nc_quantize_options* options, nc_error* error) NC_NOEXCEPT;

/* nc_quantize with given scales and nc_dequantize in one pass: x onto the grid, rounded to out's format. */
NC_API nc_status nc_fake_quantize(const nc_array* x, const nc_array* scale, const nc_array* zero_point,
                                  const nc_array* out, const nc_quantize_options* options, nc_error* error) NC_NOEXCEPT;

/* The smallest and the largest finite value of each box, float32 each (a value beyond float32 counts as the largest);
 * +0 and +0 where there is none. Of the options block, threads and isa matter. */
NC_API nc_status nc_range(const nc_array* x, const nc_array* low, const nc_array* high,
                          const nc_quantize_options* options, nc_error* error) NC_NOEXCEPT;

/* Scales and zero points (may be null if options.symmetric) from ranges, box by box, as nc_quantize with
 * options.dynamic computes them for an x of the format x_format. All arrays have one shape. */
NC_API nc_status nc_choose_qparams(const nc_array* low, const nc_array* high, int32_t x_format, const nc_array* scale,
                                   const nc_array* zero_point, const nc_quantize_options* options,
                                   nc_error* error) NC_NOEXCEPT;

/* Gradients of a scaled loss back to their size: out = x * inv_scale for each of `count` arrays, one after the other,
 * with the rule of torch's _amp_foreach_non_finite_check_and_unscale_. float64 is multiplied in float64, float32,
 * float16 and bfloat16 in float32, and each product is rounded to nearest-even, to Inf where it overflows. Every
 * element is multiplied, also what is not finite; with an inv_scale of 1 the bits are copied, those of a NaN too.
 *
 * *found_inf becomes 1 if any element of any x is not finite, and is left alone otherwise, so that calls add up. out
 * may be null: in place; else out[i] has shape and format of x[i], and is x[i] itself, element by element, or apart
 * from it. Of the options threads and isa matter; all are checked. All arrays are checked before any is written. */
NC_API nc_status nc_unscale(const nc_array* x, const nc_array* out, size_t count, float inv_scale,
                            const nc_cast_options* options, int32_t* found_inf, nc_error* error) NC_NOEXCEPT;

/* Compares x with what nc_dequantize makes of its codes in float32, and adds to sums as nc_cast_error does.
 * `overflowed` counts what was clipped: finite x beyond the value of the lowest or the highest code by more than half a
 * step, with that code. x counts as float32. Runs on the calling thread. On an error sums is left alone. */
NC_API nc_status nc_quantization_error(const nc_array* x, const nc_array* codes, const nc_array* scale,
                                       const nc_array* zero_point, const nc_quantize_options* options,
                                       nc_error_sums* sums, nc_error* error) NC_NOEXCEPT;

/* Facts of one format. */
typedef struct nc_format_info {
    size_t size;           /* sizeof(nc_format_info), set by the caller */
    const char* name;      /* public name: "float8_e4m3fn" */
    const char* id;        /* short id: "e4m3fn" */
    int32_t format;        /* nc_format */
    int32_t is_float;      /* 1 for a float format, 0 for an integer one (a source only) */
    int32_t storage_bytes; /* bytes per element in memory */
    int32_t bits;          /* bits of a code: 4 for float4_e2m1fn, 19 for tfloat32 */
    int32_t sign_bits;     /* 1 or 0 */
    int32_t exponent_bits; /* 0 for integers */
    int32_t mantissa_bits; /* stored fraction bits; 0 for integers */
    int32_t bias;          /* exponent bias; 0 for integers */
    int32_t has_inf;       /* booleans */
    int32_t has_nan;
    int32_t has_zero;
    int32_t has_negative_zero;
    uint64_t max_code;                /* storage code of the largest finite value */
    uint64_t min_code;                /* storage code of the smallest finite value */
    uint64_t smallest_normal_code;    /* storage code of the smallest positive normal value */
    uint64_t smallest_subnormal_code; /* storage code of the smallest positive value */
    uint64_t nan_code;                /* canonical NaN, positive where there is a choice; 0 if has_nan is 0 */
    uint64_t negative_nan_code;       /* canonical NaN with the sign; equals nan_code where there is no choice */
    uint64_t inf_code;                /* +Inf; 0 if has_inf is 0 */
} nc_format_info;

/* The format codes in the order of formats.def: nc_format_at(0), ... until it returns NC_FORMAT_INVALID. */
NC_API int32_t nc_format_at(int32_t position) NC_NOEXCEPT;
/* Fills info; NC_ERROR_ARGUMENT for a null pointer or an unknown code. */
NC_API nc_status nc_format_get_info(int32_t format, nc_format_info* info) NC_NOEXCEPT;
/* The code of a public name or short id; NC_FORMAT_INVALID if there is none. */
NC_API int32_t nc_format_from_name(const char* name) NC_NOEXCEPT;

/* Instruction sets compiled into this library, best first; null past the end. */
NC_API const char* nc_isa_name(int32_t position) NC_NOEXCEPT;
/* 1 if this CPU and operating system can run it, 0 if not or if the name is unknown. */
NC_API int32_t nc_isa_supported(const char* name) NC_NOEXCEPT;
/* The set that a call without options.isa uses: NARROWCAST_ISA if it is set when first asked for, else the best one
 * this CPU supports. NC_ERROR_ISA, with a sentence in error, if NARROWCAST_ISA names no set or one this CPU lacks. */
NC_API nc_status nc_isa_default(const char** name, nc_error* error) NC_NOEXCEPT;
/* A space-separated list of the CPU features that this library looks at and found ("avx2 f16c fma ..."), written
 * into buffer (always terminated); returns the length it would need. */
NC_API size_t nc_cpu_features(char* buffer, size_t size) NC_NOEXCEPT;

/* "0.1.0" */
NC_API const char* nc_version(void) NC_NOEXCEPT;
/* A short name of a status: "ok", "argument", ... */
NC_API const char* nc_status_name(int32_t status) NC_NOEXCEPT;

#ifdef __cplusplus
}
#endif
#endif /* NARROWCAST_H */
