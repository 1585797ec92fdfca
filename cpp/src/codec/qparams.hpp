// From a range of values to a scale and a zero point, one function per dialect: the rules of the packages that
// dialects.def names, with each step rounded as they round it. What is done with the numbers is codec/quantize.hpp's.
//
// A range is finite, and low <= high; anything else gives numbers without meaning, but no undefined ones. The scale is
// a float32 yet to be rounded to its own format (finish_scale has the last word after that); a zero point is an integer
// in a float32, and where it is a shift any float32.
#pragma once

#include <algorithm>
#include <limits>

#include "codec/quantize.hpp"

namespace narrowcast {

struct CodeRange {
    int32_t low, high;
    bool all; // these are all codes that the bits hold, and no one asked for them
};

struct QparamsRule {
    int32_t dialect;
    CodeRange codes;
    int32_t bits;
    bool is_signed, symmetric;
    float largest; // float codes: their largest finite value; 0: integer codes
    int32_t scale_format;
    float scale_max; // Inf if there is none
};

struct Qparams {
    float scale, zero;
};

inline constexpr float smallest_normal_f32 = 0x1p-126f;

template <int32_t Hub> constexpr float smallest_normal_of() { return Hub == hub_f16 ? 0x1p-14f : smallest_normal_f32; }

// Every NaN goes to the low end.
constexpr float clamped(float value, float low, float high) {
    return value >= high ? high : value >= low ? value : low;
}

// In this order a box of zeros gives +0: of equals std::max takes the first.
constexpr float magnitude_of(float low, float high) { return std::max(high, -low); }

// (high - low) / divisor, both steps rounded; in float64 where the difference overflows.
template <int32_t Hub> constexpr float over(float low, float high, float divisor) {
    const float difference = step<Hub>(high - low);
    if (counts_in_range(difference))
        return step<Hub>(difference / divisor);
    return step<Hub>(static_cast<float>((double{high} - double{low}) / double{divisor}));
}

// float64 to float32, rounded to odd, so that another rounding rounds once.
inline float odd_float(double value) {
    const float nearest = static_cast<float>(value);
    if (double{nearest} == value || !counts_in_range(nearest))
        return nearest;
    const auto bits = std::bit_cast<uint32_t>(nearest);
    const bool beyond = (double{nearest} > value) == (value > 0); // in magnitude
    return std::bit_cast<float>((beyond ? bits - 1 : bits) | 1);
}

constexpr int32_t span_of(const CodeRange& codes) { return codes.high - codes.low; }

// The zero point of symmetric codes: 0 if they are signed, else the middle.
constexpr int32_t middle_of(const QparamsRule& rule) {
    if (rule.is_signed || rule.largest != 0)
        return 0;
    const int32_t both = rule.codes.low + rule.codes.high;
    switch (rule.dialect) {
    case NC_DIALECT_onnx: return both / 2 + (both % 4 == 3 ? 1 : 0); // to even
    case NC_DIALECT_torch:                                           // 128 and 32768, or the middle rounded down
        return rule.codes.all && (rule.bits == 8 || rule.bits == 16) ? 1 << (rule.bits - 1) : both / 2;
    default: return (both + 1) / 2;
    }
}

// clamp(qmin - rint(low / scale))
template <int32_t Hub> constexpr float zero_by_low(const QparamsRule& rule, float low, float scale) {
    const auto least = static_cast<float>(rule.codes.low);
    const float zero = step<Hub>(least - nearest_integer(step<Hub>(low / scale)));
    return clamped(zero, least, static_cast<float>(rule.codes.high));
}

// Symmetric int8 and int16 of onnxruntime leave out the lowest code.
constexpr bool is_narrow(const QparamsRule& rule) {
    return rule.is_signed && rule.codes.all && (rule.bits == 8 || rule.bits == 16);
}

// onnx_qparams of symmetric codes with a float32 scale, what all boxes share worked out. One division either way: a
// float64 quotient of float32 numbers and then a float32 rounds like one division.
class OnnxSymmetric {
public:
    constexpr explicit OnnxSymmetric(const QparamsRule& rule)
        : half_(static_cast<float>(is_narrow(rule) ? 2 * rule.codes.high : span_of(rule.codes)) * 0.5f),
          least_(half_ * smallest_normal_f32), most_(rule.scale_max) {}
    constexpr float scale_of(float low, float high) const {
        const float magnitude = magnitude_of(low, high);
        const float scale = std::min(magnitude / half_, most_);
        return magnitude >= least_ ? scale : 1.0f;
    }

private:
    float half_, least_, most_;
};

// compute_scale_zp of onnxruntime.quantization.quant_utils, in float64. Symmetric int8 and int16 leave out the lowest
// code. A scale below the smallest normal is 1 (float16: one that it rounds to 0).
inline Qparams onnx_qparams(const QparamsRule& rule, float low, float high) {
    const auto middle = static_cast<float>(middle_of(rule));
    const bool narrow = is_narrow(rule);
    const bool f32 = rule.scale_format == NC_FORMAT_f32;
    if (rule.symmetric && f32)
        return {OnnxSymmetric(rule).scale_of(low, high), middle};
    const double l = rule.symmetric ? -double{magnitude_of(low, high)} : low;
    const double h = rule.symmetric ? -l : high;
    const double span = rule.symmetric && narrow ? 2 * rule.codes.high : span_of(rule.codes);
    const double scale = std::min((h - l) / span, double{rule.scale_max});
    const bool empty = rule.scale_format == NC_FORMAT_f16 ? !(scale > 0x1p-25) : !(scale >= 0x1p-126);
    if (empty)
        return {1.0f, rule.symmetric
                          ? middle
                          : clamped(0, static_cast<float>(rule.codes.low), static_cast<float>(rule.codes.high))};
    const float stored = f32 ? static_cast<float>(scale) : odd_float(scale);
    if (rule.symmetric)
        return {stored, middle};
    constexpr double integers = 0x1.8p52; // adding and taking it away rounds to an integer, ties to even
    const double zero = rule.codes.low - l / scale;
    const auto rounded = static_cast<float>(zero < 0x1p31 && zero > -0x1p31 ? (zero + integers) - integers : zero);
    return {stored, clamped(rounded, static_cast<float>(rule.codes.low), static_cast<float>(rule.codes.high))};
}

// UniformQuantizationObserverBase._calculate_qparams of torch.ao.quantization: at least 2^-23.
inline Qparams torch_qparams(const QparamsRule& rule, float low, float high) {
    const auto span = static_cast<float>(span_of(rule.codes));
    const float found = rule.symmetric ? magnitude_of(low, high) / (span * 0.5f) : over<hub_f32>(low, high, span);
    const float scale = std::min(std::max(found, 0x1p-23f), rule.scale_max);
    return {scale, rule.symmetric ? static_cast<float>(middle_of(rule)) : zero_by_low<hub_f32>(rule, low, scale)};
}

// _choose_qparams_affine of torchao, MappingType.SYMMETRIC or ASYMMETRIC: at least the smallest normal of x's format.
template <int32_t Hub> Qparams torchao_qparams(const QparamsRule& rule, float low, float high) {
    const auto span = static_cast<float>(span_of(rule.codes));
    const float found =
        rule.symmetric ? step<Hub>(magnitude_of(low, high) / (span * 0.5f)) : over<Hub>(low, high, span);
    const float scale = std::min(std::max(found, smallest_normal_of<Hub>()), rule.scale_max);
    return {scale, rule.symmetric ? static_cast<float>(middle_of(rule)) : zero_by_low<Hub>(rule, low, scale)};
}

// calculate_qparams of compressed_tensors: the zero point is clamped before it is rounded. A denormal scale stays; a
// scale of 0 becomes the eps of its format (finished_scale), but the zero point is made before that: of 0 / 0 it is 0.
template <int32_t Hub> Qparams compressed_tensors_qparams(const QparamsRule& rule, float low, float high) {
    const auto span = static_cast<float>(span_of(rule.codes));
    const float found =
        rule.symmetric ? step<Hub>(magnitude_of(low, high) / (span * 0.5f)) : over<Hub>(low, high, span);
    const float scale = std::min(found, rule.scale_max);
    if (rule.symmetric)
        return {scale, static_cast<float>(middle_of(rule))};
    const auto least = static_cast<float>(rule.codes.low);
    const float zero = step<Hub>(least - step<Hub>(low / scale));
    if (zero != zero)
        return {scale, 0};
    return {scale, nearest_integer(clamped(zero, least, static_cast<float>(rule.codes.high)))};
}

// dynamic_scaled_int8_quant_impl of vLLM: zero need not be in the range, nor the zero point among the codes. Where that
// gives no zero point that float32 holds (one value far from zero), zero is taken into the range.
inline Qparams vllm_qparams(const QparamsRule& rule, float low, float high) {
    const auto least = static_cast<float>(rule.codes.low), most = static_cast<float>(rule.codes.high);
    if (rule.symmetric) {
        const auto middle = static_cast<float>(middle_of(rule));
        const float magnitude = magnitude_of(std::min(low, 0.0f), std::max(high, 0.0f));
        return {std::min(magnitude / (most - middle), rule.scale_max), middle};
    }
    const auto choose = [&](float l, float h) -> Qparams {
        const float scale = std::min(over<hub_f32>(l, h, most - least), rule.scale_max);
        return {scale, nearest_integer(least - l / scale)};
    };
    const auto held = [](float zero) { return zero < 0x1p24f && zero > -0x1p24f; };
    if (const Qparams found = choose(low, high); held(found.zero))
        return found;
    const Qparams found = choose(std::min(low, 0.0f), std::max(high, 0.0f));
    return {found.scale, held(found.zero) ? found.zero : least};
}

// AbsmaxOptimizer and MaxOptimizer of optimum-quanto; the shift is -low, and zero need not be in the range.
template <int32_t Hub> Qparams quanto_qparams(const QparamsRule& rule, float low, float high) {
    if (rule.symmetric) {
        const float magnitude = magnitude_of(std::min(low, 0.0f), std::max(high, 0.0f));
        return {std::min(step<Hub>(magnitude / static_cast<float>(rule.codes.high)), rule.scale_max),
                static_cast<float>(middle_of(rule))};
    }
    return {std::min(over<Hub>(low, high, static_cast<float>(span_of(rule.codes))), rule.scale_max), -low};
}

// FloatToFused8BitRowwiseQuantizedSBFloat, and for fewer bits FloatOrHalfToFusedNBitRowwiseQuantizedSBHalf, whose scale
// and bias are float16, the bias rounded before the range is taken.
inline Qparams fbgemm_qparams(const QparamsRule& rule, float low, float high) {
    if (rule.bits == 8)
        return {over<hub_f32>(low, high, 255.0f), -low};
    constexpr float largest_f16 = 65504.0f;
    const float bias = step<hub_f16>(clamped(low, -largest_f16, largest_f16));
    const float found = over<hub_f32>(bias, high, static_cast<float>(rule.codes.high));
    const float scale = step<hub_f16>(clamped(found, 0, largest_f16));
    return {scale == 0 ? 1.0f : scale, -bias};
}

// What FBGEMM's 8-bit rows multiply by, which is not the reciprocal of their scale.
inline float fbgemm_multiplier(float low, float high) {
    return clamped(255.0f / ((high - low) + 1e-8f), 0, std::numeric_limits<float>::max());
}

// Float codes: the largest magnitude goes to the largest code.
template <int32_t Hub> Qparams float_qparams(const QparamsRule& rule, float low, float high) {
    return {std::min(step<Hub>(magnitude_of(low, high) / rule.largest), rule.scale_max), 0};
}

// The eps of a scale's format.
constexpr float epsilon_of(int32_t scale_format) {
    switch (scale_format) {
    case NC_FORMAT_f16: return 0x1p-10f;
    case NC_FORMAT_bf16: return 0x1p-7f;
    case NC_FORMAT_e8m0fnu: return 1.0f;
    default: return 0x1p-23f;
    }
}

// The scale before it is rounded to its format, where it is 0 or too small to divide by: the dialect's own rule, else 1
// for 0 and the smallest number worth dividing by.
constexpr float raised_scale(const QparamsRule& rule, float scale) {
    if (rule.dialect == NC_DIALECT_compressed_tensors)
        return scale == 0 ? epsilon_of(rule.scale_format) : scale;
    if (rule.dialect == NC_DIALECT_fbgemm || rule.dialect == NC_DIALECT_llm_int8)
        return scale;
    const float least = rule.scale_format == NC_FORMAT_f16 ? 0x1p-24f : smallest_normal_f32;
    return scale == 0 ? 1.0f : std::max(scale, least);
}

// And after that.
constexpr float finished_scale(const QparamsRule& rule, float rounded) {
    return rule.dialect == NC_DIALECT_compressed_tensors && rounded == 0 ? epsilon_of(rule.scale_format) : rounded;
}

// Whether the rule below makes the same of a range and of that range with zero taken in.
constexpr bool takes_in_zero(int32_t dialect, bool symmetric, bool float_codes) {
    if (dialect == NC_DIALECT_fbgemm)
        return false;
    return symmetric || float_codes || (dialect != NC_DIALECT_vllm && dialect != NC_DIALECT_quanto);
}

// The rule of a dialect, steps rounded to a hub's format.
template <int32_t Dialect, int32_t Hub> Qparams choose_qparams(const QparamsRule& rule, float low, float high) {
    low = step<Hub>(low);
    high = step<Hub>(high);
    const float l = std::min(low, 0.0f), h = std::max(high, 0.0f);
    if constexpr (Dialect == NC_DIALECT_llm_int8) // the largest magnitude itself
        return {magnitude_of(l, h), 0};
    if (rule.largest != 0)
        return float_qparams<Hub>(rule, l, h);
    if constexpr (Dialect == NC_DIALECT_onnx)
        return onnx_qparams(rule, l, h);
    else if constexpr (Dialect == NC_DIALECT_torch)
        return torch_qparams(rule, l, h);
    else if constexpr (Dialect == NC_DIALECT_torchao)
        return torchao_qparams<Hub>(rule, l, h);
    else if constexpr (Dialect == NC_DIALECT_compressed_tensors)
        return compressed_tensors_qparams<Hub>(rule, l, h);
    else if constexpr (Dialect == NC_DIALECT_vllm)
        return vllm_qparams(rule, low, high);
    else if constexpr (Dialect == NC_DIALECT_quanto)
        return quanto_qparams<Hub>(rule, low, high);
    else
        return fbgemm_qparams(rule, low, high);
}

} // namespace narrowcast
