// What one fuzzed call of the quantizing functions is given, decoded from the input bytes: options, shapes, arrays and
// their values, and the mistakes that are made on purpose. What must come of it is in fuzz_quantize.cpp.
#pragma once

#include <bit>
#include <cmath>
#include <limits>

#include "attempt.hpp"
#include "codec/reference.hpp"

namespace narrowcast::test {

using Shape = std::vector<int64_t>;

struct Set {
    nc_quantize_options options = NC_QUANTIZE_OPTIONS_INIT;
    Shape shape, block, boxes;
    Array x, codes, scale, zero, sums, out, low, high;
    bool has_zero = false, has_sums = false;
    bool mistaken = false; // in what all functions look at

    const nc_array* zeros() const { return has_zero ? &zero.array : nullptr; }
    int32_t bits() const { return options.format != 0 ? info(options.format).bits : options.bits; }
    bool packed() const { return options.layout != NC_LAYOUT_INVALID; }
    size_t box_of(size_t i) const {
        size_t box = 0, step = 1;
        for (size_t d = shape.size(); d-- != 0; i /= static_cast<size_t>(shape[d])) {
            box += i % static_cast<size_t>(shape[d]) / static_cast<size_t>(block[d]) * step;
            step *= static_cast<size_t>(boxes[d]);
        }
        return box;
    }
};

inline constexpr int32_t scale_formats[] = {NC_FORMAT_f32, NC_FORMAT_f16, NC_FORMAT_bf16, NC_FORMAT_e8m0fnu};

inline void choose_options(Bytes& bytes, nc_quantize_options& o) {
    constexpr int32_t floats[] = {NC_FORMAT_e4m3fn, NC_FORMAT_e5m2, NC_FORMAT_e2m3fn, NC_FORMAT_e3m2fn,
                                  NC_FORMAT_e2m1fn};
    o.dialect = 1 + static_cast<int32_t>(bytes.below(8));
    o.bits = bytes.one_in(4) ? 1 + static_cast<int32_t>(bytes.below(16)) : bytes.one_in(2) ? 8 : 4;
    o.is_signed = static_cast<int32_t>(bytes.below(2));
    if (bytes.one_in(6)) {
        o.format = floats[bytes.below(5)];
    } else if (bytes.one_in(4)) {
        const int32_t least = o.is_signed != 0 ? -(1 << (o.bits - 1)) : 0;
        o.qmin = least + static_cast<int32_t>(bytes.below(uint64_t{1} << o.bits));
        o.qmax = least + static_cast<int32_t>(bytes.below(uint64_t{1} << o.bits));
        if (o.qmin >= o.qmax)
            o.qmin = o.qmax = 0;
    }
    o.symmetric = static_cast<int32_t>(bytes.below(2));
    o.dynamic = static_cast<int32_t>(bytes.below(2));
    constexpr int32_t computes[] = {0, 0, NC_FORMAT_f32, NC_FORMAT_f16, NC_FORMAT_bf16};
    o.compute = o.dialect == NC_DIALECT_torch ? 0 : computes[bytes.below(5)];
    if (bytes.one_in(8))
        o.scale_max = std::ldexp(1.0f, static_cast<int>(bytes.below(256)) - 140);
    o.threads = bytes.one_in(16) ? static_cast<int32_t>(bytes.below(4)) : 1;
}

inline void choose_shape(Bytes& bytes, Set& s, int64_t most) {
    s.shape.resize(bytes.below(5));
    for (int64_t& extent : s.shape) {
        extent = static_cast<int64_t>(bytes.one_in(4) ? bytes.take(2) % 9000 : bytes.below(40));
        extent = std::min(extent, most);
        most = extent != 0 ? most / extent : most;
    }
    if (bytes.one_in(2) && s.shape.size() > 1)
        std::reverse(s.shape.begin(), s.shape.end());
    const bool null = bytes.one_in(8);
    for (const int64_t extent : s.shape) {
        int64_t block = std::max<int64_t>(extent, 1);
        if (!null)
            switch (bytes.below(5)) {
            case 0: break;
            case 1: block = 1; break;
            case 2: block = int64_t{1} << bytes.below(13); break;
            case 3: block = 1 + static_cast<int64_t>(bytes.take(2) % 5000); break;
            default: block = INT64_MAX - static_cast<int64_t>(bytes.below(9)); break;
            }
        s.block.push_back(block);
        s.boxes.push_back(extent / block + (extent % block != 0 ? 1 : 0));
    }
    s.options.block = null ? nullptr : s.block.data();
    const int64_t last = s.shape.empty() ? 1 : s.shape.back();
    if (!s.shape.empty() && s.bits() <= 8 && last * s.bits() % 8 == 0 && bytes.one_in(2))
        s.options.layout = NC_LAYOUT_lsb;
}

inline void choose_set(Bytes& bytes, Set& s) {
    static const std::vector<int32_t> formats = all_formats();
    choose_options(bytes, s.options);
    choose_shape(bytes, s, bytes.one_in(4) ? 20000 : 1500);
    if (s.options.format != 0)
        s.options.qmin = s.options.qmax = 0;
    const auto float_format = [&](bool source) {
        int32_t format = formats[bytes.below(formats.size())];
        if (!is_float(format) || (source && format == NC_FORMAT_tf32) || bytes.one_in(3))
            format = NC_FORMAT_f32;
        return format;
    };
    s.x.make(bytes, s.shape, float_format(true));
    s.out.make(bytes, s.shape, float_format(false));
    Shape codes = s.shape;
    if (s.packed())
        codes.back() = codes.back() * s.bits() / 8;
    const bool wide = s.bits() > 8;
    const int32_t integer = wide ? (s.options.is_signed != 0 ? NC_FORMAT_i16 : NC_FORMAT_u16)
                                 : (s.options.is_signed != 0 ? NC_FORMAT_i8 : NC_FORMAT_u8);
    const bool is_float_item = s.options.format != 0 && !s.packed();
    s.codes.make(bytes, codes, is_float_item ? s.options.format : integer, s.packed());
    s.scale.make(bytes, s.boxes, scale_formats[bytes.below(4)]);
    const bool shift = s.options.dialect == NC_DIALECT_quanto || s.options.dialect == NC_DIALECT_fbgemm;
    s.zero.make(bytes, s.boxes, shift && bytes.one_in(2) ? scale_formats[bytes.below(3)] : NC_FORMAT_i32);
    Shape lines = s.shape;
    if (!lines.empty())
        lines.pop_back();
    s.sums.make(bytes, lines, NC_FORMAT_i32);
    s.low.make(bytes, s.boxes, NC_FORMAT_f32);
    s.high.make(bytes, s.boxes, NC_FORMAT_f32);
    s.has_zero = bytes.one_in(2) || (s.options.dynamic != 0 && bytes.one_in(2));
    s.has_sums = !s.shape.empty() && s.options.format == 0 && bytes.one_in(2);
}

inline uint64_t code_of(double value, int32_t format) {
    return convert_code(NC_FORMAT_f64, std::bit_cast<uint64_t>(value), format, NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, 0);
}

inline float number_of(uint64_t code, int32_t format) { // beyond float32 is its largest value
    if (format == NC_FORMAT_f64) {
        constexpr double most = std::numeric_limits<float>::max();
        const auto value = std::bit_cast<double>(code);
        return static_cast<float>(std::isfinite(value) ? std::clamp(value, -most, most) : value);
    }
    if (format == NC_FORMAT_f32)
        return std::bit_cast<float>(static_cast<uint32_t>(code));
    return std::bit_cast<float>(
        static_cast<uint32_t>(convert_code(format, code, NC_FORMAT_f32, NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, 0)));
}

// Memory is random at first, so of every kind; or it is made such that codes are in range. Bytes that are left go to
// the first elements.
inline void choose_values(Bytes& bytes, Set& s) {
    const uint64_t how = bytes.below(4);
    const uint64_t seed = bytes.take(2);
    for (size_t i = 0; i < s.zero.at.size(); ++i)
        if (s.zero.view.format == NC_FORMAT_i32 && how != 3) {
            const int64_t least = s.options.is_signed != 0 ? -(int64_t{1} << (s.bits() - 1)) : 0;
            const auto offset = static_cast<int64_t>(mix(seed ^ i) % (uint64_t{1} << s.bits()));
            s.zero.put(i, static_cast<uint64_t>(least + offset));
        } else if (s.zero.view.format == NC_FORMAT_i32) {
            s.zero.put(i, static_cast<uint64_t>(static_cast<int64_t>(mix(seed ^ i)) >> (64 - 26 + seed % 4)));
        }
    if (how >= 2) {
        for (size_t i = 0; i < s.scale.at.size(); ++i)
            s.scale.put(i, code_of(std::ldexp(1 + static_cast<double>(mix(seed + i) >> 12) * 0x1p-52,
                                              static_cast<int>(mix(~seed + i) % 9) - 4),
                                   s.scale.view.format));
        for (size_t i = 0; i < s.x.at.size(); ++i) {
            const double unit = static_cast<double>(static_cast<int64_t>(mix(seed * 7 + i))) * 0x1p-63;
            const double steps = unit * 1.5 * (1 << s.bits());
            const double scale = static_cast<double>(number_of(s.scale.get(s.box_of(i)), s.scale.view.format));
            s.x.put(i, code_of(scale * (i % 3 == 0 ? std::floor(steps) + 0.5 : steps), s.x.view.format));
        }
    }
    for (Array* array : {&s.scale, &s.x, &s.low, &s.high})
        for (size_t i = 0; i < std::min<size_t>(array->at.size(), 16); ++i)
            if (const uint64_t code = bytes.take(static_cast<size_t>(array->view.bytes)); code != 0)
                array->put(i, code);
}

// One mistake that all functions have to notice that look at it.
inline void make_mistake(Bytes& bytes, Set& s) {
    nc_quantize_options& o = s.options;
    const auto outside = [&](int32_t low, int32_t high) {
        const auto value = static_cast<int32_t>(static_cast<uint32_t>(bytes.take(4)));
        return value >= low && value <= high ? high + 1 : value;
    };
    s.mistaken = true;
    switch (bytes.below(12)) {
    case 0: o.size = bytes.take(8) % 1000 == sizeof o ? 0 : sizeof o + 1; return;
    case 1: o.dialect = outside(0, NC_DIALECT_LIMIT - 1); return;
    case 2: o.format = outside(0, NC_FORMAT_LIMIT - 1); return;
    case 3:
        o.bits = outside(1, 16);
        o.format = 0;
        return;
    case 4: o.is_signed = outside(0, 1); return;
    case 5:
        o.qmin = 40000;
        o.qmax = outside(-70000, 70000);
        return;
    case 6: o.symmetric = outside(0, 1); return;
    case 7: o.compute = outside(0, NC_FORMAT_LIMIT); return;
    case 8: o.layout = outside(0, NC_LAYOUT_LIMIT); return;
    case 9: o.scale_max = bytes.one_in(2) ? -1.0f : std::numeric_limits<float>::infinity(); return;
    case 10: o.threads = -1 - static_cast<int32_t>(bytes.take(3)); return;
    default: o.isa = bytes.one_in(2) ? "" : "scalar "; return;
    }
}

// A mistake in one array: the call must not go well where that is used.
inline void spoil_array(Bytes& bytes, Array& a) {
    a.spoiled = true;
    switch (bytes.below(8)) {
    case 0: a.array.format = bytes.one_in(2) ? -1 - static_cast<int32_t>(bytes.take(3)) : NC_FORMAT_LIMIT; return;
    case 1: a.array.ndim = bytes.one_in(2) ? -1 : 65 + static_cast<int32_t>(bytes.take(3)); return;
    case 2: a.array.flags |= 2u << bytes.below(31); return;
    case 3: a.array.reserved = 1; return;
    case 4:
        a.array.data = nullptr;
        a.spoiled = !a.at.empty();
        return;
    case 5:
        a.array.shape = nullptr;
        a.spoiled = a.array.ndim != 0;
        return;
    case 6:
        if ((a.spoiled = !a.shape.empty()))
            a.shape[bytes.below(a.shape.size())] =
                bytes.one_in(2) ? -1 : INT64_MAX - static_cast<int64_t>(bytes.take(7));
        return;
    default:
        if ((a.spoiled = !a.shape.empty() && !a.at.empty() && a.shape[0] > 1)) {
            a.view.strides[0] = bytes.one_in(2) ? INT64_MAX - static_cast<int64_t>(bytes.take(2)) : INT64_MIN;
            a.array.strides = a.view.strides.data();
        }
        return;
    }
}

} // namespace narrowcast::test
