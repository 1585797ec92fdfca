// The reference: one element at a time, integers only, constexpr, for host and device. Every vector kernel must equal
// it for every input; it equals the Python oracle in tests/, with which it shares no code or method.
//
// A source code is unpacked into an exact value (unpack), rounded once onto the target's grid with an unbounded
// exponent (round_magnitude), and only then judged for overflow and given its specials (pack).
// Not for ISA units: templates here would be emitted as shared symbols with that unit's instructions.
#pragma once

#include "format/format.hpp"

namespace narrowcast {

enum class Kind : uint8_t { zero, finite, infinite, nan };

// An exact value. finite: significand / 2^63 * 2^exponent with bit 63 of the significand set.
// nan: the payload, left-aligned, in significand; bit 63 is the quiet bit.
struct Unpacked {
    Kind kind;
    bool negative;
    int32_t exponent;
    uint64_t significand;
};

// Internal rounding: the last kept bit becomes 1 if anything was cut off. A later rounding to at least two bits less
// then gives what one rounding of the exact value would (Boldo and Melquiond, IEEE Trans. Computers 57(4), 2008).
enum : int32_t { round_to_odd = 100 };

NC_HD constexpr uint64_t top_bit = uint64_t{1} << 63;

NC_HD constexpr Unpacked unpack_magnitude(bool negative, uint64_t magnitude) {
    if (magnitude == 0)
        return {Kind::zero, false, 0, 0};
    const int zeros = leading_zeros(magnitude);
    return {Kind::finite, negative, 63 - zeros, magnitude << zeros};
}

template <int32_t Format> NC_HD constexpr Unpacked unpack(uint64_t storage) {
    constexpr Row r = row(Format);
    constexpr Facts f = facts(Format);
    // Codes wider than the format: only the low bits count.
    const uint64_t code = (storage >> f.container_shift) & f.code_mask;

    if constexpr (!r.is_float) {
        if constexpr (Format == NC_FORMAT_boolean)
            return unpack_magnitude(false, storage != 0);
        const bool negative = (code & f.sign_mask) != 0;
        return unpack_magnitude(negative, negative ? (0 - code) & f.code_mask : code);
    } else if constexpr (r.specials == Specials::scale) {
        if (code == f.quiet_nan)
            return {Kind::nan, false, 0, top_bit};
        return {Kind::finite, false, static_cast<int32_t>(code) - r.bias, top_bit};
    } else {
        const bool negative = (code & f.sign_mask) != 0;
        const uint64_t magnitude = code & f.magnitude_mask;
        // 1. Specials.
        if constexpr (r.specials == Specials::ieee) {
            if (magnitude > f.inf) // only formats of 16 bits and more carry payloads
                return {Kind::nan, negative, 0, r.bits >= 16 ? magnitude << (64 - r.mantissa_bits) : top_bit};
            if (magnitude == f.inf)
                return {Kind::infinite, negative, 0, 0};
        } else if constexpr (r.specials == Specials::fn) {
            if (magnitude == f.quiet_nan)
                return {Kind::nan, negative, 0, top_bit};
        } else if constexpr (r.specials == Specials::fnuz) {
            if (code == f.quiet_nan) // the sign of the code of -0, as ml_dtypes reads it
                return {Kind::nan, true, 0, top_bit};
        }
        // 2. Zero.
        if (magnitude == 0)
            return {Kind::zero, negative, 0, 0};
        // 3. Normal: the implicit bit, then the fraction. Subnormal: the fraction alone, normalised.
        const uint64_t fraction = magnitude & (f.min_normal - 1);
        const int32_t field = static_cast<int32_t>(magnitude >> r.mantissa_bits);
        if (field != 0)
            return {Kind::finite, negative, field - r.bias, top_bit | (fraction << (63 - r.mantissa_bits))};
        const int zeros = leading_zeros(fraction);
        return {Kind::finite, negative, 64 - zeros - r.bias - r.mantissa_bits, fraction << zeros};
    }
}

// Whether a magnitude whose cut-off part is cut / 2^64 of the last place goes away from zero.
NC_HD constexpr bool rounds_away(int32_t rounding, bool negative, bool odd, uint64_t cut, uint32_t random) {
    switch (rounding) {
    case NC_NEAREST_EVEN: return cut > top_bit || (cut == top_bit && odd);
    case NC_NEAREST_AWAY: return cut >= top_bit;
    case NC_UP: return !negative && cut != 0;
    case NC_DOWN: return negative && cut != 0;
    case NC_STOCHASTIC: return (cut >> 32) + random >= (uint64_t{1} << 32);
    case round_to_odd: return !odd && cut != 0;
    default: // NC_TOWARD_ZERO
        return false;
    }
}

// E8M0 has its own grid: powers of two and nothing below 2^-127. Code with an unbounded top, of a positive value.
NC_HD constexpr int64_t round_scale(const Unpacked& u, int32_t rounding, uint32_t random) {
    const int64_t floor_code = int64_t{u.exponent} + 127;
    if (floor_code < 0)
        return 0;
    const uint64_t cut = u.significand << 1; // (value - 2^k) / 2^k
    bool away = false;
    if (rounding == NC_NEAREST_EVEN || rounding == NC_NEAREST_AWAY)
        away = floor_code == 0 ? cut != 0 : cut >= top_bit; // ties up; above 2^-127 always up, as ml_dtypes
    else
        away = rounds_away(rounding, false, false, cut, random);
    return floor_code + (away ? 1 : 0);
}

// The magnitude code of a finite value, rounded once, exponent unbounded: it may exceed every code of the format.
template <int32_t Format>
NC_HD constexpr uint64_t round_magnitude(const Unpacked& u, int32_t rounding, uint32_t random) {
    constexpr Row r = row(Format);
    // 1. How many low bits of the significand are below the last place kept: more for subnormals.
    constexpr int32_t min_exponent = 1 - r.bias;
    const bool normal = u.exponent >= min_exponent;
    const int32_t shift = 63 - r.mantissa_bits + (normal ? 0 : min_exponent - u.exponent);
    // 2. Keep and cut. cut is left-aligned: the fraction of the last place, its lowest bit sticky.
    uint64_t kept = 0, cut = 0;
    if (shift < 64) {
        kept = u.significand >> shift;
        cut = u.significand << (64 - shift);
    } else if (shift == 64) {
        cut = u.significand;
    } else if (shift < 128) {
        cut = u.significand >> (shift - 64);
        cut |= (u.significand << (128 - shift)) != 0 ? 1 : 0;
    } else {
        cut = 1;
    }
    // 3. Round. A carry out of the fraction walks into the exponent by itself.
    kept += rounds_away(rounding, u.negative, (kept & 1) != 0, cut, random) ? 1 : 0;
    // 4. Join. A normal's kept bits include the implicit one, which counts as one step of the exponent field.
    const uint64_t steps = normal ? static_cast<uint64_t>(u.exponent - min_exponent) : 0;
    return (steps << r.mantissa_bits) + kept;
}

NC_HD constexpr bool overflow_gives_max(int32_t rounding, bool negative) {
    return rounding == NC_TOWARD_ZERO || rounding == round_to_odd || (rounding == NC_UP && negative) ||
           (rounding == NC_DOWN && !negative);
}

// The storage code of an exact value in Format. overflow: ieee or saturate.
template <int32_t Format>
NC_HD constexpr uint64_t pack(const Unpacked& u, int32_t rounding, int32_t overflow, uint32_t random) {
    constexpr Row r = row(Format);
    constexpr Facts f = facts(Format);
    static_assert(r.is_float);
    const bool saturate = overflow == NC_OVERFLOW_SATURATE && is_narrow(Format);

    if constexpr (r.specials == Specials::scale) {
        if (u.kind == Kind::nan)
            return f.quiet_nan;
        if (u.kind == Kind::zero)
            return saturate ? 0 : f.quiet_nan;
        if (u.negative)
            return f.quiet_nan;
        if (u.kind == Kind::infinite)
            return saturate ? f.max : f.overflow;
        const int64_t code = round_scale(u, rounding, random);
        if (code <= static_cast<int64_t>(f.max))
            return static_cast<uint64_t>(code);
        return saturate || overflow_gives_max(rounding, false) ? f.max : f.overflow;
    } else {
        const uint64_t sign = u.negative ? f.sign_mask : 0;
        const uint64_t beyond = saturate ? f.max : f.overflow;
        // The FNUZ NaN is the code of -0 and takes no sign.
        const uint64_t beyond_signed = beyond == f.sign_mask ? beyond : beyond | sign;
        uint64_t code = 0;
        switch (u.kind) {
        case Kind::nan:
            if constexpr (!f.has_nan)
                code = saturate ? f.max : u.negative ? 0 : f.sign_mask; // ml_dtypes' code, or the largest value
            else if constexpr (r.nan == NanRule::payload)
                code = sign | f.quiet_nan | (u.significand >> (64 - r.mantissa_bits));
            else
                code = u.negative ? f.negative_quiet_nan : f.quiet_nan;
            break;
        case Kind::infinite: code = beyond_signed; break;
        case Kind::zero: code = f.has_negative_zero ? sign : 0; break;
        case Kind::finite: {
            const uint64_t magnitude = round_magnitude<Format>(u, rounding, random);
            if (magnitude > f.max)
                code = overflow_gives_max(rounding, u.negative) ? f.max | sign : beyond_signed;
            else if (magnitude == 0 && !f.has_negative_zero)
                code = 0;
            else
                code = magnitude | sign;
            break;
        }
        }
        return code << f.container_shift;
    }
}

// One element from format Src to format Dst: the contract of nc_cast for a single value.
template <int32_t Src, int32_t Dst>
NC_HD constexpr uint64_t convert(uint64_t storage, int32_t rounding, int32_t overflow, uint32_t random) {
    if constexpr (Src == Dst)
        return storage;
    else if constexpr (Src == NC_FORMAT_bf16 && Dst == NC_FORMAT_f32)
        return storage << 16; // a shift: even a signalling NaN stays as it is
    else
        return pack<Dst>(unpack<Src>(storage), rounding, overflow, random);
}

// Why "raise" refuses a value for Format; NC_REASON_NONE if it fits.
template <int32_t Format> NC_HD constexpr nc_reason refuse(const Unpacked& u, int32_t rounding) {
    constexpr Facts f = facts(Format);
    constexpr bool scale = row(Format).specials == Specials::scale;
    switch (u.kind) {
    case Kind::nan: return f.has_nan ? NC_REASON_NONE : NC_REASON_NAN;
    case Kind::zero: return scale ? NC_REASON_ZERO : NC_REASON_NONE;
    case Kind::infinite:
        if (scale && u.negative)
            return NC_REASON_NEGATIVE;
        return f.has_inf ? NC_REASON_NONE : NC_REASON_INFINITE;
    case Kind::finite: break;
    }
    if constexpr (scale) {
        if (u.negative)
            return NC_REASON_NEGATIVE;
        return round_scale(u, rounding, 0) > static_cast<int64_t>(f.max) ? NC_REASON_FINITE : NC_REASON_NONE;
    } else {
        return round_magnitude<Format>(u, rounding, 0) > f.max ? NC_REASON_FINITE : NC_REASON_NONE;
    }
}

} // namespace narrowcast
