// Fuzzes nc_quantize, nc_dequantize, nc_fake_quantize, nc_quantization_error, nc_range and nc_choose_qparams: options,
// blocks, shapes, strides and byte orders are decoded from the input bytes, and one deliberate mistake at times. Each
// array lies in a heap block of exactly its size, so that AddressSanitizer sees every byte too many.
//
// What must hold: a refused call names a reason and writes nothing; a call that must be refused is; no byte between the
// elements is touched; every instruction set gives the same bits. Elements are what a call for one of them alone gives,
// scales that are computed on the way are those of nc_range and nc_choose_qparams, and fake_quantize is both ways.
// cpp/tests/fuzz_quantize_corpus_test.cpp replays the kept corpus without libFuzzer. Packing is fuzz_pack.cpp's.
#include <bit>
#include <cmath>
#include <limits>

#include "attempt.hpp"
#include "codec/reference.hpp"

namespace narrowcast::test {
namespace {

using Shape = std::vector<int64_t>;

struct Set {
    nc_quantize_options options = NC_QUANTIZE_OPTIONS_INIT;
    Shape shape, block, boxes;
    Array x, codes, scale, zero, sums, out, low, high;
    bool has_zero = false, has_sums = false;
    bool mistaken = false; // in what all functions look at

    const nc_array* zeros() const { return has_zero ? &zero.array : nullptr; }
    int32_t bits() const { return options.format != 0 ? info(options.format).bits : options.bits; }
    bool packed() const { return options.layout != NC_LAYOUT_INVALID; }
    size_t box_of(size_t i) const {
        size_t box = 0, step = 1;
        for (size_t d = shape.size(); d-- != 0; i /= static_cast<size_t>(shape[d])) {
            box += i % static_cast<size_t>(shape[d]) / static_cast<size_t>(block[d]) * step;
            step *= static_cast<size_t>(boxes[d]);
        }
        return box;
    }
};

constexpr int32_t scale_formats[] = {NC_FORMAT_f32, NC_FORMAT_f16, NC_FORMAT_bf16, NC_FORMAT_e8m0fnu};

void choose_options(Bytes& bytes, nc_quantize_options& o) {
    constexpr int32_t floats[] = {NC_FORMAT_e4m3fn, NC_FORMAT_e5m2, NC_FORMAT_e2m3fn, NC_FORMAT_e3m2fn,
                                  NC_FORMAT_e2m1fn};
    o.dialect = 1 + static_cast<int32_t>(bytes.below(8));
    o.bits = bytes.one_in(4) ? 1 + static_cast<int32_t>(bytes.below(16)) : bytes.one_in(2) ? 8 : 4;
    o.is_signed = static_cast<int32_t>(bytes.below(2));
    if (bytes.one_in(6)) {
        o.format = floats[bytes.below(5)];
    } else if (bytes.one_in(4)) {
        const int32_t least = o.is_signed != 0 ? -(1 << (o.bits - 1)) : 0;
        o.qmin = least + static_cast<int32_t>(bytes.below(uint64_t{1} << o.bits));
        o.qmax = least + static_cast<int32_t>(bytes.below(uint64_t{1} << o.bits));
        if (o.qmin >= o.qmax)
            o.qmin = o.qmax = 0;
    }
    o.symmetric = static_cast<int32_t>(bytes.below(2));
    o.dynamic = static_cast<int32_t>(bytes.below(2));
    constexpr int32_t computes[] = {0, 0, NC_FORMAT_f32, NC_FORMAT_f16, NC_FORMAT_bf16};
    o.compute = o.dialect == NC_DIALECT_torch ? 0 : computes[bytes.below(5)];
    if (bytes.one_in(8))
        o.scale_max = std::ldexp(1.0f, static_cast<int>(bytes.below(256)) - 140);
    o.threads = bytes.one_in(16) ? static_cast<int32_t>(bytes.below(4)) : 1;
}

void choose_shape(Bytes& bytes, Set& s, int64_t most) {
    s.shape.resize(bytes.below(5));
    for (int64_t& extent : s.shape) {
        extent = static_cast<int64_t>(bytes.one_in(4) ? bytes.take(2) % 9000 : bytes.below(40));
        extent = std::min(extent, most);
        most = extent != 0 ? most / extent : most;
    }
    if (bytes.one_in(2) && s.shape.size() > 1)
        std::reverse(s.shape.begin(), s.shape.end());
    const bool null = bytes.one_in(8);
    for (const int64_t extent : s.shape) {
        int64_t block = std::max<int64_t>(extent, 1);
        if (!null)
            switch (bytes.below(5)) {
            case 0: break;
            case 1: block = 1; break;
            case 2: block = int64_t{1} << bytes.below(13); break;
            case 3: block = 1 + static_cast<int64_t>(bytes.take(2) % 5000); break;
            default: block = INT64_MAX - static_cast<int64_t>(bytes.below(9)); break;
            }
        s.block.push_back(block);
        s.boxes.push_back(extent / block + (extent % block != 0 ? 1 : 0));
    }
    s.options.block = null ? nullptr : s.block.data();
    const int64_t last = s.shape.empty() ? 1 : s.shape.back();
    if (!s.shape.empty() && s.bits() <= 8 && last * s.bits() % 8 == 0 && bytes.one_in(2))
        s.options.layout = NC_LAYOUT_lsb;
}

void choose_set(Bytes& bytes, Set& s) {
    static const std::vector<int32_t> formats = all_formats();
    choose_options(bytes, s.options);
    choose_shape(bytes, s, bytes.one_in(4) ? 20000 : 1500);
    if (s.options.format != 0)
        s.options.qmin = s.options.qmax = 0;
    const auto float_format = [&](bool source) {
        int32_t format = formats[bytes.below(formats.size())];
        if (!is_float(format) || (source && format == NC_FORMAT_tf32) || bytes.one_in(3))
            format = NC_FORMAT_f32;
        return format;
    };
    s.x.make(bytes, s.shape, float_format(true));
    s.out.make(bytes, s.shape, float_format(false));
    Shape codes = s.shape;
    if (s.packed())
        codes.back() = codes.back() * s.bits() / 8;
    const bool wide = s.bits() > 8;
    const int32_t integer = wide ? (s.options.is_signed != 0 ? NC_FORMAT_i16 : NC_FORMAT_u16)
                                 : (s.options.is_signed != 0 ? NC_FORMAT_i8 : NC_FORMAT_u8);
    const bool is_float_item = s.options.format != 0 && !s.packed();
    s.codes.make(bytes, codes, is_float_item ? s.options.format : integer, s.packed());
    s.scale.make(bytes, s.boxes, scale_formats[bytes.below(4)]);
    const bool shift = s.options.dialect == NC_DIALECT_quanto || s.options.dialect == NC_DIALECT_fbgemm;
    s.zero.make(bytes, s.boxes, shift && bytes.one_in(2) ? scale_formats[bytes.below(3)] : NC_FORMAT_i32);
    Shape lines = s.shape;
    if (!lines.empty())
        lines.pop_back();
    s.sums.make(bytes, lines, NC_FORMAT_i32);
    s.low.make(bytes, s.boxes, NC_FORMAT_f32);
    s.high.make(bytes, s.boxes, NC_FORMAT_f32);
    s.has_zero = bytes.one_in(2) || (s.options.dynamic != 0 && bytes.one_in(2));
    s.has_sums = !s.shape.empty() && s.options.format == 0 && bytes.one_in(2);
}

uint64_t code_of(double value, int32_t format) {
    return convert_code(NC_FORMAT_f64, std::bit_cast<uint64_t>(value), format, NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, 0);
}

float number_of(uint64_t code, int32_t format) { // beyond float32 is its largest value
    if (format == NC_FORMAT_f64) {
        constexpr double most = std::numeric_limits<float>::max();
        const auto value = std::bit_cast<double>(code);
        return static_cast<float>(std::isfinite(value) ? std::clamp(value, -most, most) : value);
    }
    if (format == NC_FORMAT_f32)
        return std::bit_cast<float>(static_cast<uint32_t>(code));
    return std::bit_cast<float>(
        static_cast<uint32_t>(convert_code(format, code, NC_FORMAT_f32, NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, 0)));
}

// Memory is random at first, so of every kind; or it is made such that codes are in range. Bytes that are left go to
// the first elements.
void choose_values(Bytes& bytes, Set& s) {
    const uint64_t how = bytes.below(4);
    const uint64_t seed = bytes.take(2);
    for (size_t i = 0; i < s.zero.at.size(); ++i)
        if (s.zero.view.format == NC_FORMAT_i32 && how != 3) {
            const int64_t least = s.options.is_signed != 0 ? -(int64_t{1} << (s.bits() - 1)) : 0;
            const auto offset = static_cast<int64_t>(mix(seed ^ i) % (uint64_t{1} << s.bits()));
            s.zero.put(i, static_cast<uint64_t>(least + offset));
        } else if (s.zero.view.format == NC_FORMAT_i32) {
            s.zero.put(i, static_cast<uint64_t>(static_cast<int64_t>(mix(seed ^ i)) >> (64 - 26 + seed % 4)));
        }
    if (how >= 2) {
        for (size_t i = 0; i < s.scale.at.size(); ++i)
            s.scale.put(i, code_of(std::ldexp(1 + static_cast<double>(mix(seed + i) >> 12) * 0x1p-52,
                                              static_cast<int>(mix(~seed + i) % 9) - 4),
                                   s.scale.view.format));
        for (size_t i = 0; i < s.x.at.size(); ++i) {
            const double unit = static_cast<double>(static_cast<int64_t>(mix(seed * 7 + i))) * 0x1p-63;
            const double steps = unit * 1.5 * (1 << s.bits());
            const double scale = static_cast<double>(number_of(s.scale.get(s.box_of(i)), s.scale.view.format));
            s.x.put(i, code_of(scale * (i % 3 == 0 ? std::floor(steps) + 0.5 : steps), s.x.view.format));
        }
    }
    for (Array* array : {&s.scale, &s.x, &s.low, &s.high})
        for (size_t i = 0; i < std::min<size_t>(array->at.size(), 16); ++i)
            if (const uint64_t code = bytes.take(static_cast<size_t>(array->view.bytes)); code != 0)
                array->put(i, code);
}

// One mistake that all functions have to notice that look at it.
void make_mistake(Bytes& bytes, Set& s) {
    nc_quantize_options& o = s.options;
    const auto outside = [&](int32_t low, int32_t high) {
        const auto value = static_cast<int32_t>(static_cast<uint32_t>(bytes.take(4)));
        return value >= low && value <= high ? high + 1 : value;
    };
    s.mistaken = true;
    switch (bytes.below(12)) {
    case 0: o.size = bytes.take(8) % 1000 == sizeof o ? 0 : sizeof o + 1; return;
    case 1: o.dialect = outside(0, NC_DIALECT_LIMIT - 1); return;
    case 2: o.format = outside(0, NC_FORMAT_LIMIT - 1); return;
    case 3:
        o.bits = outside(1, 16);
        o.format = 0;
        return;
    case 4: o.is_signed = outside(0, 1); return;
    case 5:
        o.qmin = 40000;
        o.qmax = outside(-70000, 70000);
        return;
    case 6: o.symmetric = outside(0, 1); return;
    case 7: o.compute = outside(0, NC_FORMAT_LIMIT); return;
    case 8: o.layout = outside(0, NC_LAYOUT_LIMIT); return;
    case 9: o.scale_max = bytes.one_in(2) ? -1.0f : std::numeric_limits<float>::infinity(); return;
    case 10: o.threads = -1 - static_cast<int32_t>(bytes.take(3)); return;
    default: o.isa = bytes.one_in(2) ? "" : "scalar "; return;
    }
}

// A mistake in one array: the call must not go well where that is used.
void spoil_array(Bytes& bytes, Array& a) {
    a.spoiled = true;
    switch (bytes.below(8)) {
    case 0: a.array.format = bytes.one_in(2) ? -1 - static_cast<int32_t>(bytes.take(3)) : NC_FORMAT_LIMIT; return;
    case 1: a.array.ndim = bytes.one_in(2) ? -1 : 65 + static_cast<int32_t>(bytes.take(3)); return;
    case 2: a.array.flags |= 2u << bytes.below(31); return;
    case 3: a.array.reserved = 1; return;
    case 4:
        a.array.data = nullptr;
        a.spoiled = !a.at.empty();
        return;
    case 5:
        a.array.shape = nullptr;
        a.spoiled = a.array.ndim != 0;
        return;
    case 6:
        if ((a.spoiled = !a.shape.empty()))
            a.shape[bytes.below(a.shape.size())] =
                bytes.one_in(2) ? -1 : INT64_MAX - static_cast<int64_t>(bytes.take(7));
        return;
    default:
        if ((a.spoiled = !a.shape.empty() && !a.at.empty() && a.shape[0] > 1)) {
            a.view.strides[0] = bytes.one_in(2) ? INT64_MAX - static_cast<int64_t>(bytes.take(2)) : INT64_MIN;
            a.array.strides = a.view.strides.data();
        }
        return;
    }
}

// --- what must come of it ------------------------------------------------------------------------------------------

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
