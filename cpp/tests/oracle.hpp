// A second opinion on the scalar codec, by another method: the format's values as a sorted table of doubles, built
// from the textbook formula, and a decision between the two values around the input. It shares no code with the codec
// and runs wherever a double is an IEEE double, big-endian machines included.
//
// Targets are the formats below float32; NaN codes are typed by hand from the contract.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <optional>

#include "support.hpp"

namespace narrowcast::test {

class Oracle {
public:
    explicit Oracle(int32_t format) : facts_(info(format)), shift_(format == NC_FORMAT_tf32 ? 13 : 0) {
        const uint64_t last = facts_.max_code >> shift_;
        for (uint64_t code = 0; code <= last; ++code)
            values_.push_back(magnitude(code));
    }

    // The storage code of a value that is not NaN.
    uint64_t encode(double value, int32_t rounding, int32_t overflow, uint32_t random) const {
        const bool negative = std::signbit(value), scale = facts_.has_zero == 0;
        if (scale && (negative || value == 0))
            return overflow == NC_OVERFLOW_SATURATE && value == 0 ? 0 : facts_.nan_code;
        const uint64_t code = encode_magnitude(std::fabs(value), negative, rounding, overflow, random);
        if (!negative || (code == 0 && facts_.has_negative_zero == 0))
            return code << shift_;
        if (facts_.has_nan != 0 && code << shift_ == facts_.nan_code)
            return facts_.negative_nan_code;
        return (code | uint64_t{1} << (facts_.bits - 1)) << shift_;
    }

private:
    double magnitude(uint64_t code) const {
        const int m = facts_.mantissa_bits;
        const uint64_t exponent = code >> m, fraction = code & ((uint64_t{1} << m) - 1);
        if (facts_.has_zero == 0)
            return std::ldexp(1.0, static_cast<int>(code) - facts_.bias);
        if (exponent == 0)
            return std::ldexp(static_cast<double>(fraction), 1 - facts_.bias - m);
        return std::ldexp(static_cast<double>(fraction + (uint64_t{1} << m)),
                          static_cast<int>(exponent) - facts_.bias - m);
    }

    uint64_t encode_magnitude(double a, bool negative, int32_t rounding, int32_t overflow, uint32_t random) const {
        const uint64_t last = values_.size() - 1;
        const uint64_t beyond = overflow == NC_OVERFLOW_SATURATE ? last
                                : facts_.has_inf != 0            ? facts_.inf_code >> shift_
                                : facts_.has_nan != 0            ? facts_.nan_code >> shift_
                                                                 : last;
        if (std::isinf(a))
            return beyond;
        // The grid goes on beyond the largest value as if there were another exponent.
        const double end = facts_.has_zero == 0 ? 2 * values_[last] : 2 * values_[last] - values_[last - 1];
        const auto above = std::upper_bound(values_.begin(), values_.end(), a);
        if (above == values_.begin())
            return 0; // E8M0 has nothing below its smallest value
        const uint64_t low = static_cast<uint64_t>(above - values_.begin()) - 1;
        const double high_value = low == last ? end : *above;
        bool up = a >= high_value;
        if (!up && a > values_[low])
            up = goes_up(a, values_[low], high_value, low, negative, rounding, random);
        if (low + (up ? 1 : 0) <= last)
            return low + (up ? 1 : 0);
        const bool towards_zero =
            rounding == NC_TOWARD_ZERO || rounding == (negative ? int32_t{NC_UP} : int32_t{NC_DOWN});
        return towards_zero ? last : beyond;
    }

    bool goes_up(double a, double low, double high, uint64_t low_code, bool negative, int32_t rounding,
                 uint32_t random) const {
        const double part = (a - low) / (high - low); // exact: the step is a power of two
        const bool scale = facts_.has_zero == 0;
        switch (rounding) {
        case NC_NEAREST_EVEN:
        case NC_NEAREST_AWAY:
            if (scale && low_code == 0) // ml_dtypes: everything above 2^-127 becomes 2^-126
                return true;
            return part > 0.5 || (part == 0.5 && (scale || rounding == NC_NEAREST_AWAY || low_code % 2 != 0));
        case NC_UP: return !negative;
        case NC_DOWN: return negative;
        case NC_STOCHASTIC: return std::floor(part * 0x1p32) + random >= 0x1p32;
        default: return false;
        }
    }

    nc_format_info facts_;
    int shift_;
    std::vector<double> values_; // by magnitude code, ascending
};

// NaN codes of the contract. The payload of float16 and TF32 starts with the top bits of the source's.
inline std::optional<uint64_t> nan_code(int32_t format, bool negative, uint64_t payload_52, int32_t overflow) {
    const bool saturate = overflow == NC_OVERFLOW_SATURATE;
    switch (format) {
    case NC_FORMAT_f16: return (negative ? 0x8000u : 0u) | 0x7e00u | payload_52 >> 42;
    case NC_FORMAT_bf16: return negative ? 0xffc0u : 0x7fc0u;
    case NC_FORMAT_tf32: return (negative ? 0x80000000u : 0u) | 0x7fc00000u | payload_52 >> 42 << 13;
    case NC_FORMAT_e4m3fn: return negative ? 0xffu : 0x7fu;
    case NC_FORMAT_e5m2: return negative ? 0xfeu : 0x7eu;
    case NC_FORMAT_e4m3fnuz:
    case NC_FORMAT_e5m2fnuz:
    case NC_FORMAT_e4m3b11fnuz: return 0x80u;
    case NC_FORMAT_e4m3: return negative ? 0xfcu : 0x7cu;
    case NC_FORMAT_e3m4: return negative ? 0xf8u : 0x78u;
    case NC_FORMAT_e8m0fnu: return 0xffu;
    case NC_FORMAT_e2m3fn: return saturate ? 0x1fu : negative ? 0u : 0x20u;
    case NC_FORMAT_e3m2fn: return saturate ? 0x1fu : negative ? 0u : 0x20u;
    case NC_FORMAT_e2m1fn: return saturate ? 0x07u : negative ? 0u : 0x08u;
    default: return std::nullopt; // a format that the contract does not name yet
    }
}

} // namespace narrowcast::test
