// The scalar codec as fast as a compiler makes it: what long sweeps compare float32 casts with.
#pragma once

#include "codec/codec.hpp"
#include "support.hpp"

namespace narrowcast::test {

struct Pair {
    int32_t src, dst, rounding, overflow;
};

// Long sweeps need the codec at full speed: float32 with everything known to the compiler.
using Reference = void (*)(const uint32_t* x, void* out, size_t n, const uint32_t* words);

template <int32_t Target, int32_t Overflow, int32_t Rounding>
#if defined(__GNUC__)
__attribute__((flatten)) // else the codec is called with arguments that it does not know
#endif
void reference_f32(const uint32_t* x, void* out, size_t n, const uint32_t* words) {
    auto* codes = static_cast<Storage<Target>*>(out);
    for (size_t i = 0; i < n; ++i) {
        const uint32_t random = Rounding == NC_STOCHASTIC ? words[i] : 0;
        codes[i] = static_cast<Storage<Target>>(convert<NC_FORMAT_f32, Target>(x[i], Rounding, Overflow, random));
    }
}

template <int32_t Target, int32_t Overflow> Reference reference_rounding(int32_t rounding) {
    constexpr Reference by_rounding[] = {
        &reference_f32<Target, Overflow, NC_NEAREST_EVEN>, &reference_f32<Target, Overflow, NC_TOWARD_ZERO>,
        &reference_f32<Target, Overflow, NC_UP>,           &reference_f32<Target, Overflow, NC_DOWN>,
        &reference_f32<Target, Overflow, NC_NEAREST_AWAY>, &reference_f32<Target, Overflow, NC_STOCHASTIC>,
    };
    return by_rounding[rounding];
}

inline Reference fast_reference(const Pair& pair) {
    if (pair.src != NC_FORMAT_f32)
        return nullptr;
    const bool saturate = pair.overflow == NC_OVERFLOW_SATURATE;
    switch (pair.dst) {
#define NC_FLOAT(number, ...)                                                                                          \
    case number:                                                                                                       \
        return saturate ? reference_rounding<number, NC_OVERFLOW_SATURATE>(pair.rounding)                              \
                        : reference_rounding<number, NC_OVERFLOW_IEEE>(pair.rounding);
#define NC_INT(...)
#include "narrowcast/formats.def"
    default: return nullptr;
    }
}

} // namespace narrowcast::test
