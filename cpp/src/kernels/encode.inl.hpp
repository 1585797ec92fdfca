// float32 lanes -> narrow codes. Text-included once per ISA unit, after its vec.hpp; no guard.
//
// Two formulations, both unlike the scalar codec:
//  - nearest-even to a byte: one float addition lets the FPU round (even_byte);
//  - the other roundings, any narrow format: keep, cut and compare with a threshold (encode_mode).
// Rounding happens on the magnitude; the sign joins last.

namespace narrowcast {
namespace {

// The float32 bits of a magnitude code of Format; the code may lie one step beyond the largest.
template <int32_t Format> consteval uint32_t value_bits(uint64_t code) {
    const Row r = row(Format);
    return static_cast<uint32_t>((code >> r.mantissa_bits) + static_cast<uint64_t>(127 - r.bias)) << 23 |
           static_cast<uint32_t>(code & ((uint64_t{1} << r.mantissa_bits) - 1)) << (23 - r.mantissa_bits);
}

template <int32_t Format> consteval bool is_scale() { return row(Format).specials == Specials::scale; }
template <int32_t Format> consteval bool has_float32_exponent() {
    return row(Format).exponent_bits == 8 && !is_scale<Format>();
}

constexpr uint32_t inf_f32 = 0x7f800000, magnitude_f32 = 0x7fffffff, sign_f32 = 0x80000000;

// --- nearest-even to byte formats --------------------------------------------------------------------------------

// Code of |x| in the low byte of each lane; the bits above it are rubbish.
//   E = exponent field of max(|x|, smallest normal). Adding the power of two whose ulp is the target's quantum at E
//   rounds |x| to that quantum, subnormals included, and leaves the multiple in the sum's low bits. The code is that
//   multiple plus (E - E of the smallest normal) << mantissa bits; the constant part of it rides in the low bits of
//   the power of two (it is even, so ties see the right parity).
// Clamping |x| to the first code past the largest makes overflow come out as that code, which is Inf or NaN.
template <int32_t Format, bool Saturate> consteval uint32_t even_limit() {
    constexpr Facts f = facts(Format);
    return value_bits<Format>(Saturate || f.overflow == f.max ? f.max : f.max + 1);
}
template <int32_t Format> NC_INLINE U even_clamped(U a) {
    constexpr Row r = row(Format);
    constexpr uint32_t normal = value_bits<Format>(facts(Format).min_normal);
    constexpr uint32_t bias = (0u - (normal >> (23 - r.mantissa_bits))) & 0xff;
    static_assert(bias % 2 == 0);
    const U e = band(max_u(a, splat(normal)), splat(inf_f32));
    const U power = add(e, splat(((23u - r.mantissa_bits) << 23) + bias));
    return add(fadd(a, power), shr<23 - r.mantissa_bits>(e));
}
template <int32_t Format, bool Saturate> NC_INLINE U even_byte(U x) {
    return even_clamped<Format>(min_u(band(x, splat(magnitude_f32)), splat(even_limit<Format, Saturate>())));
}

// E8M0, nearest (ties up; above 2^-127 and below 2^-126 always up): all cases in one lane.
template <bool Saturate> NC_INLINE U even_scale(U x) {
    const U a = min_u(x, splat(inf_f32)); // negatives and NaN look like Inf
    const U rounded = shr<23>(add(a, splat(0x400000)));
    const U code = select(eq(a, splat(0x400000)), splat(0), rounded); // 2^-127 itself is code 0
    if constexpr (Saturate) {
        const U finite = min_u(code, splat(0xfe));
        const U bad = select(gt_u(x, splat(sign_f32)), splat(0xff), select(eq(x, splat(sign_f32)), splat(0), finite));
        return select(gt(x, splat(inf_f32)), splat(0xff), bad);
    } else {
        return select(eq(a, splat(0)), splat(0xff), code);
    }
}

// Whether NaN comes out right from even_byte by itself: it is clamped like an overflow.
template <int32_t Format, bool Saturate> consteval bool nan_is_overflow() {
    const Facts f = facts(Format);
    return !Saturate && !f.has_inf && f.has_nan;
}

// Signs in place; -0 stays away from FNUZ, whose code 80 is NaN (there 80 | sign is 80 already).
template <int32_t Format> NC_INLINE B join_sign(B codes, B signs) {
    constexpr Row r = row(Format);
    if constexpr (r.bits < 8)
        signs = byte_shr_sign<8 - r.bits>(signs);
    const B joined = byte_or(codes, signs);
    if constexpr (r.specials == Specials::fnuz)
        return byte_select(byte_eq(codes, splat_byte(0)), codes, joined);
    else
        return joined;
}

template <int32_t Format, bool Saturate> NC_INLINE B nan_codes(B signs) {
    constexpr Facts f = facts(Format);
    if constexpr (!f.has_nan && Saturate) {
        return splat_byte(static_cast<uint8_t>(f.max));
    } else if constexpr (!f.has_nan) { // +NaN is the code of -0, -NaN the code of 0
        const B positive = splat_byte(static_cast<uint8_t>(f.sign_mask));
        return byte_xor(positive, byte_and(positive, byte_shr_sign<8 - row(Format).bits>(signs)));
    } else {
        return byte_or(splat_byte(static_cast<uint8_t>(f.quiet_nan)), signs);
    }
}

template <int32_t Format, bool Saturate> NC_INLINE B encode_even_bytes(U a, U b, U c, U d) {
    if constexpr (is_scale<Format>()) {
        return pack_bytes(even_scale<Saturate>(a), even_scale<Saturate>(b), even_scale<Saturate>(c),
                          even_scale<Saturate>(d));
    } else {
        const B codes = pack_bytes(even_byte<Format, Saturate>(a), even_byte<Format, Saturate>(b),
                                   even_byte<Format, Saturate>(c), even_byte<Format, Saturate>(d));
        const B signs = sign_bytes(a, b, c, d);
        B result = join_sign<Format>(codes, signs);
        if constexpr (!nan_is_overflow<Format, Saturate>()) {
            if (any_nan(a, b, c, d)) [[unlikely]]
                result = byte_select(nan_bytes(a, b, c, d), nan_codes<Format, Saturate>(signs), result);
        }
        return result;
    }
}

// The same from bfloat16 words: magnitude, clamp, signs and the search for NaN are done on words, twice as many at
// once.
template <int32_t Format, bool Saturate> NC_INLINE B encode_even_words(W a, W b) {
    constexpr uint32_t limit = even_limit<Format, Saturate>();
    static_assert((limit & 0xffff) == 0);
    const W magnitude = splat_word(0x7fff), bound = splat_word(limit >> 16);
    const W ma = word_and(a, magnitude), mb = word_and(b, magnitude);
    const W ca = word_min(ma, bound), cb = word_min(mb, bound);
    const B codes = pack_bytes(even_clamped<Format>(unpack_low(ca)), even_clamped<Format>(unpack_high(ca)),
                               even_clamped<Format>(unpack_low(cb)), even_clamped<Format>(unpack_high(cb)));
    const B signs = sign_bytes_of_words(a, b);
    B result = join_sign<Format>(codes, signs);
    if constexpr (!nan_is_overflow<Format, Saturate>()) {
        const W inf = splat_word(0x7f80);
        if (any_word(word_gt(ma, inf), word_gt(mb, inf))) [[unlikely]]
            result = byte_select(nan_bytes(unpack_low(a), unpack_high(a), unpack_low(b), unpack_high(b)),
                                 nan_codes<Format, Saturate>(signs), result);
    }
    return result;
}

NC_INLINE U limit_magnitude(U x, U limit) {
    return bor(min_u(band(x, splat(magnitude_f32)), limit), band(x, splat(sign_f32)));
}

// --- nearest-even to formats with float32's exponent (bfloat16, TF32): a plain integer step -----------------------

// The float32 bits of a rounded number (not NaN); the bits below the last place are rubbish.
template <int32_t Format, bool Saturate> NC_INLINE U even_untruncated(U x) {
    constexpr int drop = 23 - row(Format).mantissa_bits;
    if constexpr (Saturate)
        x = limit_magnitude(x, splat(value_bits<Format>(facts(Format).max)));
    const U odd = band(shr<drop>(x), splat(1));
    return add(x, add(odd, splat((1u << (drop - 1)) - 1)));
}

// NaN among x: quiet; the sign stays, and the top payload where the format keeps it. The rest: y.
template <int32_t Format> NC_INLINE U nan_or(U x, U y) {
    const U nan = row(Format).nan == NanRule::payload ? bor(x, splat(0x7fc00000))
                                                      : bor(band(x, splat(sign_f32)), splat(0x7fc00000));
    return select(gt(band(x, splat(magnitude_f32)), splat(inf_f32)), nan, y);
}

// Blocks with a NaN are rare: one look for all four vectors.
template <int32_t Format> NC_INLINE void restore_nan(const U (&x)[4], U (&y)[4]) {
    if (any_nan(x[0], x[1], x[2], x[3])) [[unlikely]] {
        for (size_t k = 0; k < 4; ++k)
            y[k] = nan_or<Format>(x[k], y[k]);
    }
}

// float16 saturation ahead of the hardware conversion; NaN passes.
NC_INLINE U clamp_half(U x) {
    return select(gt(band(x, splat(magnitude_f32)), splat(inf_f32)), x, limit_magnitude(x, splat(0x477fe000)));
}

// --- any rounding, formats with float32's exponent ------------------------------------------------------------------

// An addition ahead of a truncation: what to add says how to round (nearest-even has even_untruncated). Overflow and
// Inf come out as IEEE 754 wants by themselves; saturation is a limit on the result.
struct TruncateVectors {
    U add_positive, add_negative;
    bool stochastic, saturate;
};

template <int32_t Format> NC_INLINE TruncateVectors truncate_vectors(const EncodeMode& mode) {
    constexpr int drop = 23 - row(Format).mantissa_bits;
    constexpr uint32_t all = (1u << drop) - 1, half = 1u << (drop - 1);
    const uint32_t nearest = mode.rounding == NC_NEAREST_AWAY ? half : 0;
    TruncateVectors v;
    v.add_positive = splat(mode.rounding == NC_UP ? all : nearest);
    v.add_negative = splat(mode.rounding == NC_DOWN ? all : nearest);
    v.stochastic = mode.rounding == NC_STOCHASTIC;
    v.saturate = mode.overflow == NC_OVERFLOW_SATURATE;
    return v;
}

// The float32 bits of a rounded number (not NaN); the bits below the last place are rubbish. Inf stays Inf: no step
// carries into its exponent.
template <int32_t Format> NC_INLINE U mode_untruncated(U x, U random, const TruncateVectors& v) {
    constexpr int drop = 23 - row(Format).mantissa_bits;
    const U step = v.stochastic ? shr<32 - drop>(random) : select(gt(splat(0), x), v.add_negative, v.add_positive);
    const U y = add(x, step);
    return v.saturate ? limit_magnitude(y, splat(value_bits<Format>(facts(Format).max))) : y;
}

// --- any rounding, other formats
// -------------------------------------------------------------------------------------------------

// The mode, as vectors: away from zero when the cut-off part (left-aligned in 32 bits) exceeds the threshold.
struct ModeVectors {
    U threshold_positive, threshold_negative; // not used by stochastic
    U sticky;                                 // 1 or 0
    U overflow_positive, overflow_negative;   // codes that a finite overflow gives, without the sign
    U infinite, nan_positive, nan_negative;   // whole codes but for Inf's sign
    bool stochastic;
};

template <int32_t Format> NC_INLINE ModeVectors mode_vectors(const EncodeMode& mode) {
    constexpr Facts f = facts(Format);
    constexpr uint32_t half = 0x80000000, never = 0xffffffff;
    const bool saturate = mode.overflow == NC_OVERFLOW_SATURATE;
    const int32_t rounding = mode.rounding;
    const bool nearest = rounding == NC_NEAREST_AWAY; // nearest-even never comes here
    const uint32_t beyond = static_cast<uint32_t>(saturate ? f.max : f.overflow), max = static_cast<uint32_t>(f.max);
    const bool positive_to_max = rounding == NC_TOWARD_ZERO || rounding == NC_DOWN;
    const bool negative_to_max = rounding == NC_TOWARD_ZERO || rounding == NC_UP;
    ModeVectors v;
    v.threshold_positive = splat(nearest ? half - 1 : rounding == NC_UP ? 0 : never);
    v.threshold_negative = splat(nearest ? half - 1 : rounding == NC_DOWN ? 0 : never);
    v.sticky = splat(rounding == NC_UP || rounding == NC_DOWN ? 1 : 0);
    v.overflow_positive = splat(positive_to_max ? max : beyond);
    v.overflow_negative = splat(negative_to_max ? max : beyond);
    v.infinite = splat(beyond);
    if constexpr (f.has_nan) {
        v.nan_positive = splat(static_cast<uint32_t>(f.quiet_nan));
        v.nan_negative = splat(static_cast<uint32_t>(f.negative_quiet_nan));
    } else {
        v.nan_positive = splat(static_cast<uint32_t>(saturate ? f.max : f.sign_mask));
        v.nan_negative = splat(static_cast<uint32_t>(saturate ? f.max : 0));
    }
    v.stochastic = rounding == NC_STOCHASTIC;
    return v;
}

// Whole codes, one per lane.
template <int32_t Format> NC_INLINE U encode_mode(U x, U random, const ModeVectors& v) {
    constexpr Row r = row(Format);
    constexpr Facts f = facts(Format);
    constexpr int drop = 23 - r.mantissa_bits;
    const U a = band(x, splat(magnitude_f32));
    const M negative = gt(splat(0), x);
    // 1. Kept bits, and the cut-off part left-aligned: its top bit is worth half of the last place kept.
    constexpr uint32_t normal = value_bits<Format>(f.min_normal);
    static_assert(normal >> 23 > 32 + 24); // a float32 subnormal, or zero, is cut off whole
    const U field = shr<23>(max_u(a, splat(normal)));
    const U significand = bor(band(a, splat(0x7fffff)), splat(0x800000));
    const U shift = add(sub(field, shr<23>(a)), splat(drop));
    const U kept = shrv(significand, shift);
    // What falls off below cut matters only to "is there anything"; of a zero there is not.
    U cut = bor(shlv(significand, sub(splat(32), shift)), shrv(significand, sub(shift, splat(32))));
    cut = bor(cut, select(gt(shift, splat(32)), min_u(a, v.sticky), splat(0)));
    const U steps = shl<r.mantissa_bits>(sub(field, splat(normal >> 23)));
    // 2. Away from zero or not.
    const U threshold =
        v.stochastic ? bxor(random, splat(0xffffffff)) : select(negative, v.threshold_negative, v.threshold_positive);
    U code = add(add(kept, steps), select(gt_u(cut, threshold), splat(1), splat(0)));
    // 3. Overflow, Inf, sign, NaN.
    code = select(gt(code, splat(static_cast<uint32_t>(f.max))),
                  select(negative, v.overflow_negative, v.overflow_positive), code);
    code = select(eq(a, splat(inf_f32)), v.infinite, code);
    U sign = select(negative, splat(static_cast<uint32_t>(f.sign_mask)), splat(0));
    if constexpr (!f.has_negative_zero)
        sign = select(eq(code, splat(0)), splat(0), sign);
    code = bor(code, sign);
    U nan = select(negative, v.nan_negative, v.nan_positive);
    if constexpr (r.nan == NanRule::payload)
        nan = bor(nan, band(shr<drop>(a), splat(static_cast<uint32_t>(f.min_normal) - 1)));
    return select(gt(a, splat(inf_f32)), nan, code);
}

// E8M0 by mode. Nearest, up, down and toward zero are additions ahead of a shift; stochastic adds its word.
NC_INLINE U encode_mode_scale(U x, U random, const EncodeMode& mode) {
    const bool saturate = mode.overflow == NC_OVERFLOW_SATURATE;
    const int32_t rounding = mode.rounding;
    const bool truncates = rounding == NC_TOWARD_ZERO || rounding == NC_DOWN;
    const U a = min_u(x, splat(inf_f32));
    const U low = splat(0x400000); // 2^-127, code 0: below 2^-126 the grid is 2^-127 and 2^-126 alone
    const M subnormal = gt(splat(0x800000), a);
    U code;
    if (rounding == NC_STOCHASTIC) {
        const U normal = shr<23>(add(a, shr<9>(random)));
        const U steep = shr<22>(add(sub(max_u(a, low), low), shr<10>(random)));
        code = select(subnormal, steep, normal);
    } else {
        const bool nearest = rounding == NC_NEAREST_EVEN || rounding == NC_NEAREST_AWAY;
        const U normal = shr<23>(add(a, splat(truncates ? 0 : nearest ? 0x400000 : 0x7fffff)));
        const U above = select(gt(a, low), splat(truncates ? 0 : 1), splat(0));
        code = select(subnormal, above, normal);
    }
    const uint32_t beyond = saturate ? 0xfe : 0xff;
    code = select(gt(code, splat(0xfe)), splat(truncates ? 0xfe : beyond), code);
    code = select(eq(a, splat(inf_f32)), splat(beyond), code);
    code = select(eq(band(x, splat(magnitude_f32)), splat(0)), splat(saturate ? 0 : 0xff), code);
    return select(gt_u(x, splat(sign_f32)), splat(0xff), select(gt(x, splat(inf_f32)), splat(0xff), code));
}

} // namespace
} // namespace narrowcast
