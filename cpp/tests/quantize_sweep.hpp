// The part of the sweep that quantizes: float32 to int8 on every instruction set against the codec. Of float32 patterns
// one of every `stride` in the binades where codes change (2^-4 to 2^10 of the scale), one of 257 * stride elsewhere.
#pragma once

#include <chrono>
#include <thread>

#include "codec/quantize.hpp"
#include "dispatch/registry.hpp"
#include "support.hpp"

namespace narrowcast::test {

struct QuantizeCase {
    int32_t op;
    float scale, zero, offset;
};

// Significands next to those whose quotients are not corrected but looked at; a power of two, what symmetric int8 makes
// of 1, significands that are long, odd and extreme; the first and the last scale that may go by the reciprocal, and
// one beyond.
constexpr QuantizeCase quantize_cases[] = {
    {op_divide, 0x1.00002p0f, 0, 0},   {op_divide, 0x1.01002p0f, 0, 1},     {op_divide, 0x1.00ffep0f, 0, 0},
    {op_divide, 0x1.fffep0f, 0, 0},    {op_divide, 0x1.80002p-3f, 0, 0},    {op_divide, 0x1.4fffep0f, 0, 0},
    {op_divide, 0x1p-7f, 0, 3},        {op_divide, 1.0f / 127, 0, 0},       {op_divide, 0x1.fffffep-5f, 0, -7},
    {op_divide, 0x1.000002p0f, 0, 0},  {op_divide, 0x1.6a09e6p3f, 0, 0},    {op_divide, 0x1p-100f, 0, 0},
    {op_divide, 0x1.fffffep99f, 0, 0}, {op_divide, 0x1.2p-110f, 0, 0},      {op_divide, 1.0f / 127, 5, 0},
    {op_multiply, 1.0f / 127, 0, 3},   {op_multiply, 0x1.6a09e6p3f, -9, 0}, {op_fma, 1.0f / 127, 0, 0},
    {op_fma, 0x1.6a09e6p3f, 5, 0},     {op_fma, 0x1p-120f, 5, 0},
};

template <int32_t Op> void quantize_by_codec(const float* x, int8_t* codes, size_t n, const QuantizeEntry& entry) {
    for (size_t i = 0; i < n; ++i)
        codes[i] = static_cast<int8_t>(
            quantized_code<hub_f32>(quantized_sum<Op, hub_f32>(x[i], entry), entry.offset, {-128, 127, false, 1}));
}

inline void sweep_binade(const QuantizeCase& c, uint64_t top, uint64_t stride, const std::vector<std::string>& isas,
                         Tally& tally) {
    constexpr size_t chunk = size_t{1} << 15;
    const float factor = c.op == op_divide ? c.scale : 1.0f / c.scale, shift = 0;
    const auto given = [](const float& number) { return number != 0 ? &number : nullptr; };
    QuantizeParams params{&factor, nullptr, given(c.zero), given(c.offset), nullptr, nullptr};
    const QuantizeEntry entry{factor, shift, c.zero, c.offset};
    std::vector<float> x(chunk);
    std::vector<int8_t> expected(chunk), codes(chunk);
    for (uint64_t fraction = 0; fraction < uint64_t{1} << 23;) {
        size_t n = 0;
        for (; n < chunk && fraction < uint64_t{1} << 23; ++n, fraction += stride)
            x[n] = std::bit_cast<float>(static_cast<uint32_t>(top << 23 | fraction));
        c.op == op_divide     ? quantize_by_codec<op_divide>(x.data(), expected.data(), n, entry)
        : c.op == op_multiply ? quantize_by_codec<op_multiply>(x.data(), expected.data(), n, entry)
                              : quantize_by_codec<op_fma>(x.data(), expected.data(), n, entry);
        const bool finite = top % 256 != 255;
        for (const bool known : {false, true}) { // with or without the range of x
            if (known && !finite)
                continue;
            params.low = known ? &x[top < 256 ? 0 : n - 1] : nullptr;
            params.high = known ? &x[top < 256 ? n - 1 : 0] : nullptr;
            for (const std::string& isa : isas) {
                find_isa(isa.c_str())
                    ->quantize[c.op][hub_f32][along_rows](x.data(), codes.data(), {1, n, 0, 0}, params,
                                                          {-128, 127, false, 1}, false);
                size_t i = 0;
                if (memcmp(codes.data(), expected.data(), n) != 0)
                    while (codes[i] == expected[i])
                        ++i;
                else
                    i = n;
                tally.check(i == n,
                            "%s: quantize, operation %d, scale %a, zero %a, range known %d: %a gives %d, not %d",
                            isa.c_str(), c.op, double{c.scale}, double{c.zero}, known, double{x[i % chunk]},
                            codes[i % chunk], expected[i % chunk]);
            }
        }
    }
}

inline void sweep_quantize(uint64_t stride, unsigned threads, const std::vector<std::string>& isas, Tally& tally) {
    constexpr uint64_t tops = 512; // sign and exponent
    std::atomic<uint64_t> next{0};
    const auto start = std::chrono::steady_clock::now();
    const auto work = [&] {
        for (uint64_t task = next++; task < tops * std::size(quantize_cases); task = next++) {
            const QuantizeCase& c = quantize_cases[task / tops];
            const int distance =
                static_cast<int>(task % 256) - static_cast<int>(std::bit_cast<uint32_t>(c.scale) >> 23);
            sweep_binade(c, task % tops, distance >= -4 && distance < 10 ? stride : stride * 257, isas, tally);
        }
    };
    std::vector<std::thread> others;
    for (unsigned i = 1; i < threads; ++i)
        others.emplace_back(work);
    work();
    for (std::thread& thread : others)
        thread.join();
    printf("quantize: %zu cases x %zu sets in %.1f s\n", std::size(quantize_cases), isas.size(),
           std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

} // namespace narrowcast::test
