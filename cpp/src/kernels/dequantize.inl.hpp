// Codes back to values (the scalar text, which says what is computed, is codec/quantize.hpp). Text-included once per
// ISA unit, after quantize.inl.hpp; no guard.

namespace narrowcast {
namespace {

// --- dequantize ----------------------------------------------------------------------------------------------------

// The numbers of the items from number i on: of the vector k after them, or the same for a block of them.
struct ScaleVectors {
    U scale, zero, bias;
};
NC_INLINE ScaleVectors splat_scale(const DequantizeParams& p, size_t at) {
    return {splat_float(p.scale[at]), splat_float(p.zero[at]), splat_float(p.bias != nullptr ? p.bias[at] : 0)};
}
NC_INLINE DequantizeParams params_from(const DequantizeParams& p, size_t at) {
    return {p.scale + at, p.zero + at, p.bias != nullptr ? p.bias + at : nullptr, p.fused};
}

// Rows of 2^shift items: at least a block; or a vector or some.
struct BlockScales {
    DequantizeParams params;
    size_t shift;
    NC_INLINE ScaleVectors of(size_t i, size_t) const { return splat_scale(params, i >> shift); }
};
struct VectorScales {
    DequantizeParams params;
    size_t shift;
    NC_INLINE ScaleVectors of(size_t i, size_t k) const { return splat_scale(params, (i + k * lanes) >> shift); }
};
struct ColumnScales {
    DequantizeParams params;
    NC_INLINE ScaleVectors of(size_t i, size_t k) const {
        const size_t at = i + k * lanes;
        return {load(params.scale + at), load(params.zero + at),
                params.bias != nullptr ? load(params.bias + at) : splat(0)};
    }
};

// The numbers of fewer items than a block, as if it were whole.
struct ScaleRoom {
    alignas(64) float scale[block], zero[block], bias[block];
};
template <class Scales> NC_INLINE Scales part_of(const Scales& all, size_t i, size_t, ScaleRoom&) {
    return {params_from(all.params, i >> all.shift), all.shift};
}
NC_INLINE ColumnScales part_of(const ColumnScales& all, size_t i, size_t count, ScaleRoom& room) {
    const DequantizeParams from = params_from(all.params, i);
    NC_COPY(room.scale, from.scale, count * 4);
    NC_COPY(room.zero, from.zero, count * 4);
    if (from.bias != nullptr)
        NC_COPY(room.bias, from.bias, count * 4);
    return {{room.scale, room.zero, from.bias != nullptr ? room.bias : nullptr, from.fused}};
}

// Whether products of codes are 0 or normal numbers whatever the codes, and nothing is added to them: zeros are
// integers up to 2^22, so that a difference is 0 or at least 1, and scales are far from either end.
NC_NOINLINE bool are_ordinary(const DequantizeParams& p, size_t count) {
    if (p.bias != nullptr)
        return false;
    const U magnitude = splat(magnitude_f32), least = splat(0x0d800000), reach = splat(0x64000000); // 2^-100, to 2^100
    U wrong = splat(0);
    for (size_t i = 0; i < count; i += lanes) {
        const size_t left = count - i;
        const U scale = left >= lanes ? load(p.scale + i) : load_some(p.scale + i, left, splat_float(p.scale[i]));
        const U zero = left >= lanes ? load(p.zero + i) : load_some(p.zero + i, left, splat_float(p.zero[i]));
        wrong = bor(wrong, bxor(round_even(zero), zero));
        wrong = select(gt_u(sub(band(scale, magnitude), least), reach), splat(1), wrong);
        wrong = select(gt(band(zero, magnitude), splat(0x4a800000)), splat(1), wrong);
    }
    return !any(gt_u(wrong, splat(0)));
}

template <int32_t Kind> consteval size_t code_bytes() { return Kind == codes_f32 ? 4 : 1; }
template <int32_t Hub> consteval size_t hub_bytes() { return Hub == hub_f32 ? 4 : 2; }

// A number of float32 in which bytes are put as they are: 2^23 + code, and 128 more if the code is signed.
template <int32_t Kind> consteval float marked_zero() { return Kind == codes_i8 ? 8388736.0f : 8388608.0f; }

template <int32_t Kind, bool Quick> NC_INLINE void load_numbers(const unsigned char* p, U (&x)[4]) {
    if constexpr (Quick)
        load_marked_bytes(p, Kind == codes_i8 ? 0x80 : 0, x);
    else
        for (size_t k = 0; k < 4; ++k)
            x[k] = Kind == codes_f32  ? load(p + k * lanes * 4)
                   : Kind == codes_i8 ? to_float(load_i8(p + k * lanes))
                                      : to_float(load_u8(p + k * lanes));
}

// None is NaN; if they are quick, none is subnormal either.
template <int32_t Hub, bool Quick> NC_INLINE void store_values(unsigned char* to, const U (&y)[4], bool stream) {
    if constexpr (Hub == hub_f32) {
        for (size_t k = 0; k < 4; ++k)
            store(to + k * lanes * 4, y[k], stream);
    } else {
        for (size_t k = 0; k < 4; k += 2) {
            unsigned char* const half = to + k * lanes * 2;
            if constexpr (Hub == hub_f16)
                store_halves(half, y[k], y[k + 1], stream);
            else if constexpr (Quick)
                store_bfloats(half, y[k], y[k + 1], stream);
            else
                store_words(half, shr<16>(even_untruncated<NC_FORMAT_bf16, false>(y[k])),
                            shr<16>(even_untruncated<NC_FORMAT_bf16, false>(y[k + 1])), stream);
        }
    }
}

// Whole blocks, of items i to end.
template <int32_t Kind, int32_t Hub, bool Quick, class Scales>
NC_NOINLINE void dequantize_blocks(const unsigned char* from, unsigned char* to, const Scales& all, size_t i,
                                   size_t end, bool stream) {
    const Scales scales = all; // a copy: nothing that is stored can change it
    for (; i < end; i += block) {
        U y[4];
        load_numbers<Kind, Quick>(from + i * code_bytes<Kind>(), y);
        for (size_t k = 0; k < 4; ++k) {
            const ScaleVectors v = scales.of(i, k);
            const U difference = fsub(y[k], Quick ? fadd(v.zero, splat_float(marked_zero<Kind>())) : v.zero);
            y[k] = fmul(difference, v.scale);
            if constexpr (!Quick)
                if (scales.params.bias != nullptr)
                    y[k] = scales.params.fused ? fmul_add(difference, v.scale, v.bias) : fadd(y[k], v.bias);
        }
        if constexpr (!Quick) // the one NaN that comes out has no bits below bfloat16: it is rounded like any number
            if (any_nan(y[0], y[1], y[2], y[3])) [[unlikely]] {
                for (U& v : y)
                    v = select(is_nan(v), splat(0x7fc00000), v);
            }
        store_values<Hub, Quick>(to + i * hub_bytes<Hub>(), y, stream);
    }
}

template <int32_t Kind, int32_t Hub, bool Quick, class Scales>
NC_INLINE void dequantize_run(const unsigned char* from, unsigned char* to, size_t n, const Scales& scales,
                              bool stream) {
    constexpr size_t src = code_bytes<Kind>(), dst = hub_bytes<Hub>();
    in_blocks<dst>(to, n, stream, [&](size_t i, size_t count, bool nt) NC_INLINE_LAMBDA {
        if (count >= block) {
            dequantize_blocks<Kind, Hub, Quick>(from, to, scales, i, i + count, nt);
        } else {
            alignas(64) unsigned char in[block * src] = {};
            alignas(64) unsigned char out[block * dst];
            ScaleRoom room;
            copy_some(in, from + i * src, count * src);
            dequantize_blocks<Kind, Hub, Quick>(in, out, part_of(scales, i, count, room), 0, block, false);
            copy_some(to + i * dst, out, count * dst);
        }
    });
}

template <int32_t Kind, int32_t Hub, bool Quick, int32_t Direction>
NC_NOINLINE void dequantize_all(const void* codes, void* out, const Rectangle& r, const DequantizeParams& params,
                                bool stream) {
    constexpr size_t src = code_bytes<Kind>(), dst = hub_bytes<Hub>();
    if constexpr (Direction == along_columns) {
        for (size_t row = 0; row < r.rows; ++row)
            dequantize_run<Kind, Hub, Quick>(row_at(codes, r.src_step, row), row_at(out, r.dst_step, row), r.cols,
                                             ColumnScales{params}, stream);
        return;
    } else {
        const size_t shift = joined_shift<dst>(r, src, out, stream);
        if (shift == no_shift)
            for (size_t row = 0; row < r.rows; ++row)
                dequantize_run<Kind, Hub, Quick>(row_at(codes, r.src_step, row), row_at(out, r.dst_step, row), r.cols,
                                                 BlockScales{params_from(params, row), no_shift}, stream);
        else if (r.cols >= block)
            dequantize_run<Kind, Hub, Quick>(row_at(codes, 0, 0), row_at(out, 0, 0), r.rows * r.cols,
                                             BlockScales{params, shift}, stream);
        else
            dequantize_run<Kind, Hub, Quick>(row_at(codes, 0, 0), row_at(out, 0, 0), r.rows * r.cols,
                                             VectorScales{params, shift}, stream);
    }
}

template <int32_t Kind, int32_t Hub, int32_t Direction>
void dequantize(const void* codes, void* out, const Rectangle& r, const DequantizeParams& params,
                bool stream) noexcept {
    bool quick = false; // float codes may be anything
    if constexpr (Kind != codes_f32)
        if ((quick = are_ordinary(params, Direction == along_rows ? r.rows : r.cols)))
            dequantize_all<Kind, Hub, true, Direction>(codes, out, r, params, stream);
    if (!quick)
        dequantize_all<Kind, Hub, false, Direction>(codes, out, r, params, stream);
    if (stream)
        fence();
}

// Packed codes of 4 bits, unpacked a tile at a time: rows that follow each other together, or parts of one.
template <bool IsSigned, int32_t Hub>
NC_NOINLINE void dequantize_nibbles(const void* codes, void* out, const Rectangle& r, const DequantizeParams& params,
                                    bool stream) noexcept {
    constexpr int32_t kind = IsSigned ? codes_i8 : codes_u8;
    constexpr size_t item = hub_bytes<Hub>(), most = 4096;
    alignas(64) unsigned char tile[most];
    const bool dense = r.cols % 2 == 0 && r.src_step == static_cast<ptrdiff_t>(r.cols / 2) && r.cols <= most / 2;
    const size_t together = dense && r.cols != 0 ? most / r.cols : 1;
    for (size_t row = 0; row < r.rows; row += together) {
        const size_t rows = r.rows - row < together ? r.rows - row : together;
        const unsigned char* const from = row_at(codes, r.src_step, row);
        unsigned char* const to = row_at(out, r.dst_step, row);
        for (size_t col = 0; col < r.cols; col += most) {
            const size_t cols = r.cols - col < most ? r.cols - col : most;
            unpack_codes<4>(from + col / 2, tile, rows * cols, IsSigned, false);
            const Rectangle part{rows, cols, static_cast<ptrdiff_t>(cols), r.dst_step};
            dequantize<kind, Hub, along_rows>(tile, to + col * item, part, params_from(params, row), stream);
        }
    }
}

} // namespace
} // namespace narrowcast
