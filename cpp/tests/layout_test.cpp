// Arrays of every shape: random strides, orders, byte orders, gaps, broadcasts and alignments, for each instruction
// set, against the codec one element at a time; bytes that belong to no element must stay as they were. Also casts in
// place. Expected codes come from codec/reference.hpp and support.hpp's own Philox, never from a kernel.
#include <algorithm>
#include <numeric>

#include "codec/reference.hpp"
#include "support.hpp"

namespace narrowcast::test {
namespace {

struct Random {
    uint64_t state;
    uint64_t next() { return mix(state++); }
    int64_t below(int64_t limit) { return static_cast<int64_t>(next() % static_cast<uint64_t>(limit)); }
    bool one_in(int64_t n) { return below(n) == 0; }
};

// An array with strides inside a buffer that has room on both sides.
struct Strided {
    std::vector<unsigned char> bytes;
    std::vector<int64_t> strides;
    int64_t first = 0; // byte of element (0, ..., 0)

    void* data() { return bytes.data() + first; }
};

// Lays shape out in a random dimension order, with gaps and reversed dimensions; broadcast makes some strides 0.
Strided make_array(Random& random, const std::vector<int64_t>& shape, int64_t item, bool broadcast) {
    Strided array;
    const size_t ndim = shape.size();
    array.strides.resize(ndim);
    std::vector<size_t> order(ndim);
    std::iota(order.begin(), order.end(), size_t{0});
    if (random.one_in(2)) // else in C order
        for (size_t i = ndim; i > 1; --i)
            std::swap(order[i - 1], order[static_cast<size_t>(random.below(static_cast<int64_t>(i)))]);
    int64_t span = item;
    for (size_t i = ndim; i-- > 0;) {
        const size_t d = order[i];
        if (broadcast && random.one_in(4)) {
            array.strides[d] = 0;
            continue;
        }
        const int64_t gap = random.one_in(3) ? random.below(3) * item : random.one_in(6) ? random.below(5) : 0;
        array.strides[d] = span + gap;
        span += (shape[d] - 1) * array.strides[d];
        if (random.one_in(6)) {
            array.first += (shape[d] - 1) * array.strides[d];
            array.strides[d] = -array.strides[d];
        }
    }
    const int64_t margin = random.one_in(3) ? random.below(64) : 64;
    array.first += margin;
    array.bytes.resize(static_cast<size_t>(span + 2 * margin + 64));
    for (size_t i = 0; i + 8 <= array.bytes.size(); i += 8)
        store_code(array.bytes.data(), i / 8, 8, random.next());
    return array;
}

uint64_t swap_bytes(uint64_t code, size_t item) {
    uint64_t swapped = 0;
    for (size_t i = 0; i < item; ++i)
        swapped |= (code >> (8 * i) & 0xff) << (8 * (item - 1 - i));
    return swapped;
}

struct Call {
    int32_t src, dst;
    uint32_t src_flags, dst_flags;
    nc_cast_options options;
};

// What out's buffer must be after the call.
std::vector<unsigned char> expected_bytes(const Call& call, const std::vector<int64_t>& shape, Strided& x,
                                          const Strided& out) {
    std::vector<unsigned char> result = out.bytes;
    const size_t src_item = item_bytes(call.src), dst_item = item_bytes(call.dst);
    std::vector<int64_t> index(shape.size(), 0);
    const auto n = std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
    for (int64_t i = 0; i < n; ++i) {
        int64_t from = x.first, to = out.first;
        for (size_t d = 0; d < shape.size(); ++d) {
            from += index[d] * x.strides[d];
            to += index[d] * out.strides[d];
        }
        uint64_t code = load_code(x.bytes.data() + from, 0, src_item);
        if (call.src_flags != 0)
            code = swap_bytes(code, src_item);
        const uint64_t word_index = call.options.offset + static_cast<uint64_t>(i);
        const uint32_t word = call.options.rounding == NC_STOCHASTIC
                                  ? philox_block(call.options.seed, word_index / 4)[word_index % 4]
                                  : 0;
        uint64_t converted = convert_code(call.src, code, call.dst, call.options.rounding, call.options.overflow, word);
        if (call.dst_flags != 0)
            converted = swap_bytes(converted, dst_item);
        store_code(result.data() + to, 0, dst_item, converted);
        for (size_t d = shape.size(); d-- > 0;) {
            if (++index[d] < shape[d])
                break;
            index[d] = 0;
        }
    }
    return result;
}

std::string describe(const Call& call, const std::vector<int64_t>& shape, const Strided& x, const Strided& out) {
    const auto list = [](const std::vector<int64_t>& values) {
        std::string text = "(";
        for (const int64_t value : values)
            text += std::to_string(value) + ",";
        return text + ")";
    };
    return std::string(call.options.isa) + " " + info(call.src).id + (call.src_flags != 0 ? " swapped" : "") + " to " +
           info(call.dst).id + (call.dst_flags != 0 ? " swapped" : "") + " " +
           rounding_names[static_cast<size_t>(call.options.rounding)] + " " +
           overflow_names[static_cast<size_t>(call.options.overflow)] + " threads " +
           std::to_string(call.options.threads) + " shape " + list(shape) + " x " + list(x.strides) + " out " +
           list(out.strides);
}

void check_call(Tally& tally, Random& random, const Call& call, const std::vector<int64_t>& shape) {
    Strided x = make_array(random, shape, static_cast<int64_t>(item_bytes(call.src)), true);
    Strided out = make_array(random, shape, static_cast<int64_t>(item_bytes(call.dst)), false);
    const std::vector<unsigned char> expected = expected_bytes(call, shape, x, out);
    const auto ndim = static_cast<int32_t>(shape.size());
    const nc_array from{x.data(), shape.data(), x.strides.data(), ndim, call.src, call.src_flags, 0};
    const nc_array to{out.data(), shape.data(), out.strides.data(), ndim, call.dst, call.dst_flags, 0};
    nc_error error{};
    error.size = sizeof error;
    const nc_status status = nc_cast(&from, &to, &call.options, &error);
    tally.check(status == NC_OK, "%s: %s", describe(call, shape, x, out).c_str(), error.message);
    if (status == NC_OK)
        tally.check(out.bytes == expected, "%s: wrong bytes", describe(call, shape, x, out).c_str());
}

std::vector<int64_t> random_shape(Random& random, int64_t most) {
    std::vector<int64_t> shape(static_cast<size_t>(random.below(5)));
    for (int64_t& extent : shape) {
        constexpr int64_t extents[] = {1, 2, 3, 5, 8, 17, 64, 130, 700};
        extent = extents[random.below(9)];
        if (extent > most)
            extent = 1 + most % 7;
        most /= extent;
    }
    return shape;
}

Call random_call(Random& random, const std::vector<int32_t>& formats, const std::string& isa) {
    const auto pick = [&] { return formats[static_cast<size_t>(random.below(static_cast<int64_t>(formats.size())))]; };
    Call call{};
    do {
        call.src = pick();
        call.dst = pick();
    } while (!convertible(call.src, call.dst));
    call.src_flags = random.one_in(5) ? NC_ARRAY_BYTE_SWAPPED : 0;
    call.dst_flags = random.one_in(5) ? NC_ARRAY_BYTE_SWAPPED : 0;
    call.options =
        cast_options(static_cast<int32_t>(random.below(6)), static_cast<int32_t>(random.below(2)), isa.c_str());
    call.options.threads = static_cast<int32_t>(random.below(4));
    call.options.seed = random.next();
    call.options.offset = random.one_in(4) ? 0 - static_cast<uint64_t>(random.below(900)) : random.next() >> 40;
    return call;
}

void random_layouts(Tally& tally, const std::string& isa) {
    Random random{1};
    const std::vector<int32_t> formats = all_formats();
    for (int i = 0; i < 3000; ++i)
        check_call(tally, random, random_call(random, formats, isa), random_shape(random, 3000));
}

// Shapes that reach what small ones do not: blocking with stripes left over, threads, rows of a few elements.
void large_layouts(Tally& tally, const std::string& isa) {
    Random random{77};
    const std::vector<int32_t> formats = all_formats();
    const std::vector<int64_t> shapes[] = {{67, 133}, {130, 70}, {5, 67, 133}, {3, 40, 5, 33}, {6000, 3}, {900, 2, 3}};
    for (int i = 0; i < 240; ++i)
        check_call(tally, random, random_call(random, formats, isa), shapes[static_cast<size_t>(i) % 6]);
    for (const int32_t rounding : {NC_NEAREST_EVEN, NC_UP, NC_STOCHASTIC}) {
        Call call{NC_FORMAT_f32, NC_FORMAT_e5m2, 0, 0, cast_options(rounding, NC_OVERFLOW_IEEE, isa.c_str())};
        call.options.threads = 3;
        check_call(tally, random, call, {700, 1031});
        check_call(tally, random, call, {1031, 3, 229});
    }
}

// Sources that are at least as wide as the target, cast onto themselves, contiguous and in Fortran order.
void in_place(Tally& tally, const std::string& isa) {
    Random random{5};
    const std::vector<int32_t> formats = all_formats();
    const int64_t shape[] = {41, 37};
    constexpr size_t n = 41 * 37;
    for (const int32_t src : formats)
        for (const int32_t dst : formats) {
            const auto src_item = static_cast<int64_t>(item_bytes(src)),
                       dst_item = static_cast<int64_t>(item_bytes(dst));
            if (!convertible(src, dst) || dst_item > src_item)
                continue;
            const int64_t x_strides[] = {src_item, 41 * src_item}, out_strides[] = {dst_item, 41 * dst_item};
            for (int32_t rounding = NC_NEAREST_EVEN; rounding <= NC_STOCHASTIC; ++rounding)
                for (const bool fortran : {false, true}) {
                    std::vector<unsigned char> x(n * static_cast<size_t>(src_item));
                    for (unsigned char& byte : x)
                        byte = static_cast<unsigned char>(random.next());
                    std::vector<unsigned char> apart(n * static_cast<size_t>(dst_item));
                    nc_cast_options options = cast_options(rounding, NC_OVERFLOW_IEEE, isa.c_str());
                    options.threads = 4;
                    const nc_array from{x.data(), shape, fortran ? x_strides : nullptr, 2, src, 0, 0};
                    const nc_array to{apart.data(), shape, fortran ? out_strides : nullptr, 2, dst, 0, 0};
                    nc_array onto = to;
                    onto.data = x.data();
                    const nc_status first = nc_cast(&from, &to, &options, nullptr);
                    const nc_status second = nc_cast(&from, &onto, &options, nullptr);
                    tally.check(first == NC_OK && second == NC_OK && std::equal(apart.begin(), apart.end(), x.begin()),
                                "%s: %s onto itself as %s, %s%s", isa.c_str(), info(src).id, info(dst).id,
                                rounding_names[static_cast<size_t>(rounding)], fortran ? ", Fortran order" : "");
                }
        }
}

} // namespace
} // namespace narrowcast::test

int main() {
    using namespace narrowcast::test;
    Tally tally;
    for (const std::string& isa : supported_isas()) {
        random_layouts(tally, isa);
        large_layouts(tally, isa);
        in_place(tally, isa);
    }
    return tally.finish();
}
