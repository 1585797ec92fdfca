// Random calls of the quantizing functions for the C++ tests: arrays of any strides, order and byte order, boxes of
// every kind, and what each single element must become. What is called with them is the tests' own.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "support.hpp"

namespace narrowcast::test {

using Shape = std::vector<int64_t>;

struct Random {
    uint64_t state;
    uint64_t next() { return mix(state++); }
    int64_t below(int64_t limit) { return static_cast<int64_t>(next() % static_cast<uint64_t>(limit)); }
    bool one_in(int64_t n) { return below(n) == 0; }
    double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }
};

inline int64_t product(const Shape& shape) {
    return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

// An array with strides inside a buffer that has room on both sides.
struct Strided {
    std::vector<unsigned char> bytes;
    Shape shape, strides;
    int64_t first = 0, item = 1;
    int32_t format = 0;
    bool swapped = false;

    nc_array array() {
        return {bytes.data() + first,
                shape.data(),
                strides.data(),
                static_cast<int32_t>(shape.size()),
                format,
                swapped ? uint32_t{NC_ARRAY_BYTE_SWAPPED} : 0u,
                0};
    }
    // Where the element with C-order index i is.
    unsigned char* at(int64_t i) {
        int64_t offset = first;
        for (size_t d = shape.size(); d-- > 0; i /= shape[d])
            offset += i % shape[d] * strides[d];
        return bytes.data() + offset;
    }
    uint64_t load(int64_t i) {
        uint64_t code = 0;
        for (int64_t b = 0; b < item; ++b)
            code |= uint64_t{at(i)[place(b)]} << (8 * b);
        return code;
    }
    void store(int64_t i, uint64_t code) {
        for (int64_t b = 0; b < item; ++b)
            at(i)[place(b)] = static_cast<unsigned char>(code >> (8 * b));
    }

private:
    // Where byte b of an item is, counted from its lowest.
    int64_t place(int64_t b) const { return swapped != (std::endian::native == std::endian::big) ? item - 1 - b : b; }
};

// plain: C order without gaps. unit_last: the last axis has no gaps.
inline Strided make_array(Random& random, const Shape& shape, int32_t format, bool plain, bool unit_last = false) {
    Strided a;
    a.shape = shape;
    a.format = format;
    a.item = static_cast<int64_t>(item_bytes(format));
    a.swapped = !plain && a.item > 1 && random.one_in(5);
    a.strides.resize(shape.size());
    std::vector<size_t> order(shape.size());
    std::iota(order.begin(), order.end(), size_t{0});
    if (!plain && random.one_in(2))
        for (size_t i = order.size() - (unit_last && !order.empty() ? 1 : 0); i > 1; --i)
            std::swap(order[i - 1], order[static_cast<size_t>(random.below(static_cast<int64_t>(i)))]);
    int64_t span = a.item;
    for (size_t i = order.size(); i-- > 0;) {
        const size_t d = order[i];
        const bool fixed = plain || (unit_last && d + 1 == shape.size());
        a.strides[d] = span + (!fixed && random.one_in(3) ? random.below(3) * a.item + random.below(2) : 0);
        span += (shape[d] - 1) * a.strides[d];
        if (!fixed && random.one_in(6)) {
            a.first += (shape[d] - 1) * a.strides[d];
            a.strides[d] = -a.strides[d];
        }
    }
    a.first += 64;
    a.bytes.resize(static_cast<size_t>(span + 128));
    for (unsigned char& byte : a.bytes)
        byte = static_cast<unsigned char>(random.next());
    return a;
}

inline uint64_t bits_of(double value, int32_t format, int32_t overflow = NC_OVERFLOW_IEEE) {
    if (std::isnan(value))
        value = std::numeric_limits<double>::quiet_NaN(); // of one sign
    if (format == NC_FORMAT_f32)
        return std::bit_cast<uint32_t>(static_cast<float>(value));
    uint64_t code = 0;
    cast(NC_FORMAT_f64, &value, format, &code, 1, cast_options(NC_NEAREST_EVEN, overflow, "scalar"));
    return load_code(&code, 0, item_bytes(format));
}

inline double number_of(uint64_t code, int32_t format) {
    if (format == NC_FORMAT_f32)
        return static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(code)));
    uint64_t item = 0;
    store_code(&item, 0, item_bytes(format), code);
    double value = 0;
    cast(format, &item, NC_FORMAT_f64, &value, 1, cast_options(NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, "scalar"));
    return value;
}

// --- one element at a time -----------------------------------------------------------------------------------------

struct Call {
    nc_quantize_options options = NC_QUANTIZE_OPTIONS_INIT;
    Shape shape, block, boxes;
    int32_t x_format = NC_FORMAT_f32, scale_format = NC_FORMAT_f32;
    bool has_zero = false;

    int64_t box_of(int64_t i) const {
        int64_t box = 0, step = 1;
        for (size_t d = shape.size(); d-- > 0; i /= shape[d]) {
            box += i % shape[d] / block[d] * step;
            step *= boxes[d];
        }
        return box;
    }
    int32_t low() const {
        return options.qmin != 0 || options.qmax != 0 ? options.qmin
               : options.is_signed != 0               ? -(1 << (options.bits - 1))
                                                      : 0;
    }
    int32_t high() const {
        return options.qmin != 0 || options.qmax != 0 ? options.qmax : (1 << (options.bits - options.is_signed)) - 1;
    }
    std::string describe() const {
        const auto list = [](const Shape& values) {
            std::string text = "(";
            for (const int64_t value : values)
                text += std::to_string(value) + ",";
            return text + ")";
        };
        return std::string(options.isa) + " dialect " + std::to_string(options.dialect) + " bits " +
               std::to_string(options.bits) + (options.is_signed != 0 ? " signed" : "") +
               (options.layout != 0 ? " packed" : "") + " x " + info(x_format).id + " scale " + info(scale_format).id +
               " shape " + list(shape) + " block " + list(block) + " threads " + std::to_string(options.threads);
    }
};

inline int32_t expected_code(const Call& call, float x, float scale, int32_t zero) {
    if (call.options.format != NC_FORMAT_INVALID) {
        const float q = call.options.dialect == NC_DIALECT_onnx ? x / scale : x * (1 / scale);
        return static_cast<int32_t>(bits_of(static_cast<double>(q), call.options.format, NC_OVERFLOW_SATURATE));
    }
    const auto low = static_cast<float>(call.low()), high = static_cast<float>(call.high());
    float q = 0;
    switch (call.options.dialect) {
    case NC_DIALECT_onnx: q = std::nearbyint(x / scale) + static_cast<float>(zero); break;
    case NC_DIALECT_vllm: q = std::nearbyint(x * (1 / scale) + static_cast<float>(zero)); break;
    default: q = std::nearbyint(std::fma(x, 1 / scale, static_cast<float>(zero))); break; // torch
    }
    if (std::isnan(q))
        return call.options.dialect == NC_DIALECT_torch ? call.high() : call.low();
    return static_cast<int32_t>(std::clamp(q, low, high));
}

// What a code stands for, in units of its scale.
inline float number_of_code(const Call& call, int32_t code, int32_t zero) {
    if (call.options.format != NC_FORMAT_INVALID)
        return static_cast<float>(number_of(static_cast<uint64_t>(code), call.options.format));
    return static_cast<float>(code - zero);
}

// Writes code i of the array: an item, or bits of a packed row.
inline void store_code_at(const Call& call, Strided& codes, int64_t i, int32_t code) {
    const auto bits = static_cast<uint64_t>(static_cast<uint32_t>(code));
    if (call.options.layout == 0) {
        codes.store(i, bits);
        return;
    }
    const int64_t cols = call.shape.back(), row_bytes = cols * call.options.bits / 8;
    for (int32_t b = 0; b < call.options.bits; ++b) {
        const int64_t bit = i % cols * call.options.bits + b;
        unsigned char& byte = *codes.at(i / cols * row_bytes + bit / 8);
        byte = static_cast<unsigned char>((byte & ~(1 << (bit % 8))) | static_cast<int>(bits >> b & 1) << (bit % 8));
    }
}

inline Call random_call(Random& random, const std::string& isa, int64_t most) {
    constexpr int64_t extents[] = {1, 2, 3, 5, 8, 17, 64, 130, 700};
    constexpr int32_t dialects[] = {NC_DIALECT_onnx, NC_DIALECT_vllm, NC_DIALECT_torch};
    constexpr int32_t widths[] = {8, 8, 4, 2, 3, 6, 12, 16};
    constexpr int32_t sources[] = {NC_FORMAT_f32,  NC_FORMAT_f32, NC_FORMAT_f16,
                                   NC_FORMAT_bf16, NC_FORMAT_f64, NC_FORMAT_e5m2};
    constexpr int32_t scales[] = {NC_FORMAT_f32, NC_FORMAT_f32, NC_FORMAT_f16, NC_FORMAT_bf16, NC_FORMAT_e8m0fnu};
    Call call;
    call.options.isa = isa.c_str();
    call.options.dialect = dialects[random.below(3)];
    call.options.bits = widths[random.below(8)];
    call.options.is_signed = static_cast<int32_t>(random.below(2));
    if (random.one_in(5)) {
        constexpr int32_t floats[] = {NC_FORMAT_e4m3fn, NC_FORMAT_e5m2, NC_FORMAT_e3m2fn, NC_FORMAT_e2m1fn};
        call.options.format = floats[random.below(4)];
        call.options.bits = info(call.options.format).bits;
    }
    call.options.threads = random.one_in(4) ? 3 : 1;
    call.x_format = sources[random.below(6)];
    call.scale_format = scales[random.below(5)];
    call.shape.resize(static_cast<size_t>(random.below(5)));
    for (int64_t& extent : call.shape) {
        extent = extents[random.below(9)];
        if (extent > most)
            extent = 1 + most % 7;
        most /= extent;
    }
    call.block = call.boxes = call.shape;
    for (size_t d = 0; d < call.shape.size(); ++d) {
        constexpr int64_t blocks[] = {1, 1, 2, 3, 8, 32, 128};
        if (!random.one_in(3))
            call.block[d] = std::min(call.shape[d], blocks[random.below(7)]);
        call.boxes[d] = (call.shape[d] + call.block[d] - 1) / call.block[d];
    }
    call.options.block = call.block.data();
    const bool packs = call.options.bits <= 8 && !call.shape.empty() && call.shape.back() * call.options.bits % 8 == 0;
    call.options.layout = packs && random.one_in(2) ? int32_t{NC_LAYOUT_lsb} : 0;
    call.has_zero = call.options.format == NC_FORMAT_INVALID && random.one_in(2);
    return call;
}

inline Strided make_codes(Random& random, const Call& call, bool plain) {
    Shape shape = call.shape;
    if (call.options.layout != 0)
        shape.back() = shape.back() * call.options.bits / 8;
    const bool packed = call.options.layout != 0;
    const int32_t format = !packed && call.options.format != NC_FORMAT_INVALID ? call.options.format
                           : call.options.bits > 8                             ? NC_FORMAT_u16
                                                                               : NC_FORMAT_i8;
    return make_array(random, shape, format, plain, packed);
}

struct Case {
    Call call;
    Strided x, codes, scale, zero, sums;
    std::vector<float> scales; // of each box
    std::vector<int32_t> zeros;
    std::vector<int32_t> expected;

    Case(Random& random, Call given) : call(std::move(given)) {
        call.options.block = call.block.data();
        const bool plain = random.one_in(3);
        x = make_array(random, call.shape, call.x_format, plain);
        codes = make_codes(random, call, plain);
        scale = make_array(random, call.boxes, call.scale_format, random.one_in(2));
        zero = make_array(random, call.boxes, NC_FORMAT_i32, random.one_in(2));
        Shape lines = call.shape;
        if (!lines.empty())
            lines.pop_back();
        sums = make_array(random, lines, NC_FORMAT_i32, random.one_in(2));
        const int64_t n = product(call.shape);
        for (int64_t i = 0; i < product(call.boxes); ++i) {
            scale.store(
                i, bits_of(std::ldexp(1 + random.unit(), static_cast<int>(random.below(12)) - 6), call.scale_format));
            zero.store(i, static_cast<uint64_t>(call.low() + random.below(int64_t{call.high()} - call.low() + 1)));
            scales.push_back(static_cast<float>(number_of(scale.load(i), call.scale_format)));
            zeros.push_back(call.has_zero ? static_cast<int32_t>(zero.load(i)) : 0);
        }
        expected.resize(static_cast<size_t>(n));
        for (int64_t i = 0; i < n; ++i) {
            const auto box = static_cast<size_t>(call.box_of(i));
            const float s = scales[box];
            const double steps = (random.unit() - 0.5) * 1.3 * (1 << call.options.bits);
            const double value = random.one_in(40)   ? std::numeric_limits<double>::quiet_NaN()
                                 : random.one_in(40) ? (random.one_in(2) ? HUGE_VAL : -HUGE_VAL)
                                 : random.one_in(5)  ? static_cast<double>(s) * (std::floor(steps) + 0.5)
                                                     : static_cast<double>(s) * steps;
            x.store(i, bits_of(value, call.x_format));
            const auto read = static_cast<float>(number_of(x.load(i), call.x_format));
            expected[static_cast<size_t>(i)] = expected_code(call, read, s, zeros[box]);
        }
    }
    const Strided* zero_or_null() const { return call.has_zero ? &zero : nullptr; }
};

} // namespace narrowcast::test
