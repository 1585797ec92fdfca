// The reference of linear quantization, one element at a time: a value and the numbers of its box to a code, a code to
// a value, and what counts in a range. It is also the scalar instruction set; vector twins are kernels/quantize.inl.hpp
// and kernels/dequantize.inl.hpp. How numbers of a box follow from a range is in codec/qparams.hpp.
//
// float32 arithmetic of the language, each operation rounded once, to nearest (api/ installs that environment; nothing
// is contracted). Not for ISA units.
#pragma once

#include <math.h>

#include <bit>

#include "codec/codec.hpp"
#include "dispatch/kernel_table.hpp"

namespace narrowcast {

template <int32_t Hub> consteval int32_t hub_format() {
    return Hub == hub_f16 ? NC_FORMAT_f16 : Hub == hub_bf16 ? NC_FORMAT_bf16 : NC_FORMAT_f32;
}

// The storage code of a float32 in the format of a hub: nearest-even, overflow to Inf.
template <int32_t Hub> NC_HD constexpr uint32_t hub_code(float value) {
    return static_cast<uint32_t>(convert<NC_FORMAT_f32, hub_format<Hub>()>(std::bit_cast<uint32_t>(value),
                                                                           NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, 0));
}

// A step of the arithmetic, rounded to the format of a hub.
template <int32_t Hub> NC_HD constexpr float step(float value) {
    if constexpr (Hub == hub_f32)
        return value;
    else
        return std::bit_cast<float>(static_cast<uint32_t>(
            convert<hub_format<Hub>(), NC_FORMAT_f32>(hub_code<Hub>(value), NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, 0)));
}

// a * b + c, rounded once: the library's function is right where there is no instruction.
NC_HD inline float fused_multiply_add(float a, float b, float c) { return fmaf(a, b, c); }

// To an integer, ties to even: beyond 2^23 every float32 is one; below, 2^23 leaves no bit for a fraction.
NC_HD constexpr float nearest_integer(float value) {
    constexpr float limit = 8388608.0f;
    if (!(value < limit && value > -limit))
        return value;
    return value < 0 ? (value - limit) + limit : (value + limit) - limit;
}

// Signs and payloads of NaN differ between processors: where a float comes out there is one.
NC_HD constexpr float one_nan(float value) {
    return value == value ? value : std::bit_cast<float>(uint32_t{0x7fc00000});
}

// --- quantize ------------------------------------------------------------------------------------------------------

// The numbers of one box, as QuantizeParams has them.
struct QuantizeEntry {
    float factor, shift, zero, offset;
};

// A zero is not added: the sign of a value that is 0 stays.
template <int32_t Hub> NC_HD constexpr float add_step(float value, float addend) {
    return step<Hub>(addend == 0 ? value : value + addend);
}

// What is rounded to an integer, or is encoded as a float: quotient of x + shift, and zero.
template <int32_t Op, int32_t Hub> NC_HD inline float quantized_sum(float x, const QuantizeEntry& entry) {
    static_assert(Op != op_fma || Hub == hub_f32);
    const float shifted = add_step<Hub>(x, entry.shift);
    if constexpr (Op == op_fma) {
        if (entry.zero == 0)
            return shifted * entry.factor;
        return fused_multiply_add(shifted, entry.factor, entry.zero);
    } else {
        const float quotient = step<Hub>(Op == op_divide ? shifted / entry.factor : shifted * entry.factor);
        return add_step<Hub>(quotient, entry.zero);
    }
}

// Ties to even, then the offset, then the clamp, and only then an integer: an x86 conversion would make INT_MIN of
// +Inf.
template <int32_t Hub> NC_HD constexpr int32_t quantized_code(float sum, float offset, const QuantizeRule& rule) {
    const float value = step<Hub>(nearest_integer(sum) + offset);
    if (value != value)
        return rule.nan_high ? rule.high : rule.low;
    if (value < static_cast<float>(rule.low))
        return rule.low;
    if (value > static_cast<float>(rule.high))
        return rule.high;
    return static_cast<int32_t>(value);
}

// --- dequantize ----------------------------------------------------------------------------------------------------

// (code - zero) * scale + bias. bias is null: nothing is added.
NC_HD inline float dequantized(float code, float scale, float zero, const float* bias, bool fused) {
    const float difference = code - zero;
    if (bias != nullptr && fused)
        return one_nan(fused_multiply_add(difference, scale, *bias));
    const float product = difference * scale;
    return one_nan(bias != nullptr ? product + *bias : product);
}

// --- ranges --------------------------------------------------------------------------------------------------------

NC_HD constexpr bool counts_in_range(float value) { return (std::bit_cast<uint32_t>(value) & 0x7fffffff) < 0x7f800000; }

} // namespace narrowcast
