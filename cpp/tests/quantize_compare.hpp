// Kernels of quantization against the scalar ones, bit for bit, between guard pages; and data on which they are hard:
// ties and their neighbours, scales from the smallest to the largest, anything at all.
#pragma once

#include <math.h>

#include <algorithm>
#include <bit>
#include <limits>

#include "dispatch/registry.hpp"
#include "guarded_pages.hpp"
#include "support.hpp"

namespace narrowcast::test {

constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
constexpr float least = std::numeric_limits<float>::denorm_min(), most = std::numeric_limits<float>::max();

inline float of_bits(uint64_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits)); }

constexpr const char* op_names[] = {"divide", "multiply", "fma"};
constexpr const char* hub_names[] = {"float32", "float16", "bfloat16"};
constexpr const char* along_names[] = {"rows", "columns"};

// A rectangle in memory of which every byte outside is watched. Rows are `gap` bytes further apart than they are long.
class Field {
public:
    Field(size_t rows, size_t cols, size_t item, size_t gap) : rows_(rows), row_(cols * item), step_(row_ + gap) {}
    size_t bytes() const { return rows_ == 0 ? 0 : (rows_ - 1) * step_ + row_; }
    ptrdiff_t step() const { return static_cast<ptrdiff_t>(step_); }
    // Whether what lies between the rows is still what clear() left there.
    bool gaps_clean(const unsigned char* at) const {
        for (size_t i = 0; i + 1 < rows_; ++i)
            for (size_t j = row_; j < step_; ++j)
                if (at[i * step_ + j] != 0xa5)
                    return false;
        return true;
    }
    size_t row_bytes() const { return row_; }
    size_t rows() const { return rows_; }

private:
    size_t rows_, row_, step_;
};

struct Case {
    std::vector<float> x;                                 // rows * cols
    std::vector<float> factor, shift, zero, offset, bias; // one per row and column
    size_t rows, cols, gap;
    bool at_end, stream;
};

class Compare {
public:
    Compare(Tally& tally, const KernelTable& table) : tally_(tally), table_(table), scalar_(*find_isa("scalar")) {}

    void quantize(int32_t op, int32_t hub, int32_t along, const QuantizeRule& rule, const Case& c) {
        const auto item = static_cast<size_t>(rule.item);
        QuantizeParams params{c.factor.data(), given(c.shift), given(c.zero), given(c.offset), nullptr, nullptr};
        std::vector<float> low, high;
        for (const bool known : {false, true}) {
            if (known && (along == along_columns || !row_ends(c, low, high)))
                return;
            params.low = known ? low.data() : nullptr;
            params.high = known ? high.data() : nullptr;
            both(c, c.x.data(), 32, item,
                 [&](const KernelTable& table, const void* from, void* to, const Rectangle& r) {
                     table.quantize[op][hub][along](from, to, r, params, rule, c.stream);
                 });
            report(c, item, "quantize, %s, %s, along %s, item %d, codes %d to %d, range known %d", op_names[op],
                   hub_names[hub], along_names[along], rule.item, rule.low, rule.high, known);
        }
    }

    void dequantize(int32_t kind, int32_t hub, int32_t along, bool biased, bool fused, const Case& c) {
        if (along == along_columns && (kind == codes_i4 || kind == codes_u4))
            return; // there is none
        const size_t from = kind == codes_f32 ? 32 : kind == codes_i4 || kind == codes_u4 ? 4 : 8;
        const size_t to = hub == hub_f32 ? 4 : 2;
        const DequantizeParams params{c.factor.data(), c.zero.data(), biased ? c.bias.data() : nullptr, fused};
        both(c, c.x.data(), from, to, [&](const KernelTable& table, const void* src, void* dst, const Rectangle& r) {
            table.dequantize[kind][hub][along](src, dst, r, params, c.stream);
        });
        report(c, to, "dequantize, kind %d, %s, along %s, biased %d, fused %d", kind, hub_names[hub],
               along_names[along], biased, fused);
    }

    void range(int32_t along, const Case& c) {
        const size_t entries = along == along_rows ? c.rows : c.cols;
        std::vector<float> low[2], high[2];
        for (const bool scalar : {false, true}) {
            low[scalar].assign(entries + 1, inf);
            high[scalar].assign(entries + 1, -inf);
            low[scalar].back() = high[scalar].back() = 7; // not to be touched
            const Field field(c.rows, c.cols, 4, c.gap);
            const unsigned char* const from = place(source_, field, c.x.data(), c.at_end);
            (scalar ? scalar_ : table_)
                .range[along](from, {c.rows, c.cols, field.step(), 0}, low[scalar].data(), high[scalar].data());
        }
        tally_.check(same(low[0], low[1]) && same(high[0], high[1]), "%s: range along %s, %zu x %zu, gap %zu",
                     table_.name, along_names[along], c.rows, c.cols, c.gap);
    }

    void span(const Case& c) {
        std::vector<float> low[2], high[2];
        bool finite[2];
        for (const bool scalar : {false, true}) {
            low[scalar].assign(c.rows + 1, -1.0f);
            high[scalar].assign(c.rows + 1, 1.0f);
            const Field field(c.rows, c.cols, 4, c.gap);
            const unsigned char* const from = place(source_, field, c.x.data(), c.at_end);
            finite[scalar] =
                (scalar ? scalar_ : table_)
                    .span(from, {c.rows, c.cols, field.step(), 0}, low[scalar].data(), high[scalar].data());
        }
        tally_.check(finite[0] == finite[1] && (!finite[0] || (same(low[0], low[1]) && same(high[0], high[1]))),
                     "%s: span, %zu x %zu, gap %zu, finite %d", table_.name, c.rows, c.cols, c.gap, finite[0]);
    }

    void sums(int32_t item, bool is_signed, const Case& c) {
        std::vector<int32_t> sums[2];
        for (const bool scalar : {false, true}) {
            sums[scalar].assign(c.rows, std::numeric_limits<int32_t>::max() - 5); // wraps
            const Field field(c.rows, c.cols, static_cast<size_t>(item), c.gap);
            const unsigned char* const from = place(source_, field, c.x.data(), c.at_end);
            (scalar ? scalar_ : table_)
                .code_sums(from, {c.rows, c.cols, field.step(), 0}, item, is_signed, sums[scalar].data());
        }
        tally_.check(sums[0] == sums[1], "%s: sums of %d bytes, signed %d, %zu x %zu", table_.name, item, is_signed,
                     c.rows, c.cols);
    }

private:
    static bool same(const std::vector<float>& a, const std::vector<float>& b) {
        return memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    }

    // Null if there is nothing to add.
    static const float* given(const std::vector<float>& numbers) {
        return std::all_of(numbers.begin(), numbers.end(), [](float number) { return number == 0; }) ? nullptr
                                                                                                     : numbers.data();
    }

    // The range of each row; false if something is not finite.
    static bool row_ends(const Case& c, std::vector<float>& low, std::vector<float>& high) {
        if (c.x.empty() || !std::all_of(c.x.begin(), c.x.end(), [](float x) { return isfinite(x); }))
            return false;
        low.clear();
        high.clear();
        for (size_t i = 0; i < c.rows; ++i) {
            const auto row = c.x.begin() + static_cast<ptrdiff_t>(i * c.cols);
            const auto [least_of_row, most_of_row] = std::minmax_element(row, row + static_cast<ptrdiff_t>(c.cols));
            low.push_back(*least_of_row);
            high.push_back(*most_of_row);
        }
        return true;
    }

    static unsigned char* place(GuardedPages& pages, const Field& field, const void* rows, bool at_end) {
        unsigned char* const at = pages.place(field.bytes(), at_end);
        for (size_t i = 0; i < field.rows() && field.row_bytes() != 0; ++i)
            memcpy(at + static_cast<ptrdiff_t>(i) * field.step(),
                   static_cast<const unsigned char*>(rows) + i * field.row_bytes(), field.row_bytes());
        return at;
    }

    template <class Kernel> void both(const Case& c, const void* x, size_t from_bits, size_t to_item, Kernel kernel) {
        const Field source(c.rows, (c.cols * from_bits + 7) / 8, 1, c.gap), target(c.rows, c.cols, to_item, c.gap);
        const unsigned char* const from = place(source_, source, x, c.at_end);
        const Rectangle r{c.rows, c.cols, source.step(), target.step()};
        clean_ = true;
        for (const bool scalar : {false, true}) {
            target_.clear();
            unsigned char* const to = target_.place(target.bytes(), c.at_end);
            kernel(scalar ? scalar_ : table_, from, to, r);
            clean_ = clean_ && target_.clean_around(to, target.bytes()) && target.gaps_clean(to);
            result_[scalar].assign(to, to + target.bytes());
        }
    }

    template <class... Args> void report(const Case& c, size_t item, const char* format, Args... args) {
        const bool right = result_[0] == result_[1];
        if (right && clean_) {
            tally_.check(true, "right");
            return;
        }
        char what[200];
        snprintf(what, sizeof what, format, args...);
        size_t at = 0;
        while (!right && result_[0][at] == result_[1][at])
            ++at;
        const size_t step = c.cols * item + c.gap, i = at / step, j = at % step / item, n = i * c.cols + j;
        tally_.check(false,
                     "%s: %s, %zu x %zu, gap %zu, %s: row %zu, column %zu: x %a, factor %a or %a, got %02x, not %02x",
                     table_.name, what, c.rows, c.cols, c.gap, clean_ ? "clean" : "wrote outside", i, j,
                     n < c.x.size() ? double{c.x[n]} : 0.0, double{c.factor[i]}, double{c.factor[j]}, result_[0][at],
                     result_[1][at]);
    }

    Tally& tally_;
    const KernelTable& table_;
    const KernelTable& scalar_;
    GuardedPages source_{size_t{1} << 17}, target_{size_t{1} << 17};
    std::vector<unsigned char> result_[2];
    bool clean_ = true;
};

// --- data ----------------------------------------------------------------------------------------------------------

// Near s times a code or half a code, whose neighbours decide, else something special or anything at all.
inline float hard_value(uint64_t seed, float s) {
    const uint64_t word = mix(seed);
    const auto pick = static_cast<int>(word % 16);
    const auto sign = (word >> 63) != 0 ? -1.0f : 1.0f;
    const auto small = static_cast<int>(word >> 8 & 0x3ff);
    if (pick < 6) {
        float x = sign * (static_cast<float>(small) * 0.5f) * s;
        for (int step = static_cast<int>(word >> 20 & 7) - 3; step != 0; step += step < 0 ? 1 : -1)
            x = nextafterf(x, step < 0 ? -inf : inf);
        return x;
    }
    if (pick < 10)
        return sign * static_cast<float>(word >> 32 & 0xffffff) * 0x1p-15f * s;
    if (pick == 10)
        return of_bits(word >> 16); // any pattern
    if (pick == 11)
        return sign * ldexpf(1.0f, small % 280 - 150) * (1 + static_cast<float>(small % 3 - 1) * 0x1p-23f);
    constexpr float specials[] = {0,      -0.0f,   inf,     -inf,    nan,       -nan,
                                  least,  -least,  most,    -most,   0x1p-126f, 0x1.fffffcp-127f,
                                  127.5f, -128.5f, 0x1p31f, -0x1p31f};
    if (pick == 12)
        return specials[small % 16];
    if (pick == 13)
        return of_bits(0x7f800001u | (word >> 16 & 0x803fffff)); // signalling
    return sign * s * static_cast<float>(small) * 0.25f;
}

constexpr float scales[] = {
    1,           0.5f,  0x1p-7f,  1.0f / 127, 0.1f,  0x1.fffffep-4f, 0x1.000002p-3f, 0x1.921fb6p+1f, 3e-5f,
    65504,       1e30f, 0x1p100f, 0x1.8p100f, 1e38f, most,           0x1p-100f,      0x1.fp-101f,    0x1p-126f,
    0x1.4p-130f, least, 0,        inf,        nan,   -0.25f};

inline Case make_case(uint64_t seed, size_t rows, size_t cols, bool addends) {
    Case c{};
    c.rows = rows;
    c.cols = cols;
    const size_t entries = std::max(rows, cols) + 1;
    const bool plain = mix(seed) % 3 != 0; // all scales ordinary, so that the quick ways are taken
    for (size_t i = 0; i < entries; ++i) {
        const uint64_t word = mix(seed * 1024 + i);
        c.factor.push_back(scales[word % (plain ? 10 : std::size(scales))]);
        if (plain && word % 2 != 0)
            c.factor.back() = (1 + static_cast<float>(word >> 40) * 0x1p-24f) / 128;
        const auto small = static_cast<float>(static_cast<int>(word >> 20 & 0xff) - 128);
        c.offset.push_back(addends ? small * static_cast<float>(word % 7 == 0 ? 64 : 1) : 0);
        c.zero.push_back(addends && word % 5 < 3 ? small + static_cast<float>(word >> 30 & 3) * 0.25f : 0);
        c.shift.push_back(addends && word % 5 == 4 ? small * 0.37f : word % 5 == 3 ? -0.0f : 0);
        c.bias.push_back(small * 0.01f);
    }
    for (size_t i = 0; i < rows; ++i)
        for (size_t j = 0; j < cols; ++j)
            c.x.push_back(hard_value(seed + i * 65536 + j, c.factor[mix(i + j) % 2 != 0 ? i : j]));
    return c;
}

} // namespace narrowcast::test
