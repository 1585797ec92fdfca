// Which source patterns a sweep feeds: every one of 8 and 16 bits, every stride-th one of 32 bits, and for sources of
// 32 and 64 bits the neighbours of every rounding boundary of the target, specials and random patterns.
// The codec's decoding places the boundaries; what a cast of them must give is decided elsewhere.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>

#include "codec/reference.hpp"
#include "support.hpp"

namespace narrowcast::test {

inline double value_of(int32_t format, uint64_t code) {
    if (format == NC_FORMAT_f64)
        return std::bit_cast<double>(code);
    const int32_t readable = format == NC_FORMAT_tf32 ? int32_t{NC_FORMAT_f32} : format;
    return std::bit_cast<double>(convert_code(readable, code, NC_FORMAT_f64, NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, 0));
}

// The non-negative finite values of a float format in ascending order: all of them up to 16 bits, a sample above.
inline std::vector<double> grid(int32_t format) {
    const nc_format_info facts = info(format);
    const int shift = facts.storage_bytes == 4 ? 32 - facts.bits : 0; // TF32 sits at the top of its container
    const uint64_t last = facts.max_code >> shift;
    const uint64_t step = last >> 16 == 0 ? 1 : (last >> 15) | 1;
    std::vector<double> values;
    for (uint64_t code = 0; code < last; code += step) {
        values.push_back(value_of(format, code << shift));
        values.push_back(value_of(format, (code + 1) << shift)); // so that the midpoint is a rounding boundary
    }
    values.push_back(value_of(format, facts.max_code));
    std::erase_if(values, [](double v) { return !std::isfinite(v); });
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
    return values;
}

// Every value and every midpoint of the format, and the same beyond its ends.
inline std::vector<double> boundaries(int32_t format) {
    const std::vector<double> values = grid(format);
    std::vector<double> all;
    for (size_t i = 0; i < values.size(); ++i) {
        all.push_back(values[i]);
        if (i + 1 < values.size())
            all.push_back(values[i] / 2 + values[i + 1] / 2);
    }
    const double last = values.back(), step = last - values[values.size() - 2];
    for (const double more : {0.25, 0.5, 0.75, 1.0, 1.5, 2.0})
        all.push_back(last + more * step);
    const double least = values.front() > 0 ? values.front() : values[1];
    for (double v = least / 2; v >= least / 8 && v > 0; v /= 2)
        all.push_back(v);
    std::erase_if(all, [](double v) { return !std::isfinite(v); });
    return all;
}

// Patterns of a 32- or 64-bit source: neighbours of the target's boundaries, then specials, then random ones.
inline std::vector<uint64_t> listed_patterns(int32_t src, int32_t dst) {
    const nc_format_info facts = info(src);
    const bool wide = facts.storage_bytes == 8;
    const uint64_t mask = wide ? ~uint64_t{0} : 0xffffffffu;
    const uint64_t sign = wide ? uint64_t{1} << 63 : uint64_t{1} << 31;
    std::vector<uint64_t> patterns;
    const auto both_signs = [&](uint64_t magnitude) {
        if (facts.is_float != 0) {
            patterns.push_back(magnitude & ~sign);
            patterns.push_back(magnitude | sign);
        } else {
            patterns.push_back(magnitude & mask);
            patterns.push_back((0 - magnitude) & mask);
        }
    };
    const auto neighbours = [&](uint64_t magnitude, std::initializer_list<uint64_t> distances) {
        for (const uint64_t distance : distances) {
            both_signs(magnitude + distance);
            if (magnitude >= distance)
                both_signs(magnitude - distance);
        }
    };
    for (const double value : boundaries(dst)) {
        if (src == NC_FORMAT_f64)
            // One place of float64, and half a place and a place of float32, where a second rounding would show.
            neighbours(std::bit_cast<uint64_t>(value), {0, 1, uint64_t{1} << 28, uint64_t{1} << 29});
        else if (facts.is_float != 0)
            neighbours(std::bit_cast<uint32_t>(static_cast<float>(value)), {0, 1, 2});
        else if (value < 0x1p64)
            neighbours(static_cast<uint64_t>(value), {0, 1});
    }
    if (facts.is_float != 0) {
        const uint64_t inf = wide ? 0x7ffull << 52 : 0x7f800000u, top = wide ? uint64_t{1} << 51 : uint64_t{1} << 22;
        const uint64_t normal = wide ? uint64_t{1} << 52 : uint64_t{1} << 23;
        for (const uint64_t special : {uint64_t{0}, uint64_t{1}, normal - 1, normal, inf - 1, inf, inf | 1, inf | top,
                                       inf | (top - 1), inf | top | 1, inf | (2 * top - 1), inf | (top >> 1)})
            both_signs(special);
    } else {
        for (int bit = 0; bit < 64; ++bit)
            neighbours(uint64_t{1} << bit, {0, 1});
    }
    for (uint64_t i = 0; i < 40000; ++i) {
        const uint64_t random = mix(i), more = mix(~i);
        if (src == NC_FORMAT_f64) // every other one where float32 and narrower formats live
            both_signs(i % 2 != 0 ? random : (random >> 12) | ((0x3ffu - 160 + more % 300) << 52));
        else
            both_signs(facts.is_float != 0 ? random & mask : random >> (more % 64)); // integers of every length
    }
    std::sort(patterns.begin(), patterns.end());
    patterns.erase(std::unique(patterns.begin(), patterns.end()), patterns.end());
    return patterns;
}

// The inputs of one pair, by index.
class Inputs {
public:
    Inputs(int32_t src, int32_t dst, uint64_t stride) : bytes_(item_bytes(src)), stride_(stride) {
        if (bytes_ >= 4)
            listed_ = listed_patterns(src, dst);
        // 256 times the 256 codes, so that each code meets each lane of every vector.
        const uint64_t patterns = bytes_ == 8 ? 0 : bytes_ == 4 ? uint64_t{1} << 32 : uint64_t{1} << 16;
        if (bytes_ < 4)
            stride_ = 1;
        strided_ = patterns / stride_;
    }

    uint64_t count() const { return strided_ + listed_.size(); }

    void fill(uint64_t first, size_t n, void* items) const {
        if (bytes_ == 4 && first + n <= strided_) { // most of a long sweep: kept cheap, also under an emulator
            auto* words = static_cast<uint32_t*>(items);
            const auto start = static_cast<uint32_t>(first);
            for (uint32_t i = 0; i < n; ++i)
                words[i] = stride_ == 1 ? start + i : static_cast<uint32_t>(strided_pattern(first + i));
            return;
        }
        for (size_t i = 0; i < n; ++i)
            store_code(items, i, bytes_, pattern(first + i));
    }

private:
    uint64_t pattern(uint64_t index) const {
        if (index >= strided_)
            return listed_[index - strided_];
        if (bytes_ == 1)
            return index + index / 256;
        return strided_pattern(index);
    }

    // One pattern of each run of `stride`, at a place that a multiplicative hash picks anew in every run.
    uint64_t strided_pattern(uint64_t index) const {
        return index * stride_ + (uint64_t{static_cast<uint32_t>(index * 0x9e3779b1u)} * stride_ >> 32);
    }

    size_t bytes_;
    uint64_t stride_;
    uint64_t strided_ = 0;
    std::vector<uint64_t> listed_;
};

} // namespace narrowcast::test
