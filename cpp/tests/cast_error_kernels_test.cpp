// The kernels behind nc_cast_error: every instruction set's against sums made one pair at a time, at every length
// around its strips, between guard pages. The function is in cast_error_test.cpp.
#include <bit>
#include <cmath>
#include <functional>

#include "cast_error_sums.hpp"
#include "dispatch/registry.hpp"
#include "guarded_pages.hpp"

namespace narrowcast::test {
namespace {

constexpr size_t longest = 1100; // two strips of the widest set and more

struct Mixture {
    const char* name;
    std::function<uint32_t(uint64_t random)> x; // float32 bits
    std::function<uint32_t(uint32_t x, uint64_t random)> y;
};

uint32_t bits_of(float value) { return std::bit_cast<uint32_t>(value); }

const std::vector<Mixture>& mixtures() {
    const auto cut = [](uint32_t x, uint64_t) { return x & 0xffff0000u; };
    const auto sometimes = [](uint64_t random, uint32_t special, uint32_t usual) {
        return random >> 32 & 63 ? usual : special;
    };
    static const std::vector<Mixture> all{
        {"weights", [](uint64_t r) { return near_exponent(r, -12, 10); }, cut},
        {"exact", [](uint64_t r) { return near_exponent(r, -3, 4) & 0xffff0000u; }, cut},
        {"zeros in both", [](uint64_t r) { return r >> 33 & 1 ? near_exponent(r, -8, 8) : uint32_t(r) & 0x80000000u; },
         [](uint32_t x, uint64_t r) { return r >> 34 & 1 ? x & 0xff000000u : uint32_t(r) & 0x80000000u; }},
        {"zero became a number", [](uint64_t r) { return r >> 33 & 1 ? near_exponent(r, -8, 8) : 0; },
         [](uint32_t x, uint64_t) { return x == 0 ? 0x00400000u : x; }},
        {"tiny", [](uint64_t r) { return near_exponent(r, -70, 8); }, cut},
        {"subnormal", [](uint64_t r) { return uint32_t(r) & 0x807fffffu; },
         [](uint32_t x, uint64_t) { return x & 0xfffffff0u; }},
        {"tiny beside one", [=](uint64_t r) { return sometimes(r, bits_of(1), near_exponent(r, -70, 8)); }, cut},
        {"huge", [](uint64_t r) { return near_exponent(r, 64, 63); }, cut},
        {"largest", [](uint64_t r) { return 0x7f7fffffu | (uint32_t(r) & 0x80000000u); },
         [](uint32_t x, uint64_t) { return x ^ 0x80000000u; }},
        {"at the limits", [](uint64_t r) { return 0x43e80000u - 8 + uint32_t(r) % 16 + (uint32_t(r >> 20) << 31); },
         [](uint32_t x, uint64_t) { return x & 0xffe00000u; }},
        {"infinite y", [](uint64_t r) { return near_exponent(r, -4, 8); },
         [=](uint32_t x, uint64_t r) { return sometimes(r, 0x7f800000, x); }},
        {"NaN in y", [](uint64_t r) { return near_exponent(r, -4, 8); },
         [=](uint32_t x, uint64_t r) { return sometimes(r, 0xff800001, x); }},
        {"specials of x",
         [=](uint64_t r) { return sometimes(r, r >> 50 & 1 ? 0x7fc00000u : 0xff800000u, near_exponent(r, -4, 8)); },
         [](uint32_t x, uint64_t r) { return r >> 51 & 1 ? x : 0; }},
        {"any bits", [](uint64_t r) { return uint32_t(r >> 7); },
         [](uint32_t x, uint64_t r) { return r >> 60 & 1 ? uint32_t(r >> 13) : x; }},
    };
    return all;
}

// Thresholds alike, lopsided as those of directed roundings are, and one that no magnitude reaches.
constexpr CensusRule rules[] = {{0x43e80000, 0x43e80000, 0}, {0x43e80001, 0x43e7fffb, 0}, {0x7f800000, 0x3f800000, 0}};

void add_bits(uint32_t x, uint32_t y, const CensusRule& rule, nc_error_sums& sums) {
    const double limit = double{std::bit_cast<float>(x >> 31 != 0 ? rule.overflow_negative : rule.overflow_positive)};
    const double value = double{std::bit_cast<float>(x)};
    const bool overflows = std::isfinite(value) && std::fabs(value) >= limit;
    add_pair(value, 0, double{std::bit_cast<float>(y)}, overflows, sums);
}

void kernels(Tally& tally, const std::string& isa) {
    const ErrorFn kernel = find_isa(isa.c_str())->error;
    GuardedPages x_pages(longest * 4), y_pages(longest * 4);
    uint64_t seed = 1;
    for (const Mixture& mixture : mixtures()) {
        std::vector<uint32_t> x(longest), y(longest);
        for (size_t i = 0; i < longest; ++i) {
            x[i] = mixture.x(mix(seed));
            y[i] = mixture.y(x[i], mix(~seed));
            ++seed;
        }
        for (const CensusRule& rule : rules) {
            nc_error_sums expected = empty_sums();
            for (size_t n = 0; n <= longest; ++n) {
                const bool at_end = n % 2 != 0;
                const size_t bytes = n * 4;
                unsigned char *from = x_pages.place(bytes, at_end), *to = y_pages.place(bytes, at_end);
                memcpy(from, x.data(), bytes);
                memcpy(to, y.data(), bytes);
                nc_error_sums sums = empty_sums();
                kernel(reinterpret_cast<const uint32_t*>(from), reinterpret_cast<const uint32_t*>(to), n, rule, sums);
                tally.check(equal(sums, expected), "%s kernel, %s, %zu pairs: %s; expected %s", isa.c_str(),
                            mixture.name, n, text(sums).c_str(), text(expected).c_str());
                nc_error_sums squares = empty_sums(), without = expected;
                squares.squares_only = 1;
                without.sum_error = without.max_error = 0;
                kernel(reinterpret_cast<const uint32_t*>(from), reinterpret_cast<const uint32_t*>(to), n, rule,
                       squares);
                tally.check(equal(squares, without), "%s kernel, squares only, %s, %zu pairs: %s; expected %s",
                            isa.c_str(), mixture.name, n, text(squares).c_str(), text(without).c_str());
                if (n < longest)
                    add_bits(x[n], y[n], rule, expected);
            }
        }
    }
    // It adds to what is there, and the same pieces give the same sums.
    std::vector<uint32_t> x(longest), y(longest);
    for (size_t i = 0; i < longest; ++i)
        y[i] = (x[i] = near_exponent(mix(i), -8, 8)) & 0xffff0000u;
    nc_error_sums first = empty_sums(), twice = empty_sums();
    for (int round = 0; round < 2; ++round) {
        nc_error_sums again = empty_sums();
        kernel(x.data(), y.data(), longest, rules[0], round == 0 ? first : again);
        kernel(x.data(), y.data(), longest, rules[0], twice);
        if (round == 1)
            tally.check(memcmp(&first, &again, sizeof first) == 0, "%s kernel gives other sums again", isa.c_str());
    }
    tally.check(twice.count == 2 * longest && near(twice.sum_x2, 2 * first.sum_x2, 0x1p-40) &&
                    twice.max_error == first.max_error,
                "%s kernel does not add up", isa.c_str());
}

int run() {
    Tally tally;
    for (const std::string& isa : supported_isas())
        kernels(tally, isa);
    return tally.finish();
}

} // namespace
} // namespace narrowcast::test

int main() { return narrowcast::test::run(); }
