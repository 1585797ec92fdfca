// Quantization behind the C interface, for each instruction set: boxes of every kind over arrays of random strides,
// orders and byte orders, packed rows, short last boxes and threads, against loops over single elements that are
// written here; bytes that belong to no element must stay. What must be refused is quantize_refusal_test.cpp's;
// dialects against their packages are Python's tests.
#include "quantize_calls.hpp"

namespace narrowcast::test {
namespace {

void check_quantize(Tally& tally, Random& random, const Call& call) {
    Case c(random, call);
    const bool wants_sums = !call.shape.empty() && call.options.format == NC_FORMAT_INVALID && random.one_in(2);
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
        const auto box = static_cast<size_t>(call.box_of(i));
        const float value = number_of_code(call, c.expected[static_cast<size_t>(i)], c.zeros[box]) * c.scales[box];
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

// Enough for several parts, and for boxes that several parts reach; groups longer than a tile that do not end on a
// byte.
void check_large(Tally& tally, const std::string& isa) {
    struct Large {
        Shape shape, block;
        int32_t bits;
    };
    const Large cases[] = {
        {{1, 450000}, {1, 450000}, 4},    {{1500, 304}, {1500, 1}, 3},   {{300, 1500}, {128, 128}, 4},
        {{300, 1504}, {1, 128}, 6},       {{300, 1500}, {1, 1500}, 2},   {{56, 8200}, {1, 2049}, 1},
        {{30, 50, 300}, {30, 1, 300}, 4}, {{440, 1000}, {440, 1000}, 5}, {{50, 8200}, {1, 4101}, 3}};
    Random random{99};
    for (const Large& large : cases) {
        Call call = random_call(random, isa, 1);
        call.shape = large.shape;
        call.block = call.boxes = large.block;
        for (size_t d = 0; d < call.shape.size(); ++d)
            call.boxes[d] = (call.shape[d] + call.block[d] - 1) / call.block[d];
        call.options.format = NC_FORMAT_INVALID;
        call.options.bits = large.bits;
        call.options.layout = NC_LAYOUT_lsb;
        call.options.threads = 3;
        call.x_format = NC_FORMAT_f32;
        check_quantize(tally, random, call);
        check_computed(tally, random, call);
    }
}

} // namespace
} // namespace narrowcast::test

int main() {
    using namespace narrowcast::test;
    Tally tally;
    const std::vector<std::string> isas = supported_isas();
    for (const std::string& isa : isas) {
        Random random{1};
        for (int i = 0; i < 300; ++i) {
            check_quantize(tally, random, random_call(random, isa, 6000));
            check_computed(tally, random, random_call(random, isa, 6000));
        }
        if (isa == isas.front() || isa == "scalar") // how arrays fall into parts is no matter of the set
            check_large(tally, isa);
    }
    return tally.finish();
}
