// What nc_pack and nc_unpack refuse, and the facts of layouts. Packing itself is in pack_test.cpp; the shapes that
// other layouts refuse are in pack_layout_test.cpp.
#include <algorithm>

#include "dispatch/kernel_table.hpp"
#include "pack_calls.hpp"

namespace narrowcast::test {
namespace {

// Refused with a sentence, and nothing is written.
void refusals(Tally& tally) {
    alignas(16) uint8_t memory[64];
    memset(memory, 0xa5, sizeof memory);
    const auto refused = [&](nc_status expected, nc_status status, const nc_error& error, const char* word) {
        const bool clean = std::all_of(memory, memory + sizeof memory, [](uint8_t byte) { return byte == 0xa5; });
        tally.check(status == expected && error.status == expected && strstr(error.message, word) != nullptr && clean,
                    "%s: status %d, \"%s\"", word, status, error.message);
    };
    const auto both = [&](nc_status expected, const void* codes, size_t n, int32_t bits, const void* packed,
                          size_t bytes, const nc_pack_options* options, const char* word) {
        nc_error error = no_error();
        refused(expected, nc_pack(codes, n, bits, const_cast<void*>(packed), bytes, options, &error), error, word);
        error = no_error();
        refused(expected, nc_unpack(packed, bytes, bits, const_cast<void*>(codes), n, options, &error), error, word);
    };
    const auto argument = [&](const void* codes, size_t n, int32_t bits, const void* packed, size_t bytes,
                              const nc_pack_options* options, const char* word) {
        both(NC_ERROR_ARGUMENT, codes, n, bits, packed, bytes, options, word);
    };
    uint8_t* const codes = memory;
    uint8_t* const packed = memory + 32;
    argument(nullptr, 8, 4, packed, 4, nullptr, "codes is null");
    argument(codes, 8, 4, nullptr, 4, nullptr, "packed is null");
    for (const int32_t bits : {0, 9, -1, INT32_MIN, INT32_MAX})
        argument(codes, 8, bits, packed, 4, nullptr, "bits is");
    for (const size_t bytes : {size_t{0}, size_t{4}, size_t{6}, SIZE_MAX})
        argument(codes, 9, 4, packed, bytes, nullptr, "packed_bytes is");
    for (const size_t n : {SIZE_MAX, SIZE_MAX / 2 + 1, SIZE_MAX - 7})
        argument(codes, n, 8, packed, n, nullptr, "n is");
    const void* const top = reinterpret_cast<const void*>(UINTPTR_MAX - 3);
    argument(top, 8, 4, packed, 4, nullptr, "codes reaches past");
    argument(codes, 8, 4, top, 4, nullptr, "packed reaches past");
    const auto option = [&](auto change, nc_status expected, const char* word) {
        nc_pack_options options = pack_options();
        change(options);
        both(expected, codes, 8, 4, packed, 4, &options, word);
    };
    option([](nc_pack_options& o) { o.size = 0; }, NC_ERROR_ARGUMENT, "options.size");
    option([](nc_pack_options& o) { o.size = sizeof o + 1; }, NC_ERROR_ARGUMENT, "options.size");
    for (const int32_t layout : {0, -1, int32_t{NC_LAYOUT_LIMIT}, INT32_MAX})
        option([&](nc_pack_options& o) { o.layout = layout; }, NC_ERROR_ARGUMENT, "options.layout");
    option([](nc_pack_options& o) { o.is_signed = 2; }, NC_ERROR_ARGUMENT, "options.is_signed");
    option([](nc_pack_options& o) { o.check = -1; }, NC_ERROR_ARGUMENT, "options.check");
    option([](nc_pack_options& o) { o.threads = -1; }, NC_ERROR_ARGUMENT, "options.threads");
    option([](nc_pack_options& o) { o.isa = "avx9"; }, NC_ERROR_ISA, "avx9");

    for (const int distance : {-3, -1, 1, 7}) // of packed from codes
        both(NC_ERROR_OVERLAP, memory + 16, 8, 4, memory + 16 + distance, 4, nullptr, "overlaps");
    nc_error error = no_error();
    refused(NC_ERROR_OVERLAP, nc_unpack(memory, 4, 4, memory, 8, nullptr, &error), error, "overlaps");
    error.size = 0;
    tally.check(nc_pack(codes, 8, 4, packed, 4, nullptr, &error) == NC_ERROR_ARGUMENT, "an nc_error without a size");

    // Nothing to do needs no memory, and side by side is not over each other.
    tally.check(nc_pack(nullptr, 0, 3, nullptr, 0, nullptr, nullptr) == NC_OK, "no codes to pack");
    tally.check(nc_unpack(nullptr, 0, 3, nullptr, 0, nullptr, nullptr) == NC_OK, "no codes to unpack");
    tally.check(nc_pack(memory, 8, 4, memory + 8, 4, nullptr, nullptr) == NC_OK, "packed right behind codes");
    tally.check(nc_unpack(memory + 8, 4, 4, memory + 12, 8, nullptr, nullptr) == NC_OK, "codes right behind packed");

    // An older caller's options end early.
    nc_pack_options old = pack_options("avx9");
    old.size = offsetof(nc_pack_options, isa);
    tally.check(nc_pack(memory, 8, 4, memory + 8, 4, &old, nullptr) == NC_OK, "options without isa");
}

void facts(Tally& tally) {
    int32_t count = 0;
    for (; nc_layout_at(count) != NC_LAYOUT_INVALID; ++count) {
        nc_layout_info layout{};
        layout.size = sizeof layout;
        tally.check(nc_layout_get_info(nc_layout_at(count), &layout) == NC_OK && layout.layout == nc_layout_at(count) &&
                        layout.size == sizeof layout && nc_layout_from_name(layout.name) == layout.layout &&
                        layout.least_bits >= 1 && layout.least_bits <= layout.most_bits &&
                        layout.most_bits <= most_code_bits,
                    "layout %d", count);
        int32_t widths = 0, least = 0, most = 0;
        for (int32_t bits = -1; bits <= 40; ++bits) {
            size_t bytes = 99;
            const int32_t granule = nc_layout_granule(layout.layout, bits);
            const bool has = bits >= 1 && bits <= 8 && (layout.widths >> bits & 1) != 0;
            tally.check(has == (nc_packed_bytes(0, bits, layout.layout, &bytes) == NC_OK) && has == (granule > 0) &&
                            bytes == (has ? 0 : 99),
                        "codes of %d bits in %s", bits, layout.name);
            if (!has)
                continue;
            widths |= 1 << bits;
            least = least == 0 ? bits : least;
            most = bits;
            const auto n = static_cast<size_t>(granule), word = static_cast<size_t>(layout.word_bits / 8);
            size_t one = 0, more = 0;
            nc_packed_bytes(n, bits, layout.layout, &bytes);
            nc_packed_bytes(1, bits, layout.layout, &one);
            nc_packed_bytes(3 * n + 1, bits, layout.layout, &more);
            tally.check(bytes % word == 0 && bytes * 8 >= n * static_cast<size_t>(bits) && more == 3 * bytes + one,
                        "%zu codes of %d bits fill %zu bytes of %s", n, bits, bytes, layout.name);
        }
        tally.check(widths == layout.widths && least == layout.least_bits && most == layout.most_bits &&
                        (layout.word_bits == 8 || layout.word_bits == 32) && layout.axis >= -2 && layout.axis <= 0 &&
                        layout.inner_codes >= 1,
                    "facts of %s", layout.name);
    }
    for (int32_t bits = 1; bits <= 8; ++bits) {
        size_t bytes = 99;
        tally.check(nc_packed_bytes(11, bits, NC_LAYOUT_lsb, &bytes) == NC_OK && bytes == stream_bytes(11, bits),
                    "11 codes of %d bits", bits);
    }
    tally.check(count >= 1 && nc_layout_at(-1) == NC_LAYOUT_INVALID, "positions of layouts");
    tally.check(nc_layout_from_name("lsb") == NC_LAYOUT_lsb && nc_layout_from_name("LSB") == NC_LAYOUT_INVALID &&
                    nc_layout_from_name(nullptr) == NC_LAYOUT_INVALID,
                "names of layouts");
    nc_layout_info layout{};
    tally.check(nc_layout_get_info(NC_LAYOUT_lsb, &layout) == NC_ERROR_ARGUMENT &&
                    nc_layout_get_info(NC_LAYOUT_lsb, nullptr) == NC_ERROR_ARGUMENT,
                "an nc_layout_info without a size");
    size_t bytes = 0;
    tally.check(nc_packed_bytes(SIZE_MAX / 2, 8, NC_LAYOUT_lsb, &bytes) == NC_OK && bytes == SIZE_MAX / 2 &&
                    nc_packed_bytes(SIZE_MAX / 2 + 1, 1, NC_LAYOUT_lsb, &bytes) == NC_ERROR_ARGUMENT &&
                    nc_packed_bytes(1, 1, NC_LAYOUT_INVALID, &bytes) == NC_ERROR_ARGUMENT &&
                    nc_packed_bytes(1, 1, NC_LAYOUT_lsb, nullptr) == NC_ERROR_ARGUMENT,
                "sizes");
}

int run() {
    Tally tally;
    facts(tally);
    refusals(tally);
    return tally.finish();
}

} // namespace
} // namespace narrowcast::test

int main() { return narrowcast::test::run(); }
