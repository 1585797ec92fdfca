// Fuzzes nc_quantize, nc_dequantize, nc_fake_quantize, nc_quantization_error, nc_range and nc_choose_qparams: options,
// blocks, shapes, strides and byte orders are decoded from the input bytes, and one deliberate mistake at times
// (quantize_set.hpp). Each array lies in a heap block of exactly its size, so that AddressSanitizer sees every byte too
// many.
//
// What must hold: a refused call names a reason and writes nothing; a call that must be refused is; no byte between the
// elements is touched; every instruction set gives the same bits. Elements are what a call for one of them alone gives,
// scales that are computed on the way are those of nc_range and nc_choose_qparams, and fake_quantize is both ways.
// cpp/tests/fuzz_quantize_corpus_test.cpp replays the kept corpus without libFuzzer. Packing is fuzz_pack.cpp's.
#include <bit>
#include <cmath>
#include <limits>

#include "quantize_set.hpp"

namespace narrowcast::test {
namespace {

constexpr int64_t ones[NC_MAX_NDIM] = {1, 1, 1, 1};

uint64_t stored_code(const Set& s, size_t i) {
    if (!s.packed())
        return s.codes.get(i);
    const auto cols = static_cast<size_t>(s.shape.back()), bits = static_cast<size_t>(s.bits());
    const size_t line_bytes = cols * bits / 8;
    uint64_t code = 0;
    for (size_t b = 0; b < bits; ++b) {
        const size_t bit = i % cols * bits + b;
        code |= (s.codes.get(i / cols * line_bytes + bit / 8) >> (bit % 8) & 1) << b;
    }
    return code;
}

// Some elements, each by a call of its own on the scalar set: neither boxes nor tiles nor strides are left.
void check_elements(const Set& s, uint64_t seed, bool codes_are_made) {
    nc_quantize_options options = s.options;
    options.block = nullptr;
    options.layout = NC_LAYOUT_INVALID;
    options.dynamic = 0;
    options.threads = 1;
    options.isa = "scalar";
    const size_t n = s.x.at.size(), ndim = s.shape.size();
    for (size_t k = 0; k < std::min<size_t>(n, 48); ++k) {
        const size_t i = n <= 48 ? k : mix(seed + k) % n, box = s.box_of(i);
        uint64_t x = 0, code = 0, scale = 0, zero = 0, out = 0;
        store_code(&x, 0, static_cast<size_t>(s.x.view.bytes), s.x.get(i));
        store_code(&scale, 0, static_cast<size_t>(s.scale.view.bytes), s.scale.get(box));
        store_code(&zero, 0, static_cast<size_t>(s.zero.view.bytes), s.zero.get(box));
        nc_array code_array = s.codes.one(code, ones, ndim);
        if (s.packed() && s.options.format != 0)
            code_array.format = s.options.format;
        const nc_array x_array = s.x.one(x, ones, ndim), scale_array = s.scale.one(scale, ones, ndim);
        const nc_array zero_array = s.zero.one(zero, ones, ndim), out_array = s.out.one(out, ones, ndim);
        const nc_array* const zeros = s.has_zero ? &zero_array : nullptr;
        const size_t item = item_bytes(code_array.format);
        if (codes_are_made) {
            REQUIRE(nc_quantize(&x_array, &code_array, &scale_array, zeros, nullptr, &options, nullptr) == NC_OK);
            const uint64_t mask = (uint64_t{1} << s.bits()) - 1;
            REQUIRE(((load_code(&code, 0, item) ^ stored_code(s, i)) & (s.packed() ? mask : ~uint64_t{0})) == 0);
        } else {
            store_code(&code, 0, item, stored_code(s, i));
            REQUIRE(nc_dequantize(&code_array, &scale_array, zeros, &out_array, &options, nullptr) == NC_OK);
            REQUIRE(load_code(&out, 0, static_cast<size_t>(s.out.view.bytes)) == s.out.get(i));
        }
    }
}

void check_sums(const Set& s) {
    const auto cols = static_cast<size_t>(s.shape.back());
    for (size_t line = 0; line < s.sums.at.size(); ++line) {
        int64_t sum = 0;
        for (size_t i = line * cols; i < (line + 1) * cols; ++i) {
            const uint64_t mask = (uint64_t{1} << s.bits()) - 1, code = stored_code(s, i) & mask;
            const bool negative = s.options.is_signed != 0 && (code >> (s.bits() - 1)) != 0;
            sum += static_cast<int64_t>(code) - (negative ? int64_t{1} << s.bits() : 0);
        }
        REQUIRE(s.sums.get(line) == static_cast<uint32_t>(sum));
    }
}

void check_ranges(const Set& s) {
    constexpr float infinite = std::numeric_limits<float>::infinity();
    std::vector<float> low(s.low.at.size(), infinite), high(low.size(), -infinite);
    for (size_t i = 0; i < s.x.at.size(); ++i) {
        const float value = number_of(s.x.get(i), s.x.view.format);
        if (!std::isfinite(value))
            continue;
        const size_t box = s.box_of(i);
        low[box] = std::min(low[box], value + 0.0f);
        high[box] = std::max(high[box], value + 0.0f);
    }
    for (size_t box = 0; box < low.size(); ++box) {
        const bool none = low[box] > high[box];
        REQUIRE(s.low.get(box) == std::bit_cast<uint32_t>(none ? 0 : low[box]));
        REQUIRE(s.high.get(box) == std::bit_cast<uint32_t>(none ? 0 : high[box]));
    }
}

void check_error(Set& s, Array* zero, bool must_fail) {
    nc_error_sums first{};
    bool have = false;
    attempt({&s.x, &s.codes, &s.scale, zero}, {}, must_fail, [&](const char* isa, nc_error* error) {
        nc_quantize_options options = s.options;
        options.isa = options.isa != nullptr ? options.isa : isa;
        nc_error_sums sums{};
        sums.size = sizeof sums;
        const nc_status status =
            nc_quantization_error(&s.x.array, &s.codes.array, &s.scale.array, s.zeros(), &options, &sums, error);
        REQUIRE(status == NC_OK || (sums.count == 0 && sums.sum_x2 == 0));
        REQUIRE(status != NC_OK || sums.count == s.x.at.size());
        if (have)
            REQUIRE(sums.finite == first.finite && sums.overflowed == first.overflowed &&
                    sums.became_zero == first.became_zero && sums.became_nan == first.became_nan);
        first = sums;
        have = true;
        return status;
    });
}

void fuzz(Bytes bytes) {
    Set s;
    choose_set(bytes, s);
    const bool spoils_options = bytes.one_in(12), spoils_array = bytes.one_in(12);
    const uint64_t victim = bytes.below(8);
    choose_values(bytes, s);
    if (spoils_options)
        make_mistake(bytes, s);
    Array* const all[] = {&s.x, &s.codes, &s.scale, &s.zero, &s.sums, &s.out, &s.low, &s.high};
    if (spoils_array)
        spoil_array(bytes, *all[victim]);
    const bool zero_counts = s.has_zero, mistaken = s.mistaken, sound = !spoils_options && !spoils_array;
    Array unused;
    Array *const zero = zero_counts ? &s.zero : &unused, *const sums = s.has_sums ? &s.sums : &unused;
    const auto with = [&](const char* isa) {
        nc_quantize_options options = s.options;
        options.isa = options.isa != nullptr ? options.isa : isa;
        return options;
    };

    // 1. Ranges, and what follows from them.
    const nc_status ranged = attempt({&s.x}, {&s.low, &s.high}, mistaken, [&](const char* isa, nc_error* error) {
        const nc_quantize_options options = with(isa);
        return nc_range(&s.x.array, &s.low.array, &s.high.array, &options, error);
    });
    const size_t n = s.x.at.size();
    if (ranged == NC_OK && sound && n != 0)
        check_ranges(s);
    const bool dynamic = s.options.dynamic != 0;
    const std::vector<unsigned char> scale_before = s.scale.block, zero_before = s.zero.block;
    nc_status chosen = attempt({&s.low, &s.high}, {&s.scale, zero}, mistaken, [&](const char* isa, nc_error* error) {
        const nc_quantize_options options = with(isa);
        return nc_choose_qparams(&s.low.array, &s.high.array, s.x.view.format, &s.scale.array, s.zeros(), &options,
                                 error);
    });
    const std::vector<unsigned char> scale_chosen = s.scale.block, zero_chosen = s.zero.block;
    std::copy(scale_before.begin(), scale_before.end(), s.scale.block.begin());
    std::copy(zero_before.begin(), zero_before.end(), s.zero.block.begin());

    // 2. Codes.
    const auto quantize = [&](const char* isa, nc_error* error) {
        const nc_quantize_options options = with(isa);
        return nc_quantize(&s.x.array, &s.codes.array, &s.scale.array, s.zeros(), s.has_sums ? &s.sums.array : nullptr,
                           &options, error);
    };
    const nc_status made = dynamic ? attempt({&s.x}, {&s.codes, &s.scale, zero, sums}, mistaken, quantize)
                                   : attempt({&s.x, &s.scale, zero}, {&s.codes, sums}, mistaken, quantize);
    const bool own_multiplier = dynamic && s.options.dialect == NC_DIALECT_fbgemm && s.options.bits == 8;
    if (made == NC_OK && sound && n != 0) {
        // On the way x is rounded to what is computed in first, so that a value may become Inf and not count.
        const bool rounded = s.options.compute > NC_FORMAT_f32 && s.options.compute != s.x.view.format;
        if (dynamic && ranged == NC_OK && chosen == NC_OK && !rounded)
            REQUIRE(s.scale.block == scale_chosen && s.zero.block == zero_chosen);
        if (s.has_sums)
            check_sums(s);
    }

    // 3. The way back, also of codes and numbers that no one made.
    const nc_status back =
        attempt({&s.codes, &s.scale, zero}, {&s.out}, mistaken, [&](const char* isa, nc_error* error) {
            const nc_quantize_options options = with(isa);
            return nc_dequantize(&s.codes.array, &s.scale.array, s.zeros(), &s.out.array, &options, error);
        });
    if (made == NC_OK && back == NC_OK && sound && n != 0 && !own_multiplier)
        check_elements(s, n, true);
    if (back == NC_OK && sound && n != 0)
        check_elements(s, n, false);
    const std::vector<unsigned char> values = s.out.block;
    const nc_status faked = attempt({&s.x, &s.scale, zero}, {&s.out}, mistaken, [&](const char* isa, nc_error* error) {
        const nc_quantize_options options = with(isa);
        return nc_fake_quantize(&s.x.array, &s.scale.array, s.zeros(), &s.out.array, &options, error);
    });
    if (made == NC_OK && back == NC_OK && faked == NC_OK && sound && !own_multiplier)
        REQUIRE(s.out.block == values);
    check_error(s, zero, mistaken);
}

} // namespace
} // namespace narrowcast::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    narrowcast::test::fuzz({data, size});
    return 0;
}
