// What the tests of comparing values with their cast share: sums made one pair at a time, and how near to them an
// instruction set must come.
#pragma once

#include <algorithm>
#include <cmath>

#include "support.hpp"

namespace narrowcast::test {

inline nc_error_sums empty_sums() {
    nc_error_sums sums{};
    sums.size = sizeof sums;
    return sums;
}

// One pair. low: what x has beyond the double (64-bit integers).
inline void add_pair(double x, double low, double y, bool overflows, nc_error_sums& sums) {
    sums.count += 1;
    sums.overflowed += overflows;
    sums.became_zero += !std::isnan(x) && x != 0 && y == 0;
    sums.became_nan += !std::isnan(x) && std::isnan(y);
    if (!std::isfinite(x) || !std::isfinite(y))
        return;
    const double error = std::fabs((x - y) + low);
    sums.finite += 1;
    sums.sum_x2 += x * x;
    sums.sum_error2 += error * error;
    sums.sum_error += error;
    sums.max_error = std::max(sums.max_error, error);
}

inline bool near(double a, double b, double tolerance) {
    return a == b || (std::isnan(a) && std::isnan(b)) || std::fabs(a - b) <= tolerance * std::fabs(b);
}

inline bool equal(const nc_error_sums& found, const nc_error_sums& expected) {
    constexpr double sum = 0x1p-19, one = 0x1p-24;
    return found.size == sizeof found && found.count == expected.count && found.finite == expected.finite &&
           found.overflowed == expected.overflowed && found.became_zero == expected.became_zero &&
           found.became_nan == expected.became_nan && near(found.sum_x2, expected.sum_x2, sum) &&
           near(found.sum_error2, expected.sum_error2, sum) && near(found.sum_error, expected.sum_error, sum) &&
           near(found.max_error, expected.max_error, one);
}

inline std::string text(const nc_error_sums& s) {
    char line[240];
    snprintf(line, sizeof line, "%llu %llu, %.9g %.9g %.9g %.9g, %llu %llu %llu",
             static_cast<unsigned long long>(s.count), static_cast<unsigned long long>(s.finite), s.sum_x2,
             s.sum_error2, s.sum_error, s.max_error, static_cast<unsigned long long>(s.overflowed),
             static_cast<unsigned long long>(s.became_zero), static_cast<unsigned long long>(s.became_nan));
    return line;
}

// A float32 of random sign and fraction at one of `count` exponents from `first` on.
inline uint32_t near_exponent(uint64_t random, int first, unsigned count) {
    const auto exponent = static_cast<uint32_t>(127 + first) + static_cast<uint32_t>(random >> 40) % count;
    return static_cast<uint32_t>(random & 0x807fffffu) | exponent << 23;
}

} // namespace narrowcast::test
