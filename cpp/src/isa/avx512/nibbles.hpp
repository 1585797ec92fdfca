// Packed codes of 4 bits to values: the sixteen values of a box are worked out once, and a permutation picks from them
// what each code says. Everything else about dequantizing is kernels/dequantize.inl.hpp, after which this is included.
#pragma once

namespace narrowcast {
namespace {

consteval Words32 upper_words() {
    Words32 index{};
    for (int i = 0; i < 32; ++i)
        index.at[i] = static_cast<uint16_t>(i % 16 * 2 + 1);
    return index;
}
struct UpperWords { // of sixteen lanes, twice
    static constexpr Words32 twice = upper_words();
};

// The values of all codes of a box; those of 16 bits twice, so that only the low bits of an index count.
template <bool IsSigned, int32_t Hub>
NC_INLINE __m512i values_of_codes(const ScaleVectors& v, bool biased, bool fused) {
    const __m512 codes = IsSigned ? _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1)
                                  : _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const U difference = fsub(as_bits(codes), v.zero);
    U y = fmul(difference, v.scale);
    if (biased)
        y = fused ? fmul_add(difference, v.scale, v.bias) : fadd(y, v.bias);
    y = select(is_nan(y), splat(0x7fc00000), y);
    if constexpr (Hub == hub_f32)
        return y;
    else if constexpr (Hub == hub_f16)
        return _mm512_broadcast_i64x4(_mm512_cvtps_ph(as_float(y), 0));
    else
        return _mm512_permutexvar_epi16(load(UpperWords::twice.at), even_untruncated<NC_FORMAT_bf16, false>(y));
}

enum : size_t { nibbles_once = 32 };

// The values of 32 codes. A code's bits are the lowest of an index; what is above them does not count.
template <int32_t Hub> NC_INLINE void pick_values(const unsigned char* from, unsigned char* to, U values, bool stream) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    if constexpr (Hub == hub_f32) {
        const auto pick = [&](__m128i eight) NC_INLINE_LAMBDA {
            const __m512i pairs = _mm512_cvtepu8_epi64(eight);
            return _mm512_permutexvar_epi32(bor(pairs, _mm512_slli_epi64(pairs, 28)), values);
        };
        store(to, pick(bytes), stream);
        store(to + 64, pick(_mm_unpackhi_epi64(bytes, bytes)), stream);
    } else {
        const __m512i pairs = _mm512_cvtepu8_epi32(bytes);
        store(to, _mm512_permutexvar_epi16(bor(pairs, shl<12>(pairs)), values), stream);
    }
}

template <bool IsSigned, int32_t Hub>
void pick_nibbles(const void* codes, void* out, const Rectangle& r, const DequantizeParams& params,
                  bool stream) noexcept {
    if (r.cols < nibbles_once) {
        dequantize_nibbles<IsSigned, Hub>(codes, out, r, params, stream);
        return;
    }
    constexpr size_t item = hub_bytes<Hub>();
    const DequantizeParams p = params; // a copy: nothing that is stored can change it
    for (size_t row = 0; row < r.rows; ++row) {
        const U values = values_of_codes<IsSigned, Hub>(splat_scale(p, row), p.bias != nullptr, p.fused);
        const unsigned char* from = row_at(codes, r.src_step, row);
        unsigned char* to = row_at(out, r.dst_step, row);
        const bool past = stream && reinterpret_cast<uintptr_t>(to) % block == 0;
        size_t left = r.cols;
        for (; left >= nibbles_once; left -= nibbles_once, from += nibbles_once / 2, to += nibbles_once * item)
            pick_values<Hub>(from, to, values, past);
        if (left != 0) {
            alignas(64) unsigned char in[nibbles_once / 2] = {};
            alignas(64) unsigned char made[nibbles_once * item];
            NC_COPY(in, from, (left + 1) / 2);
            pick_values<Hub>(in, made, values, false);
            NC_COPY(to, made, left * item);
        }
    }
    if (stream)
        fence();
}

template <int32_t Hub = hub_f32> constexpr void override_nibbles(KernelTable& table) {
    table.dequantize[codes_i4][Hub][along_rows] = &pick_nibbles<true, Hub>;
    table.dequantize[codes_u4][Hub][along_rows] = &pick_nibbles<false, Hub>;
    if constexpr (Hub + 1 < hub_count)
        override_nibbles<Hub + 1>(table);
}

} // namespace
} // namespace narrowcast
