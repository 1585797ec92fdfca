// Quantization kernels: the scalar ones against numbers worked out by hand, and every other instruction set against the
// scalar one, bit for bit, between guard pages: all operations, hubs, directions and items, on ties and their
// neighbours, scales from the smallest to the largest, every length up to three blocks, misaligned and strided rows.
#include "quantize_compare.hpp"

namespace narrowcast::test {
namespace {

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
            const QuantizeParams params{&row.factor, &row.shift, &row.zero, &row.offset, nullptr, nullptr};
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
    const float x[] = {257, 2049}, parts[] = {1 + 0x1p-9f, 1};
    const float expected[] = {256, 2048};
    for (const int32_t hub : {hub_bf16, hub_f16}) {
        float sum = 0;
        const size_t i = hub == hub_f16 ? 1 : 0;
        const QuantizeParams params{&parts[i], nullptr, nullptr, nullptr, nullptr, nullptr};
        scalar.quantize[op_divide][hub][along_rows](&x[i], &sum, {1, 1, 4, 4}, params, {0, 255, false, 4}, false);
        tally.check(sum == expected[i], "%s: %a", hub_names[hub], double{sum});
    }
    // 2^-12 (1 + 2^-12) * 2^-12 - 2^-24: a product rounded by itself leaves nothing; so does 2^-40 without fusing.
    const float a = 1 + 0x1p-12f, b = 1 - 0x1p-12f, minus = -1;
    float value = 0;
    const QuantizeParams fused{&b, nullptr, &minus, nullptr, nullptr, nullptr};
    scalar.quantize[op_fma][hub_f32][along_rows](&a, &value, {1, 1, 4, 4}, fused, {0, 1, false, 4}, false);
    tally.check(value == -0x1p-24f, "fma: %a", double{value});
    const uint8_t code = 200;
    const float scale = 0.5f, zero = 100, bias = 1;
    scalar.dequantize[codes_u8][hub_f32][along_rows](&code, &value, {1, 1, 1, 4}, {&scale, &zero, &bias, false}, false);
    tally.check(value == 51, "dequantize: %a", double{value});
    const uint8_t pair = 0x8f; // 15 and 8, or -1 and -8
    uint16_t two[2];
    const float unit = 2, origin = 0;
    for (const int32_t kind : {codes_i4, codes_u4}) {
        scalar.dequantize[kind][hub_f16][along_rows](&pair, two, {1, 2, 1, 4}, {&unit, &origin, nullptr, false}, false);
        const bool right = kind == codes_u4 ? two[0] == 0x4f80 && two[1] == 0x4c00  // 30, 16
                                            : two[0] == 0xc000 && two[1] == 0xcc00; // -2, -16
        tally.check(right, "kind %d: %04x %04x", kind, two[0], two[1]);
    }
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
            compare.span(c);
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
        compare.span(c);
        for (float& x : c.x) // one sign
            x = n % 3 == 0 ? fabsf(x) : n % 3 == 1 ? -fabsf(x) : x;
        compare.span(c);
        c.x[mix(n) % c.x.size()] = n % 4 == 0 ? inf : n % 4 == 1 ? -inf : n % 4 == 2 ? nan : of_bits(0x7f800001);
        for (const int32_t along : {along_rows, along_columns})
            compare.range(along, c);
        compare.span(c);
    }
}

// Ranges that are known and end where codes do, as those that scales are computed from: most blocks in fixed point,
// with ties and their neighbours strewn in, few or many; then a range that goes beyond, by little and by much.
void known_ranges(Compare& compare) {
    constexpr size_t shapes[][2] = {{3, 4096}, {40, 128}, {50, 32}, {33, 64}, {70, 16}, {2, 1000}};
    uint64_t seed = 5000;
    for (const auto& shape : shapes)
        for (const QuantizeRule& rule : rules)
            for (int variant = 0; variant < 8; ++variant) {
                Case c = make_case(++seed, shape[0], shape[1], false);
                c.gap = variant == 5 ? 68 : 0;
                c.stream = variant == 6;
                const float ends[] = {static_cast<float>(rule.low), static_cast<float>(rule.high)};
                const bool shifted = variant % 2 != 0 && rule.high - rule.low > 2;
                const float beyond = variant == 3 ? 1.01f : variant == 7 ? 3e4f : 1.0f;
                for (size_t i = 0; i < c.rows; ++i) {
                    const float s = variant == 4 ? 0.0625f : static_cast<float>(1 + mix(seed + i) % 1000) * 0x1.1p-7f;
                    const float offset = shifted ? floorf((ends[0] + ends[1]) * 0.5f) : 0.0f;
                    c.factor[i] = s;
                    c.offset[i] = offset;
                    for (size_t j = 0; j < c.cols; ++j) {
                        const uint64_t word = mix(seed * 77 + i * 8191 + j);
                        const float part = static_cast<float>(word >> 40) * 0x1p-24f;
                        float q = ends[0] + (ends[1] - ends[0]) * part - offset;
                        if (word % (variant < 2 ? 500 : 3) == 0)
                            q = floorf(q) + 0.5f;
                        float x = q * s * beyond;
                        for (int step = static_cast<int>(word >> 8 & 7) - 3; word % 2 != 0 && step != 0;
                             step += step < 0 ? 1 : -1)
                            x = nextafterf(x, step < 0 ? -inf : inf);
                        c.x[i * c.cols + j] = x;
                    }
                }
                compare.quantize(op_divide, hub_f32, along_rows, rule, c);
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
        known_ranges(compare);
    }
    return tally.finish();
}

} // namespace
} // namespace narrowcast::test

int main() { return narrowcast::test::run(); }
