// Shared by the C++ tests: counting checks, naming formats and instruction sets, contiguous casts, random words.
// Speaks only the C interface of the core and holds no expected values. Test inputs are in inputs.hpp.
#pragma once

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <array>
#include <atomic>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "narrowcast/narrowcast.h"

namespace narrowcast::test {

// Counts checks from any thread and prints the first failures. A run that checked nothing has failed.
class Tally {
public:
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    void check(bool ok, const char* format, ...) {
        if (ok) {
            ++passed_;
            return;
        }
        if (failed_++ >= 20)
            return;
        const std::lock_guard lock(print_);
        va_list arguments;
        va_start(arguments, format);
        fputs("FAILED ", stdout);
        vprintf(format, arguments);
        fputs("\n", stdout);
        va_end(arguments);
    }

    // Call it last: the closing line and the exit status.
    int finish() const {
        const uint64_t passed = passed_, failed = failed_;
        printf("%llu passed, %llu failed\n", static_cast<unsigned long long>(passed),
               static_cast<unsigned long long>(failed));
        return failed == 0 && passed != 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    }

private:
    std::atomic<uint64_t> passed_{0}, failed_{0};
    std::mutex print_;
};

inline nc_format_info info(int32_t format) {
    nc_format_info facts{};
    facts.size = sizeof facts;
    if (nc_format_get_info(format, &facts) != NC_OK) {
        fprintf(stderr, "no such format: %d\n", format);
        exit(2);
    }
    return facts;
}

inline std::vector<int32_t> all_formats() {
    std::vector<int32_t> formats;
    for (int32_t i = 0; nc_format_at(i) != NC_FORMAT_INVALID; ++i)
        formats.push_back(nc_format_at(i));
    return formats;
}

inline bool is_float(int32_t format) { return info(format).is_float != 0; }

inline size_t item_bytes(int32_t format) { return static_cast<size_t>(info(format).storage_bytes); }

constexpr std::array<const char*, 6> rounding_names{"nearest_even", "toward_zero",  "up",
                                                    "down",         "nearest_away", "stochastic"};
constexpr std::array<const char*, 3> overflow_names{"ieee", "saturate", "raise"};

// "a,b" -> {"a", "b"}
inline std::vector<std::string> split(std::string_view text) {
    std::vector<std::string> parts;
    while (!text.empty()) {
        const size_t comma = text.find(',');
        parts.emplace_back(text.substr(0, comma));
        text = comma == text.npos ? std::string_view{} : text.substr(comma + 1);
    }
    return parts;
}

// The compiled instruction sets that this CPU runs, best first. Says which are left out, and ends the test with a
// failure if one of those is in NARROWCAST_REQUIRE_ISAS (a comma-separated list).
inline std::vector<std::string> supported_isas() {
    std::vector<std::string> isas;
    std::string absent;
    for (int32_t i = 0; nc_isa_name(i) != nullptr; ++i) {
        if (nc_isa_supported(nc_isa_name(i)) != 0)
            isas.emplace_back(nc_isa_name(i));
        else
            absent += std::string(absent.empty() ? "" : " ") + nc_isa_name(i);
    }
    const char* chosen = nullptr;
    if (nc_isa_default(&chosen, nullptr) != NC_OK) {
        fputs("no default instruction set\n", stderr);
        exit(2);
    }
    printf("instruction sets:");
    for (const std::string& isa : isas)
        printf(" %s%s", isa.c_str(), isa == chosen ? " (default)" : "");
    printf("; skipped, not on this CPU: %s\n", absent.empty() ? "none" : absent.c_str());
    if (const char* required = getenv("NARROWCAST_REQUIRE_ISAS"))
        for (const std::string& isa : split(required))
            if (nc_isa_supported(isa.c_str()) == 0) {
                fprintf(stderr, "required instruction set was skipped: %s\n", isa.c_str());
                exit(2);
            }
    return isas;
}

// One contiguous cast of n elements.
inline nc_status cast(int32_t src, const void* x, int32_t dst, void* out, size_t n, const nc_cast_options& options,
                      nc_error* error = nullptr) {
    const auto extent = static_cast<int64_t>(n);
    // x is never written: nc_cast takes both arrays by the same struct.
    const nc_array from{const_cast<void*>(x), &extent, nullptr, 1, src, 0, 0};
    const nc_array to{out, &extent, nullptr, 1, dst, 0, 0};
    return nc_cast(&from, &to, &options, error);
}

inline nc_cast_options cast_options(int32_t rounding, int32_t overflow, const char* isa) {
    nc_cast_options options{};
    options.size = sizeof options;
    options.rounding = rounding;
    options.overflow = overflow;
    options.threads = 1;
    options.isa = isa;
    return options;
}

// A good 64-bit mixer (Steele, Lea and Flood's SplitMix64): test inputs only, never expected values.
constexpr uint64_t mix(uint64_t state) {
    state += 0x9e3779b97f4a7c15u;
    state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
    state = (state ^ (state >> 27)) * 0x94d049bb133111ebu;
    return state ^ (state >> 31);
}

// Word `index` of the stream that stochastic rounding is defined by: Philox4x32-10 (Salmon et al., SC'11), word
// index mod 4 of counter (lo, hi of index div 4, 0, 0) under key (lo, hi of seed). Independent of the kernels.
constexpr std::array<uint32_t, 4> philox_block(uint64_t seed, uint64_t block) {
    std::array<uint32_t, 4> c{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 0};
    auto key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const uint64_t a = uint64_t{0xd2511f53u} * c[0], b = uint64_t{0xcd9e8d57u} * c[2];
        c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ key0, static_cast<uint32_t>(b),
             static_cast<uint32_t>(a >> 32) ^ c[3] ^ key1, static_cast<uint32_t>(a)};
        key0 += 0x9e3779b9u;
        key1 += 0xbb67ae85u;
    }
    return c;
}
static_assert(philox_block(0, 0) == std::array<uint32_t, 4>{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});

inline void philox_words(uint64_t seed, uint64_t first, std::span<uint32_t> words) {
    std::array<uint32_t, 4> block = philox_block(seed, first / 4);
    for (size_t i = 0; i < words.size(); ++i) {
        const uint64_t index = first + i;
        if (i != 0 && index % 4 == 0)
            block = philox_block(seed, index / 4);
        words[i] = block[index % 4];
    }
}

// Codes as an array of the format's items, in native byte order.
inline void store_code(void* items, size_t index, size_t bytes, uint64_t code) {
    auto* to = static_cast<unsigned char*>(items) + index * bytes;
    const auto store = [&](auto value) { memcpy(to, &value, sizeof value); };
    switch (bytes) {
    case 1: store(static_cast<uint8_t>(code)); break;
    case 2: store(static_cast<uint16_t>(code)); break;
    case 4: store(static_cast<uint32_t>(code)); break;
    default: store(code); break;
    }
}

inline uint64_t load_code(const void* items, size_t index, size_t bytes) {
    const auto* from = static_cast<const unsigned char*>(items) + index * bytes;
    const auto load = [&](auto value) {
        memcpy(&value, from, sizeof value);
        return uint64_t{value};
    };
    switch (bytes) {
    case 1: return load(uint8_t{});
    case 2: return load(uint16_t{});
    case 4: return load(uint32_t{});
    default: return load(uint64_t{});
    }
}

} // namespace narrowcast::test
