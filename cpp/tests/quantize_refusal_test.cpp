// Quantization behind the C interface: what must be refused, environments that must not matter, and the sums of
// nc_quantization_error. What comes out otherwise is quantize_api_test.cpp's.
#include <cfenv>

#include "quantize_calls.hpp"

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace narrowcast::test {
namespace {

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
    refused(tally, "one beyond 2^14 that is added to bytes", NC_ERROR_ARGUMENT, [](Plain& p) {
        p.options.dialect = NC_DIALECT_llm_int8;
        p.zero[3] = (1 << 14) + 1;
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
    Plain floats;
    int32_t sums[8] = {5, 5, 5, 5, 5, 5, 5, 5};
    const nc_array sums_array{sums, floats.shape, nullptr, 1, NC_FORMAT_i32, 0, 0};
    floats.options.format = floats.codes_array.format = NC_FORMAT_e4m3fn;
    tally.check(nc_quantize(&floats.x_array, &floats.codes_array, &floats.scale_array, nullptr, &sums_array,
                            &floats.options, nullptr) == NC_ERROR_ARGUMENT &&
                    sums[0] == 5,
                "sums of float codes");
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
        check_environment(tally, isa);
        check_error(tally, isa);
    }
    return tally.finish();
}
