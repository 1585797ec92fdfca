// The vector vocabulary on AVX2, F16C and FMA: 8 lanes of 32 bits. Algorithms are in kernels/*.inl.hpp; nothing here
// knows a number format except half_to_float and float_to_half, which are instructions.
//
//   U  8 x uint32 (float32 lanes are the same register: fadd and fmul read it so)
//   W  16 x uint16        B  32 bytes, in an order of its own until store_bytes
//   M, MW, MB  masks of U's, W's and B's elements
#pragma once

#include <immintrin.h>

#include "base.hpp"

namespace narrowcast {
namespace {

using U = __m256i;
using W = __m256i;
using B = __m256i;
using M = __m256i;
using MW = __m256i;
using MB = __m256i;
enum : size_t { lanes = 8, block = 4 * lanes };
enum : bool { has_stream = true }; // whether a store may go past the caches

NC_INLINE __m256 as_float(U a) { return _mm256_castsi256_ps(a); }
NC_INLINE U as_bits(__m256 a) { return _mm256_castps_si256(a); }

NC_INLINE U splat(uint32_t a) { return _mm256_set1_epi32(static_cast<int>(a)); }
NC_INLINE U load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
// For more than one use: compilers like to load again instead, and loads are what such loops have the most of.
NC_INLINE U load_once(const void* p) {
    U a = load(p);
#if defined(__GNUC__)
    __asm__("" : "+x"(a));
#endif
    return a;
}
// The first n lanes, of which there are more; the others are those of rest.
NC_INLINE U load_some(const void* p, size_t n, U rest) {
    const U taken =
        _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    return _mm256_blendv_epi8(rest, _mm256_maskload_epi32(static_cast<const int*>(p), taken), taken);
}
NC_INLINE U load_u16(const void* p) { return _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))); }
NC_INLINE U load_u8(const void* p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p))); }
NC_INLINE U load_i8(const void* p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p))); }
NC_INLINE U load_half(const void* p) {
    return as_bits(_mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p))));
}
NC_INLINE void store_vector(void* p, __m256i a, bool stream) {
    if (stream)
        _mm256_stream_si256(static_cast<__m256i*>(p), a);
    else
        _mm256_storeu_si256(static_cast<__m256i*>(p), a);
}
NC_INLINE void store(void* p, U a, bool stream) { store_vector(p, a, stream); }
NC_INLINE void fence() { _mm_sfence(); }
NC_INLINE void copy_some(void* to, const void* from, size_t n) { NC_COPY(to, from, n); } // at most a few vectors

NC_INLINE U band(U a, U b) { return _mm256_and_si256(a, b); }
NC_INLINE U bor(U a, U b) { return _mm256_or_si256(a, b); }
NC_INLINE U bxor(U a, U b) { return _mm256_xor_si256(a, b); }
NC_INLINE U bandnot(U a, U b) { return _mm256_andnot_si256(b, a); } // a & ~b
NC_INLINE U add(U a, U b) { return _mm256_add_epi32(a, b); }
NC_INLINE U sub(U a, U b) { return _mm256_sub_epi32(a, b); }
template <int K> NC_INLINE U shl(U a) { return _mm256_slli_epi32(a, K); }
template <int K> NC_INLINE U shr(U a) { return _mm256_srli_epi32(a, K); }
template <int K> NC_INLINE U sar(U a) { return _mm256_srai_epi32(a, K); }
NC_INLINE U shlv(U a, U count) { return _mm256_sllv_epi32(a, count); } // counts >= 32, as unsigned, give 0
NC_INLINE U shrv(U a, U count) { return _mm256_srlv_epi32(a, count); }
NC_INLINE U min_u(U a, U b) { return _mm256_min_epu32(a, b); }
NC_INLINE U max_u(U a, U b) { return _mm256_max_epu32(a, b); }
NC_INLINE U max_s(U a, U b) { return _mm256_max_epi32(a, b); }
NC_INLINE U min_bytes(U a, U b) { return _mm256_min_epu8(a, b); }
NC_INLINE U min_words(U a, U b) { return _mm256_min_epu16(a, b); }
NC_INLINE M gt(U a, U b) { return _mm256_cmpgt_epi32(a, b); } // signed
NC_INLINE M gt_u(U a, U b) {
    const U flip = splat(0x80000000);
    return _mm256_cmpgt_epi32(bxor(a, flip), bxor(b, flip));
}
NC_INLINE M eq(U a, U b) { return _mm256_cmpeq_epi32(a, b); }
NC_INLINE U select(M m, U a, U b) { return _mm256_blendv_epi8(b, a, m); } // m ? a : b
NC_INLINE bool any_nan(U a, U b, U c, U d) {
    const __m256 first = _mm256_cmp_ps(as_float(a), as_float(b), _CMP_UNORD_Q);
    const __m256 second = _mm256_cmp_ps(as_float(c), as_float(d), _CMP_UNORD_Q);
    return _mm256_movemask_ps(_mm256_or_ps(first, second)) != 0;
}
NC_INLINE U fadd(U a, U b) { return as_bits(_mm256_add_ps(as_float(a), as_float(b))); }
NC_INLINE U fmul(U a, U b) { return as_bits(_mm256_mul_ps(as_float(a), as_float(b))); }
NC_INLINE U fsub(U a, U b) { return as_bits(_mm256_sub_ps(as_float(a), as_float(b))); }
NC_INLINE U fdiv(U a, U b) { return as_bits(_mm256_div_ps(as_float(a), as_float(b))); }
NC_INLINE U fmul_add(U a, U b, U c) { return as_bits(_mm256_fmadd_ps(as_float(a), as_float(b), as_float(c))); }
NC_INLINE U fmul_from(U a, U b, U c) {
    return as_bits(_mm256_fnmadd_ps(as_float(a), as_float(b), as_float(c)));
} // c - a b
NC_INLINE U fmul_sub(U a, U b, U c) { return as_bits(_mm256_fmsub_ps(as_float(a), as_float(b), as_float(c))); }
// The smaller and the larger; b where a is a NaN that came out of arithmetic.
NC_INLINE U fmin(U a, U b) { return as_bits(_mm256_min_ps(as_float(a), as_float(b))); }
NC_INLINE U fmax(U a, U b) { return as_bits(_mm256_max_ps(as_float(a), as_float(b))); }
// The same; b or NaN where a is any NaN, and NaN where b is: what was b is then not lost without a trace.
NC_INLINE U fmin_seen(U a, U b) { return fmin(a, b); }
NC_INLINE U fmax_seen(U a, U b) { return fmax(a, b); }
NC_INLINE float smallest(U a) {
    __m128 x = _mm_min_ps(_mm256_castps256_ps128(as_float(a)), _mm256_extractf128_ps(as_float(a), 1));
    x = _mm_min_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_min_ss(x, _mm_movehdup_ps(x)));
}
NC_INLINE float largest(U a) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(as_float(a)), _mm256_extractf128_ps(as_float(a), 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
// Folds: lanes of a and of b by pairs of neighbours, then pairs by pairs, each within 16 bytes; then the 16-byte parts.
template <class Both> NC_INLINE U fold_pairs(U a, U b, const Both& both) {
    return both(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
}
template <class Both> NC_INLINE U fold_quads(U a, U b, const Both& both) {
    return both(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}
template <class Both> NC_INLINE U fold_parts(U a, const Both& both) {
    return both(a, _mm256_permute2x128_si256(a, a, 1));
}
NC_INLINE void store_four(float* p, U a) { _mm_storeu_ps(p, _mm256_castps256_ps128(as_float(a))); }
NC_INLINE M is_nan(U a) { return as_bits(_mm256_cmp_ps(as_float(a), as_float(a), _CMP_UNORD_Q)); }
NC_INLINE M either(M a, M b) { return bor(a, b); }
// float32 <-> integers: to an integral float32 and to an int32 (of what fits), ties to even; from an int32.
NC_INLINE U round_even(U a) {
    return as_bits(_mm256_round_ps(as_float(a), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
NC_INLINE U to_int(U a) { return _mm256_cvtps_epi32(as_float(a)); }
NC_INLINE U to_float(U a) { return as_bits(_mm256_cvtepi32_ps(a)); }
NC_INLINE U round_half(U a) { return as_bits(_mm256_cvtph_ps(_mm256_cvtps_ph(as_float(a), 0))); } // to a binary16
NC_INLINE U count(U a, M m) { return sub(a, m); } // one more in the lanes of m
// The larger and the smaller magnitude of a, which has no sign, and b.
NC_INLINE U max_magnitude(U a, U b) { return max_u(a, band(b, splat(0x7fffffff))); }
// Of a and b, either with a sign.
NC_INLINE U larger_magnitude(U a, U b) { return max_magnitude(band(a, splat(0x7fffffff)), b); }
NC_INLINE U min_magnitude(U a, U b) { return min_u(a, band(b, splat(0x7fffffff))); }
NC_INLINE bool any(M m) { return _mm256_movemask_epi8(m) != 0; }
// Low 16 bits of each lane: a binary16 code. Immediate: 0 nearest-even, 1 down, 2 up, 3 toward zero.
template <int Direction> NC_INLINE U float_to_half(U a) {
    return _mm256_cvtepu16_epi32(_mm256_cvtps_ph(as_float(a), Direction));
}

// Four vectors of codes -> bytes, each the low byte of a lane; and the signs of four vectors as 80 or 00.
NC_INLINE B pack_bytes(U a, U b, U c, U d) {
    const U low = splat(0xff);
    return _mm256_packus_epi16(_mm256_packus_epi32(band(a, low), band(b, low)),
                               _mm256_packus_epi32(band(c, low), band(d, low)));
}
NC_INLINE MB pack_mask(M a, M b, M c, M d) {
    return _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
}
NC_INLINE MB nan_bytes(U a, U b, U c, U d) {
    const auto nan = [](U x) { return as_bits(_mm256_cmp_ps(as_float(x), as_float(x), _CMP_UNORD_Q)); };
    return pack_mask(nan(a), nan(b), nan(c), nan(d));
}
NC_INLINE B sign_bytes(U a, U b, U c, U d) {
    return _mm256_and_si256(pack_mask(a, b, c, d), _mm256_set1_epi8(static_cast<char>(0x80)));
}
NC_INLINE B splat_byte(uint8_t a) { return _mm256_set1_epi8(static_cast<char>(a)); }
NC_INLINE B byte_or(B a, B b) { return _mm256_or_si256(a, b); }
NC_INLINE B byte_and(B a, B b) { return _mm256_and_si256(a, b); }
NC_INLINE B byte_xor(B a, B b) { return _mm256_xor_si256(a, b); }
template <int K> NC_INLINE B byte_shr_sign(B signs) { return _mm256_srli_epi16(signs, K); } // 80 or 00 bytes, K < 8
NC_INLINE MB byte_eq(B a, B b) { return _mm256_cmpeq_epi8(a, b); }
NC_INLINE B byte_select(MB m, B a, B b) { return _mm256_blendv_epi8(b, a, m); }
NC_INLINE void store_bytes(void* p, B a, bool stream) {
    store_vector(p, _mm256_permutevar8x32_epi32(a, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)), stream);
}

// float32 -> int32, ties to even; what does not fit becomes some number beyond 2^29 of its sign, NaN one below or
// above.
NC_INLINE U to_int_or_end(U a, bool nan_high) {
    const __m256 large = _mm256_set1_ps(1073741824.0f), x = as_float(a); // the second operand is taken for NaN
    return _mm256_cvtps_epi32(nan_high ? _mm256_min_ps(x, large) : _mm256_min_ps(large, x));
}
// int32 + offset (at most 2^14 and 128) -> bytes, clamped. They are signed bytes until the end: unsigned ones less
// 128, which the offset contains.
struct ByteEnds {
    __m256i low, high, turn;
};
NC_INLINE ByteEnds byte_ends(int32_t low, int32_t high, bool) {
    const int32_t turn = low < 0 ? 0 : 0x80;
    const auto bytes = [](int32_t a) { return _mm256_set1_epi8(static_cast<char>(a)); };
    return {bytes(low - turn), bytes(high - turn), bytes(turn)};
}
NC_INLINE void store_clamped_bytes(void* p, const U (&a)[4], const U (&offset)[4], const ByteEnds& ends, bool stream) {
    const __m256i low = _mm256_packs_epi32(offset[0], offset[1]), high = _mm256_packs_epi32(offset[2], offset[3]);
    const __m256i bytes = _mm256_packs_epi16(_mm256_adds_epi16(_mm256_packs_epi32(a[0], a[1]), low),
                                             _mm256_adds_epi16(_mm256_packs_epi32(a[2], a[3]), high));
    store_bytes(p, bxor(_mm256_min_epi8(_mm256_max_epi8(bytes, ends.low), ends.high), ends.turn), stream);
}

// The third byte of each lane, with the bits of flip turned.
NC_INLINE void store_third_bytes(void* p, const U (&a)[4], U flip, bool stream) {
    const __m256i mask = _mm256_set1_epi16(0xff);
    const __m256i low = _mm256_packus_epi32(shr<16>(a[0]), shr<16>(a[1])),
                  high = _mm256_packus_epi32(shr<16>(a[2]), shr<16>(a[3]));
    store_bytes(p, bxor(_mm256_packus_epi16(band(low, mask), band(high, mask)), flip), stream);
}

// Two vectors of codes below 2^16 -> 16 uint16.
NC_INLINE void store_words(void* p, U a, U b, bool stream) {
    store_vector(p, _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xD8), stream);
}
// Two vectors of float32 -> 16 binary16.
NC_INLINE void store_halves(void* p, U a, U b, bool stream) {
    const __m128i low = _mm256_cvtps_ph(as_float(a), 0), high = _mm256_cvtps_ph(as_float(b), 0);
    store_vector(p, _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1), stream);
}

// Two vectors of float32, none NaN, none subnormal -> 16 bfloat16.
NC_INLINE void store_bfloats(void* p, U a, U b, bool stream) {
    const auto rounded = [](U x) { return add(x, add(band(shr<16>(x), splat(1)), splat(0x7fff))); };
    store_words(p, shr<16>(rounded(a)), shr<16>(rounded(b)), stream);
}

// A block of bytes, each turned by `turn`, as float32 2^23 + byte.
NC_INLINE void load_marked_bytes(const unsigned char* p, uint8_t turn, U (&x)[4]) {
    for (size_t k = 0; k < 4; ++k)
        x[k] = bxor(load_u8(p + k * lanes), splat(0x4b000000u | turn));
}

// 16 words; magnitudes below 2^15 compare as signed.
NC_INLINE W splat_word(uint16_t a) { return _mm256_set1_epi16(static_cast<short>(a)); }
NC_INLINE W load_words(const void* p) { return load(p); }
NC_INLINE W word_and(W a, W b) { return _mm256_and_si256(a, b); }
NC_INLINE W word_or(W a, W b) { return _mm256_or_si256(a, b); }
NC_INLINE W word_min(W a, W b) { return _mm256_min_epi16(a, b); }
NC_INLINE MW word_gt(W a, W b) { return _mm256_cmpgt_epi16(a, b); }
NC_INLINE MW word_eq(W a, W b) { return _mm256_cmpeq_epi16(a, b); }
NC_INLINE W word_select(MW m, W a, W b) { return _mm256_blendv_epi8(b, a, m); }
NC_INLINE bool any_word(MW a, MW b) { return _mm256_movemask_epi8(_mm256_or_si256(a, b)) != 0; }
// Words as the high halves of 32-bit lanes, in an order that pack_bytes and store_unpacked_bytes put right again.
NC_INLINE U unpack_low(W a) { return _mm256_unpacklo_epi16(_mm256_setzero_si256(), a); }
NC_INLINE U unpack_high(W a) { return _mm256_unpackhi_epi16(_mm256_setzero_si256(), a); }
NC_INLINE B sign_bytes_of_words(W a, W b) {
    return _mm256_and_si256(_mm256_packs_epi16(a, b), _mm256_set1_epi8(static_cast<char>(0x80)));
}
NC_INLINE void store_unpacked_bytes(void* p, B a, bool stream) {
    store_vector(p, _mm256_permute4x64_epi64(a, 0xD8), stream);
}

// 16 bytes as the high bytes of 16 words.
NC_INLINE W load_high_bytes(const void* p) {
    return _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128(static_cast<const __m128i*>(p))), 8);
}
template <int K> NC_INLINE W word_shl(W a) { return _mm256_slli_epi16(a, K); }
template <int K> NC_INLINE W word_sar(W a) { return _mm256_srai_epi16(a, K); }
NC_INLINE U half_to_float_low(W a) { return as_bits(_mm256_cvtph_ps(_mm256_castsi256_si128(a))); }
NC_INLINE U half_to_float_high(W a) { return as_bits(_mm256_cvtph_ps(_mm256_extracti128_si256(a, 1))); }

// 8 float64 -> float32 rounded to odd. The conversion rounds to nearest: step back if it went away from zero (that
// also turns a false Inf into the largest value), then mark what was cut. NaN compares false: quieted, top payload
// kept, and the mark is below every target's payload.
NC_INLINE __m128i odd_quarter(const double* p) {
    const __m256d x = _mm256_loadu_pd(p);
    const __m128 nearest = _mm256_cvtpd_ps(x);
    const __m256d back = _mm256_cvtps_pd(nearest);
    const __m256d magnitude = _mm256_set1_pd(-0.0);
    const __m256d away = _mm256_cmp_pd(_mm256_andnot_pd(magnitude, back), _mm256_andnot_pd(magnitude, x), _CMP_GT_OQ);
    const __m256d inexact = _mm256_cmp_pd(back, x, _CMP_NEQ_OQ);
    const auto narrow = [](__m256d mask) { // 4 x 64-bit masks -> 4 x 32-bit masks
        const __m256i m = _mm256_castpd_si256(mask);
        return _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(m, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6)));
    };
    const __m128i truncated = _mm_add_epi32(_mm_castps_si128(nearest), narrow(away)); // + (-1)
    return _mm_or_si128(truncated, _mm_srli_epi32(narrow(inexact), 31));
}
NC_INLINE U load_f64_odd(const void* p) {
    const double* x = static_cast<const double*>(p);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(odd_quarter(x)), odd_quarter(x + 4), 1);
}

// 64-bit lanes: first, first + 1, ...; upper halves; products of the lower halves.
NC_INLINE U numbers(uint64_t first) {
    return _mm256_add_epi64(_mm256_set1_epi64x(static_cast<long long>(first)), _mm256_setr_epi64x(0, 1, 2, 3));
}
NC_INLINE U upper_halves(U a) { return _mm256_srli_epi64(a, 32); }
NC_INLINE U mul_lower_halves(U a, uint32_t factor) { return _mm256_mul_epu32(a, splat(factor)); }
// p[4 i + k] = the lower half of 64-bit lane i of vector k.
NC_INLINE void store_lower_halves(uint32_t* p, U a, U b, U c, U d) {
    const __m256i ab = _mm256_blend_epi32(a, _mm256_slli_epi64(b, 32), 0xAA);
    const __m256i cd = _mm256_blend_epi32(c, _mm256_slli_epi64(d, 32), 0xAA);
    const __m256i even = _mm256_unpacklo_epi64(ab, cd), odd = _mm256_unpackhi_epi64(ab, cd);
    store(p, _mm256_permute2x128_si256(even, odd, 0x20), false);
    store(p + 8, _mm256_permute2x128_si256(even, odd, 0x31), false);
}

// Codes of K bits in neighbours of a lane put side by side: low + (high << K), in 16-bit and in 32-bit lanes. Nothing
// but the codes may be set.
template <int K> NC_INLINE U join_bytes(U a) {
    return _mm256_maddubs_epi16(_mm256_set1_epi16(static_cast<short>(1 | 1 << (8 + K))), a);
}
template <int K> NC_INLINE U join_words(U a) { return _mm256_madd_epi16(a, splat(1 | 1u << (16 + K))); }
template <int K> NC_INLINE U shl64(U a) { return _mm256_slli_epi64(a, K); }
NC_INLINE U select_bytes(U mask, U a, U b) { return _mm256_blendv_epi8(b, a, mask); } // bytes of ff or 00
NC_INLINE U sign_extend_bytes(U a, U sign) { return _mm256_sub_epi8(bxor(a, sign), sign); }
// Sums of neighbouring bytes, each from 0 to 255, in lanes of 32 bits or more; and the sum of all 32-bit lanes.
NC_INLINE U sum_bytes(U a) { return _mm256_sad_epu8(a, _mm256_setzero_si256()); }
NC_INLINE uint32_t sum_lanes(U a) {
    __m128i x = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4e));
    return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xb1))));
}
// In each 16 bytes: byte i is byte order[i] of a, or 0 where that is 80.
NC_INLINE U shuffle_16(U a, const uint8_t* order) {
    return _mm256_shuffle_epi8(a, _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(order))));
}
// The vector's 16-byte parts from and to pieces of Bytes bytes that lie side by side; what else is in a part is
// anything when loaded and nothing when stored. Both touch a whole vector of memory.
template <int Bytes> NC_INLINE U load_pieces(const unsigned char* p) {
    const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + Bytes));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), high,
                                   1);
}
template <int Bytes> NC_INLINE void store_pieces(unsigned char* p, U a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(a));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + Bytes), _mm256_extracti128_si256(a, 1));
}

} // namespace
} // namespace narrowcast
