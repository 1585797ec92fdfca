// nc_cast_error: for every pair of formats, rounding and layout against sums made here one pair at a time, over values
// that the codec decodes; and all that it refuses. Overflow is judged here by refuse_code, element by element, not by a
// limit. The kernels are in cast_error_kernels_test.cpp.
#include <algorithm>
#include <bit>
#include <cmath>

#include "api/fp_guard.hpp"
#include "cast_error_sums.hpp"
#include "codec/reference.hpp"
#include "inputs.hpp"

namespace narrowcast::test {
namespace {

// Both neighbours of every rounding boundary of dst, thinned out; codes of small sources.
std::vector<unsigned char> inputs_for(int32_t src, int32_t dst, size_t& n) {
    const size_t item = item_bytes(src);
    const Inputs inputs(src, dst, uint64_t{1} << 32);
    const uint64_t all = inputs.count();
    n = static_cast<size_t>(std::min<uint64_t>(all, 1501));
    std::vector<unsigned char> items(n * item);
    for (size_t i = 0; i < n; ++i)
        inputs.fill(i * all / n, 1, items.data() + i * item);
    return items;
}

double low_of(int32_t format, uint64_t code, double value) {
    if (format == NC_FORMAT_u64)
        return static_cast<double>(static_cast<int64_t>(code - (value >= 0x1p64 ? 0 : static_cast<uint64_t>(value))));
    if (format == NC_FORMAT_i64)
        return static_cast<double>(static_cast<int64_t>(
            code - (value >= 0x1p63 ? uint64_t{1} << 63 : static_cast<uint64_t>(static_cast<int64_t>(value)))));
    return 0;
}

nc_error_sums model(int32_t src, const void* x, int32_t dst, const void* out, size_t n, int32_t rounding) {
    const nc_format_info target = info(dst);
    const double largest = value_of(dst, target.max_code);
    nc_error_sums sums = empty_sums();
    for (size_t i = 0; i < n; ++i) {
        const uint64_t code = load_code(x, i, item_bytes(src));
        const double value = value_of(src, code), after = value_of(dst, load_code(out, i, item_bytes(dst)));
        bool overflows = false;
        if (rounding != NC_STOCHASTIC)
            overflows = refuse_code(src, code, dst, rounding) == NC_REASON_FINITE;
        else if (std::isfinite(value) && src != dst)
            overflows = (target.sign_bits != 0 ? std::fabs(value) : value) > largest;
        add_pair(value, low_of(src, code, value), after, overflows, sums);
    }
    return sums;
}

std::vector<unsigned char> swapped(std::vector<unsigned char> items, size_t item) {
    for (size_t i = 0; i + item <= items.size(); i += item)
        std::reverse(items.begin() + static_cast<ptrdiff_t>(i), items.begin() + static_cast<ptrdiff_t>(i + item));
    return items;
}

struct Case {
    int32_t src, dst;
    size_t n;
    std::vector<unsigned char> x;
};

void function(Tally& tally, const std::vector<std::string>& isas, const Case& inputs, int32_t rounding,
              int32_t overflow) {
    const auto& [src, dst, n, x] = inputs;
    const size_t x_item = item_bytes(src), out_item = item_bytes(dst);
    std::vector<unsigned char> out(n * out_item);
    nc_cast_options options = cast_options(rounding, overflow, nullptr);
    if (cast(src, x.data(), dst, out.data(), n, options) != NC_OK)
        abort();
    const nc_error_sums expected = model(src, x.data(), dst, out.data(), n, rounding);
    const auto compare = [&](const char* how, const nc_array& from, const nc_array& to) {
        for (const std::string& isa : isas) {
            nc_error_sums sums = empty_sums();
            nc_error error{};
            error.size = sizeof error;
            options.isa = isa.c_str();
            const nc_status status = nc_cast_error(&from, &to, &options, &sums, &error);
            tally.check(status == NC_OK && equal(sums, expected), "%s, %s -> %s, %s, %s, %s: %s; expected %s (%s)",
                        isa.c_str(), info(src).name, info(dst).name, rounding_names[static_cast<size_t>(rounding)],
                        overflow_names[static_cast<size_t>(overflow)], how, text(sums).c_str(), text(expected).c_str(),
                        error.message);
        }
    };
    const auto extent = static_cast<int64_t>(n);
    nc_array from{const_cast<unsigned char*>(x.data()), &extent, nullptr, 1, src, 0, 0};
    nc_array to{out.data(), &extent, nullptr, 1, dst, 0, 0};
    compare("contiguous", from, to);
    // nc_cast itself says the same: element by element in one pass, by threads, and where items are apart.
    const auto cast_tells = [&](const char* how, const nc_array& a, const nc_array& b) {
        for (const std::string& isa : isas)
            for (const int32_t threads : {1, 3}) {
                nc_error_sums sums = empty_sums();
                nc_cast_options asking = options;
                asking.isa = isa.c_str();
                asking.threads = threads;
                asking.lost = &sums;
                nc_error error{};
                error.size = sizeof error;
                const nc_status status = nc_cast(&a, &b, &asking, &error);
                tally.check(status == NC_OK && equal(sums, expected), "nc_cast, %s, %s -> %s, %s, %s: %s; expected %s",
                            isa.c_str(), info(src).name, info(dst).name, rounding_names[static_cast<size_t>(rounding)],
                            how, text(sums).c_str(), text(expected).c_str());
            }
    };
    std::vector<unsigned char> again(out.size()), apart(2 * out.size());
    const int64_t every_other = 2 * static_cast<int64_t>(out_item);
    cast_tells("contiguous", from, {again.data(), &extent, nullptr, 1, dst, 0, 0});
    cast_tells("apart", from, {apart.data(), &extent, &every_other, 1, dst, 0, 0});
    tally.check(again == out, "%s -> %s: asking what was lost changes the result", info(src).name, info(dst).name);
    if (rounding != NC_NEAREST_EVEN)
        return;
    // Every other item of a longer x, backwards.
    std::vector<unsigned char> spread(2 * n * x_item);
    for (size_t i = 0; i < n; ++i)
        memcpy(spread.data() + 2 * (n - 1 - i) * x_item, x.data() + i * x_item, x_item);
    const int64_t backwards = -2 * static_cast<int64_t>(x_item);
    from.data = spread.data() + 2 * (n - 1) * x_item;
    from.strides = &backwards;
    compare("backwards", from, to);
    std::vector<unsigned char> turned = swapped(x, x_item), turned_out = swapped(out, out_item);
    from = {turned.data(), &extent, nullptr, 1, src, NC_ARRAY_BYTE_SWAPPED, 0};
    to = {turned_out.data(), &extent, nullptr, 1, dst, NC_ARRAY_BYTE_SWAPPED, 0};
    compare("swapped", from, to);
}

void all_pairs(Tally& tally, const std::vector<std::string>& isas) {
    for (const int32_t src : all_formats())
        for (const int32_t dst : all_formats()) {
            if (!convertible(src, dst))
                continue;
            Case inputs{src, dst, 0, {}};
            inputs.x = inputs_for(src, dst, inputs.n);
            for (int32_t rounding = NC_NEAREST_EVEN; rounding <= NC_STOCHASTIC; ++rounding)
                function(tally, isas, inputs, rounding, NC_OVERFLOW_IEEE);
            function(tally, isas, inputs, NC_NEAREST_EVEN, NC_OVERFLOW_SATURATE);
        }
}

// A float32 threshold is the smallest float32 that is not below the float64 one.
void limits(Tally& tally) {
    for (const int32_t dst : all_formats()) {
        if (!is_float(dst))
            continue;
        for (int32_t rounding = NC_NEAREST_EVEN; rounding <= NC_NEAREST_AWAY; ++rounding) {
            const OverflowLimits limit = overflow_limits(dst, rounding);
            for (const double edge : {limit.positive, -limit.negative}) {
                const double below = std::nextafter(edge, 0.0);
                const auto refused = [&](double value) {
                    const auto code = std::bit_cast<uint64_t>(value);
                    return refuse_code(NC_FORMAT_f64, code, dst, rounding) == NC_REASON_FINITE;
                };
                tally.check(!refused(below) && (std::isinf(edge) || refused(edge)), "%s, %s: not the limit: %a",
                            info(dst).name, rounding_names[static_cast<size_t>(rounding)], edge);
            }
        }
    }
    tally.check(overflow_limits(NC_FORMAT_e4m3fn, NC_STOCHASTIC).positive == std::nextafter(448.0, 449.0), "e4m3fn");
    tally.check(std::isinf(overflow_limits(NC_FORMAT_e8m0fnu, NC_STOCHASTIC).negative), "E8M0 has no negative values");
    tally.check(overflow_limits(NC_FORMAT_e4m3fn, NC_NEAREST_EVEN).negative > 464, "a tie goes to the even 448");
    tally.check(overflow_limits(NC_FORMAT_f16, NC_NEAREST_EVEN).positive == 65520, "float16 overflows from 65520");
}

// --- refusals and the environment ----------------------------------------------------------------------------------

void arguments(Tally& tally) {
    const float x[4] = {1, 2, 3, 1e30f};
    uint16_t out[4] = {};
    const int64_t four = 4, three = 3;
    const nc_array from{const_cast<float*>(x), &four, nullptr, 1, NC_FORMAT_f32, 0, 0};
    const nc_array to{out, &four, nullptr, 1, NC_FORMAT_f16, 0, 0};
    const auto refused = [&](nc_status expected, const char* words, const nc_array* a, const nc_array* b,
                             const nc_cast_options* options, nc_error_sums* sums) {
        nc_error error{};
        error.size = sizeof error;
        nc_error_sums before{};
        if (sums != nullptr)
            before = *sums;
        const nc_status status = nc_cast_error(a, b, options, sums, &error);
        tally.check(status == expected && strstr(error.message, words) != nullptr, "\"%s\": status %d, \"%s\"", words,
                    status, error.message);
        tally.check(sums == nullptr || memcmp(&before, sums, sizeof before) == 0, "\"%s\": sums were changed", words);
    };
    nc_error_sums sums = empty_sums();
    sums.sum_x2 = 7;
    refused(NC_ERROR_ARGUMENT, "sums is null", &from, &to, nullptr, nullptr);
    refused(NC_ERROR_ARGUMENT, "x is null", nullptr, &to, nullptr, &sums);
    refused(NC_ERROR_ARGUMENT, "out is null", &from, nullptr, nullptr, &sums);
    nc_error_sums unset = sums;
    unset.size = 8;
    refused(NC_ERROR_ARGUMENT, "size of the nc_error_sums is 8", &from, &to, nullptr, &unset);
    unset = sums;
    unset.squares_only = 2;
    refused(NC_ERROR_ARGUMENT, "squares_only of the nc_error_sums is 2", &from, &to, nullptr, &unset);
    unset = sums;
    unset.reserved = 1;
    refused(NC_ERROR_ARGUMENT, "reserved of the nc_error_sums is 1", &from, &to, nullptr, &unset);
    // nc_cast asks the same of them, and cannot compare what it overwrites.
    float in_place[2] = {1.1f, 2.2f};
    const int64_t two = 2;
    const nc_array same{in_place, &two, nullptr, 1, NC_FORMAT_f32, 0, 0};
    const nc_array narrow{in_place, &two, nullptr, 1, NC_FORMAT_f16, 0, 0};
    nc_cast_options asking = cast_options(NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, nullptr);
    asking.lost = &unset;
    tally.check(nc_cast(&from, &to, &asking, nullptr) == NC_ERROR_ARGUMENT && out[0] == 0, "sums are not looked at");
    asking.lost = &sums;
    tally.check(nc_cast(&same, &narrow, &asking, nullptr) == NC_ERROR_OVERLAP && in_place[0] == 1.1f,
                "a cast in place has nothing to compare with");
    nc_array wrong = to;
    wrong.shape = &three;
    refused(NC_ERROR_ARGUMENT, "out.shape[0] is 3 but x.shape[0] is 4", &from, &wrong, nullptr, &sums);
    wrong = to;
    wrong.data = nullptr;
    refused(NC_ERROR_ARGUMENT, "out.data is null", &from, &wrong, nullptr, &sums);
    wrong = to;
    wrong.format = NC_FORMAT_i16;
    refused(NC_ERROR_FORMAT, "out.format is int16", &from, &wrong, nullptr, &sums);
    wrong = from;
    wrong.format = NC_FORMAT_tf32;
    refused(NC_ERROR_FORMAT, "x.format is tfloat32", &wrong, &to, nullptr, &sums);
    nc_cast_options options = cast_options(NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, "sse9");
    refused(NC_ERROR_ISA, "sse9", &from, &to, &options, &sums);
    options = cast_options(17, NC_OVERFLOW_IEEE, nullptr);
    refused(NC_ERROR_ARGUMENT, "options.rounding is 17", &from, &to, &options, &sums);

    tally.check(nc_cast_error(&from, &to, nullptr, &sums, nullptr) == NC_OK && sums.sum_x2 > 1e59 && sums.count == 4,
                "options and error may be null");
    nc_array none = from, none_out = to;
    const int64_t zero = 0;
    none.shape = none_out.shape = &zero;
    none.data = none_out.data = nullptr;
    tally.check(nc_cast_error(&none, &none_out, nullptr, &sums, nullptr) == NC_OK && sums.count == 4, "no elements");
}

// Another rounding of the process changes nothing, and stays.
void environment(Tally& tally, const std::string& isa) {
    std::vector<float> x(5000);
    std::vector<uint16_t> out(x.size());
    for (size_t i = 0; i < x.size(); ++i)
        x[i] = std::bit_cast<float>(near_exponent(mix(i), -20, 20));
    const nc_cast_options options = cast_options(NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, isa.c_str());
    const auto extent = static_cast<int64_t>(x.size());
    const nc_array from{x.data(), &extent, nullptr, 1, NC_FORMAT_f32, 0, 0};
    const nc_array to{out.data(), &extent, nullptr, 1, NC_FORMAT_bf16, 0, 0};
    nc_cast(&from, &to, &options, nullptr);
    nc_error_sums plain = empty_sums(), guarded = empty_sums();
    nc_cast_error(&from, &to, &options, &plain, nullptr);
    {
        const FpGuard up(NC_UP);
        nc_cast_error(&from, &to, &options, &guarded, nullptr);
    }
    tally.check(memcmp(&plain, &guarded, sizeof plain) == 0, "%s depends on the rounding mode", isa.c_str());
}

int run() {
    Tally tally;
    limits(tally);
    arguments(tally);
    const std::vector<std::string> isas = supported_isas();
    for (const std::string& isa : isas)
        environment(tally, isa);
    all_pairs(tally, isas);
    return tally.finish();
}

} // namespace
} // namespace narrowcast::test

int main() { return narrowcast::test::run(); }
