// Every kernel of every instruction set, at every length from 0 to 300, between two pages that may not be touched: a
// read or write of one byte too many ends the test. Results are compared with the scalar codec, bytes around the
// output with what was there, in place too where the output items are no larger.
//
// Values are only a mixture here; sweep.cpp has all of them.
#include <algorithm>
#include <functional>

#include "api/fp_guard.hpp"
#include "codec/reference.hpp"
#include "dispatch/registry.hpp"
#include "guarded_pages.hpp"
#include "support.hpp"

namespace narrowcast::test {
namespace {

constexpr size_t longest = 300;

// Random codes; every other float32 or float64 near 1, where narrow formats have their values.
std::vector<unsigned char> codes(int32_t format, uint64_t seed) {
    const size_t bytes = item_bytes(format);
    std::vector<unsigned char> items(longest * bytes);
    for (size_t i = 0; i < longest; ++i) {
        uint64_t code = mix(seed + i);
        if (format == NC_FORMAT_f32 && i % 2 != 0)
            code = (code & 0x807fffffu) | (0x70 + (code >> 32) % 24) << 23;
        if (format == NC_FORMAT_f64 && i % 2 != 0)
            code = (code & 0x800fffffffffffffu) | (0x3f0 + mix(code) % 24) << 52;
        store_code(items.data(), i, bytes, code);
    }
    return items;
}

struct Slot {
    std::string name;
    int32_t src, dst, rounding, overflow;
    bool inexact; // may lose bits that no narrow format keeps: judged by what becomes of it as TF32, the widest one
    std::function<void(const void* x, void* out, size_t n, bool stream)> run;
};

class Guard {
public:
    explicit Guard(Tally& tally) : tally_(tally) {
        for (size_t i = 0; i < longest; ++i)
            words_.push_back(static_cast<uint32_t>(mix(~i)));
    }

    void check(const Slot& slot) {
        const size_t src_bytes = item_bytes(slot.src), dst_bytes = item_bytes(slot.dst);
        const std::vector<unsigned char> items = codes(slot.src, static_cast<uint64_t>(slot.src));
        std::vector<unsigned char> expected(longest * dst_bytes);
        reference_cast(slot.src, slot.dst, items.data(), expected.data(), longest,
                       {slot.rounding, slot.overflow, words_.data()});
        const auto right = [&](const unsigned char* out, size_t n) {
            if (!slot.inexact)
                return memcmp(out, expected.data(), n * dst_bytes) == 0;
            for (size_t i = 0; i < n; ++i) {
                const uint64_t code = load_code(items.data(), i, src_bytes), value = load_code(out, i, dst_bytes);
                if (convert_code(slot.dst, value, NC_FORMAT_tf32, NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, 0) !=
                    convert_code(slot.src, code, NC_FORMAT_tf32, NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, 0))
                    return false;
            }
            return true;
        };
        size_t wrong_values = 0, wrong_bytes = 0, first_wrong = 0;
        for (size_t n = 0; n <= longest; ++n)
            for (const bool at_end : {false, true})
                for (const bool stream : {false, true}) {
                    unsigned char* from = x_.place(n * src_bytes, at_end);
                    unsigned char* to = out_.place(n * dst_bytes, at_end);
                    memcpy(from, items.data(), n * src_bytes);
                    out_.clear();
                    slot.run(from, to, n, stream);
                    if (!right(to, n) && wrong_values++ == 0)
                        first_wrong = n;
                    wrong_bytes += !out_.clean_around(to, n * dst_bytes);
                    if (dst_bytes <= src_bytes) {
                        slot.run(from, from, n, stream);
                        wrong_values += !right(from, n);
                    }
                }
        tally_.check(wrong_values == 0, "%s: %zu runs of 0 to %zu items differ from the codec, first with %zu",
                     slot.name.c_str(), wrong_values, longest, first_wrong);
        tally_.check(wrong_bytes == 0, "%s: %zu runs wrote outside the output", slot.name.c_str(), wrong_bytes);
    }

    void check_census(const std::string& isa, CensusFn census, int32_t dst) {
        const std::vector<unsigned char> items = codes(NC_FORMAT_f32, 7);
        const CensusRule rule = census_rule(dst, NC_NEAREST_EVEN);
        Census expected{}, sum{};
        for (size_t n = 0; n <= longest; ++n) {
            for (const bool at_end : {false, true}) {
                unsigned char* from = x_.place(n * 4, at_end);
                memcpy(from, items.data(), n * 4);
                Census more{};
                census(reinterpret_cast<const uint32_t*>(from), n, rule, more);
                census(reinterpret_cast<const uint32_t*>(from), n, rule, sum); // adds to what is there
                tally_.check(equal(more, expected), "%s census for %s of %zu items", isa.c_str(), info(dst).name, n);
            }
            if (n < longest)
                count(static_cast<uint32_t>(load_code(items.data(), n, 4)), rule, expected);
        }
        tally_.check(sum.negative > expected.negative, "%s census does not add up", isa.c_str());
    }

    void check_philox(const std::string& isa, PhiloxFn philox) {
        for (const uint64_t first : {uint64_t{0}, uint64_t{0xfffffff0u}, ~uint64_t{0} >> 2})
            for (size_t blocks = 0; blocks <= longest / 4; ++blocks)
                for (const bool at_end : {false, true}) {
                    unsigned char* to = out_.place(blocks * 16, at_end);
                    out_.clear();
                    philox(0x0123456789abcdefu, first, reinterpret_cast<uint32_t*>(to), blocks);
                    std::vector<uint32_t> expected(blocks * 4);
                    for (size_t i = 0; i < blocks; ++i) {
                        const std::array<uint32_t, 4> block = philox_block(0x0123456789abcdefu, first + i);
                        std::copy(block.begin(), block.end(), expected.begin() + static_cast<ptrdiff_t>(i * 4));
                    }
                    tally_.check((blocks == 0 || memcmp(to, expected.data(), blocks * 16) == 0) &&
                                     out_.clean_around(to, blocks * 16),
                                 "%s philox, %zu blocks from %llx", isa.c_str(), blocks,
                                 static_cast<unsigned long long>(first));
                }
    }

    const uint32_t* words() const { return words_.data(); }

private:
    static void count(uint32_t bits, const CensusRule& rule, Census& sum) {
        const uint32_t magnitude = bits & 0x7fffffffu;
        const bool negative = bits != magnitude, finite = magnitude < 0x7f800000u;
        sum.nan += magnitude > 0x7f800000u;
        sum.infinite += magnitude == 0x7f800000u;
        sum.overflow += finite && magnitude >= (negative ? rule.overflow_negative : rule.overflow_positive);
        sum.zero += magnitude == 0;
        sum.zeroed += magnitude != 0 && magnitude < rule.zero_below;
        sum.negative += negative && magnitude != 0 && magnitude <= 0x7f800000u;
    }
    static bool equal(const Census& a, const Census& b) {
        return a.overflow == b.overflow && a.infinite == b.infinite && a.zeroed == b.zeroed && a.zero == b.zero &&
               a.negative == b.negative && a.nan == b.nan;
    }

    Tally& tally_;
    GuardedPages x_{longest * 8}, out_{longest * 8};
    std::vector<uint32_t> words_;
};

bool narrow(int32_t format) { return is_float(format) && format != NC_FORMAT_f32 && format != NC_FORMAT_f64; }

// Every slot that kernel_table.hpp promises.
std::vector<Slot> slots(const KernelTable& table, const uint32_t* words, Tally& tally) {
    constexpr int32_t hubs[hub_count] = {NC_FORMAT_f32, NC_FORMAT_f16, NC_FORMAT_bf16};
    std::vector<Slot> all;
    const auto add = [&](const char* family, bool there, Slot slot) {
        slot.name = std::string(table.name) + " " + family + " " + info(slot.src).name + " -> " + info(slot.dst).name +
                    ", " + rounding_names[static_cast<size_t>(slot.rounding)] + ", " +
                    overflow_names[static_cast<size_t>(slot.overflow)];
        tally.check(there, "%s is missing", slot.name.c_str());
        if (there)
            all.push_back(std::move(slot));
    };
    const auto convert = [&](const char* family, ConvertFn kernel, int32_t src, int32_t dst, int32_t rounding,
                             int32_t overflow, bool inexact = false) {
        add(family, kernel != nullptr, {{}, src, dst, rounding, overflow, inexact, kernel});
    };
    const auto encode = [&](const char* family, EncodeFn kernel, int32_t src, int32_t dst, int32_t rounding,
                            int32_t overflow) {
        add(family, kernel != nullptr,
            {{}, src, dst, rounding, overflow, false, [=](const void* x, void* out, size_t n, bool stream) {
                 kernel(x, out, n, {rounding, overflow, words}, stream);
             }});
    };
    for (const int32_t format : all_formats()) {
        const bool hub = format == NC_FORMAT_f32 || format == NC_FORMAT_tf32;
        const bool wide = format == NC_FORMAT_f64 || (!is_float(format) && item_bytes(format) >= 4);
        if (!hub)
            convert("widen", table.widen[format], format, NC_FORMAT_f32, NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, wide);
        if (is_float(format) && item_bytes(format) == 1 && format != NC_FORMAT_e8m0fnu)
            for (const int32_t to : {hub_f16, hub_bf16})
                convert("widen16", table.widen16[format][to], format, hubs[to], NC_NEAREST_EVEN, NC_OVERFLOW_IEEE);
        if (narrow(format)) {
            for (int32_t from = 0; from < hub_count; ++from)
                for (const int32_t overflow : {NC_OVERFLOW_IEEE, NC_OVERFLOW_SATURATE})
                    if (hubs[from] != format)
                        convert("direct", table.direct[from][format][overflow], hubs[from], format, NC_NEAREST_EVEN,
                                overflow);
            for (int32_t rounding = NC_NEAREST_EVEN; rounding <= NC_STOCHASTIC; ++rounding)
                for (const int32_t overflow : {NC_OVERFLOW_IEEE, NC_OVERFLOW_SATURATE})
                    encode("encode", table.encode[format], NC_FORMAT_f32, format, rounding, overflow);
            for (const int32_t overflow : {NC_OVERFLOW_IEEE, NC_OVERFLOW_SATURATE})
                encode("stochastic64", table.stochastic64[format], NC_FORMAT_f64, format, NC_STOCHASTIC, overflow);
            for (const int32_t overflow : {NC_OVERFLOW_IEEE, NC_OVERFLOW_SATURATE})
                encode("stochastic64", table.stochastic64[format], NC_FORMAT_f64, format, NC_STOCHASTIC, overflow);
        }
        for (const int32_t to : {NC_FORMAT_f32, NC_FORMAT_f64}) {
            if (!(wide || (format == NC_FORMAT_f32 && to == NC_FORMAT_f64)) || format == to)
                continue;
            const EncodeFn kernel = (to == NC_FORMAT_f32 ? table.to_f32 : table.to_f64)[format];
            for (int32_t rounding = NC_NEAREST_EVEN; rounding <= NC_DOWN; ++rounding)
                encode("to", kernel, format, to, rounding, NC_OVERFLOW_IEEE);
        }
    }
    return all;
}

int run() {
    Tally tally;
    Guard guard(tally);
    for (const std::string& isa : supported_isas()) {
        const KernelTable& table = *find_isa(isa.c_str());
        const std::vector<Slot> all = slots(table, guard.words(), tally);
        for (const Slot& slot : all) {
            const FpGuard environment(slot.rounding <= NC_DOWN ? slot.rounding : int32_t{NC_NEAREST_EVEN});
            guard.check(slot);
        }
        const FpGuard environment(NC_NEAREST_EVEN);
        for (const int32_t format : all_formats())
            if (narrow(format))
                guard.check_census(isa, table.census, format);
        guard.check_philox(isa, table.philox);
        printf("%s: %zu kernels\n", isa.c_str(), all.size());
        fflush(stdout);
    }
    return tally.finish();
}

} // namespace
} // namespace narrowcast::test

int main() { return narrowcast::test::run(); }
