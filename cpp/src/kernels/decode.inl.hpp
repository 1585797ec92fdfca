// Byte codes -> float32 lanes, by way of the hardware's binary16: a code's magnitude shifted to where binary16 keeps
// exponent and fraction is its value times a power of two, subnormals included; one multiplication puts that right.
// Inf and NaN codes are then blended in. Text-included once per ISA unit, after encode.inl.hpp; no guard.

namespace narrowcast {
namespace {

// Puts right, in binary16 codes, what stands for Inf and NaN in Format: all that the multiplication then keeps.
template <int32_t Format> NC_INLINE W half_specials(W h) {
    constexpr Row r = row(Format);
    constexpr Facts f = facts(Format);
    const W sign = splat_word(0x8000), quiet = splat_word(0x7e00);
    if constexpr (r.specials == Specials::fnuz) {
        return word_select(word_eq(h, sign), splat_word(0xfe00), h); // NaN stands where -0 would be
    } else if constexpr (f.has_nan) {
        constexpr int up = 10 - r.mantissa_bits;
        constexpr uint16_t inf = static_cast<uint16_t>(f.inf << up);
        constexpr uint16_t last_number = static_cast<uint16_t>(f.has_inf ? f.inf << up : (f.quiet_nan << up) - 1);
        const W magnitude = word_and(h, splat_word(0x7fff));
        const W nan = word_or(word_and(h, sign), quiet);
        W y = h;
        if constexpr (f.has_inf && r.exponent_bits < 5)
            y = word_select(word_eq(magnitude, splat_word(inf)), word_or(word_and(h, sign), splat_word(0x7c00)), h);
        return word_select(word_gt(magnitude, splat_word(last_number)), nan, y);
    } else {
        return h;
    }
}

// Formats whose highest exponent of five bits is finite: binary16 would read it as Inf. Exponent and fraction go
// straight to where float32 keeps them; a subnormal, taken for a normal of the next exponent, is one power too large.
template <int32_t Format> consteval bool outgrows_half() {
    return row(Format).exponent_bits == 5 && row(Format).specials != Specials::ieee;
}
template <int32_t Format> NC_INLINE U decode_fields(U code) {
    constexpr Row r = row(Format);
    constexpr Facts f = facts(Format);
    constexpr uint32_t rebias = static_cast<uint32_t>(127 - r.bias) << 23, one_exponent = 1u << 23;
    const U magnitude = band(code, splat(static_cast<uint32_t>(f.magnitude_mask)));
    const U sign = band(shl<32 - r.bits>(code), splat(sign_f32));
    const U normal = add(shl<23 - r.mantissa_bits>(magnitude), splat(rebias));
    const U subnormal = fadd(add(normal, splat(one_exponent)), splat(sign_f32 | (rebias + one_exponent)));
    const M is_subnormal = gt(splat(static_cast<uint32_t>(f.min_normal)), magnitude);
    const U value = bor(select(is_subnormal, subnormal, normal), sign);
    static_assert(r.specials == Specials::fnuz || r.specials == Specials::finite);
    if constexpr (r.specials == Specials::fnuz)
        return select(eq(value, splat(sign_f32)), splat(0xffc00000), value);
    else
        return value;
}

// binary16 codes of 2 * lanes bytes: right for every number but for a power of two, specials still to do.
template <int32_t Format> NC_INLINE W half_codes(const unsigned char* p) {
    constexpr Row r = row(Format);
    static_assert(r.exponent_bits <= 5 && r.mantissa_bits <= 10);
    constexpr uint16_t mask = static_cast<uint16_t>(0x8000 | (facts(Format).magnitude_mask << (10 - r.mantissa_bits)));
    W h = load_high_bytes(p);
    if constexpr (r.bits < 8)
        h = word_shl<8 - r.bits>(h); // the sign on top; what stood above the code is gone
    if constexpr (r.exponent_bits < 5)
        h = word_and(word_sar<5 - r.exponent_bits>(h), splat_word(mask));
    return h;
}

template <int32_t Format> NC_INLINE void half_values(W h, U& low, U& high) {
    constexpr Row r = row(Format);
    low = half_to_float_low(h);
    high = half_to_float_high(h);
    if constexpr (r.bias != 15) {
        const U power = splat(static_cast<uint32_t>(127 + 15 - r.bias) << 23);
        low = fmul(low, power);
        high = fmul(high, power);
    }
}

// A block of byte codes. Where Inf and NaN (or what binary16 would take for them) sit on top of the magnitudes, one
// comparison finds the blocks that have any; they are rare.
template <int32_t Format> NC_INLINE void decode_bytes(const unsigned char* p, U (&x)[4]) {
    constexpr Row r = row(Format);
    constexpr Facts f = facts(Format);
    W low = half_codes<Format>(p), high = half_codes<Format>(p + 2 * lanes);
    if constexpr (r.specials == Specials::fnuz && !outgrows_half<Format>()) {
        low = half_specials<Format>(low);
        high = half_specials<Format>(high);
    } else if constexpr (f.has_nan) {
        constexpr uint64_t first = outgrows_half<Format>() ? 0x7c00 >> 8 : f.has_inf ? f.inf : f.quiet_nan;
        const W last_number = splat_word(static_cast<uint16_t>((first << (10 - r.mantissa_bits)) - 1));
        const W magnitude = splat_word(0x7fff);
        const bool rare =
            any_word(word_gt(word_and(low, magnitude), last_number), word_gt(word_and(high, magnitude), last_number));
        if constexpr (outgrows_half<Format>()) {
            // NaN is the code of -0, which no comparison of magnitudes finds.
            const W nan = splat_word(0x8000);
            if (rare || any_word(word_eq(low, nan), word_eq(high, nan))) [[unlikely]] {
                for (size_t k = 0; k < 4; ++k)
                    x[k] = decode_fields<Format>(load_u8(p + k * lanes));
                return;
            }
        } else if (rare) [[unlikely]] {
            low = half_specials<Format>(low);
            high = half_specials<Format>(high);
        }
    }
    half_values<Format>(low, x[0], x[1]);
    half_values<Format>(high, x[2], x[3]);
}

NC_INLINE U decode_scale(U code) {
    const U value = shl<23>(code);
    return select(eq(code, splat(0)), splat(0x400000), select(eq(code, splat(0xff)), splat(0x7fc00000), value));
}

// The four vectors of a block of any source that one load or one small step turns into float32.
template <int32_t Format> NC_INLINE void load_block(const unsigned char* p, U (&x)[4]) {
    constexpr Row r = row(Format);
    if constexpr (Format == NC_FORMAT_f32) {
        for (size_t k = 0; k < 4; ++k)
            x[k] = load(p + k * lanes * 4);
    } else if constexpr (Format == NC_FORMAT_f16) {
        for (size_t k = 0; k < 4; ++k)
            x[k] = load_half(p + k * lanes * 2);
    } else if constexpr (Format == NC_FORMAT_bf16) {
        for (size_t k = 0; k < 4; ++k)
            x[k] = shl<16>(load_u16(p + k * lanes * 2));
    } else if constexpr (Format == NC_FORMAT_f64) {
        for (size_t k = 0; k < 4; ++k)
            x[k] = load_f64_odd(p + k * lanes * 8);
    } else if constexpr (is_scale<Format>()) {
        for (size_t k = 0; k < 4; ++k)
            x[k] = decode_scale(load_u8(p + k * lanes));
    } else {
        static_assert(r.storage_bytes == 1);
        decode_bytes<Format>(p, x);
    }
}

} // namespace
} // namespace narrowcast
