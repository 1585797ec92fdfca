// What the fuzz targets share: arguments out of the fuzzer's bytes, arrays of every kind of strides, items of any byte
// order. What is called with them, and what must hold, is each target's own.
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "../tests/support.hpp"

#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                            \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (false)

namespace narrowcast::test {

// Reads the fuzzer's bytes from the front; zeros when they are used up. Never two reads in one expression: compilers
// differ in their order, and a kept file must mean the same everywhere.
class Bytes {
public:
    Bytes(const uint8_t* data, size_t size) : data_(data), left_(size) {}
    uint64_t take(size_t bytes) {
        uint64_t value = 0;
        for (; bytes != 0 && left_ != 0; --bytes, --left_)
            value = value << 8 | *data_++;
        return value;
    }
    uint64_t below(uint64_t limit) { return take(limit <= 256 ? 1 : 2) % limit; }
    bool one_in(uint64_t n) { return below(n) == n - 1; }

private:
    const uint8_t* data_;
    size_t left_;
};

// An array's description; offset is where element (0, ..., 0) lies in the block.
struct View {
    int32_t format = 0;
    bool swapped = false, contiguous = false;
    int64_t bytes = 0, offset = 0;
    std::vector<int64_t> strides;
};

// The bytes [low, high) that a view covers, relative to its first element.
struct Range {
    int64_t low = 0, high = 0;
};

inline Range range_of(const View& view, const std::vector<int64_t>& shape) {
    Range range{0, view.bytes};
    for (size_t axis = 0; axis < shape.size(); ++axis) {
        if (shape[axis] == 0)
            return {};
        const int64_t reach = (shape[axis] - 1) * view.strides[axis];
        (reach < 0 ? range.low : range.high) += reach;
    }
    return range;
}

// Byte offsets of all elements in C order.
inline std::vector<int64_t> element_offsets(const View& view, const std::vector<int64_t>& shape, size_t count) {
    std::vector<int64_t> offsets(count);
    for (size_t i = 0; i < count; ++i) {
        size_t rest = i;
        offsets[i] = view.offset;
        for (size_t axis = shape.size(); axis-- != 0;) {
            offsets[i] += static_cast<int64_t>(rest % static_cast<size_t>(shape[axis])) * view.strides[axis];
            rest /= static_cast<size_t>(shape[axis]);
        }
    }
    return offsets;
}

// Strides of a dense, permuted, gapped, reversed, broadcast or arbitrary layout.
inline void choose_strides(Bytes& bytes, View& view, const std::vector<int64_t>& shape) {
    std::vector<size_t> order(shape.size()); // the innermost axis last
    for (size_t axis = 0; axis < order.size(); ++axis)
        order[axis] = axis;
    view.strides.assign(shape.size(), 0);
    const uint64_t layout = bytes.below(4);
    if (layout != 0 && order.size() > 1)
        std::rotate(order.begin(), order.begin() + static_cast<ptrdiff_t>(bytes.below(order.size())), order.end());
    int64_t step = view.bytes;
    for (size_t i = order.size(); i-- != 0;) {
        const size_t axis = order[i];
        if (layout >= 2) {
            const auto gap = static_cast<int64_t>(bytes.below(4));
            step += bytes.one_in(2) ? gap * view.bytes : gap;
        }
        view.strides[axis] = step;
        step *= std::max<int64_t>(shape[axis], 1);
        if (layout == 3) {
            if (bytes.one_in(3))
                view.strides[axis] = -view.strides[axis];
            if (bytes.one_in(6))
                view.strides[axis] = 0;
            if (bytes.one_in(6))
                view.strides[axis] = static_cast<int64_t>(bytes.below(16)) - 8;
        }
    }
}

inline bool is_contiguous(const View& view, const std::vector<int64_t>& shape) {
    int64_t dense = view.bytes;
    for (size_t axis = shape.size(); axis-- != 0; dense *= shape[axis])
        if (shape[axis] != 1 && view.strides[axis] != dense)
            return false;
    return true;
}

// Whether each stride steps over all that lies inside it: such an array has no two elements in one place, and no one
// may doubt it. Of others the core may say that they overlap even if they happen not to.
inline bool is_nested(const View& view, const std::vector<int64_t>& shape) {
    std::vector<std::pair<double, double>> steps; // |stride|, reach: of any stride, so they may be beyond int64_t
    for (size_t axis = 0; axis < shape.size(); ++axis)
        if (shape[axis] > 1) {
            const double stride = std::fabs(static_cast<double>(view.strides[axis]));
            steps.emplace_back(stride, stride * static_cast<double>(shape[axis] - 1));
        }
    std::sort(steps.begin(), steps.end());
    auto inside = static_cast<double>(view.bytes);
    for (const auto& [stride, reach] : steps) {
        if (stride < inside)
            return false;
        inside += reach;
    }
    return true;
}

inline uint64_t swap_bytes(uint64_t code, size_t bytes) {
    uint64_t swapped = 0;
    for (; bytes != 0; --bytes, code >>= 8)
        swapped = swapped << 8 | (code & 0xff);
    return swapped;
}

inline uint64_t load(const std::vector<unsigned char>& block, int64_t offset, const View& view) {
    const uint64_t code = load_code(block.data() + offset, 0, static_cast<size_t>(view.bytes));
    return view.swapped ? swap_bytes(code, static_cast<size_t>(view.bytes)) : code;
}

inline void store(std::vector<unsigned char>& block, int64_t offset, const View& view, uint64_t code) {
    const auto size = static_cast<size_t>(view.bytes);
    store_code(block.data() + offset, 0, size, view.swapped ? swap_bytes(code, size) : code);
}

inline std::vector<unsigned char> random_block(int64_t size, uint64_t seed) {
    std::vector<unsigned char> block(static_cast<size_t>(size));
    for (size_t i = 0; i < block.size(); i += 8) {
        const uint64_t random = mix(seed + i);
        memcpy(block.data() + i, &random, std::min<size_t>(8, block.size() - i));
    }
    return block;
}

} // namespace narrowcast::test
