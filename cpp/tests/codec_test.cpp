// The scalar codec against the oracle of this folder: narrow targets, from float32 and float64 around every rounding
// boundary and from every 16-bit pattern, in every mode; and known answers typed by hand, for what the oracle cannot
// be independent about (byte order, facts of the formats). The deeper comparison, with ml_dtypes and others, is in
// Python. That the vector kernels equal the codec is shown by sweep.cpp.
#include "codec/reference.hpp"
#include "inputs.hpp"
#include "oracle.hpp"
#include "support.hpp"

namespace narrowcast::test {
namespace {

bool narrow(int32_t format) { return is_float(format) && format != NC_FORMAT_f32 && format != NC_FORMAT_f64; }

// A float source's code as a double, by the compiler and the hardware rather than by the codec.
double source_value(int32_t src, uint64_t code) {
    switch (src) {
    case NC_FORMAT_f64: return std::bit_cast<double>(code);
    case NC_FORMAT_f32: return double{std::bit_cast<float>(static_cast<uint32_t>(code))};
    case NC_FORMAT_bf16: return double{std::bit_cast<float>(static_cast<uint32_t>(code << 16))};
    default: { // float16
        const double sign = (code & 0x8000) != 0 ? -1.0 : 1.0;
        const auto exponent = static_cast<int>(code >> 10 & 31), fraction = static_cast<int>(code & 1023);
        if (exponent == 31)
            return fraction != 0 ? std::nan("") : sign * HUGE_VAL;
        return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(fraction + 1024, exponent - 25));
    }
    }
}

uint64_t payload(int32_t src, uint64_t code) { // the fraction's bits below the quiet one, as if of 52
    const int bits = info(src).mantissa_bits;
    return code << (52 - bits) & ((uint64_t{1} << 51) - 1);
}

void against_oracle(Tally& tally, int32_t src, int32_t dst, const Oracle& oracle) {
    std::vector<uint64_t> patterns;
    if (item_bytes(src) == 2) {
        for (uint64_t code = 0; code < 65536; ++code)
            patterns.push_back(code);
    } else {
        patterns = listed_patterns(src, dst);
    }
    // Targets of 16 bits and more have so many boundaries that one in seven will do.
    const size_t step = item_bytes(dst) > 1 ? 7 : 1;
    const uint64_t top = uint64_t{1} << (item_bytes(src) * 8 - 1);
    for (int32_t rounding = NC_NEAREST_EVEN; rounding <= NC_STOCHASTIC; ++rounding)
        for (const int32_t overflow : {NC_OVERFLOW_IEEE, NC_OVERFLOW_SATURATE})
            for (size_t i = static_cast<size_t>(rounding); i < patterns.size(); i += step) {
                const uint64_t code = patterns[i];
                const double value = source_value(src, code);
                const auto random = static_cast<uint32_t>(mix(i));
                const uint64_t got = convert_code(src, code, dst, rounding, overflow, random);
                const std::optional<uint64_t> expected =
                    std::isnan(value) ? nan_code(dst, (code & top) != 0, payload(src, code), overflow)
                                      : oracle.encode(value, rounding, overflow, random);
                if (expected)
                    tally.check(got == *expected, "%s %llx -> %s, %s, %s: %llx, the oracle says %llx", info(src).name,
                                static_cast<unsigned long long>(code), info(dst).name,
                                rounding_names[static_cast<size_t>(rounding)],
                                overflow_names[static_cast<size_t>(overflow)], static_cast<unsigned long long>(got),
                                static_cast<unsigned long long>(*expected));
            }
}

// Through nc_cast, bytes in memory included.
void known_answers(Tally& tally) {
    const float values[] = {1.0f, -0.0f, 448.0f, 464.0f, 465.0f, 9.625f, 1e-45f, 3.0e38f};
    const uint16_t half[] = {0x3c00, 0x8000, 0x5f00, 0x5f40, 0x5f44, 0x48d0, 0x0000, 0x7c00};
    const uint16_t brain[] = {0x3f80, 0x8000, 0x43e0, 0x43e8, 0x43e8, 0x411a, 0x0000, 0x7f62};
    const uint8_t e4m3fn[] = {0x38, 0x80, 0x7e, 0x7e, 0x7f, 0x52, 0x00, 0x7f};
    const uint8_t e2m1fn[] = {0x2, 0x8, 0x7, 0x7, 0x7, 0x7, 0x0, 0x7};
    const uint8_t e8m0fnu[] = {127, 255, 136, 136, 136, 130, 0, 255};
    const auto check = [&](int32_t dst, const void* expected) {
        const size_t bytes = item_bytes(dst);
        for (const bool swapped : {false, true}) {
            unsigned char out[sizeof values] = {};
            const int64_t n = std::size(values);
            float copy[std::size(values)];
            std::copy(std::begin(values), std::end(values), copy);
            const nc_array x{copy, &n, nullptr, 1, NC_FORMAT_f32, 0, 0};
            const nc_array y{out, &n, nullptr, 1, dst, swapped ? uint32_t{NC_ARRAY_BYTE_SWAPPED} : 0u, 0};
            tally.check(nc_cast(&x, &y, nullptr, nullptr) == NC_OK, "%s: cast refused", info(dst).name);
            if (swapped)
                for (size_t i = 0; i < std::size(values); ++i)
                    std::reverse(out + i * bytes, out + (i + 1) * bytes);
            for (size_t i = 0; i < std::size(values); ++i)
                tally.check(load_code(out, i, bytes) == load_code(expected, i, bytes), "%s of %a is %llx, not %llx",
                            info(dst).name, static_cast<double>(values[i]),
                            static_cast<unsigned long long>(load_code(out, i, bytes)),
                            static_cast<unsigned long long>(load_code(expected, i, bytes)));
        }
    };
    check(NC_FORMAT_f16, half);
    check(NC_FORMAT_bf16, brain);
    check(NC_FORMAT_e4m3fn, e4m3fn);
    check(NC_FORMAT_e2m1fn, e2m1fn);
    check(NC_FORMAT_e8m0fnu, e8m0fnu);
    check(NC_FORMAT_f32, values);
}

int run() {
    Tally tally;
    known_answers(tally);
    for (const int32_t dst : all_formats()) {
        if (!narrow(dst))
            continue;
        const Oracle oracle(dst);
        for (const int32_t src : {NC_FORMAT_f64, NC_FORMAT_f32, NC_FORMAT_f16, NC_FORMAT_bf16})
            if (src != dst)
                against_oracle(tally, src, dst, oracle);
    }
    return tally.finish();
}

} // namespace
} // namespace narrowcast::test

int main() { return narrowcast::test::run(); }
