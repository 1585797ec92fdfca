// Quantization kernels: the scalar ones against numbers worked out by hand, and every other instruction set against the
// scalar one, bit for bit, between guard pages: all operations, hubs, directions and items, on ties and their
// neighbours, scales from the smallest to the largest, every length up to three blocks, misaligned and strided rows.
#include <math.h>

#include <bit>
#include <limits>

#include "dispatch/registry.hpp"
#include "guarded_pages.hpp"
#include "support.hpp"

namespace narrowcast::test {
namespace {

constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
constexpr float least = std::numeric_limits<float>::denorm_min(), most = std::numeric_limits<float>::max();

float of_bits(uint64_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits)); }

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
        std::vector<float> reciprocal(c.factor.size());
        for (size_t i = 0; i < reciprocal.size(); ++i)
            reciprocal[i] = c.factor[i] >= 0x1p-100f && c.factor[i] <= 0x1p100f ? 1.0f / c.factor[i] : 0.0f;
        const QuantizeParams params{c.factor.data(), reciprocal.data(), c.shift.data(), c.zero.data(), c.offset.data()};
        both(c, c.x.data(), 4, item, [&](const KernelTable& table, const void* from, void* to, const Rectangle& r) {
            table.quantize[op][hub][along](from, to, r, params, rule, c.stream);
        });
        report(c, item, "quantize, %s, %s, along %s, item %d, codes %d to %d", op_names[op], hub_names[hub],
               along_names[along], rule.item, rule.low, rule.high);
    }

    void dequantize(int32_t kind, int32_t hub, int32_t along, bool biased, bool fused, const Case& c) {
        const size_t from = kind == codes_f32 ? 4 : 1, to = hub == hub_f32 ? 4 : 2;
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

    static unsigned char* place(GuardedPages& pages, const Field& field, const void* rows, bool at_end) {
        unsigned char* const at = pages.place(field.bytes(), at_end);
        for (size_t i = 0; i < field.rows() && field.row_bytes() != 0; ++i)
            memcpy(at + static_cast<ptrdiff_t>(i) * field.step(),
                   static_cast<const unsigned char*>(rows) + i * field.row_bytes(), field.row_bytes());
        return at;
    }

    template <class Kernel> void both(const Case& c, const void* x, size_t from_item, size_t to_item, Kernel kernel) {
        const Field source(c.rows, c.cols, from_item, c.gap), target(c.rows, c.cols, to_item, c.gap);
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
float hard_value(uint64_t seed, float s) {
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

Case make_case(uint64_t seed, size_t rows, size_t cols, bool addends) {
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

constexpr QuantizeRule rules[] = {
    {-128, 127, false, 1}, {-128, 127, true, 1},  {0, 255, false, 1},    {0, 255, true, 1}, {-127, 127, false, 1},
    {-8, 7, false, 1},     {0, 15, true, 1},      {-1, 0, false, 1},     {3, 3, false, 1},  {-32768, 32767, false, 2},
    {0, 65535, true, 2},   {-300, 700, false, 2}, {-128, 127, false, 4},
};

// --- checks --------------------------------------------------------------------------------------------------------

// What the rules say, by hand; the numbers of the first five are in the owners' documentation or code.
void by_hand(Tally& tally) {
    const KernelTable& scalar = *find_isa("scalar");
    struct Row {
        int32_t op;
        float x, factor, shift, zero, offset;
        int32_t low, high;
        bool nan_high;
        int expected;
    };
    const Row rows[] = {
        {op_divide, 0.5f, 1, 0, 0, 1, -128, 127, false, 1},   // onnx: the tie goes to 0, then + 1
        {op_fma, 0.5f, 1, 0, 1, 0, -128, 127, false, 2},      // torch: 1.5 goes to 2
        {op_divide, 0.5f, 1, 0, 1, 0, -128, 127, false, 2},   // compressed-tensors
        {op_divide, nan, 1, 0, 0, 0, -128, 127, false, -128}, // onnx
        {op_fma, nan, 1, 0, 0, 0, -128, 127, true, 127},      // torch
        {op_divide, 2.5f, 1, 0, 0, 0, -128, 127, false, 2},
        {op_divide, -2.5f, 1, 0, 0, 0, -128, 127, false, -2},
        {op_divide, -3.5f, 1, 0, 0, 0, -128, 127, false, -4},
        {op_divide, inf, 1, 0, 0, 0, -128, 127, false, 127},
        {op_divide, -inf, 1, 0, 0, 0, 0, 255, false, 0},
        {op_divide, 1e30f, 1e-30f, 0, 0, 0, 0, 255, false, 255},
        {op_divide, 0, 0, 0, 0, 0, -128, 127, false, -128}, // 0 / 0
        {op_divide, 1, 0, 0, 0, 0, -128, 127, false, 127},
        {op_divide, 251.51f, 1.9043529f, 0, 0, -5, -128, 127, false, 127},
        {op_divide, -234.1f, 1.9043529f, 0, 0, -5, -128, 127, false, -128},
        {op_multiply, 3, 0.5f, 2, 0, 0, 0, 15, false, 2}, // 5 / 2
        {op_multiply, -3, 0.5f, 1, -1, 4, -8, 7, false, 2},
    };
    for (const Row& row : rows)
        for (const int32_t item : {1, 2}) {
            const QuantizeParams params{&row.factor, &row.zero, &row.shift, &row.zero, &row.offset};
            uint64_t codes = 0;
            const QuantizeRule rule{row.low, row.high, row.nan_high, item};
            scalar.quantize[row.op][hub_f32][along_rows](&row.x, &codes, {1, 1, 4, item}, params, rule, false);
            const auto code = static_cast<uint16_t>(load_code(&codes, 0, static_cast<size_t>(item)));
            const int got = item == 2     ? static_cast<int16_t>(code)
                            : row.low < 0 ? static_cast<int8_t>(code)
                                          : static_cast<uint8_t>(code);
            tally.check(got == row.expected, "%s of %a by %a: %d, not %d", op_names[row.op], double{row.x},
                        double{row.factor}, got, row.expected);
        }
    // Steps: 1 + 2^-9 is no bfloat16, and 2049 is no float16.
    const float none = 0, x[] = {257, 2049}, parts[] = {1 + 0x1p-9f, 1};
    const float expected[] = {256, 2048};
    for (const int32_t hub : {hub_bf16, hub_f16}) {
        float sum = 0;
        const size_t i = hub == hub_f16 ? 1 : 0;
        const QuantizeParams params{&parts[i], &none, &none, &none, &none};
        scalar.quantize[op_divide][hub][along_rows](&x[i], &sum, {1, 1, 4, 4}, params, {0, 255, false, 4}, false);
        tally.check(sum == expected[i], "%s: %a", hub_names[hub], double{sum});
    }
    // 2^-12 (1 + 2^-12) * 2^-12 - 2^-24: a product rounded by itself leaves nothing; so does 2^-40 without fusing.
    const float a = 1 + 0x1p-12f, b = 1 - 0x1p-12f, minus = -1;
    float value = 0;
    const QuantizeParams fused{&b, &none, &none, &minus, &none};
    scalar.quantize[op_fma][hub_f32][along_rows](&a, &value, {1, 1, 4, 4}, fused, {0, 1, false, 4}, false);
    tally.check(value == -0x1p-24f, "fma: %a", double{value});
    const uint8_t code = 200;
    const float scale = 0.5f, zero = 100, bias = 1;
    scalar.dequantize[codes_u8][hub_f32][along_rows](&code, &value, {1, 1, 1, 4}, {&scale, &zero, &bias, false}, false);
    tally.check(value == 51, "dequantize: %a", double{value});
    const float values[] = {3, nan, -inf, -2, inf, -0.0f};
    float low = inf, high = -inf;
    scalar.range[along_rows](values, {1, 6, 24, 0}, &low, &high);
    tally.check(low == -2 && high == 3, "range: %a %a", double{low}, double{high});
}

void lengths(Compare& compare, size_t most_items) {
    uint64_t seed = 1;
    for (size_t n = 0; n <= most_items; ++n)
        for (const size_t rows : {size_t{1}, size_t{3}}) {
            Case c = make_case(++seed, rows, n, n % 2 != 0);
            c.at_end = n % 4 < 2;
            c.gap = rows == 1 || n % 3 == 0 ? 0 : n % 3 * 4 + (n % 5 == 0 ? 1 : 0);
            for (int32_t along = 0; along < along_count; ++along) {
                for (int32_t op = 0; op < op_count; ++op)
                    compare.quantize(op, hub_f32, along, rules[(n + static_cast<size_t>(op)) % std::size(rules)], c);
                for (const int32_t hub : {hub_f16, hub_bf16})
                    compare.quantize(static_cast<int32_t>(n % 2), hub, along, rules[n * 5 % std::size(rules)], c);
                for (int32_t kind = 0; kind < code_kinds; ++kind)
                    compare.dequantize(kind, static_cast<int32_t>(n) % hub_count, along, n % 4 != 0, n % 8 < 4, c);
                compare.range(along, c);
            }
            for (const int32_t item : {1, 2})
                compare.sums(item, n % 3 != 0, c);
        }
}

// Everything with everything, on rectangles like those of groups, rows and channels.
void combinations(Compare& compare) {
    constexpr size_t shapes[][2] = {{9, 16}, {300, 8}, {70, 32}, {5, 128}, {4, 517}, {2, 1500}};
    uint64_t seed = 1000;
    for (const auto& shape : shapes)
        for (int variant = 0; variant < 6; ++variant) {
            Case c = make_case(++seed, shape[0], shape[1], variant % 2 != 0);
            c.gap = variant < 4 ? 0 : variant == 4 ? 3 : 64;
            c.at_end = variant % 3 == 0;
            c.stream = variant >= 3;
            for (int32_t along = 0; along < along_count; ++along) {
                for (int32_t op = 0; op < op_count; ++op)
                    for (int32_t hub = 0; hub < (op == op_fma ? 1 : hub_count); ++hub)
                        for (const QuantizeRule& rule : rules)
                            compare.quantize(op, hub, along, rule, c);
                for (int32_t kind = 0; kind < code_kinds; ++kind)
                    for (int32_t hub = 0; hub < hub_count; ++hub)
                        for (const int form : {0, 1, 2})
                            compare.dequantize(kind, hub, along, form != 0, form == 2, c);
                compare.range(along, c);
            }
        }
}

// Ordinary numbers, for the range without a second look; and single values that are not finite in all places.
void ranges(Compare& compare) {
    for (size_t n = 1; n < 200; ++n) {
        Case c{};
        c.rows = 1 + n % 9;
        c.cols = n;
        for (size_t i = 0; i < c.rows * c.cols; ++i)
            c.x.push_back(static_cast<float>(static_cast<int>(mix(n * 4096 + i) >> 40) - (1 << 23)));
        for (const int32_t along : {along_rows, along_columns})
            compare.range(along, c);
        c.x[mix(n) % c.x.size()] = n % 4 == 0 ? inf : n % 4 == 1 ? -inf : n % 4 == 2 ? nan : of_bits(0x7f800001);
        for (const int32_t along : {along_rows, along_columns})
            compare.range(along, c);
    }
}

int run() {
    Tally tally;
    by_hand(tally);
    for (const std::string& isa : supported_isas()) {
        const KernelTable& table = *find_isa(isa.c_str());
        Compare compare(tally, table);
        lengths(compare, 200);
        combinations(compare);
        ranges(compare);
    }
    return tally.finish();
}

} // namespace
} // namespace narrowcast::test

int main() { return narrowcast::test::run(); }
