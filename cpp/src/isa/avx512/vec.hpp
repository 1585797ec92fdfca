// The vector vocabulary on AVX-512 F+BW+DQ+VL (and F16C): 16 lanes of 32 bits. Algorithms are in kernels/*.inl.hpp;
// the names and contracts are those of isa/avx2/vec.hpp. Non-temporal stores go out as two 256-bit halves, which the
// write-combining buffers take better.
//
//   U  16 x uint32 (float32 lanes are the same register: fadd and fmul read it so)
//   W  32 x uint16         B  64 bytes, in an order of its own until store_bytes
//   M, MW, MB  masks of U's, W's and B's elements
#pragma once

#include <immintrin.h>

#include "base.hpp"

namespace narrowcast {
namespace {

using U = __m512i;
using W = __m512i;
using B = __m512i;
using M = __mmask16;
using MW = __mmask32;
using MB = __mmask64;
enum : size_t { lanes = 16, block = 4 * lanes };
enum : bool { has_stream = true }; // whether a store may go past the caches

NC_INLINE __m512 as_float(U a) { return _mm512_castsi512_ps(a); }
NC_INLINE U as_bits(__m512 a) { return _mm512_castps_si512(a); }

NC_INLINE U splat(uint32_t a) { return _mm512_set1_epi32(static_cast<int>(a)); }
NC_INLINE U load(const void* p) { return _mm512_loadu_si512(p); }
// For more than one use: compilers like to load again instead, and loads are what such loops have the most of.
NC_INLINE U load_once(const void* p) {
    U a = load(p);
#if defined(__GNUC__)
    __asm__("" : "+v"(a));
#endif
    return a;
}
// The first n lanes, of which there are more; the others are those of rest.
NC_INLINE U load_some(const void* p, size_t n, U rest) {
    return _mm512_mask_loadu_epi32(rest, static_cast<__mmask16>((1u << n) - 1), p);
}
NC_INLINE U load_u16(const void* p) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
NC_INLINE U load_u8(const void* p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))); }
NC_INLINE U load_i8(const void* p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))); }
NC_INLINE U load_half(const void* p) {
    return as_bits(_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p))));
}
NC_INLINE void store_vector(void* p, __m512i a, bool stream) {
    if (stream) {
        __m256i* halves = static_cast<__m256i*>(p);
        _mm256_stream_si256(halves, _mm512_castsi512_si256(a));
        _mm256_stream_si256(halves + 1, _mm512_extracti64x4_epi64(a, 1));
    } else {
        _mm512_storeu_si512(p, a);
    }
}
NC_INLINE void store(void* p, U a, bool stream) { store_vector(p, a, stream); }
NC_INLINE void fence() { _mm_sfence(); }
NC_INLINE void copy_some(void* to, const void* from, size_t n) {
    unsigned char* dst = static_cast<unsigned char*>(to);
    const unsigned char* src = static_cast<const unsigned char*>(from);
    for (; n >= 64; n -= 64, dst += 64, src += 64)
        _mm512_storeu_si512(dst, _mm512_loadu_si512(src));
    const __mmask64 kept = ~(~__mmask64{0} << n);
    _mm512_mask_storeu_epi8(dst, kept, _mm512_maskz_loadu_epi8(kept, src));
}

NC_INLINE U band(U a, U b) { return _mm512_and_si512(a, b); }
NC_INLINE U bor(U a, U b) { return _mm512_or_si512(a, b); }
NC_INLINE U bxor(U a, U b) { return _mm512_xor_si512(a, b); }
NC_INLINE U bandnot(U a, U b) { return _mm512_andnot_si512(b, a); } // a & ~b
NC_INLINE U add(U a, U b) { return _mm512_add_epi32(a, b); }
NC_INLINE U sub(U a, U b) { return _mm512_sub_epi32(a, b); }
template <int K> NC_INLINE U shl(U a) { return _mm512_slli_epi32(a, K); }
template <int K> NC_INLINE U shr(U a) { return _mm512_srli_epi32(a, K); }
template <int K> NC_INLINE U sar(U a) { return _mm512_srai_epi32(a, K); }
NC_INLINE U shlv(U a, U count) { return _mm512_sllv_epi32(a, count); } // counts >= 32, as unsigned, give 0
NC_INLINE U shrv(U a, U count) { return _mm512_srlv_epi32(a, count); }
NC_INLINE U min_u(U a, U b) { return _mm512_min_epu32(a, b); }
NC_INLINE U max_u(U a, U b) { return _mm512_max_epu32(a, b); }
NC_INLINE U max_s(U a, U b) { return _mm512_max_epi32(a, b); }
NC_INLINE U min_bytes(U a, U b) { return _mm512_min_epu8(a, b); }
NC_INLINE U min_words(U a, U b) { return _mm512_min_epu16(a, b); }
NC_INLINE M gt(U a, U b) { return _mm512_cmpgt_epi32_mask(a, b); } // signed
NC_INLINE M gt_u(U a, U b) { return _mm512_cmpgt_epu32_mask(a, b); }
NC_INLINE M eq(U a, U b) { return _mm512_cmpeq_epi32_mask(a, b); }
NC_INLINE U select(M m, U a, U b) { return _mm512_mask_blend_epi32(m, b, a); } // m ? a : b
NC_INLINE bool any_nan(U a, U b, U c, U d) {
    return (_mm512_cmp_ps_mask(as_float(a), as_float(b), _CMP_UNORD_Q) |
            _mm512_cmp_ps_mask(as_float(c), as_float(d), _CMP_UNORD_Q)) != 0;
}
NC_INLINE U fadd(U a, U b) { return as_bits(_mm512_add_ps(as_float(a), as_float(b))); }
NC_INLINE U fmul(U a, U b) { return as_bits(_mm512_mul_ps(as_float(a), as_float(b))); }
NC_INLINE U fsub(U a, U b) { return as_bits(_mm512_sub_ps(as_float(a), as_float(b))); }
NC_INLINE U fdiv(U a, U b) { return as_bits(_mm512_div_ps(as_float(a), as_float(b))); }
NC_INLINE U fmul_add(U a, U b, U c) { return as_bits(_mm512_fmadd_ps(as_float(a), as_float(b), as_float(c))); }
NC_INLINE U fmul_from(U a, U b, U c) {
    return as_bits(_mm512_fnmadd_ps(as_float(a), as_float(b), as_float(c)));
} // c - a b
NC_INLINE U fmul_sub(U a, U b, U c) { return as_bits(_mm512_fmsub_ps(as_float(a), as_float(b), as_float(c))); }
NC_INLINE U fmin(U a, U b) { return as_bits(_mm512_min_ps(as_float(a), as_float(b))); }
NC_INLINE U fmax(U a, U b) { return as_bits(_mm512_max_ps(as_float(a), as_float(b))); }
NC_INLINE U fmin_seen(U a, U b) { return fmin(a, b); }
NC_INLINE U fmax_seen(U a, U b) { return fmax(a, b); }
NC_INLINE float smallest(U a) { return _mm512_reduce_min_ps(as_float(a)); }
NC_INLINE float largest(U a) { return _mm512_reduce_max_ps(as_float(a)); }
template <class Both> NC_INLINE U fold_pairs(U a, U b, const Both& both) {
    return both(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}
template <class Both> NC_INLINE U fold_quads(U a, U b, const Both& both) {
    return both(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}
template <class Both> NC_INLINE U fold_parts(U a, const Both& both) {
    const U halves = both(a, _mm512_shuffle_i64x2(a, a, 0x4e));
    return both(halves, _mm512_shuffle_i64x2(halves, halves, 0xb1));
}
NC_INLINE void store_four(float* p, U a) { _mm_storeu_ps(p, _mm512_castps512_ps128(as_float(a))); }
NC_INLINE M is_nan(U a) { return _mm512_cmp_ps_mask(as_float(a), as_float(a), _CMP_UNORD_Q); }
NC_INLINE M either(M a, M b) { return static_cast<M>(a | b); }
NC_INLINE U round_even(U a) {
    return as_bits(_mm512_roundscale_ps(as_float(a), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
NC_INLINE U to_int(U a) { return _mm512_cvtps_epi32(as_float(a)); }
NC_INLINE U to_float(U a) { return as_bits(_mm512_cvtepi32_ps(a)); }
NC_INLINE U round_half(U a) { return as_bits(_mm512_cvtph_ps(_mm512_cvtps_ph(as_float(a), 0))); }
NC_INLINE U count(U a, M m) { return _mm512_mask_sub_epi32(a, m, a, splat(0xffffffff)); }
// The larger and the smaller magnitude; a NaN is passed over.
NC_INLINE U max_magnitude(U a, U b) { return as_bits(_mm512_range_ps(as_float(a), as_float(b), 0x0b)); }
// The larger magnitude of both; a NaN if both are.
NC_INLINE U larger_magnitude(U a, U b) { return max_magnitude(a, b); }
NC_INLINE U min_magnitude(U a, U b) { return as_bits(_mm512_range_ps(as_float(a), as_float(b), 0x0a)); }
NC_INLINE bool any(M m) { return m != 0; }
// Low 16 bits of each lane: a binary16 code. Immediate: 0 nearest-even, 1 down, 2 up, 3 toward zero.
template <int Direction> NC_INLINE U float_to_half(U a) {
    return _mm512_cvtepu16_epi32(_mm512_cvtps_ph(as_float(a), Direction));
}

// Four vectors of codes -> bytes, each the low byte of a lane; and the signs of four vectors as 80 or 00.
NC_INLINE B pack_bytes(U a, U b, U c, U d) {
    const U low = splat(0xff);
    return _mm512_packus_epi16(_mm512_packus_epi32(band(a, low), band(b, low)),
                               _mm512_packus_epi32(band(c, low), band(d, low)));
}
NC_INLINE MB nan_bytes(U a, U b, U c, U d) {
    const auto nan = [](U x) { return _mm512_movm_epi32(_mm512_cmp_ps_mask(as_float(x), as_float(x), _CMP_UNORD_Q)); };
    return _mm512_movepi8_mask(
        _mm512_packs_epi16(_mm512_packs_epi32(nan(a), nan(b)), _mm512_packs_epi32(nan(c), nan(d))));
}
NC_INLINE B sign_bytes(U a, U b, U c, U d) {
    return _mm512_and_si512(_mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d)),
                            _mm512_set1_epi8(static_cast<char>(0x80)));
}
NC_INLINE B splat_byte(uint8_t a) { return _mm512_set1_epi8(static_cast<char>(a)); }
NC_INLINE B byte_or(B a, B b) { return _mm512_or_si512(a, b); }
NC_INLINE B byte_and(B a, B b) { return _mm512_and_si512(a, b); }
NC_INLINE B byte_xor(B a, B b) { return _mm512_xor_si512(a, b); }
template <int K> NC_INLINE B byte_shr_sign(B signs) { return _mm512_srli_epi16(signs, K); } // 80 or 00 bytes, K < 8
NC_INLINE MB byte_eq(B a, B b) { return _mm512_cmpeq_epi8_mask(a, b); }
NC_INLINE B byte_select(MB m, B a, B b) { return _mm512_mask_blend_epi8(m, b, a); }
NC_INLINE void store_bytes(void* p, B a, bool stream) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    store_vector(p, _mm512_permutexvar_epi32(order, a), stream);
}

NC_INLINE U to_int_or_end(U a, bool nan_high) {
    const __m512 large = _mm512_set1_ps(1073741824.0f), x = as_float(a); // the second operand is taken for NaN
    return _mm512_cvtps_epi32(nan_high ? _mm512_min_ps(x, large) : _mm512_min_ps(large, x));
}
struct ByteEnds {
    __m512i low, high, turn;
    bool all;   // that a byte holds
    bool plain; // signed, and no offsets
};
NC_INLINE ByteEnds byte_ends(int32_t low, int32_t high, bool no_offsets) {
    const int32_t turn = low < 0 ? 0 : 0x80;
    const auto bytes = [](int32_t a) { return _mm512_set1_epi8(static_cast<char>(a)); };
    return {bytes(low - turn), bytes(high - turn), bytes(turn), high - low == 255, turn == 0 && no_offsets};
}
NC_INLINE void store_clamped_bytes(void* p, const U (&a)[4], const U (&offset)[4], const ByteEnds& ends, bool stream) {
    __m512i low = _mm512_packs_epi32(a[0], a[1]), high = _mm512_packs_epi32(a[2], a[3]);
    if (!ends.plain) {
        low = _mm512_adds_epi16(low, _mm512_packs_epi32(offset[0], offset[1]));
        high = _mm512_adds_epi16(high, _mm512_packs_epi32(offset[2], offset[3]));
    }
    __m512i bytes = _mm512_packs_epi16(low, high);
    if (!ends.all)
        bytes = _mm512_min_epi8(_mm512_max_epi8(bytes, ends.low), ends.high);
    if (!ends.plain)
        bytes = bxor(bytes, ends.turn);
    store_bytes(p, bytes, stream);
}

// The third byte of each lane, with the bits of flip turned.
#if defined(__AVX512VBMI__)
struct alignas(64) ThirdBytes {
    uint8_t at[64];
};
consteval ThirdBytes third_bytes() { // of two vectors, twice
    ThirdBytes index{};
    for (int i = 0; i < 64; ++i)
        index.at[i] = static_cast<uint8_t>(i % 32 * 4 + 2);
    return index;
}
struct ThirdOrder {
    static constexpr ThirdBytes bytes = third_bytes();
};
#endif
NC_INLINE void store_third_bytes(void* p, const U (&a)[4], U flip, bool stream) {
#if defined(__AVX512VBMI__)
    const __m512i order = _mm512_load_si512(ThirdOrder::bytes.at);
    const __m512i low = _mm512_permutex2var_epi8(a[0], order, a[1]), high = _mm512_permutex2var_epi8(a[2], order, a[3]);
    store_vector(p, bxor(_mm512_mask_blend_epi32(0xff00, low, high), flip), stream);
#else
    const __m512i mask = _mm512_set1_epi16(0xff);
    const __m512i low = _mm512_packus_epi32(shr<16>(a[0]), shr<16>(a[1])),
                  high = _mm512_packus_epi32(shr<16>(a[2]), shr<16>(a[3]));
    store_bytes(p, bxor(_mm512_packus_epi16(band(low, mask), band(high, mask)), flip), stream);
#endif
}

// Two vectors of codes below 2^16 -> 32 uint16.
NC_INLINE void store_words(void* p, U a, U b, bool stream) {
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    store_vector(p, _mm512_permutexvar_epi64(order, _mm512_packus_epi32(a, b)), stream);
}
// Two vectors of float32 -> 32 binary16.
NC_INLINE void store_halves(void* p, U a, U b, bool stream) {
    const __m256i low = _mm512_cvtps_ph(as_float(a), 0), high = _mm512_cvtps_ph(as_float(b), 0);
    __m256i* halves = static_cast<__m256i*>(p);
    if (stream) {
        _mm256_stream_si256(halves, low);
        _mm256_stream_si256(halves + 1, high);
    } else {
        _mm256_storeu_si256(halves, low);
        _mm256_storeu_si256(halves + 1, high);
    }
}

// Two vectors of float32, none NaN, none subnormal -> 32 bfloat16. The hardware would flush a subnormal.
NC_INLINE void store_bfloats(void* p, U a, U b, bool stream) {
#if defined(__AVX512BF16__)
    const __m512bh words = _mm512_cvtne2ps_pbh(as_float(b), as_float(a));
    __m512i result;
    NC_COPY(&result, &words, sizeof result);
    store_vector(p, result, stream);
#else
    const auto rounded = [](U x) { return add(x, add(band(shr<16>(x), splat(1)), splat(0x7fff))); };
    store_words(p, shr<16>(rounded(a)), shr<16>(rounded(b)), stream);
#endif
}

// A block of bytes, each turned by `turn`, as float32 2^23 + byte.
#if defined(__AVX512VBMI__)
struct alignas(64) LaneBytes {
    uint8_t at[4][64];
};
consteval LaneBytes lane_bytes() {
    LaneBytes index{};
    for (int k = 0; k < 4; ++k)
        for (int i = 0; i < 64; ++i)
            index.at[k][i] = static_cast<uint8_t>(16 * k + i / 4);
    return index;
}
struct LaneOrder {
    static constexpr LaneBytes bytes = lane_bytes();
};
#endif
NC_INLINE void load_marked_bytes(const unsigned char* p, uint8_t turn, U (&x)[4]) {
#if defined(__AVX512VBMI__)
    const __m512i bytes = bxor(load(p), _mm512_set1_epi8(static_cast<char>(turn)));
    for (size_t k = 0; k < 4; ++k)
        x[k] = _mm512_mask_permutexvar_epi8(splat(0x4b000000), 0x1111111111111111,
                                            _mm512_load_si512(LaneOrder::bytes.at[k]), bytes);
#else
    for (size_t k = 0; k < 4; ++k)
        x[k] = bxor(load_u8(p + k * lanes), splat(0x4b000000u | turn));
#endif
}

// 32 words; magnitudes below 2^15 compare as signed.
NC_INLINE W splat_word(uint16_t a) { return _mm512_set1_epi16(static_cast<short>(a)); }
NC_INLINE W load_words(const void* p) { return load(p); }
NC_INLINE W word_and(W a, W b) { return _mm512_and_si512(a, b); }
NC_INLINE W word_or(W a, W b) { return _mm512_or_si512(a, b); }
NC_INLINE W word_min(W a, W b) { return _mm512_min_epi16(a, b); }
NC_INLINE MW word_gt(W a, W b) { return _mm512_cmpgt_epi16_mask(a, b); }
NC_INLINE MW word_eq(W a, W b) { return _mm512_cmpeq_epi16_mask(a, b); }
NC_INLINE W word_select(MW m, W a, W b) { return _mm512_mask_blend_epi16(m, b, a); }
NC_INLINE bool any_word(MW a, MW b) { return (a | b) != 0; }
// Words as the high halves of 32-bit lanes, in an order that pack_bytes and store_unpacked_bytes put right again.
NC_INLINE U unpack_low(W a) { return _mm512_unpacklo_epi16(_mm512_setzero_si512(), a); }
NC_INLINE U unpack_high(W a) { return _mm512_unpackhi_epi16(_mm512_setzero_si512(), a); }
NC_INLINE B sign_bytes_of_words(W a, W b) {
    return _mm512_and_si512(_mm512_packs_epi16(a, b), _mm512_set1_epi8(static_cast<char>(0x80)));
}
NC_INLINE void store_unpacked_bytes(void* p, B a, bool stream) {
    store_vector(p, _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), a), stream);
}

// 32 bytes as the high bytes of 32 words.
NC_INLINE W load_high_bytes(const void* p) {
    return _mm512_slli_epi16(_mm512_cvtepu8_epi16(_mm256_loadu_si256(static_cast<const __m256i*>(p))), 8);
}
template <int K> NC_INLINE W word_shl(W a) { return _mm512_slli_epi16(a, K); }
template <int K> NC_INLINE W word_sar(W a) { return _mm512_srai_epi16(a, K); }
NC_INLINE U half_to_float_low(W a) { return as_bits(_mm512_cvtph_ps(_mm512_castsi512_si256(a))); }
NC_INLINE U half_to_float_high(W a) { return as_bits(_mm512_cvtph_ps(_mm512_extracti64x4_epi64(a, 1))); }

// 16 float64 -> float32 rounded to odd: truncate, then mark what was cut. NaN is quieted, its top payload kept; it
// compares unequal only in the ordered sense, so the mark stays off.
NC_INLINE __m256i odd_half(const double* p) {
    const __m512d x = _mm512_loadu_pd(p);
    const __m256i truncated = _mm256_castps_si256(_mm512_cvt_roundpd_ps(x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC));
    const __mmask8 inexact = _mm512_cmp_pd_mask(_mm512_cvtps_pd(_mm256_castsi256_ps(truncated)), x, _CMP_NEQ_OQ);
    return _mm256_mask_or_epi32(truncated, inexact, truncated, _mm256_set1_epi32(1));
}
NC_INLINE U load_f64_odd(const void* p) {
    const double* x = static_cast<const double*>(p);
    return _mm512_inserti64x4(_mm512_castsi256_si512(odd_half(x)), odd_half(x + 8), 1);
}

// 64-bit lanes: first, first + 1, ...; upper halves; products of the lower halves.
NC_INLINE U numbers(uint64_t first) {
    return _mm512_add_epi64(_mm512_set1_epi64(static_cast<long long>(first)),
                            _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
}
NC_INLINE U upper_halves(U a) { return _mm512_srli_epi64(a, 32); }
NC_INLINE U mul_lower_halves(U a, uint32_t factor) { return _mm512_mul_epu32(a, splat(factor)); }
// p[4 i + k] = the lower half of 64-bit lane i of vector k.
NC_INLINE void store_lower_halves(uint32_t* p, U a, U b, U c, U d) {
    const __m512i ab = _mm512_mask_blend_epi32(0xAAAA, a, _mm512_slli_epi64(b, 32));
    const __m512i cd = _mm512_mask_blend_epi32(0xAAAA, c, _mm512_slli_epi64(d, 32));
    store(p, _mm512_permutex2var_epi64(ab, _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), cd), false);
    store(p + 16, _mm512_permutex2var_epi64(ab, _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15), cd), false);
}

// Codes of K bits in neighbours of a lane put side by side: low + (high << K), in 16-bit and in 32-bit lanes. Nothing
// but the codes may be set.
template <int K> NC_INLINE U join_bytes(U a) {
    return _mm512_maddubs_epi16(_mm512_set1_epi16(static_cast<short>(1 | 1 << (8 + K))), a);
}
template <int K> NC_INLINE U join_words(U a) { return _mm512_madd_epi16(a, splat(1 | 1u << (16 + K))); }
template <int K> NC_INLINE U shl64(U a) { return _mm512_slli_epi64(a, K); }
NC_INLINE U select_bytes(U mask, U a, U b) { return _mm512_ternarylogic_epi32(mask, a, b, 0xCA); } // bytes of ff or 00
NC_INLINE U sign_extend_bytes(U a, U sign) { return _mm512_sub_epi8(bxor(a, sign), sign); }
NC_INLINE U sum_bytes(U a) { return _mm512_sad_epu8(a, _mm512_setzero_si512()); }
NC_INLINE uint32_t sum_lanes(U a) { return static_cast<uint32_t>(_mm512_reduce_add_epi32(a)); }
// In each 16 bytes: byte i is byte order[i] of a, or 0 where that is 80.
NC_INLINE U shuffle_16(U a, const uint8_t* order) {
    return _mm512_shuffle_epi8(a, _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(order))));
}
// The vector's 16-byte parts from and to pieces of Bytes bytes (an even number) that lie side by side; what else is in
// a part is anything when loaded and nothing when stored. Both touch a whole vector of memory.
struct alignas(64) Words32 {
    uint16_t at[32];
};
template <int Bytes> consteval Words32 apart() {
    Words32 index{};
    for (int i = 0; i < 32; ++i)
        index.at[i] = static_cast<uint16_t>((i / 8 * (Bytes / 2) + i % 8) % 32);
    return index;
}
template <int Bytes> consteval Words32 together() {
    Words32 index{};
    for (int i = 0; i < 32; ++i)
        index.at[i] = static_cast<uint16_t>((i / (Bytes / 2) * 8 + i % (Bytes / 2)) % 32);
    return index;
}
template <int Bytes> struct PieceOrder {
    static constexpr Words32 apart = narrowcast::apart<Bytes>(), together = narrowcast::together<Bytes>();
};
template <int Bytes> NC_INLINE U load_pieces(const unsigned char* p) {
    return _mm512_permutexvar_epi16(_mm512_load_si512(PieceOrder<Bytes>::apart.at), load(p));
}
template <int Bytes> NC_INLINE void store_pieces(unsigned char* p, U a) {
    store(p, _mm512_permutexvar_epi16(_mm512_load_si512(PieceOrder<Bytes>::together.at), a), false);
}

} // namespace
} // namespace narrowcast
