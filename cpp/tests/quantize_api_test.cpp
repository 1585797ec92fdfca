// Quantization behind the C interface, for each instruction set: boxes of every kind over arrays of random strides,
// orders and byte orders, packed rows, short last boxes and threads, against loops over single elements that are
// written here; bytes that belong to no element must stay. And what must be refused, and environments that must not
// matter. Dialects against their packages are Python's tests.
#include <algorithm>
#include <bit>
#include <cfenv>
#include <cmath>
#include <limits>
#include <numeric>

#include "support.hpp"

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace narrowcast::test {
namespace {

using Shape = std::vector<int64_t>;

struct Random {
    uint64_t state;
    uint64_t next() { return mix(state++); }
    int64_t below(int64_t limit) { return static_cast<int64_t>(next() % static_cast<uint64_t>(limit)); }
    bool one_in(int64_t n) { return below(n) == 0; }
    double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }
};

int64_t product(const Shape& shape) {
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
            code |= uint64_t{at(i)[swapped ? item - 1 - b : b]} << (8 * b);
        return code;
    }
    void store(int64_t i, uint64_t code) {
        for (int64_t b = 0; b < item; ++b)
            at(i)[swapped ? item - 1 - b : b] = static_cast<unsigned char>(code >> (8 * b));
    }
};

// plain: C order without gaps. unit_last: the last axis has no gaps.
Strided make_array(Random& random, const Shape& shape, int32_t format, bool plain, bool unit_last = false) {
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

uint64_t bits_of(double value, int32_t format) {
    if (format == NC_FORMAT_f32)
        return std::bit_cast<uint32_t>(static_cast<float>(value));
    uint64_t code = 0;
    cast(NC_FORMAT_f64, &value, format, &code, 1, cast_options(NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, "scalar"));
    return code;
}

double number_of(uint64_t code, int32_t format) {
    if (format == NC_FORMAT_f32)
        return static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(code)));
    double value = 0;
    cast(format, &code, NC_FORMAT_f64, &value, 1, cast_options(NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, "scalar"));
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

int32_t expected_code(const Call& call, float x, float scale, int32_t zero) {
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

// Writes code i of the array: an item, or bits of a packed row.
void store_code_at(const Call& call, Strided& codes, int64_t i, int32_t code) {
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

Call random_call(Random& random, const std::string& isa, int64_t most) {
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
    call.has_zero = random.one_in(2);
    return call;
}

Strided make_codes(Random& random, const Call& call, bool plain) {
    Shape shape = call.shape;
    if (call.options.layout != 0)
        shape.back() = shape.back() * call.options.bits / 8;
    return make_array(random, shape, call.options.bits > 8 ? NC_FORMAT_u16 : NC_FORMAT_i8, plain,
                      call.options.layout != 0);
}

struct Case {
    Call call;
    Strided x, codes, scale, zero, sums;
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
        }
        expected.resize(static_cast<size_t>(n));
        for (int64_t i = 0; i < n; ++i) {
            const auto s = static_cast<float>(number_of(scale.load(call.box_of(i)), call.scale_format));
            const double steps = (random.unit() - 0.5) * 1.3 * (1 << call.options.bits);
            const double value = random.one_in(40)   ? std::numeric_limits<double>::quiet_NaN()
                                 : random.one_in(40) ? (random.one_in(2) ? HUGE_VAL : -HUGE_VAL)
                                 : random.one_in(5)  ? static_cast<double>(s) * (std::floor(steps) + 0.5)
                                                     : static_cast<double>(s) * steps;
            x.store(i, bits_of(value, call.x_format));
            const auto z = call.has_zero ? static_cast<int32_t>(zero.load(call.box_of(i))) : 0;
            const auto read = static_cast<float>(number_of(x.load(i), call.x_format));
            expected[static_cast<size_t>(i)] = expected_code(call, read, s, z);
        }
    }
    const Strided* zero_or_null() const { return call.has_zero ? &zero : nullptr; }
};

void check_quantize(Tally& tally, Random& random, const Call& call) {
    Case c(random, call);
    const bool wants_sums = !call.shape.empty() && random.one_in(2);
    std::vector<unsigned char> codes_bytes, sums_bytes;
    {
        Strided codes = c.codes, sums = c.sums;
        const int64_t cols = call.shape.empty() ? 1 : call.shape.back();
        for (int64_t i = 0; i < product(call.shape); ++i) {
            store_code_at(call, codes, i, c.expected[static_cast<size_t>(i)]);
            const int64_t before = i % cols == 0 ? 0 : static_cast<int64_t>(sums.load(i / cols));
            sums.store(i / cols, static_cast<uint64_t>(before + c.expected[static_cast<size_t>(i)]));
        }
        codes_bytes = codes.bytes;
        sums_bytes = wants_sums ? sums.bytes : c.sums.bytes;
    }
    const nc_array x = c.x.array(), codes = c.codes.array(), scale = c.scale.array(), zero = c.zero.array(),
                   sums = c.sums.array();
    nc_error error{};
    error.size = sizeof error;
    const nc_status status = nc_quantize(&x, &codes, &scale, call.has_zero ? &zero : nullptr,
                                         wants_sums ? &sums : nullptr, &c.call.options, &error);
    tally.check(status == NC_OK && c.codes.bytes == codes_bytes, "quantize %s: %s", call.describe().c_str(),
                error.message);
    tally.check(c.sums.bytes == sums_bytes, "row sums %s", call.describe().c_str());

    // The way back, also into narrow floats, and both in one pass.
    constexpr int32_t outs[] = {NC_FORMAT_f32, NC_FORMAT_bf16, NC_FORMAT_f16, NC_FORMAT_f64, NC_FORMAT_e4m3fn};
    const int32_t out_format = outs[random.below(5)];
    Strided out = make_array(random, call.shape, out_format, random.one_in(3)), values = out, fake = out;
    for (int64_t i = 0; i < product(call.shape); ++i) {
        const auto s = static_cast<float>(number_of(c.scale.load(call.box_of(i)), call.scale_format));
        const auto z = call.has_zero ? static_cast<int32_t>(c.zero.load(call.box_of(i))) : 0;
        const float value = static_cast<float>(c.expected[static_cast<size_t>(i)] - z) * s;
        values.store(i, bits_of(static_cast<double>(value), out_format));
    }
    const nc_array back = out.array(), grid = fake.array();
    const nc_status back_status =
        nc_dequantize(&codes, &scale, call.has_zero ? &zero : nullptr, &back, &c.call.options, &error);
    tally.check(back_status == NC_OK && out.bytes == values.bytes, "dequantize %s to %s: %s", call.describe().c_str(),
                info(out_format).id, error.message);
    const nc_status fake_status =
        nc_fake_quantize(&x, &scale, call.has_zero ? &zero : nullptr, &grid, &c.call.options, &error);
    tally.check(fake_status == NC_OK && fake.bytes == values.bytes, "fake_quantize %s to %s: %s",
                call.describe().c_str(), info(out_format).id, error.message);
}

// Ranges against a loop; then scales that are computed on the way against those computed before.
void check_computed(Tally& tally, Random& random, Call call) {
    call.options.symmetric = static_cast<int32_t>(random.below(2));
    Case c(random, call);
    Strided low = make_array(random, call.boxes, NC_FORMAT_f32, random.one_in(2)), high = low;
    std::vector<float> lows(static_cast<size_t>(product(call.boxes)), HUGE_VALF), highs(lows.size(), -HUGE_VALF);
    for (int64_t i = 0; i < product(call.shape); ++i) {
        const auto value = static_cast<float>(number_of(c.x.load(i), call.x_format));
        if (!std::isfinite(value))
            continue;
        const auto box = static_cast<size_t>(call.box_of(i));
        lows[box] = std::min(lows[box], value);
        highs[box] = std::max(highs[box], value);
    }
    const nc_array x = c.x.array(), lo = low.array(), hi = high.array();
    nc_error error{};
    error.size = sizeof error;
    const nc_status status = nc_range(&x, &lo, &hi, &c.call.options, &error);
    bool same = status == NC_OK;
    for (size_t i = 0; i < lows.size(); ++i) {
        const bool none = lows[i] > highs[i];
        const auto found_low = number_of(low.load(static_cast<int64_t>(i)), NC_FORMAT_f32);
        const auto found_high = number_of(high.load(static_cast<int64_t>(i)), NC_FORMAT_f32);
        same = same && found_low == static_cast<double>(none ? 0 : lows[i]) &&
               found_high == static_cast<double>(none ? 0 : highs[i]);
    }
    tally.check(same, "range %s: %s", call.describe().c_str(), error.message);

    // Boxes within one axis: there is always a pass that does all at once.
    size_t crossing = 0;
    for (size_t d = 0; d < call.shape.size(); ++d)
        crossing += call.block[d] > 1 ? 1 : 0;
    if (crossing > 1 || (call.options.layout != 0 && !call.shape.empty() && crossing == 1 && call.block.back() == 1))
        return;
    Strided scale = c.scale, zero = c.zero, codes = c.codes;
    const nc_array s1 = c.scale.array(), z1 = c.zero.array(), c1 = c.codes.array();
    const nc_array s2 = scale.array(), z2 = zero.array(), c2 = codes.array();
    nc_status found = nc_choose_qparams(&lo, &hi, call.x_format, &s1, &z1, &c.call.options, &error);
    if (found == NC_OK)
        found = nc_quantize(&x, &c1, &s1, &z1, nullptr, &c.call.options, &error);
    nc_quantize_options dynamic = c.call.options;
    dynamic.dynamic = 1;
    const nc_status at_once = nc_quantize(&x, &c2, &s2, &z2, nullptr, &dynamic, &error);
    tally.check(found == NC_OK && at_once == NC_OK && c.scale.bytes == scale.bytes && c.zero.bytes == zero.bytes &&
                    c.codes.bytes == codes.bytes,
                "dynamic %s: %s", call.describe().c_str(), error.message);
}

// Enough for several parts, and for boxes that several parts reach.
void check_large(Tally& tally, const std::string& isa) {
    Random random{99};
    const std::pair<Shape, Shape> cases[] = {{{1, 450000}, {1, 450000}}, {{1500, 300}, {1500, 1}},
                                             {{300, 1500}, {128, 128}},  {{300, 1500}, {1, 128}},
                                             {{300, 1500}, {1, 1500}},   {{30, 50, 300}, {30, 1, 300}}};
    for (const auto& [shape, block] : cases) {
        Call call = random_call(random, isa, 1);
        call.shape = shape;
        call.block = call.boxes = block;
        for (size_t d = 0; d < shape.size(); ++d)
            call.boxes[d] = (shape[d] + block[d] - 1) / block[d];
        call.options.bits = 4;
        call.options.layout = NC_LAYOUT_lsb;
        call.options.threads = 3;
        call.x_format = NC_FORMAT_f32;
        check_quantize(tally, random, call);
        check_computed(tally, random, call);
    }
}

// --- what must be refused ------------------------------------------------------------------------------------------

struct Plain {
    std::vector<float> x = std::vector<float>(64, 1.0f);
    std::vector<int8_t> codes = std::vector<int8_t>(64, 7);
    std::vector<float> scale = std::vector<float>(8, 0.5f);
    std::vector<int32_t> zero = std::vector<int32_t>(8, 3);
    int64_t shape[2] = {8, 8}, boxes[2] = {8, 1}, block[2] = {1, 8};
    nc_array x_array{x.data(), shape, nullptr, 2, NC_FORMAT_f32, 0, 0};
    nc_array codes_array{codes.data(), shape, nullptr, 2, NC_FORMAT_i8, 0, 0};
    nc_array scale_array{scale.data(), boxes, nullptr, 2, NC_FORMAT_f32, 0, 0};
    nc_array zero_array{zero.data(), boxes, nullptr, 2, NC_FORMAT_i32, 0, 0};
    nc_quantize_options options = NC_QUANTIZE_OPTIONS_INIT;
    Plain() { options.block = block; }
};

template <class Change> void refused(Tally& tally, const char* what, nc_status wanted, const Change& change) {
    Plain p;
    change(p);
    nc_error error{};
    error.size = sizeof error;
    const std::vector<int8_t> before = p.codes;
    const std::vector<float> scale = p.scale;
    const nc_status status =
        nc_quantize(&p.x_array, &p.codes_array, &p.scale_array, &p.zero_array, nullptr, &p.options, &error);
    tally.check(status == wanted &&
                    (status == NC_OK || (error.message[0] != 0 && p.codes == before && p.scale == scale)),
                "%s: status %d (%s)", what, status, error.message);
}

void check_refusals(Tally& tally) {
    static int64_t huge[2] = {int64_t{1} << 40, int64_t{1} << 40}, negative[2] = {8, -1}, strange[2] = {8, 2};
    static int64_t wide_strides[2] = {INT64_MAX / 4, 4}, zero_strides[2] = {0, 1}, no_box[2] = {1, 0};
    refused(tally, "as it is", NC_OK, [](Plain&) {});
    refused(tally, "no such dialect", NC_ERROR_ARGUMENT, [](Plain& p) { p.options.dialect = 99; });
    refused(tally, "no bits", NC_ERROR_ARGUMENT, [](Plain& p) { p.options.bits = 0; });
    refused(tally, "17 bits", NC_ERROR_ARGUMENT, [](Plain& p) { p.options.bits = 17; });
    refused(tally, "qmin above qmax", NC_ERROR_ARGUMENT, [](Plain& p) { p.options.qmin = 5; });
    refused(tally, "qmax beyond the bits", NC_ERROR_ARGUMENT, [](Plain& p) { p.options.qmax = 200; });
    refused(tally, "a wide float", NC_ERROR_ARGUMENT, [](Plain& p) { p.options.format = NC_FORMAT_f16; });
    refused(tally, "a strange flag", NC_ERROR_ARGUMENT, [](Plain& p) { p.options.symmetric = 2; });
    refused(tally, "a negative limit", NC_ERROR_ARGUMENT, [](Plain& p) { p.options.scale_max = -1; });
    refused(tally, "a limit that is NaN", NC_ERROR_ARGUMENT, [](Plain& p) { p.options.scale_max = std::nanf(""); });
    refused(tally, "negative threads", NC_ERROR_ARGUMENT, [](Plain& p) { p.options.threads = -1; });
    refused(tally, "torch in float16", NC_ERROR_ARGUMENT, [](Plain& p) {
        p.options.dialect = NC_DIALECT_torch;
        p.options.compute = NC_FORMAT_f16;
    });
    refused(tally, "packed 16 bits", NC_ERROR_ARGUMENT, [](Plain& p) {
        p.options.bits = 16;
        p.options.layout = NC_LAYOUT_lsb;
    });
    refused(tally, "no size", NC_ERROR_ARGUMENT, [](Plain& p) { p.options.size = 0; });
    refused(tally, "a size of the future", NC_ERROR_ARGUMENT, [](Plain& p) { p.options.size += 8; });
    refused(tally, "an empty box", NC_ERROR_ARGUMENT, [](Plain& p) { p.options.block = no_box; });
    refused(tally, "integers as x", NC_ERROR_FORMAT, [](Plain& p) { p.x_array.format = NC_FORMAT_i32; });
    refused(tally, "float codes", NC_ERROR_FORMAT, [](Plain& p) { p.codes_array.format = NC_FORMAT_e5m2; });
    refused(tally, "wide codes", NC_ERROR_FORMAT, [](Plain& p) { p.codes_array.format = NC_FORMAT_i16; });
    refused(tally, "float64 scales", NC_ERROR_FORMAT, [](Plain& p) { p.scale_array.format = NC_FORMAT_f64; });
    refused(tally, "float zero points", NC_ERROR_FORMAT, [](Plain& p) { p.zero_array.format = NC_FORMAT_f32; });
    refused(tally, "no such format", NC_ERROR_ARGUMENT, [](Plain& p) { p.x_array.format = 63; });
    refused(tally, "a null x", NC_ERROR_ARGUMENT, [](Plain& p) { p.x_array.data = nullptr; });
    refused(tally, "a null shape", NC_ERROR_ARGUMENT, [](Plain& p) { p.scale_array.shape = nullptr; });
    refused(tally, "another shape", NC_ERROR_ARGUMENT, [](Plain& p) { p.codes_array.shape = strange; });
    refused(tally, "other boxes", NC_ERROR_ARGUMENT, [](Plain& p) { p.scale_array.shape = strange; });
    refused(tally, "fewer dimensions", NC_ERROR_ARGUMENT, [](Plain& p) { p.scale_array.ndim = 1; });
    refused(tally, "a negative extent", NC_ERROR_ARGUMENT,
            [](Plain& p) { p.x_array.shape = p.codes_array.shape = negative; });
    refused(tally, "2^80 elements", NC_ERROR_ARGUMENT, [](Plain& p) { p.x_array.shape = p.codes_array.shape = huge; });
    refused(tally, "strides to nowhere", NC_ERROR_ARGUMENT, [](Plain& p) { p.x_array.strides = wide_strides; });
    refused(tally, "codes in one place", NC_ERROR_OVERLAP, [](Plain& p) { p.codes_array.strides = zero_strides; });
    refused(tally, "codes over x", NC_ERROR_OVERLAP, [](Plain& p) { p.codes_array.data = p.x.data(); });
    refused(tally, "codes over scales", NC_ERROR_OVERLAP, [](Plain& p) { p.codes_array.data = p.scale.data(); });
    refused(tally, "scales over x", NC_ERROR_OVERLAP, [](Plain& p) {
        p.options.dynamic = 1;
        p.scale_array.data = p.x.data() + 8;
    });
    refused(tally, "a zero point beyond the codes", NC_ERROR_ARGUMENT, [](Plain& p) { p.zero[7] = 128; });
    refused(tally, "one beyond 2^24", NC_ERROR_ARGUMENT, [](Plain& p) {
        p.options.dialect = NC_DIALECT_vllm;
        p.zero[3] = -(1 << 24);
    });
    refused(tally, "no such set", NC_ERROR_ISA, [](Plain& p) { p.options.isa = "mmx"; });
    static int64_t all[2] = {4, 2};
    static int64_t quarter[2] = {2, 4};
    refused(tally, "boxes that cross lines, computed", NC_ERROR_ARGUMENT, [](Plain& p) {
        p.options.dynamic = 1;
        p.options.block = all;
        p.scale_array.shape = p.zero_array.shape = quarter;
    });
    static int64_t odd_shape[2] = {8, 3};
    refused(tally, "rows that end within a byte", NC_ERROR_ARGUMENT, [](Plain& p) {
        p.options.bits = 4;
        p.options.layout = NC_LAYOUT_lsb;
        p.x_array.shape = p.codes_array.shape = odd_shape;
        p.codes_array.format = NC_FORMAT_u8;
    });
    tally.check(nc_quantize(nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr) == NC_ERROR_ARGUMENT,
                "all null");
}

// Rounding modes, flush-to-zero and sticky flags of the process change nothing, and stay.
void check_environment(Tally& tally, const std::string& isa) {
    Random random{5};
    for (int i = 0; i < 20; ++i) {
        Call call = random_call(random, isa, 3000);
        call.options.threads = 1;
        Case c(random, call);
        Strided plain = c.codes, other = c.codes;
        const nc_array x = c.x.array(), scale = c.scale.array(), zero = c.zero.array(), a = plain.array(),
                       b = other.array();
        const nc_array* const zeros = call.has_zero ? &zero : nullptr;
        const nc_status first = nc_quantize(&x, &a, &scale, zeros, nullptr, &c.call.options, nullptr);
        constexpr int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
        fesetround(modes[i % 3]);
#if defined(__x86_64__) || defined(_M_X64)
        const unsigned before = _mm_getcsr();
        _mm_setcsr(before | 0x8040);
        const unsigned set = _mm_getcsr();
#endif
        const nc_status second = nc_quantize(&x, &b, &scale, zeros, nullptr, &c.call.options, nullptr);
#if defined(__x86_64__) || defined(_M_X64)
        const bool kept = _mm_getcsr() == set;
        _mm_setcsr(before);
#else
        const bool kept = fegetround() == modes[i % 3];
#endif
        fesetround(FE_TONEAREST);
        tally.check(first == NC_OK && second == NC_OK && kept && plain.bytes == other.bytes, "environment %d %s", i,
                    call.describe().c_str());
    }
}

// The sums against a loop in double: three values that fit, one that is clipped, one that becomes zero, one NaN.
void check_error(Tally& tally, const std::string& isa) {
    const float x[] = {1.0f, -2.3f, 0.2f, 100.0f, 0.1f, std::numeric_limits<float>::quiet_NaN()};
    const float scale = 0.5f;
    int8_t codes[6] = {};
    const int64_t shape[] = {6}, one[] = {1};
    const nc_array x_array{const_cast<float*>(x), shape, nullptr, 1, NC_FORMAT_f32, 0, 0}; // only read
    const nc_array codes_array{codes, shape, nullptr, 1, NC_FORMAT_i8, 0, 0};
    const nc_array scale_array{const_cast<float*>(&scale), one, nullptr, 1, NC_FORMAT_f32, 0, 0}; // only read
    nc_quantize_options options = NC_QUANTIZE_OPTIONS_INIT;
    options.isa = isa.c_str();
    nc_error_sums sums{};
    sums.size = sizeof sums;
    const nc_status made = nc_quantize(&x_array, &codes_array, &scale_array, nullptr, nullptr, &options, nullptr);
    const nc_status status =
        nc_quantization_error(&x_array, &codes_array, &scale_array, nullptr, &options, &sums, nullptr);
    double error = 0;
    for (int i = 0; i < 5; ++i)
        error += std::fabs(static_cast<double>(x[i]) - codes[i] * 0.5);
    tally.check(made == NC_OK && status == NC_OK && sums.count == 6 && sums.finite == 5 && sums.overflowed == 1 &&
                    sums.became_zero == 2 && sums.became_nan == 0 && sums.max_error == 36.5 &&
                    std::fabs(sums.sum_error - error) <= error * 0x1p-19,
                "%s: error sums", isa.c_str());
}

} // namespace
} // namespace narrowcast::test

int main() {
    using namespace narrowcast::test;
    Tally tally;
    check_refusals(tally);
    for (const std::string& isa : supported_isas()) {
        Random random{1};
        for (int i = 0; i < 300; ++i) {
            check_quantize(tally, random, random_call(random, isa, 6000));
            check_computed(tally, random, random_call(random, isa, 6000));
        }
        check_large(tally, isa);
        check_environment(tally, isa);
        check_error(tally, isa);
    }
    return tally.finish();
}
