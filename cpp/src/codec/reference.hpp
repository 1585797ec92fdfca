// The scalar codec by format code, for callers that do not know the formats at compile time: api/ (error reports, the
// rare casts that have no kernel), isa/scalar and the C++ tests. Integer arithmetic only; independent of the
// floating-point environment.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "dispatch/kernel_table.hpp"

namespace narrowcast {

// One element: the code of `bits` (a code of format src) in format dst. random: the element's word (stochastic only).
uint64_t convert_code(int32_t src, uint64_t bits, int32_t dst, int32_t rounding, int32_t overflow,
                      uint32_t random) noexcept;

// Why NC_OVERFLOW_RAISE refuses this element; NC_REASON_NONE if it does not.
nc_reason refuse_code(int32_t src, uint64_t bits, int32_t dst, int32_t rounding) noexcept;

// n contiguous native-order elements, any source to any float target, any rounding; mode.overflow ieee or saturate.
void reference_cast(int32_t src, int32_t dst, const void* x, void* out, size_t n, const EncodeMode& mode) noexcept;

// Where float32 values stop fitting into the narrow float format dst (float16, bfloat16, TF32 and below).
CensusRule census_rule(int32_t dst, int32_t rounding) noexcept;

// The smallest float64 magnitudes, positive and negative, that overflow the float format dst; Inf if none does.
// Stochastic: those above the largest finite value, which may overflow.
struct OverflowLimits {
    double positive, negative;
};
OverflowLimits overflow_limits(int32_t dst, int32_t rounding) noexcept;

// Whether a conversion exists: src a float (not TF32) or integer format, dst a float format.
bool convertible(int32_t src, int32_t dst) noexcept;

} // namespace narrowcast
