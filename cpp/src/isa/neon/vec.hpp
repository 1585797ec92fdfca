// The vector vocabulary on AArch64 NEON as every ARMv8-A CPU has it (little-endian): 4 lanes of 32 bits. Algorithms are
// in kernels/*.inl.hpp; the names and contracts are those of isa/avx2/vec.hpp. Conversions that round to nearest use
// the environment that api/ installs, which also keeps alternative half precision and default NaNs off.
//
//   U  4 x uint32 (float32 lanes are the same register: fadd and fmul read it so)
//   W  8 x uint16           B  16 bytes, in memory's order
//   M, MW, MB  masks of U's, W's and B's elements
#pragma once

#include <arm_neon.h>

#include "base.hpp"

namespace narrowcast {
namespace {

using U = uint32x4_t;
using W = uint16x8_t;
using B = uint8x16_t;
using M = uint32x4_t;
using MW = uint16x8_t;
using MB = uint8x16_t;
enum : size_t { lanes = 4, block = 4 * lanes };
enum : bool { has_stream = false }; // whether a store may go past the caches

NC_INLINE float32x4_t as_float(U a) { return vreinterpretq_f32_u32(a); }
NC_INLINE U as_bits(float32x4_t a) { return vreinterpretq_u32_f32(a); }

// Memory is read and written as bytes: no type whose alignment a compiler could rely on.
NC_INLINE uint8x16_t load_16(const void* p) { return vld1q_u8(static_cast<const uint8_t*>(p)); }
NC_INLINE uint8x8_t load_8(const void* p) { return vld1_u8(static_cast<const uint8_t*>(p)); }
NC_INLINE void store_16(void* p, uint8x16_t a) { vst1q_u8(static_cast<uint8_t*>(p), a); }

NC_INLINE U splat(uint32_t a) { return vdupq_n_u32(a); }
NC_INLINE U load(const void* p) { return vreinterpretq_u32_u8(load_16(p)); }
// For more than one use: compilers like to load again instead, and loads are what such loops have the most of.
NC_INLINE U load_once(const void* p) {
    U a = load(p);
#if defined(__GNUC__)
    __asm__("" : "+w"(a));
#endif
    return a;
}
// The first n lanes, of which there are more; the others are those of rest.
NC_INLINE U load_some(const void* p, size_t n, U rest) {
    uint32_t all[4];
    vst1q_u32(all, rest);
    NC_COPY(all, p, n * 4);
    return vld1q_u32(all);
}
NC_INLINE U load_u16(const void* p) { return vmovl_u16(vreinterpret_u16_u8(load_8(p))); }
NC_INLINE U load_u8(const void* p) {
    uint32_t four;
    NC_COPY(&four, p, sizeof four);
    return vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)))));
}
NC_INLINE U load_i8(const void* p) {
    uint32_t four;
    NC_COPY(&four, p, sizeof four);
    return vreinterpretq_u32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(four))))));
}
NC_INLINE U load_half(const void* p) { return as_bits(vcvt_f32_f16(vreinterpret_f16_u8(load_8(p)))); }
// The baseline has no store that is worth calling non-temporal: `stream` is ignored, and there is nothing to fence.
NC_INLINE void store(void* p, U a, bool) { store_16(p, vreinterpretq_u8_u32(a)); }
NC_INLINE void fence() {}
NC_INLINE void copy_some(void* to, const void* from, size_t n) { NC_COPY(to, from, n); }

NC_INLINE U band(U a, U b) { return vandq_u32(a, b); }
NC_INLINE U bor(U a, U b) { return vorrq_u32(a, b); }
NC_INLINE U bxor(U a, U b) { return veorq_u32(a, b); }
NC_INLINE U bandnot(U a, U b) { return vbicq_u32(a, b); } // a & ~b
NC_INLINE U add(U a, U b) { return vaddq_u32(a, b); }
NC_INLINE U sub(U a, U b) { return vsubq_u32(a, b); }
template <int K> NC_INLINE U shl(U a) { return vshlq_n_u32(a, K); }
template <int K> NC_INLINE U shr(U a) { return vshrq_n_u32(a, K); }
template <int K> NC_INLINE U sar(U a) { return vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_u32(a), K)); }
// Counts >= 32, as unsigned, give 0. The instruction reads a signed byte: left if positive, right if negative.
NC_INLINE int32x4_t shift_count(U count) { return vreinterpretq_s32_u32(vminq_u32(count, vdupq_n_u32(32))); }
NC_INLINE U shlv(U a, U count) { return vshlq_u32(a, shift_count(count)); }
NC_INLINE U shrv(U a, U count) { return vshlq_u32(a, vnegq_s32(shift_count(count))); }
NC_INLINE U min_u(U a, U b) { return vminq_u32(a, b); }
NC_INLINE U max_u(U a, U b) { return vmaxq_u32(a, b); }
NC_INLINE U max_s(U a, U b) {
    return vreinterpretq_u32_s32(vmaxq_s32(vreinterpretq_s32_u32(a), vreinterpretq_s32_u32(b)));
}
NC_INLINE U min_bytes(U a, U b) {
    return vreinterpretq_u32_u8(vminq_u8(vreinterpretq_u8_u32(a), vreinterpretq_u8_u32(b)));
}
NC_INLINE U min_words(U a, U b) {
    return vreinterpretq_u32_u16(vminq_u16(vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b)));
}
NC_INLINE M gt(U a, U b) { return vcgtq_s32(vreinterpretq_s32_u32(a), vreinterpretq_s32_u32(b)); } // signed
NC_INLINE M gt_u(U a, U b) { return vcgtq_u32(a, b); }
NC_INLINE M eq(U a, U b) { return vceqq_u32(a, b); }
NC_INLINE U select(M m, U a, U b) { return vbslq_u32(m, a, b); } // m ? a : b
// The maximum of anything and NaN is NaN here.
NC_INLINE bool any_nan(U a, U b, U c, U d) {
    const float32_t largest =
        vmaxvq_f32(vmaxq_f32(vmaxq_f32(as_float(a), as_float(b)), vmaxq_f32(as_float(c), as_float(d))));
    return largest != largest;
}
NC_INLINE U fadd(U a, U b) { return as_bits(vaddq_f32(as_float(a), as_float(b))); }
NC_INLINE U fmul(U a, U b) { return as_bits(vmulq_f32(as_float(a), as_float(b))); }
NC_INLINE U fsub(U a, U b) { return as_bits(vsubq_f32(as_float(a), as_float(b))); }
NC_INLINE U fdiv(U a, U b) { return as_bits(vdivq_f32(as_float(a), as_float(b))); }
NC_INLINE U fmul_add(U a, U b, U c) { return as_bits(vfmaq_f32(as_float(c), as_float(a), as_float(b))); }
NC_INLINE U fmul_from(U a, U b, U c) { return as_bits(vfmsq_f32(as_float(c), as_float(a), as_float(b))); } // c - a b
NC_INLINE U fmul_sub(U a, U b, U c) { return as_bits(vfmaq_f32(vnegq_f32(as_float(c)), as_float(a), as_float(b))); }
NC_INLINE U fmin(U a, U b) { return as_bits(vminnmq_f32(as_float(a), as_float(b))); }
NC_INLINE U fmax(U a, U b) { return as_bits(vmaxnmq_f32(as_float(a), as_float(b))); }
// fminnm makes NaN of a signalling one, and the next number replaces it: here NaN stays.
NC_INLINE U fmin_seen(U a, U b) { return as_bits(vminq_f32(as_float(a), as_float(b))); }
NC_INLINE U fmax_seen(U a, U b) { return as_bits(vmaxq_f32(as_float(a), as_float(b))); }
NC_INLINE float smallest(U a) { return vminvq_f32(as_float(a)); }
NC_INLINE float largest(U a) { return vmaxvq_f32(as_float(a)); }
template <class Both> NC_INLINE U fold_pairs(U a, U b, const Both& both) {
    return both(vzip1q_u32(a, b), vzip2q_u32(a, b));
}
template <class Both> NC_INLINE U fold_quads(U a, U b, const Both& both) {
    const uint64x2_t x = vreinterpretq_u64_u32(a), y = vreinterpretq_u64_u32(b);
    return both(vreinterpretq_u32_u64(vzip1q_u64(x, y)), vreinterpretq_u32_u64(vzip2q_u64(x, y)));
}
template <class Both> NC_INLINE U fold_parts(U a, const Both&) { return a; }
NC_INLINE void store_four(float* p, U a) { vst1q_f32(p, as_float(a)); }
NC_INLINE M is_nan(U a) { return vmvnq_u32(vceqq_f32(as_float(a), as_float(a))); }
NC_INLINE M either(M a, M b) { return vorrq_u32(a, b); }
NC_INLINE U round_even(U a) { return as_bits(vrndnq_f32(as_float(a))); }
NC_INLINE U to_int(U a) { return vreinterpretq_u32_s32(vcvtnq_s32_f32(as_float(a))); }
NC_INLINE U to_float(U a) { return as_bits(vcvtq_f32_s32(vreinterpretq_s32_u32(a))); }
NC_INLINE U round_half(U a) { return as_bits(vcvt_f32_f16(vcvt_f16_f32(as_float(a)))); }
NC_INLINE U count(U a, M m) { return vsubq_u32(a, m); }
// The larger and the smaller magnitude of a, which has no sign, and b.
NC_INLINE U max_magnitude(U a, U b) { return max_u(a, band(b, splat(0x7fffffff))); }
NC_INLINE U larger_magnitude(U a, U b) { return max_magnitude(band(a, splat(0x7fffffff)), b); }
NC_INLINE U min_magnitude(U a, U b) { return min_u(a, band(b, splat(0x7fffffff))); }
NC_INLINE bool any(M m) { return vmaxvq_u32(m) != 0; }

// Low 16 bits of each lane: a binary16 code. Direction: 0 nearest-even, 1 down, 2 up, 3 toward zero. The instruction
// has no immediate, and FPCR is dear to write: round to nearest, and step back to the right side if it took the wrong
// one. Codes are magnitudes under a sign, so one step is +-1, and Inf and the largest value are neighbours. NaN
// compares false and stays.
template <int Direction> NC_INLINE U float_to_half(U a) {
    const float16x4_t nearest = vcvt_f16_f32(as_float(a));
    const U code = vmovl_u16(vreinterpret_u16_f16(nearest));
    if constexpr (Direction == 0) {
        return code;
    } else {
        const float32x4_t back = vcvt_f32_f16(nearest), x = as_float(a);
        const U up = bor(sar<31>(a), splat(1)); // to the next code above: +1, or -1 if the sign is set
        if constexpr (Direction == 1)
            return sub(code, band(vcgtq_f32(back, x), up));
        else if constexpr (Direction == 2)
            return add(code, band(vcltq_f32(back, x), up));
        else
            return add(code, vcagtq_f32(back, x)); // + (-1)
    }
}

// Four vectors of codes -> bytes, each the low byte of a lane; and the signs of four vectors as 80 or 00.
NC_INLINE uint16x8_t low_words(U a, U b) { return vuzp1q_u16(vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b)); }
NC_INLINE uint16x8_t high_words(U a, U b) { return vuzp2q_u16(vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b)); }
NC_INLINE B pack_bytes(U a, U b, U c, U d) {
    return vuzp1q_u8(vreinterpretq_u8_u16(low_words(a, b)), vreinterpretq_u8_u16(low_words(c, d)));
}
NC_INLINE MB nan_bytes(U a, U b, U c, U d) {
    const auto number = [](U x) { return vceqq_f32(as_float(x), as_float(x)); };
    return vmvnq_u8(pack_bytes(number(a), number(b), number(c), number(d)));
}
NC_INLINE B sign_bytes(U a, U b, U c, U d) {
    const B top = vuzp2q_u8(vreinterpretq_u8_u16(high_words(a, b)), vreinterpretq_u8_u16(high_words(c, d)));
    return vandq_u8(top, vdupq_n_u8(0x80));
}
NC_INLINE B splat_byte(uint8_t a) { return vdupq_n_u8(a); }
NC_INLINE B byte_or(B a, B b) { return vorrq_u8(a, b); }
NC_INLINE B byte_and(B a, B b) { return vandq_u8(a, b); }
NC_INLINE B byte_xor(B a, B b) { return veorq_u8(a, b); }
template <int K> NC_INLINE B byte_shr_sign(B signs) { // 80 or 00 bytes, K < 8
    if constexpr (K == 0)
        return signs; // not an immediate that the instruction has
    else
        return vshrq_n_u8(signs, K);
}
NC_INLINE MB byte_eq(B a, B b) { return vceqq_u8(a, b); }
NC_INLINE B byte_select(MB m, B a, B b) { return vbslq_u8(m, a, b); }
NC_INLINE void store_bytes(void* p, B a, bool) { store_16(p, a); }

NC_INLINE U to_int_or_end(U a, bool nan_high) {
    const float32x4_t large = vdupq_n_f32(1073741824.0f), x = as_float(a);
    return to_int(as_bits(nan_high ? vminnmq_f32(x, large) : vmaxnmq_f32(x, vnegq_f32(large))));
}
struct ByteEnds {
    int8x16_t low, high;
    uint8x16_t turn;
};
NC_INLINE ByteEnds byte_ends(int32_t low, int32_t high, bool) {
    const int32_t turn = low < 0 ? 0 : 0x80;
    return {vdupq_n_s8(static_cast<int8_t>(low - turn)), vdupq_n_s8(static_cast<int8_t>(high - turn)),
            vdupq_n_u8(static_cast<uint8_t>(turn))};
}
NC_INLINE int16x8_t saturated_words(U a, U b) {
    return vcombine_s16(vqmovn_s32(vreinterpretq_s32_u32(a)), vqmovn_s32(vreinterpretq_s32_u32(b)));
}
NC_INLINE void store_clamped_bytes(void* p, const U (&a)[4], const U (&offset)[4], const ByteEnds& ends, bool) {
    const int16x8_t low = saturated_words(offset[0], offset[1]), high = saturated_words(offset[2], offset[3]);
    const int8x16_t bytes = vcombine_s8(vqmovn_s16(vqaddq_s16(saturated_words(a[0], a[1]), low)),
                                        vqmovn_s16(vqaddq_s16(saturated_words(a[2], a[3]), high)));
    store_16(p, veorq_u8(vreinterpretq_u8_s8(vminq_s8(vmaxq_s8(bytes, ends.low), ends.high)), ends.turn));
}

// The third byte of each lane, with the bits of flip turned.
NC_INLINE void store_third_bytes(void* p, const U (&a)[4], U flip, bool) {
    const uint16x8_t low = vcombine_u16(vshrn_n_u32(a[0], 16), vshrn_n_u32(a[1], 16)),
                     high = vcombine_u16(vshrn_n_u32(a[2], 16), vshrn_n_u32(a[3], 16));
    store_16(p, veorq_u8(vcombine_u8(vmovn_u16(low), vmovn_u16(high)), vreinterpretq_u8_u32(flip)));
}

// Two vectors of codes below 2^16 -> 8 uint16.
NC_INLINE void store_words(void* p, U a, U b, bool) { store_16(p, vreinterpretq_u8_u16(low_words(a, b))); }
// Two vectors of float32 -> 8 binary16.
NC_INLINE void store_halves(void* p, U a, U b, bool) {
    store_16(p, vreinterpretq_u8_f16(vcvt_high_f16_f32(vcvt_f16_f32(as_float(a)), as_float(b))));
}

// Two vectors of float32, none NaN, none subnormal -> 8 bfloat16.
NC_INLINE void store_bfloats(void* p, U a, U b, bool stream) {
    const auto rounded = [](U x) { return add(x, add(band(shr<16>(x), splat(1)), splat(0x7fff))); };
    store_words(p, shr<16>(rounded(a)), shr<16>(rounded(b)), stream);
}

// A block of bytes, each turned by `turn`, as float32 2^23 + byte.
NC_INLINE void load_marked_bytes(const unsigned char* p, uint8_t turn, U (&x)[4]) {
    for (size_t k = 0; k < 4; ++k)
        x[k] = bxor(load_u8(p + k * lanes), splat(0x4b000000u | turn));
}

// 8 words; magnitudes below 2^15 compare as either sign.
NC_INLINE W splat_word(uint16_t a) { return vdupq_n_u16(a); }
NC_INLINE W load_words(const void* p) { return vreinterpretq_u16_u8(load_16(p)); }
NC_INLINE W word_and(W a, W b) { return vandq_u16(a, b); }
NC_INLINE W word_or(W a, W b) { return vorrq_u16(a, b); }
NC_INLINE W word_min(W a, W b) { return vminq_u16(a, b); }
NC_INLINE MW word_gt(W a, W b) { return vcgtq_u16(a, b); }
NC_INLINE MW word_eq(W a, W b) { return vceqq_u16(a, b); }
NC_INLINE W word_select(MW m, W a, W b) { return vbslq_u16(m, a, b); }
NC_INLINE bool any_word(MW a, MW b) { return vmaxvq_u16(vorrq_u16(a, b)) != 0; }
// Words as the high halves of 32-bit lanes; pack_bytes and store_unpacked_bytes keep their order.
NC_INLINE U unpack_low(W a) { return vreinterpretq_u32_u16(vzip1q_u16(vdupq_n_u16(0), a)); }
NC_INLINE U unpack_high(W a) { return vreinterpretq_u32_u16(vzip2q_u16(vdupq_n_u16(0), a)); }
NC_INLINE B sign_bytes_of_words(W a, W b) {
    return vandq_u8(vuzp2q_u8(vreinterpretq_u8_u16(a), vreinterpretq_u8_u16(b)), vdupq_n_u8(0x80));
}
NC_INLINE void store_unpacked_bytes(void* p, B a, bool) { store_16(p, a); }

// 8 bytes as the high bytes of 8 words.
NC_INLINE W load_high_bytes(const void* p) { return vshlq_n_u16(vmovl_u8(load_8(p)), 8); }
template <int K> NC_INLINE W word_shl(W a) { return vshlq_n_u16(a, K); }
template <int K> NC_INLINE W word_sar(W a) { return vreinterpretq_u16_s16(vshrq_n_s16(vreinterpretq_s16_u16(a), K)); }
NC_INLINE U half_to_float_low(W a) { return as_bits(vcvt_f32_f16(vget_low_f16(vreinterpretq_f16_u16(a)))); }
NC_INLINE U half_to_float_high(W a) { return as_bits(vcvt_high_f32_f16(vreinterpretq_f16_u16(a))); }

// 4 float64 -> float32 rounded to odd: the instruction exists for this. Beyond the largest value it gives that value,
// below the smallest subnormal that subnormal; NaN is quieted, its top payload kept, and not marked.
NC_INLINE U load_f64_odd(const void* p) {
    const uint8_t* bytes = static_cast<const uint8_t*>(p);
    const float64x2_t low = vreinterpretq_f64_u8(load_16(bytes)), high = vreinterpretq_f64_u8(load_16(bytes + 16));
    return as_bits(vcvtx_high_f32_f64(vcvtx_f32_f64(low), high));
}

// 64-bit lanes: first, first + 1, ...; upper halves; products of the lower halves.
NC_INLINE U numbers(uint64_t first) {
    return vreinterpretq_u32_u64(vcombine_u64(vcreate_u64(first), vcreate_u64(first + 1)));
}
NC_INLINE U upper_halves(U a) { return vreinterpretq_u32_u64(vshrq_n_u64(vreinterpretq_u64_u32(a), 32)); }
NC_INLINE U mul_lower_halves(U a, uint32_t factor) {
    return vreinterpretq_u32_u64(vmull_n_u32(vmovn_u64(vreinterpretq_u64_u32(a)), factor));
}
// p[4 i + k] = the lower half of 64-bit lane i of vector k.
NC_INLINE void store_lower_halves(uint32_t* p, U a, U b, U c, U d) {
    const uint64x2_t ab = vreinterpretq_u64_u32(vtrn1q_u32(a, b)), cd = vreinterpretq_u64_u32(vtrn1q_u32(c, d));
    vst1q_u32(p, vreinterpretq_u32_u64(vzip1q_u64(ab, cd)));
    vst1q_u32(p + 4, vreinterpretq_u32_u64(vzip2q_u64(ab, cd)));
}

// Codes of K bits in neighbours of a lane put side by side: low + (high << K), in 16-bit and in 32-bit lanes. Nothing
// but the codes may be set.
template <int K> NC_INLINE U join_bytes(U a) {
    const uint16x8_t pairs = vreinterpretq_u16_u32(a);
    return vreinterpretq_u32_u16(vsliq_n_u16(pairs, vshrq_n_u16(pairs, 8), K));
}
template <int K> NC_INLINE U join_words(U a) { return vsliq_n_u32(a, vshrq_n_u32(a, 16), K); }
template <int K> NC_INLINE U shl64(U a) { return vreinterpretq_u32_u64(vshlq_n_u64(vreinterpretq_u64_u32(a), K)); }
NC_INLINE U select_bytes(U mask, U a, U b) { return vbslq_u32(mask, a, b); } // bytes of ff or 00
NC_INLINE U sign_extend_bytes(U a, U sign) {
    return vreinterpretq_u32_u8(vsubq_u8(vreinterpretq_u8_u32(bxor(a, sign)), vreinterpretq_u8_u32(sign)));
}
NC_INLINE U sum_bytes(U a) { return vpaddlq_u16(vpaddlq_u8(vreinterpretq_u8_u32(a))); }
NC_INLINE uint32_t sum_lanes(U a) { return vaddvq_u32(a); }
// In each 16 bytes: byte i is byte order[i] of a, or 0 where that is 80.
NC_INLINE U shuffle_16(U a, const uint8_t* order) {
    return vreinterpretq_u32_u8(vqtbl1q_u8(vreinterpretq_u8_u32(a), vld1q_u8(order)));
}
// The vector's 16-byte parts from and to pieces of Bytes bytes that lie side by side: here there is one.
template <int Bytes> NC_INLINE U load_pieces(const unsigned char* p) { return load(p); }
template <int Bytes> NC_INLINE void store_pieces(unsigned char* p, U a) { store(p, a, false); }

} // namespace
} // namespace narrowcast
