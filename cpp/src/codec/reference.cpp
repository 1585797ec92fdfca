// Run-time doors to the codec: a row of functions per format, so that any source meets any target through the exact
// unpacked value (N + M functions, not N * M).
#include "codec/reference.hpp"

#include <string.h>

#include <bit>

#include "codec/codec.hpp"

namespace narrowcast {
namespace {

struct SourceDoor {
    Unpacked (*unpack)(uint64_t);
    int32_t storage_bytes;
};

struct TargetDoor {
    uint64_t (*pack)(const Unpacked&, int32_t, int32_t, uint32_t);
    nc_reason (*refuse)(const Unpacked&, int32_t);
    int32_t storage_bytes;
};

template <int32_t Format> constexpr SourceDoor source_door() {
    if constexpr (Format == NC_FORMAT_tf32)
        return {};
    else
        return {&unpack<Format>, row(Format).storage_bytes};
}

template <int32_t Format> constexpr TargetDoor target_door() {
    if constexpr (row(Format).is_float)
        return {&pack<Format>, &refuse<Format>, row(Format).storage_bytes};
    else
        return {};
}

constexpr SourceDoor source_of(int32_t format) {
    switch (format) {
#define NC_FLOAT(number, ...)                                                                                          \
    case number: return source_door<number>();
#define NC_INT(number, ...)                                                                                            \
    case number: return source_door<number>();
#include "narrowcast/formats.def"
    default: return {};
    }
}

constexpr TargetDoor target_of(int32_t format) {
    switch (format) {
#define NC_FLOAT(number, ...)                                                                                          \
    case number: return target_door<number>();
#define NC_INT(number, ...)
#include "narrowcast/formats.def"
    default: return {};
    }
}

uint64_t load(const unsigned char* from, int32_t bytes) {
    switch (bytes) {
    case 1: return *from;
    case 2: {
        uint16_t value;
        memcpy(&value, from, sizeof value);
        return value;
    }
    case 4: {
        uint32_t value;
        memcpy(&value, from, sizeof value);
        return value;
    }
    default: {
        uint64_t value;
        memcpy(&value, from, sizeof value);
        return value;
    }
    }
}

void store(unsigned char* to, int32_t bytes, uint64_t code) {
    switch (bytes) {
    case 1: *to = static_cast<unsigned char>(code); break;
    case 2: {
        const auto value = static_cast<uint16_t>(code);
        memcpy(to, &value, sizeof value);
        break;
    }
    case 4: {
        const auto value = static_cast<uint32_t>(code);
        memcpy(to, &value, sizeof value);
        break;
    }
    default: memcpy(to, &code, sizeof code);
    }
}

bool shifts_only(int32_t src, int32_t dst) { return src == NC_FORMAT_bf16 && dst == NC_FORMAT_f32; }

constexpr uint32_t inf_f32 = 0x7f800000;
constexpr uint64_t inf_f64 = 0x7ff0000000000000;

// Smallest magnitude in [0, inf] for which `holds` is true; it is monotone. inf if none is.
template <class Bits, class Predicate> Bits first_magnitude(Bits inf, Predicate holds) {
    Bits low = 0, high = inf;
    while (low < high) {
        const Bits middle = low + (high - low) / 2;
        if (holds(middle))
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

} // namespace

bool convertible(int32_t src, int32_t dst) noexcept {
    return source_of(src).unpack != nullptr && target_of(dst).pack != nullptr;
}

uint64_t convert_code(int32_t src, uint64_t bits, int32_t dst, int32_t rounding, int32_t overflow,
                      uint32_t random) noexcept {
    if (src == dst)
        return bits;
    if (shifts_only(src, dst))
        return bits << 16;
    return target_of(dst).pack(source_of(src).unpack(bits), rounding, overflow, random);
}

nc_reason refuse_code(int32_t src, uint64_t bits, int32_t dst, int32_t rounding) noexcept {
    return src == dst ? NC_REASON_NONE : target_of(dst).refuse(source_of(src).unpack(bits), rounding);
}

void reference_cast(int32_t src, int32_t dst, const void* x, void* out, size_t n, const EncodeMode& mode) noexcept {
    const SourceDoor source = source_of(src);
    const TargetDoor target = target_of(dst);
    const auto* from = static_cast<const unsigned char*>(x);
    auto* to = static_cast<unsigned char*>(out);
    const bool bits_only = src == dst;
    const bool shift = shifts_only(src, dst);
    for (size_t i = 0; i < n; ++i) {
        const uint64_t bits = load(from + i * static_cast<size_t>(source.storage_bytes), source.storage_bytes);
        const uint32_t random = mode.random != nullptr ? mode.random[i] : 0;
        const uint64_t code = bits_only ? bits
                              : shift   ? bits << 16
                                        : target.pack(source.unpack(bits), mode.rounding, mode.overflow, random);
        store(to + i * static_cast<size_t>(target.storage_bytes), target.storage_bytes, code);
    }
}

CensusRule census_rule(int32_t dst, int32_t rounding) noexcept {
    const TargetDoor target = target_of(dst);
    const auto value = [](uint32_t magnitude, bool negative) {
        return unpack<NC_FORMAT_f32>(magnitude | (negative ? uint32_t{1} << 31 : 0));
    };
    CensusRule rule{};
    rule.overflow_positive = first_magnitude(
        inf_f32, [&](uint32_t m) { return m != 0 && target.refuse(value(m, false), rounding) == NC_REASON_FINITE; });
    rule.overflow_negative = first_magnitude(
        inf_f32, [&](uint32_t m) { return m != 0 && target.refuse(value(m, true), rounding) == NC_REASON_FINITE; });
    if (target.pack(value(0, false), rounding, NC_OVERFLOW_IEEE, 0) == 0) // the format has a zero
        rule.zero_below = first_magnitude(inf_f32, [&](uint32_t m) {
            return m != 0 && target.pack(value(m, false), rounding, NC_OVERFLOW_IEEE, 0) != 0;
        });
    return rule;
}

OverflowLimits overflow_limits(int32_t dst, int32_t rounding) noexcept {
    const TargetDoor target = target_of(dst);
    const auto limit = [&](bool negative) {
        // Away from zero, whatever is above the largest value overflows; stochastic rounding may take either way.
        const int32_t judged = rounding != NC_STOCHASTIC ? rounding : int32_t{negative ? NC_DOWN : NC_UP};
        const uint64_t first = first_magnitude(inf_f64, [&](uint64_t m) {
            return m != 0 &&
                   target.refuse(unpack<NC_FORMAT_f64>(m | uint64_t{negative} << 63), judged) == NC_REASON_FINITE;
        });
        return std::bit_cast<double>(first);
    };
    return {limit(false), limit(true)};
}

} // namespace narrowcast
