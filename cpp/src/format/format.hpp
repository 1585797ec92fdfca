// A format's row (formats.def) and everything derived from it. All functions are consteval: a row never exists at run
// time, so an ISA unit that uses it emits nothing. The codes here are magnitudes or whole codes right-aligned in
// `bits` bits; TF32 alone is kept shifted up in its float32 container (container_shift).
#pragma once

#include "base.hpp"
#include "narrowcast/narrowcast.h"

namespace narrowcast {

enum class Specials : uint8_t { ieee, fn, fnuz, finite, scale };
enum class NanRule : uint8_t { payload, canonical };

struct Row {
    int32_t format = NC_FORMAT_INVALID;
    bool is_float = false;
    int32_t storage_bytes = 0;
    int32_t bits = 0;
    int32_t sign_bits = 0;
    int32_t exponent_bits = 0;
    int32_t mantissa_bits = 0;
    int32_t bias = 0;
    Specials specials = Specials::finite;
    NanRule nan = NanRule::canonical;
};

struct Facts {
    bool has_inf, has_nan, has_zero, has_negative_zero;
    int32_t container_shift;     // storage code = code << container_shift
    uint64_t code_mask;          // all bits of a code
    uint64_t magnitude_mask;     // without the sign
    uint64_t sign_mask;          // 0 if there is no sign
    uint64_t max;                // largest finite value
    uint64_t min_normal;         // smallest normal magnitude (E8M0: its smallest value)
    uint64_t min_positive;       // smallest positive magnitude
    uint64_t inf;                // 0 if there is none
    uint64_t quiet_nan;          // canonical NaN, positive where there is a choice; 0 if there is none
    uint64_t negative_quiet_nan; // the same with the sign
    uint64_t overflow;           // where "ieee" sends positive overflow and +Inf: Inf, else NaN, else max
};

consteval Row row(int32_t format) {
    switch (format) {
#define NC_FLOAT(number, id, name, bytes, sign, exponent, mantissa, bias, specials, nan)                               \
    case number:                                                                                                       \
        return {number,   true,     bytes, sign + exponent + mantissa, sign,                                           \
                exponent, mantissa, bias,  Specials::specials,         NanRule::nan};
#define NC_INT(number, id, name, bytes, bits, is_signed)                                                               \
    case number: return {number, false, bytes, bits, is_signed, 0, 0, 0, Specials::finite, NanRule::canonical};
#include "narrowcast/formats.def"
    default: return {};
    }
}

consteval Facts facts(int32_t format) {
    const Row r = row(format);
    Facts f{};
    f.container_shift = r.is_float && r.storage_bytes == 4 ? 32 - r.bits : 0;
    f.code_mask = r.bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << r.bits) - 1;
    if (!r.is_float) {
        f.has_zero = true;
        f.sign_mask = r.sign_bits != 0 ? uint64_t{1} << (r.bits - 1) : 0;
        f.magnitude_mask = f.code_mask;
        f.max = f.code_mask >> r.sign_bits;
        f.min_normal = f.min_positive = 1;
        return f;
    }
    const uint64_t one = 1;
    f.sign_mask = r.sign_bits != 0 ? one << (r.bits - 1) : 0;
    f.magnitude_mask = f.code_mask & ~f.sign_mask;
    f.min_normal = r.specials == Specials::scale ? 0 : one << r.mantissa_bits;
    f.min_positive = r.specials == Specials::scale ? 0 : 1;
    f.has_zero = r.specials != Specials::scale;
    f.has_inf = r.specials == Specials::ieee;
    f.has_nan = r.specials != Specials::finite;
    f.has_negative_zero = f.has_zero && r.specials != Specials::fnuz;
    switch (r.specials) {
    case Specials::ieee:
        f.inf = f.magnitude_mask & ~((one << r.mantissa_bits) - 1);
        f.max = f.inf - 1;
        f.quiet_nan = f.inf | (one << (r.mantissa_bits - 1));
        f.negative_quiet_nan = f.quiet_nan | f.sign_mask;
        break;
    case Specials::fn:
        f.max = f.magnitude_mask - 1;
        f.quiet_nan = f.magnitude_mask;
        f.negative_quiet_nan = f.quiet_nan | f.sign_mask;
        break;
    case Specials::fnuz:
        f.max = f.magnitude_mask;
        f.quiet_nan = f.negative_quiet_nan = f.sign_mask;
        break;
    case Specials::finite: f.max = f.magnitude_mask; break;
    case Specials::scale:
        f.max = f.magnitude_mask - 1;
        f.quiet_nan = f.negative_quiet_nan = f.magnitude_mask;
        break;
    }
    f.overflow = f.has_inf ? f.inf : f.has_nan ? f.quiet_nan : f.max;
    return f;
}

// Saturation and raise concern narrow formats; float32 and float64 always overflow to Inf.
consteval bool is_narrow(int32_t format) {
    return row(format).is_float && format != NC_FORMAT_f32 && format != NC_FORMAT_f64;
}

// Sources that float32 does not hold exactly.
consteval bool is_wide(int32_t format) {
    const Row r = row(format);
    return r.is_float ? format == NC_FORMAT_f64 : r.bits > 24;
}

// The unsigned integer that stores one code.
template <int32_t Bytes> struct StorageOf;
template <> struct StorageOf<1> {
    using type = uint8_t;
};
template <> struct StorageOf<2> {
    using type = uint16_t;
};
template <> struct StorageOf<4> {
    using type = uint32_t;
};
template <> struct StorageOf<8> {
    using type = uint64_t;
};
template <int32_t Format> using Storage = typename StorageOf<row(Format).storage_bytes>::type;

} // namespace narrowcast
