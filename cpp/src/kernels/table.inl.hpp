// The kernels proper (block functions under run) and the table that every vector ISA starts from; overrides replace
// single slots afterwards. Text-included once per ISA unit, after all other *.inl.hpp; no guard.

namespace narrowcast {
namespace {

// --- to float32 / 16-bit ------------------------------------------------------------------------------------------

template <int32_t Src> void widen_float(const void* src, void* dst, size_t n, bool stream) noexcept {
    run<static_cast<size_t>(row(Src).storage_bytes), 4>(
        src, dst, n, stream, [](const unsigned char* from, unsigned char* to, bool nt) NC_INLINE_LAMBDA {
            U x[4];
            load_block<Src>(from, x);
            for (size_t k = 0; k < 4; ++k)
                store(to + k * lanes * 4, x[k], nt);
        });
}

// --- nearest-even -------------------------------------------------------------------------------------------------

// The top bits of float32 as codes of a format with float32's exponent.
template <int32_t Dst> NC_INLINE void store_truncated(unsigned char* to, const U (&y)[4], bool nt) {
    constexpr uint32_t kept = ~((1u << (23 - row(Dst).mantissa_bits)) - 1);
    if constexpr (row(Dst).storage_bytes == 4) {
        for (size_t k = 0; k < 4; ++k)
            store(to + k * lanes * 4, band(y[k], splat(kept)), nt);
    } else {
        static_assert(row(Dst).bits == 16);
        store_words(to, shr<16>(y[0]), shr<16>(y[1]), nt);
        store_words(to + lanes * 4, shr<16>(y[2]), shr<16>(y[3]), nt);
    }
}

// Bytes -> bfloat16: exact, so the low halves of the float32 are empty.
template <int32_t Src> void widen_bfloat16(const void* src, void* dst, size_t n, bool stream) noexcept {
    run<1, 2>(src, dst, n, stream, [](const unsigned char* from, unsigned char* to, bool nt) NC_INLINE_LAMBDA {
        U x[4];
        load_block<Src>(from, x);
        store_truncated<NC_FORMAT_bf16>(to, x, nt);
    });
}

template <int32_t Dst, bool Saturate> NC_INLINE void store_even(unsigned char* to, U (&x)[4], bool nt) {
    if constexpr (Dst == NC_FORMAT_f16) {
        if constexpr (Saturate)
            for (U& v : x)
                v = clamp_half(v);
        store_halves(to, x[0], x[1], nt);
        store_halves(to + lanes * 4, x[2], x[3], nt);
    } else if constexpr (has_float32_exponent<Dst>()) {
        U y[4];
        for (size_t k = 0; k < 4; ++k)
            y[k] = even_untruncated<Dst, Saturate>(x[k]);
        restore_nan<Dst>(x, y);
        store_truncated<Dst>(to, y, nt);
    } else {
        store_bytes(to, encode_even_bytes<Dst, Saturate>(x[0], x[1], x[2], x[3]), nt);
    }
}

template <int32_t Src, int32_t Dst, bool Saturate>
void cast_even(const void* src, void* dst, size_t n, bool stream) noexcept {
    run<static_cast<size_t>(row(Src).storage_bytes), static_cast<size_t>(row(Dst).storage_bytes)>(
        src, dst, n, stream, [](const unsigned char* from, unsigned char* to, bool nt) NC_INLINE_LAMBDA {
            if constexpr (Src == NC_FORMAT_bf16 && row(Dst).storage_bytes == 1 && !is_scale<Dst>()) {
                const W low = load_words(from), high = load_words(from + lanes * 4);
                store_unpacked_bytes(to, encode_even_words<Dst, Saturate>(low, high), nt);
            } else {
                U x[4];
                load_block<Src>(from, x);
                store_even<Dst, Saturate>(to, x, nt);
            }
        });
}

// --- any rounding -------------------------------------------------------------------------------------------------

template <int32_t Dst> NC_INLINE void store_codes(unsigned char* to, const U (&code)[4], bool nt) {
    if constexpr (row(Dst).storage_bytes == 1) {
        store_bytes(to, pack_bytes(code[0], code[1], code[2], code[3]), nt);
    } else {
        static_assert(row(Dst).storage_bytes == 2);
        store_words(to, code[0], code[1], nt);
        store_words(to + lanes * 4, code[2], code[3], nt);
    }
}

// Encodes one block; random is null unless the rounding is stochastic.
template <int32_t Dst, class Vectors>
NC_INLINE void block_mode(const unsigned char* from, const uint32_t* random, unsigned char* to, const Vectors& v,
                          bool nt) {
    U x[4], y[4];
    load_block<NC_FORMAT_f32>(from, x);
    for (size_t k = 0; k < 4; ++k) {
        const U word = random != nullptr ? load(random + k * lanes) : splat(0);
        if constexpr (is_scale<Dst>())
            y[k] = encode_mode_scale(x[k], word, v);
        else if constexpr (has_float32_exponent<Dst>())
            y[k] = mode_untruncated<Dst>(x[k], word, v);
        else
            y[k] = encode_mode<Dst>(x[k], word, v);
    }
    if constexpr (has_float32_exponent<Dst>()) {
        restore_nan<Dst>(x, y);
        store_truncated<Dst>(to, y, nt);
    } else {
        store_codes<Dst>(to, y, nt);
    }
}

// Formats whose direction the hardware conversion takes as an immediate.
template <int Direction> void encode_half(const void* src, void* dst, size_t n, bool saturate, bool stream) noexcept {
    run<4, 2>(src, dst, n, stream, [saturate](const unsigned char* from, unsigned char* to, bool nt) NC_INLINE_LAMBDA {
        U x[4];
        load_block<NC_FORMAT_f32>(from, x);
        for (U& v : x)
            v = float_to_half<Direction>(saturate ? clamp_half(v) : v);
        store_codes<NC_FORMAT_f16>(to, x, nt);
    });
}

template <int32_t Dst>
void cast_mode(const void* src, void* dst, size_t n, const EncodeMode& mode, bool stream) noexcept {
    if (mode.rounding == NC_NEAREST_EVEN) {
        if (mode.overflow == NC_OVERFLOW_SATURATE)
            return cast_even<NC_FORMAT_f32, Dst, true>(src, dst, n, stream);
        return cast_even<NC_FORMAT_f32, Dst, false>(src, dst, n, stream);
    }
    if constexpr (Dst == NC_FORMAT_f16) {
        const bool saturate = mode.overflow == NC_OVERFLOW_SATURATE;
        switch (mode.rounding) {
        case NC_DOWN: return encode_half<1>(src, dst, n, saturate, stream);
        case NC_UP: return encode_half<2>(src, dst, n, saturate, stream);
        case NC_TOWARD_ZERO: return encode_half<3>(src, dst, n, saturate, stream);
        default: break;
        }
    }
    constexpr size_t item = static_cast<size_t>(row(Dst).storage_bytes);
    const auto vectors = [&] {
        if constexpr (is_scale<Dst>())
            return mode;
        else if constexpr (has_float32_exponent<Dst>())
            return truncate_vectors<Dst>(mode);
        else
            return mode_vectors<Dst>(mode);
    }();
    if (mode.rounding != NC_STOCHASTIC) {
        run<4, item>(src, dst, n, stream, [&](const unsigned char* from, unsigned char* to, bool nt) NC_INLINE_LAMBDA {
            block_mode<Dst>(from, nullptr, to, vectors, nt);
        });
        return;
    }
    // Stochastic reads a second stream, one word per element: whole blocks here, the rest padded by hand.
    const unsigned char* from = static_cast<const unsigned char*>(src);
    unsigned char* to = static_cast<unsigned char*>(dst);
    size_t i = 0;
    for (; i + block <= n; i += block)
        block_mode<Dst>(from + i * 4, mode.random + i, to + i * item, vectors, false);
    if (i < n) {
        uint32_t x[block] = {}, random[block] = {};
        unsigned char out[block * item];
        NC_COPY(x, from + i * 4, (n - i) * 4);
        NC_COPY(random, mode.random + i, (n - i) * 4);
        block_mode<Dst>(reinterpret_cast<const unsigned char*>(x), random, out, vectors, false);
        NC_COPY(to + i * item, out, (n - i) * item);
    }
}

// --- stochastic from float64: onto the grid, then write it down ------------------------------------------------------

template <bool Scale>
NC_NOINLINE void encode_on_grid(const void* src, void* dst, size_t item, size_t n, const uint32_t* random, Grid grid,
                                ConvertFn write) {
    const unsigned char* from = static_cast<const unsigned char*>(src);
    unsigned char* to = static_cast<unsigned char*>(dst);
    alignas(64) float tile[tile_items];
    for (size_t done = 0; done < n; done += tile_items) {
        const size_t count = n - done < tile_items ? n - done : static_cast<size_t>(tile_items);
        round_to_grid<Scale>(from + done * 8, random + done, tile, count, grid);
        write(tile, to + done * item, count, false);
    }
}

template <int32_t Dst> void encode_double(const void* src, void* dst, size_t n, const EncodeMode& mode, bool) noexcept {
    encode_on_grid<is_scale<Dst>()>(src, dst, static_cast<size_t>(row(Dst).storage_bytes), n, mode.random,
                                    grid_of<Dst>(),
                                    mode.overflow == NC_OVERFLOW_SATURATE ? &cast_even<NC_FORMAT_f32, Dst, true>
                                                                          : &cast_even<NC_FORMAT_f32, Dst, false>);
}

// --- the table ----------------------------------------------------------------------------------------------------

template <int32_t Src> constexpr void fill_source(KernelTable& table) {
    constexpr Row r = row(Src);
    if constexpr (Src == NC_FORMAT_f32 || Src == NC_FORMAT_tf32) {
    } else if constexpr (r.is_float) {
        table.widen[Src] = &widen_float<Src>;
    } else if constexpr (r.bits <= 24) {
        table.widen[Src] = &widen_small<Src>;
    } else if constexpr (r.bits == 32) {
        table.widen[Src] = &widen_i32<Src>;
    } else {
        table.widen[Src] = &widen_i64<Src>;
    }
    if constexpr (r.is_float && r.storage_bytes == 1 && !is_scale<Src>()) {
        table.widen16[Src][hub_f16] = &cast_even<Src, NC_FORMAT_f16, false>;
        table.widen16[Src][hub_bf16] = &widen_bfloat16<Src>;
    }
    if constexpr (is_wide(Src))
        table.to_f32[Src] = &convert_language<Src, NC_FORMAT_f32>;
    if constexpr ((is_wide(Src) && Src != NC_FORMAT_f64) || Src == NC_FORMAT_f32)
        table.to_f64[Src] = &convert_language<Src, NC_FORMAT_f64>;
}

template <int32_t Hub, int32_t Src, int32_t Dst> constexpr void fill_direct(KernelTable& table) {
    if constexpr (Src != Dst) {
        table.direct[Hub][Dst][0] = &cast_even<Src, Dst, false>;
        table.direct[Hub][Dst][1] = &cast_even<Src, Dst, true>;
    }
}

template <int32_t Dst> constexpr void fill_target(KernelTable& table) {
    if constexpr (is_narrow(Dst)) {
        fill_direct<hub_f32, NC_FORMAT_f32, Dst>(table);
        fill_direct<hub_f16, NC_FORMAT_f16, Dst>(table);
        fill_direct<hub_bf16, NC_FORMAT_bf16, Dst>(table);
        table.encode[Dst] = &cast_mode<Dst>;
        table.stochastic64[Dst] = &encode_double<Dst>;
    }
}

template <int Bits> constexpr void fill_width(KernelTable& table) {
    table.pack[Bits] = &pack_codes<Bits>;
    table.unpack[Bits] = &unpack_codes<Bits>;
    if constexpr (Bits > 1)
        fill_width<Bits - 1>(table);
}

template <int32_t Op, int32_t Hub> constexpr void fill_quantize(KernelTable& table) {
    table.quantize[Op][Hub][along_rows] = &quantize<Op, Hub, along_rows>;
    table.quantize[Op][Hub][along_columns] = &quantize<Op, Hub, along_columns>;
    if constexpr (Op != op_fma && Hub + 1 < hub_count)
        fill_quantize<Op, Hub + 1>(table);
    else if constexpr (Op + 1 < op_count)
        fill_quantize<Op + 1, hub_f32>(table);
}

template <int32_t Kind, int32_t Hub> constexpr void fill_dequantize(KernelTable& table) {
    table.dequantize[Kind][Hub][along_rows] = &dequantize<Kind, Hub, along_rows>;
    table.dequantize[Kind][Hub][along_columns] = &dequantize<Kind, Hub, along_columns>;
    if constexpr (Kind == codes_f32) {
        table.dequantize[codes_i4][Hub][along_rows] = &dequantize_nibbles<true, Hub>;
        table.dequantize[codes_u4][Hub][along_rows] = &dequantize_nibbles<false, Hub>;
    }
    if constexpr (Hub + 1 < hub_count)
        fill_dequantize<Kind, Hub + 1>(table);
    else if constexpr (Kind != codes_f32)
        fill_dequantize<Kind + 1, hub_f32>(table);
}

constexpr KernelTable generic_table(const char* name, bool flags_present) {
    KernelTable table{};
    table.name = name;
    table.flags_present = flags_present;
#define NC_FLOAT(number, ...)                                                                                          \
    fill_source<number>(table);                                                                                        \
    fill_target<number>(table);
#define NC_INT(number, ...) fill_source<number>(table);
#include "narrowcast/formats.def"
    table.census = &census_all;
    table.error = &error_all;
    table.philox = &philox_all;
    fill_width<most_code_bits>(table);
    table.code_bits = &code_bits;
    fill_quantize<op_divide, hub_f32>(table);
    fill_dequantize<codes_i8, hub_f32>(table);
    table.range[along_rows] = &range_rows;
    table.range[along_columns] = &range_columns;
    table.span = &span_rows;
    table.code_sums = &code_sums;
    table.unscale[NC_FORMAT_f64] = &unscale<NC_FORMAT_f64>;
    table.unscale[NC_FORMAT_f32] = &unscale<NC_FORMAT_f32>;
    table.unscale[NC_FORMAT_f16] = &unscale<NC_FORMAT_f16>;
    table.unscale[NC_FORMAT_bf16] = &unscale<NC_FORMAT_bf16>;
    return table;
}

} // namespace
} // namespace narrowcast
