// The contract between api/ and the ISA units: a constant table of functions per instruction set. Every slot of every
// table that the plan in api/ can reach is filled; there is no fallback logic.
//
// All kernels: pointers and a count; any alignment; read and write no byte outside their range; never allocate, fail,
// throw, print or thread. They run with the default floating-point environment (api/ installs it). They go forward
// and load before they store, so out may be the source itself if its items are no larger.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "narrowcast/narrowcast.h"

namespace narrowcast {

// Items per L1 tile: the unit in which two-step casts, strides, byte orders and random words are handled.
enum : size_t { tile_items = 512 };

// How an encode rounds: a loop-invariant argument. `random` holds one word per element (stochastic only).
struct EncodeMode {
    int32_t rounding; // nc_rounding
    int32_t overflow; // NC_OVERFLOW_IEEE or NC_OVERFLOW_SATURATE
    const uint32_t* random;
};

// Where a value stops fitting, as float32 magnitude bits; from codec/reference.hpp for a target and a rounding.
struct CensusRule {
    uint32_t overflow_positive; // a finite positive value with magnitude bits >= this overflows
    uint32_t overflow_negative; // the same for negative values
    uint32_t zero_below;        // a nonzero positive value with magnitude bits < this becomes zero; 0 if none does
};

struct Census {
    uint64_t overflow; // finite values that overflow
    uint64_t infinite; // +-Inf
    uint64_t zeroed;   // nonzero values that become zero
    uint64_t zero;     // +-0
    uint64_t negative; // values below zero, -Inf included, NaN not
    uint64_t nan;
};

// What bits a set of codes has, a byte each.
struct CodeBits {
    uint8_t set;    // in any of them
    uint8_t folded; // in any of them, after every bit was compared with the top one: 0 to 7f
};

// src -> dst. `stream` asks for non-temporal stores (with the fence) where the ISA has them.
using ConvertFn = void (*)(const void* src, void* dst, size_t n, bool stream) noexcept;
using EncodeFn = void (*)(const void* src, void* dst, size_t n, const EncodeMode& mode, bool stream) noexcept;
using CensusFn = void (*)(const uint32_t* f32, size_t n, const CensusRule& rule, Census& sum) noexcept;
using ErrorFn = void (*)(const uint32_t* x_f32, const uint32_t* y_f32, size_t n, const CensusRule& rule,
                         nc_error_sums& sums) noexcept;
using PhiloxFn = void (*)(uint64_t seed, uint64_t first_block, uint32_t* words, size_t blocks) noexcept;
// n codes, a byte each, <-> a dense stream of the low bits of each, the first in the lowest bits; whole bytes, the last
// one filled up with zeros. Packing may go onto the codes themselves. is_signed: the top bit of a code fills its byte.
using PackFn = void (*)(const void* codes, void* packed, size_t n, bool stream) noexcept;
using UnpackFn = void (*)(const void* packed, void* codes, size_t n, bool is_signed, bool stream) noexcept;
using CodeBitsFn = CodeBits (*)(const void* codes, size_t n) noexcept;

// --- quantization: see kernels/quantize.inl.hpp and, for what each number means, codec/quantize.hpp ------------------

// How a quotient is made; the rows of dialects.def name them.
enum QuantizeOp : int32_t { op_divide = 0, op_multiply = 1, op_fma = 2, op_count = 3 };
// Whether an entry of the parameters belongs to a row of the rectangle or to a column.
enum Along : int32_t { along_rows = 0, along_columns = 1, along_count = 2 };

// A rectangle of elements: within a row they are neighbours, rows begin at multiples of these many bytes.
struct Rectangle {
    size_t rows, cols;
    ptrdiff_t src_step, dst_step;
};

// Per row or per column: q = quotient(x + shift, factor) [+ zero], rounded to an integer, + offset, clamped. Null:
// there is none.
struct QuantizeParams {
    const float* factor; // op_divide: the divisor; else the multiplier
    const float* shift;  // added to x
    const float* zero;   // added to the quotient (op_fma: in the same step)
    const float* offset; // added to the rounded quotient, an integer: codes of a byte at most 2^14, else 2^23
    const float* low;    // along rows: every x is in [low, high], and none is NaN; null: nothing is known
    const float* high;

    QuantizeParams from(size_t i) const noexcept {
        const auto at = [i](const float* numbers) { return numbers != nullptr ? numbers + i : nullptr; };
        return {at(factor), at(shift), at(zero), at(offset), at(low), at(high)};
    }
};

struct QuantizeRule {
    int32_t low, high; // the codes that may come out
    bool nan_high;     // which of them a NaN gives
    int32_t item;      // bytes of a code: 1 or 2; 4: the sum before it is rounded is wanted, as float32, not clamped,
                       // of NaN the positive one; a zero that is added keeps the sign of a zero
};

// (code - zero) * scale + bias, the product rounded before the sum unless `fused`. A bias that is null: nothing is
// added. NaN comes out positive.
struct DequantizeParams {
    const float* scale;
    const float* zero;
    const float* bias;
    bool fused;
};
// The last two: packed codes of 4 bits, the first in the low half of a byte, rows beginning with a byte; along rows
// only.
enum CodeKind : int32_t { codes_i8 = 0, codes_u8 = 1, codes_f32 = 2, codes_i4 = 3, codes_u4 = 4, code_kinds = 5 };

using QuantizeFn = void (*)(const void* x_f32, void* codes, const Rectangle& r, const QuantizeParams& params,
                            const QuantizeRule& rule, bool stream) noexcept;
using DequantizeFn = void (*)(const void* codes, void* out, const Rectangle& r, const DequantizeParams& params,
                              bool stream) noexcept;
// Lowers low and raises high, an entry per row or column, to the finite values met, of which -0 counts as +0.
using RangeFn = void (*)(const void* x_f32, const Rectangle& r, float* low, float* high) noexcept;
// Lowers low and raises high, an entry per row, both finite and with zero between them, to the values met. Returns
// whether all of these are finite; if not, the entries mean nothing.
using SpanFn = bool (*)(const void* x_f32, const Rectangle& r, float* low, float* high) noexcept;
// Adds the codes of each row, signed or unsigned bytes or 16-bit items, to sums (which wrap around).
using CodeSumsFn = void (*)(const void* codes, const Rectangle& r, int32_t item, bool is_signed,
                            int32_t* sums) noexcept;

// x * inv_scale, which is finite and not 0: float64 in float64, all else in float32 and then to nearest-even. 1 copies
// the bits. Returns whether any x is not finite.
using UnscaleFn = bool (*)(const void* x, void* out, size_t n, float inv_scale, bool stream) noexcept;

enum : int32_t { most_code_bits = 8 };
enum : int32_t { hub_f32 = 0, hub_f16 = 1, hub_bf16 = 2, hub_count = 3 };

// Indexed by format code throughout; null where the comment does not name the pair.
struct KernelTable {
    const char* name;
    bool flags_present; // the ISA's compiler flags really reached the unit

    // Every source but float32 and TF32 -> float32: exact where float32 holds the source (floats: the final result of
    // the cast, NaN codes included); float64, (u)int32 and (u)int64 rounded to odd, so that one more rounding to at
    // most 22 significant bits rounds once.
    ConvertFn widen[NC_FORMAT_LIMIT];
    // 8-bit and narrower floats but E8M0 -> [hub_f16] float16, [hub_bf16] bfloat16: exact.
    ConvertFn widen16[NC_FORMAT_LIMIT][hub_count];
    // {float32, float16, bfloat16} -> every narrow float target (float16, bfloat16, TF32 and below; not onto itself),
    // nearest-even, [0] ieee, [1] saturate.
    ConvertFn direct[hub_count][NC_FORMAT_LIMIT][2];
    // float32 -> narrow target, any rounding, ieee or saturate.
    EncodeFn encode[NC_FORMAT_LIMIT];
    // float64 -> narrow target, stochastic, ieee or saturate: rounded once, from the float64 itself.
    EncodeFn stochastic64[NC_FORMAT_LIMIT];
    // float64, (u)int32, (u)int64 -> float32 and float32, (u)int32, (u)int64 -> float64, rounded once. Not for
    // nearest_away and stochastic. mode.rounding and the floating-point environment say the same (api/ sets both):
    // vector units use the environment, the scalar codec the argument.
    EncodeFn to_f32[NC_FORMAT_LIMIT];
    EncodeFn to_f64[NC_FORMAT_LIMIT];
    // Adds what it finds in n float32 values to sum.
    CensusFn census;
    // Compares n float32 values with what became of them, also as float32, and adds to every field of sums but size.
    // Of the rule only the overflow thresholds are read.
    ErrorFn error;
    // Philox4x32-10: 4 words for each of `blocks` counters first_block, first_block + 1, ...
    PhiloxFn philox;
    // Indexed by the bits of a code, from 1.
    PackFn pack[most_code_bits + 1];
    UnpackFn unpack[most_code_bits + 1];
    CodeBitsFn code_bits;
    // [op][what each step is rounded to: hub][along]. op_fma exists for hub_f32 only.
    QuantizeFn quantize[op_count][hub_count][along_count];
    // [codes][format of out: hub][along]
    DequantizeFn dequantize[code_kinds][hub_count][along_count];
    RangeFn range[along_count];
    SpanFn span;
    CodeSumsFn code_sums;
    // float64, float32, float16 and bfloat16, onto themselves.
    UnscaleFn unscale[NC_FORMAT_LIMIT];
};

} // namespace narrowcast
