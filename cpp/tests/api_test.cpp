// nc_cast at its edges: hostile arguments, struct sizes, overlaps, raise, the floating-point environment. Arrays of
// unusual shape are in layout_test.cpp, values in sweep.cpp, the other functions of the interface in info_test.cpp.
#include <cfenv>
#include <cmath>
#include <functional>
#include <limits>

#include "support.hpp"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace narrowcast::test {
namespace {

nc_error fresh_error() {
    nc_error error{};
    error.size = sizeof error;
    error.index = 99; // stale values that a call must clear
    error.message[0] = '?';
    return error;
}

// A valid call of four float32 values to float16, to be spoilt in one place.
struct Call {
    float values[4] = {1, 2, 3, 4};
    uint16_t result[4] = {0xaaaa, 0xaaaa, 0xaaaa, 0xaaaa};
    int64_t shape[2] = {2, 2}, out_shape[2] = {2, 2};
    int64_t x_strides[2] = {8, 4}, out_strides[2] = {4, 2};
    nc_array x{values, shape, x_strides, 2, NC_FORMAT_f32, 0, 0};
    nc_array out{result, out_shape, out_strides, 2, NC_FORMAT_f16, 0, 0};
    nc_cast_options options = cast_options(NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, nullptr);
    nc_error error = fresh_error();

    nc_status run() { return nc_cast(&x, &out, &options, &error); }
    bool untouched() const {
        for (const uint16_t code : result)
            if (code != 0xaaaa)
                return false;
        return true;
    }
};

// The sentence must say `words`; nothing may be written.
void refused(Tally& tally, nc_status expected, const char* words, const std::function<void(Call&)>& spoil) {
    Call call;
    spoil(call);
    const nc_status status = call.run();
    const bool says = strstr(call.error.message, words) != nullptr;
    tally.check(status == expected && call.error.status == expected, "\"%s\": status %d, expected %d", words, status,
                expected);
    tally.check(says, "expected \"%s\" in \"%s\"", words, call.error.message);
    tally.check(call.untouched(), "\"%s\": the output was written", words);
}

void hostile_arguments(Tally& tally) {
    constexpr int64_t huge = std::numeric_limits<int64_t>::max(), tiny = std::numeric_limits<int64_t>::min();
    const auto argument = [&](const char* words, const std::function<void(Call&)>& spoil) {
        refused(tally, NC_ERROR_ARGUMENT, words, spoil);
    };
    argument("x.format is 0", [](Call& c) { c.x.format = 0; });
    argument("x.format is -1", [](Call& c) { c.x.format = -1; });
    argument("x.format is 63", [](Call& c) { c.x.format = 63; });
    argument("out.format is 64", [](Call& c) { c.out.format = 64; });
    argument("out.format is 2147483647", [](Call& c) { c.out.format = 0x7fffffff; });
    argument("x.ndim is -1", [](Call& c) { c.x.ndim = -1; });
    argument("out.ndim is 65", [](Call& c) { c.out.ndim = 65; });
    argument("out.ndim is 1 but x.ndim is 2", [](Call& c) { c.out.ndim = 1; });
    argument("x.shape is null", [](Call& c) { c.x.shape = nullptr; });
    argument("out.shape is null", [](Call& c) { c.out.shape = nullptr; });
    argument("x.shape[1] is -2", [](Call& c) { c.shape[1] = -2; });
    argument("out.shape[0] is 3 but x.shape[0] is 2", [](Call& c) { c.out_shape[0] = 3; });
    argument("x.data is null", [](Call& c) { c.x.data = nullptr; });
    argument("out.data is null", [](Call& c) { c.out.data = nullptr; });
    argument("x.flags is 3", [](Call& c) { c.x.flags = 3; });
    argument("out.reserved is 1", [](Call& c) { c.out.reserved = 1; });
    argument("x.shape has more elements",
             [=](Call& c) { c.shape[0] = c.out_shape[0] = c.shape[1] = c.out_shape[1] = huge; });
    argument("x.shape asks for", [=](Call& c) {
        c.shape[0] = c.out_shape[0] = int64_t{1} << 61;
        c.shape[1] = c.out_shape[1] = 1;
    });
    argument("x.strides reach", [=](Call& c) { c.x_strides[0] = huge; });
    argument("x.strides reach", [=](Call& c) { c.x_strides[0] = tiny; });
    argument("out.strides reach", [=](Call& c) { c.out_strides[1] = tiny / 2; });
    argument("out.strides reach", [=](Call& c) { c.out_strides[0] = c.out_strides[1] = huge / 3; });
    argument("options.rounding is 6", [](Call& c) { c.options.rounding = 6; });
    argument("options.rounding is -1", [](Call& c) { c.options.rounding = -1; });
    argument("options.overflow is 3", [](Call& c) { c.options.overflow = 3; });
    argument("options.threads is -1", [](Call& c) { c.options.threads = -1; });
    argument("options.reserved is 7", [](Call& c) { c.options.reserved = 7; });
    argument("options.size is 0", [](Call& c) { c.options.size = 0; });
    argument("options.size is 1000", [](Call& c) { c.options.size = 1000; });
    argument("raise needs a deterministic rounding", [](Call& c) {
        c.options.rounding = NC_STOCHASTIC;
        c.options.overflow = NC_OVERFLOW_RAISE;
    });
    refused(tally, NC_ERROR_FORMAT, "out.format is int8", [](Call& c) { c.out.format = NC_FORMAT_i8; });
    refused(tally, NC_ERROR_FORMAT, "integers are reached by quantizing",
            [](Call& c) { c.x.format = c.out.format = NC_FORMAT_u2; });
    refused(tally, NC_ERROR_FORMAT, "pass float32", [](Call& c) { c.x.format = NC_FORMAT_tf32; });
    refused(tally, NC_ERROR_FORMAT, "pass float32", [](Call& c) { c.x.format = c.out.format = NC_FORMAT_tf32; });
    refused(tally, NC_ERROR_ISA, "options.isa is \"sse9\", which is no instruction set of this library",
            [](Call& c) { c.options.isa = "sse9"; });
    refused(tally, NC_ERROR_ISA, "scalar", [](Call& c) { c.options.isa = ""; });

    Call call;
    tally.check(nc_cast(nullptr, &call.out, nullptr, &call.error) == NC_ERROR_ARGUMENT &&
                    strstr(call.error.message, "x is null") != nullptr,
                "null x: %s", call.error.message);
    tally.check(nc_cast(&call.x, nullptr, nullptr, nullptr) == NC_ERROR_ARGUMENT, "null out");
    tally.check(call.run() == NC_OK && call.error.message[0] == '\0' && call.error.index == 0 &&
                    call.result[3] == 0x4400,
                "the valid call: %s", call.error.message);
}

void empty_arrays(Tally& tally) {
    Call call;
    call.shape[0] = call.out_shape[0] = 0;
    call.shape[1] = call.out_shape[1] = std::numeric_limits<int64_t>::max();
    call.x.data = call.out.data = nullptr;
    tally.check(call.run() == NC_OK, "an empty array of null: %s", call.error.message);
    call.options.isa = "sse9";
    tally.check(call.run() == NC_ERROR_ISA, "an empty array does not excuse a wrong name");
    call.options.isa = nullptr;
    call.options.threads = -3;
    tally.check(call.run() == NC_ERROR_ARGUMENT, "an empty array does not excuse wrong options");
    Call scalar;
    scalar.x.ndim = scalar.out.ndim = 0;
    scalar.x.shape = scalar.out.shape = nullptr;
    tally.check(scalar.run() == NC_OK && scalar.result[0] == 0x3c00 && scalar.result[1] == 0xaaaa, "zero dimensions");
}

// Callers built against an older header, whose structs end early.
void struct_sizes(Tally& tally) {
    Call call;
    call.options.size = offsetof(nc_cast_options, seed); // rounding and overflow only
    call.options.rounding = NC_UP;
    call.options.threads = -1;
    call.options.reserved = -1;
    call.options.isa = "not read";
    call.values[0] = 1.0001f;
    tally.check(call.run() == NC_OK && call.result[0] == 0x3c01, "short options: %s", call.error.message);
    call.options.size = sizeof call.options.size;
    tally.check(call.run() == NC_OK && call.result[0] == 0x3c00, "options that are a size only: %s",
                call.error.message);

    Call wrong;
    wrong.x.format = 0;
    wrong.error.size = 0;
    tally.check(wrong.run() == NC_ERROR_ARGUMENT && wrong.error.index == 99, "an error struct without a size");
    wrong.error.size = offsetof(nc_error, index);
    tally.check(wrong.run() == NC_ERROR_ARGUMENT && wrong.error.status == NC_ERROR_ARGUMENT && wrong.error.index == 99,
                "an error struct that ends before index");
    wrong.error.size = offsetof(nc_error, message) + 8;
    wrong.error.message[8] = '!';
    tally.check(wrong.run() == NC_ERROR_ARGUMENT && strcmp(wrong.error.message, "x.forma") == 0 &&
                    wrong.error.message[8] == '!',
                "a short message: %.16s", wrong.error.message);
}

void overlaps(Tally& tally) {
    alignas(8) static unsigned char buffer[256], before[256];
    const auto attempt = [&](int64_t x_at, int32_t src, int64_t x_stride, int64_t out_at, int32_t dst,
                             int64_t out_stride, nc_status expected, const char* what) {
        for (size_t i = 0; i < sizeof buffer; ++i)
            before[i] = buffer[i] = static_cast<unsigned char>(mix(i));
        const int64_t n = 8;
        const nc_array x{buffer + x_at, &n, &x_stride, 1, src, 0, 0},
            out{buffer + out_at, &n, &out_stride, 1, dst, 0, 0};
        nc_error error = fresh_error();
        const nc_status status = nc_cast(&x, &out, nullptr, &error);
        tally.check(status == expected, "%s: status %d, expected %d: %s", what, status, expected, error.message);
        tally.check(status == NC_OK || memcmp(buffer, before, sizeof buffer) == 0, "%s: refused, but written", what);
    };
    constexpr int32_t f32 = NC_FORMAT_f32, f16 = NC_FORMAT_f16, f64 = NC_FORMAT_f64, tf32 = NC_FORMAT_tf32;
    attempt(0, f32, 4, 32, f16, 2, NC_OK, "side by side");
    attempt(32, f32, 4, 16, f16, 2, NC_OK, "just before");
    attempt(0, f32, 4, 31, f16, 2, NC_ERROR_OVERLAP, "one byte shared");
    attempt(0, f32, 4, 0, f16, 2, NC_OK, "narrowing in place");
    attempt(0, f32, 4, 0, tf32, 4, NC_OK, "the same size in place");
    attempt(0, f16, 2, 0, f32, 4, NC_ERROR_OVERLAP, "widening in place");
    attempt(0, f32, 4, 2, f16, 2, NC_ERROR_OVERLAP, "another start");
    attempt(28, f32, -4, 14, f16, -2, NC_OK, "both reversed, one lowest byte");
    attempt(28, f32, -4, 0, f16, 2, NC_ERROR_OVERLAP, "one reversed");
    attempt(0, f32, 8, 0, f16, 2, NC_ERROR_OVERLAP, "strided source, contiguous target");
    attempt(0, f32, 8, 4, f32, 8, NC_ERROR_OVERLAP, "interleaved");
    attempt(0, f32, 0, 0, f16, 2, NC_ERROR_OVERLAP, "broadcast source under the target");
    attempt(128, f32, 0, 0, f16, 2, NC_OK, "broadcast source elsewhere");
    attempt(128, f32, 4, 0, f16, 0, NC_ERROR_OVERLAP, "target of stride 0");
    attempt(128, f32, 4, 0, f16, 1, NC_ERROR_OVERLAP, "target of stride 1");
    attempt(128, f32, 4, 16, f16, -1, NC_ERROR_OVERLAP, "target of stride -1");
    attempt(128, f64, 8, 0, f64, 8, NC_OK, "a copy");
    attempt(0, f64, 8, 0, f64, 8, NC_OK, "a copy onto itself");
    attempt(0, f64, 8, 8, f64, 8, NC_ERROR_OVERLAP, "a shifted copy");

    // Two dimensions that meet: 4 rows of 3 items, 2 items apart.
    Call call;
    const int64_t shape[] = {4, 3}, strides[] = {4, 2}, x_strides[] = {0, 4};
    uint16_t result[16] = {};
    call.x.shape = call.out.shape = shape;
    call.x.strides = x_strides;
    call.out.data = result;
    call.out.strides = strides;
    tally.check(call.run() == NC_ERROR_OVERLAP && result[0] == 0, "rows of out that overlap: %s", call.error.message);
}

void raise(Tally& tally, const char* isa) {
    std::vector<float> x(3000, 1.0f);
    std::vector<unsigned char> out(3000 * 8, 0xaa);
    const auto attempt = [&](int32_t src, const void* data, size_t n, int32_t dst, int32_t rounding, nc_reason reason,
                             uint64_t index, const char* words) {
        nc_cast_options options = cast_options(rounding, NC_OVERFLOW_RAISE, isa);
        nc_error error = fresh_error();
        std::fill(out.begin(), out.end(), static_cast<unsigned char>(0xaa));
        const nc_status status = cast(src, data, dst, out.data(), n, options, &error);
        tally.check(status == (reason == NC_REASON_NONE ? NC_OK : NC_ERROR_OVERFLOW) && error.reason == reason &&
                        error.index == index && strstr(error.message, words) != nullptr,
                    "%s: expected \"%s\", element %d: status %d, element %d, \"%s\"", isa, words,
                    static_cast<int>(index), status, static_cast<int>(error.index), error.message);
        tally.check(reason == NC_REASON_NONE || out[0] == 0xaa, "%s: \"%s\", but out was written", isa, words);
    };
    const auto one = [&](float value, int32_t dst, int32_t rounding, nc_reason reason, const char* words) {
        x[2017] = value;
        x[2600] = value;
        attempt(NC_FORMAT_f32, x.data(), x.size(), dst, rounding, reason, reason == NC_REASON_NONE ? 0 : 2017, words);
        x[2017] = x[2600] = 1.0f;
    };
    constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    constexpr int32_t even = NC_NEAREST_EVEN;
    one(1e30f, NC_FORMAT_f16, even, NC_REASON_FINITE,
        "element 2017 (value 1e+30) overflows float16, whose largest value is 65504");
    one(65519.0f, NC_FORMAT_f16, even, NC_REASON_NONE, "");
    one(65520.0f, NC_FORMAT_f16, even, NC_REASON_FINITE, "overflows float16");
    one(65519.0f, NC_FORMAT_f16, NC_UP, NC_REASON_FINITE, "overflows float16");
    one(-65519.0f, NC_FORMAT_f16, NC_UP, NC_REASON_NONE, "");
    one(inf, NC_FORMAT_f16, even, NC_REASON_NONE, "");
    one(inf, NC_FORMAT_e4m3fn, even, NC_REASON_INFINITE,
        "(value inf) does not fit into float8_e4m3fn, which has no infinity");
    one(-inf, NC_FORMAT_e2m1fn, even, NC_REASON_INFINITE, "(value -inf)");
    one(nan, NC_FORMAT_e4m3fn, even, NC_REASON_NONE, "");
    one(nan, NC_FORMAT_e2m1fn, even, NC_REASON_NAN, "(value nan) does not fit into float4_e2m1fn, which has no NaN");
    one(0.0f, NC_FORMAT_e8m0fnu, even, NC_REASON_ZERO, "which has no zero");
    one(-2.0f, NC_FORMAT_e8m0fnu, even, NC_REASON_NEGATIVE, "which has no sign");
    one(3.4e38f, NC_FORMAT_tf32, even, NC_REASON_NONE, "");
    one(3.4028235e38f, NC_FORMAT_tf32, even, NC_REASON_FINITE,
        "(value 3.4028235e+38) overflows tfloat32, whose largest value is 3.4011621e+38");

    std::vector<double> wide(1500, 3.4028234663852886e38); // the largest float32
    const auto to_f32 = [&](double value, int32_t rounding, nc_reason reason) {
        wide[700] = value;
        attempt(NC_FORMAT_f64, wide.data(), wide.size(), NC_FORMAT_f32, rounding, reason,
                reason == NC_REASON_NONE ? 0 : 700, reason == NC_REASON_NONE ? "" : "overflows float32");
    };
    to_f32(3.4028235677973362e38, even, NC_REASON_NONE);   // just below the midpoint to 2^128
    to_f32(3.4028235677973366e38, even, NC_REASON_FINITE); // the midpoint
    to_f32(3.4028234663852889e38, NC_UP, NC_REASON_FINITE);
    to_f32(-3.4028234663852889e38, NC_UP, NC_REASON_NONE);
    to_f32(std::numeric_limits<double>::infinity(), even, NC_REASON_NONE);

    const uint64_t integers[] = {1, 65519, 65520, ~uint64_t{0}};
    attempt(NC_FORMAT_u64, integers, 2, NC_FORMAT_f16, even, NC_REASON_NONE, 0, "");
    attempt(NC_FORMAT_u64, integers, 4, NC_FORMAT_f16, even, NC_REASON_FINITE, 2, "element 2 (value 65520)");
    attempt(NC_FORMAT_u64, integers, 4, NC_FORMAT_f32, even, NC_REASON_NONE, 0, "");
}

// The smallest C-order index, whatever the order in memory and the threads.
void raise_in_order(Tally& tally, const char* isa) {
    constexpr int64_t rows = 600, cols = 1024;
    std::vector<float> x(rows * cols, 1.0f);
    std::vector<uint16_t> out(rows * cols, 0xaaaa);
    const int64_t shape[] = {rows, cols}, fortran[] = {4, 4 * rows};
    const nc_array from{x.data(), shape, fortran, 2, NC_FORMAT_f32, 0, 0};
    const nc_array to{out.data(), shape, nullptr, 2, NC_FORMAT_f16, 0, 0};
    x[3 + 900 * rows] = x[590 + 2 * rows] = 1e6f;
    for (const int32_t threads : {1, 2, 5, 0}) {
        nc_cast_options options = cast_options(NC_NEAREST_EVEN, NC_OVERFLOW_RAISE, isa);
        options.threads = threads;
        nc_error error = fresh_error();
        tally.check(nc_cast(&from, &to, &options, &error) == NC_ERROR_OVERFLOW && error.index == 3 * cols + 900 &&
                        error.value == 1e6 && out[0] == 0xaaaa,
                    "%s, %d threads: index %llu", isa, threads, static_cast<unsigned long long>(error.index));
    }
}

// Results do not depend on the caller's floating-point environment, and the call leaves it as it was.
void environment(Tally& tally, const char* isa) {
    const uint32_t tiny = 0x00000001, huge = 0x7f7fffff;
    const uint32_t x[] = {tiny, tiny | 0x80000000, huge, 0x3f800001, 0x3f808000, 0x00400000, 0x7f800001, 0x33000001};
    constexpr size_t n = std::size(x);
    for (const int32_t dst :
         {int32_t{NC_FORMAT_f16}, int32_t{NC_FORMAT_bf16}, int32_t{NC_FORMAT_e5m2}, int32_t{NC_FORMAT_f64}}) {
        for (const int32_t rounding : {NC_NEAREST_EVEN, NC_UP}) {
            const nc_cast_options options = cast_options(rounding, NC_OVERFLOW_IEEE, isa);
            uint64_t expected[n] = {}, found[n] = {};
            cast(NC_FORMAT_f32, x, dst, expected, n, options);
            for (const int direction : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
                std::fesetround(direction);
                std::feclearexcept(FE_ALL_EXCEPT);
                std::feraiseexcept(FE_DIVBYZERO);
                cast(NC_FORMAT_f32, x, dst, found, n, options);
                const bool kept = std::fegetround() == direction && std::fetestexcept(FE_ALL_EXCEPT) == FE_DIVBYZERO;
                std::fesetround(FE_TONEAREST);
                tally.check(memcmp(found, expected, sizeof found) == 0, "%s to %s: bits follow fesetround", isa,
                            info(dst).id);
                tally.check(kept, "%s to %s: the environment was changed", isa, info(dst).id);
            }
#if defined(__x86_64__)
            _mm_setcsr(0x1f80 | 0x8040); // flush to zero, denormals are zero
            cast(NC_FORMAT_f32, x, dst, found, n, options);
            const uint32_t after = _mm_getcsr();
            _mm_setcsr(0x1f80);
            tally.check(memcmp(found, expected, sizeof found) == 0 && after == (0x1f80 | 0x8040),
                        "%s to %s under FTZ and DAZ: MXCSR %x", isa, info(dst).id, after);
#endif
        }
    }
}

} // namespace
} // namespace narrowcast::test

int main() {
    using namespace narrowcast::test;
    Tally tally;
    hostile_arguments(tally);
    empty_arrays(tally);
    struct_sizes(tally);
    overlaps(tally);
    for (const std::string& isa : supported_isas()) {
        raise(tally, isa.c_str());
        raise_in_order(tally, isa.c_str());
        environment(tally, isa.c_str());
    }
    return tally.finish();
}
