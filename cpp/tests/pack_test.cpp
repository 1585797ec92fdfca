// Packing: the codec against bits counted one by one, every instruction set's kernels against the codec between guard
// pages, and nc_pack and nc_unpack with all that they refuse, in the layout lsb. Golden bytes typed by hand are here
// and in tests/test_pack.py; other layouts are in pack_layout_test.cpp.
#include "codec/packing.hpp"

#include "dispatch/registry.hpp"
#include "guarded_pages.hpp"
#include "support.hpp"

namespace narrowcast::test {
namespace {

using Bytes = std::vector<uint8_t>;

size_t stream_bytes(size_t n, int bits) { return (n * static_cast<size_t>(bits) + 7) / 8; }

// Any byte: what stands above the width is hostile.
Bytes random_codes(size_t n, uint64_t seed) {
    Bytes codes(n);
    for (size_t i = 0; i < n; ++i)
        codes[i] = static_cast<uint8_t>(mix(seed + i) >> 17);
    return codes;
}

Bytes packed_by_codec(const Bytes& codes, int bits) {
    Bytes packed(stream_bytes(codes.size(), bits));
    pack_stream(codes.data(), packed.data(), codes.size(), bits);
    return packed;
}

Bytes unpacked_by_codec(const Bytes& packed, size_t n, int bits, bool is_signed) {
    Bytes codes(n);
    unpack_stream(packed.data(), codes.data(), n, bits, is_signed);
    return codes;
}

// --- the codec -----------------------------------------------------------------------------------------------------

bool bit(const Bytes& bytes, size_t i) { return (bytes[i / 8] >> i % 8 & 1) != 0; }

void codec(Tally& tally) {
    for (int bits = 1; bits <= 8; ++bits) {
        const auto width = static_cast<size_t>(bits);
        for (size_t n = 0; n <= 40; ++n) {
            const Bytes codes = random_codes(n, n * 64 + width), packed = packed_by_codec(codes, bits);
            bool right = true;
            for (size_t i = 0; i < packed.size() * 8; ++i) // bit i is bit i mod width of code i div width
                right &= bit(packed, i) == (i / width < n && (codes[i / width] >> i % width & 1) != 0);
            tally.check(right, "codec: %zu codes of %d bits are packed wrongly", n, bits);

            const Bytes stream = random_codes(packed.size(), n);
            const Bytes plain = unpacked_by_codec(stream, n, bits, false);
            const Bytes extended = unpacked_by_codec(stream, n, bits, true);
            for (size_t i = 0; i < n * 8; ++i) {
                const size_t code = i / 8, place = i % 8;
                tally.check(bit(plain, i) == (place < width && bit(stream, code * width + place)) &&
                                bit(extended, i) == bit(stream, code * width + std::min(place, width - 1)),
                            "codec: bit %zu of code %zu of %zu is wrong, %d bits", place, code, n, bits);
            }
        }
    }
    for (int bits = 1; bits <= 8; ++bits)
        for (int value = -128; value < 256; ++value) {
            const auto code = static_cast<uint8_t>(value);
            if (value >= 0)
                tally.check(code_fits(code, bits, false) == (value < 1 << bits), "%d in %d bits", value, bits);
            if (value < 128)
                tally.check(code_fits(code, bits, true) == (value >= -(1 << (bits - 1)) && value < 1 << (bits - 1)),
                            "%d in %d signed bits", value, bits);
        }
}

// --- the kernels ---------------------------------------------------------------------------------------------------

class Kernels {
public:
    Kernels(Tally& tally, const KernelTable& table) : tally_(tally), table_(table) {}

    // n codes between guard pages, `from_end` bytes off the guard behind them or at the one before.
    void check(int bits, const Bytes& codes, bool at_end, bool stream, size_t from_end = 0) {
        const size_t n = codes.size(), bytes = stream_bytes(n, bits);
        const auto place = [&](GuardedPages& pages, size_t size) {
            pages.clear();
            return pages.place(size + (at_end ? from_end : 0), at_end);
        };
        const auto report = [&](bool right, const char* what) {
            tally_.check(right, "%s: %zu codes of %d bits %s%s: %s", table_.name, n, bits, at_end ? "at the end" : "",
                         stream ? ", streamed" : "", what);
        };
        uint8_t* const from = place(codes_, n);
        uint8_t* const to = place(packed_, bytes);
        std::copy(codes.begin(), codes.end(), from);
        const Bytes expected = packed_by_codec(codes, bits);
        table_.pack[bits](from, to, n, stream);
        report(equal(to, expected), "pack differs from the codec");
        report(packed_.clean_around(to, bytes), "pack wrote outside");

        for (const bool is_signed : {false, true}) {
            uint8_t* const back = place(codes_, n);
            table_.unpack[bits](to, back, n, is_signed, stream);
            report(equal(back, unpacked_by_codec(expected, n, bits, is_signed)), "unpack differs from the codec");
            report(codes_.clean_around(back, n), "unpack wrote outside");
        }
        if (stream)
            return;
        uint8_t* const both = place(codes_, n);
        std::copy(codes.begin(), codes.end(), both);
        table_.pack[bits](both, both, n, false);
        report(equal(both, expected), "pack in place differs from the codec");
    }

    void check_code_bits(const Bytes& codes) {
        for (const bool at_end : {false, true}) {
            uint8_t* const from = codes_.place(codes.size(), at_end);
            std::copy(codes.begin(), codes.end(), from);
            uint8_t set = 0, folded = 0;
            for (const uint8_t code : codes) {
                set |= code;
                folded |= code < 0x80 ? code : static_cast<uint8_t>(255 - code);
            }
            const CodeBits bits = table_.code_bits(from, codes.size());
            tally_.check(bits.set == set && bits.folded == folded, "%s: the bits of %zu codes are %02x and %02x",
                         table_.name, codes.size(), bits.set, bits.folded);
        }
    }

private:
    static bool equal(const uint8_t* bytes, const Bytes& expected) {
        return std::equal(expected.begin(), expected.end(), bytes);
    }

    Tally& tally_;
    const KernelTable& table_;
    GuardedPages codes_{20000}, packed_{20000};
};

// All lengths of up to nine vectors of the longest kind; around the length of a tile, stored past the caches.
void kernels(Tally& tally, const KernelTable& table) {
    Kernels kernels(tally, table);
    for (int bits = 1; bits <= 8; ++bits) {
        tally.check(table.pack[bits] != nullptr && table.unpack[bits] != nullptr, "%s: no kernel of %d bits",
                    table.name, bits);
        for (size_t n = 0; n <= 576; ++n)
            for (const bool at_end : {false, true})
                kernels.check(bits, random_codes(n, n), at_end, false);
        for (const size_t n : {4095u, 4096u, 4097u, 4160u, 8191u, 8200u, 12345u})
            for (const size_t from_end : {0u, 1u, 29u, 32u, 63u})
                kernels.check(bits, random_codes(n, n), true, true, from_end);
    }
    for (size_t n = 0; n <= 300; ++n) {
        kernels.check_code_bits(random_codes(n, n));
        kernels.check_code_bits(Bytes(n, static_cast<uint8_t>(1u << n % 8)));
    }
}

// --- the C interface -----------------------------------------------------------------------------------------------

nc_pack_options pack_options(const char* isa = nullptr) {
    return {sizeof(nc_pack_options), NC_LAYOUT_lsb, 0, 0, 1, isa, 0, 0};
}

nc_error no_error() {
    nc_error error{};
    error.size = sizeof error;
    return error;
}

struct Golden {
    int bits;
    Bytes codes, packed;
};

// Worked out on paper, unless another source is named.
const std::vector<Golden> golden = {
    {1, {1, 0, 1, 1, 0, 0, 0, 1, 1}, {0x8d, 0x01}},
    {2, {0, 1, 2, 3, 3}, {0xe4, 0x03}},
    {3, {0, 1, 2, 3, 4, 5, 6, 7, 5}, {0x88, 0xc6, 0xfa, 0x05}}, // octal 76543210
    {4, {0x2, 0xf}, {0xf2}},                                    // onnx: float4e2m1 of 1 and -6
    {4, {1, 2, 3}, {0x21, 0x03}},
    {5, {1, 2, 3, 4, 5, 6, 7, 8}, {0x41, 0x0c, 0x52, 0xcc, 0x41}},
    {6, {1, 2, 3, 4, 0x3f}, {0x81, 0x30, 0x10, 0x3f}},
    {7, {1, 2, 3, 4, 5, 6, 7, 8}, {0x01, 0xc1, 0x80, 0x50, 0x30, 0x1c, 0x10}},
    {8, {0x01, 0xfe}, {0x01, 0xfe}},
};

void interface(Tally& tally, const std::string& isa) {
    const nc_pack_options options = pack_options(isa.c_str());
    for (const Golden& row : golden)
        for (const int above : {0x00, 0xff}) { // hostile: bits above the width change nothing
            Bytes codes = row.codes, packed(row.packed.size(), 0xa5), back(codes.size(), 0xa5);
            for (uint8_t& code : codes)
                code = static_cast<uint8_t>(code | above << row.bits);
            tally.check(nc_pack(codes.data(), codes.size(), row.bits, packed.data(), packed.size(), &options,
                                nullptr) == NC_OK &&
                            packed == row.packed,
                        "%s: golden bytes of %d bits", isa.c_str(), row.bits);
            tally.check(nc_unpack(packed.data(), packed.size(), row.bits, back.data(), back.size(), &options,
                                  nullptr) == NC_OK &&
                            back == row.codes,
                        "%s: golden codes of %d bits", isa.c_str(), row.bits);
        }
    const size_t n = (size_t{1} << 21) + 12345;
    const Bytes codes = random_codes(n, 1);
    for (const int bits : {3, 4}) {
        const Bytes expected = packed_by_codec(codes, bits);
        Bytes packed(expected.size()), back(n);
        nc_pack_options threaded = options;
        threaded.threads = 3;
        threaded.is_signed = 1;
        tally.check(nc_pack(codes.data(), n, bits, packed.data(), packed.size(), &threaded, nullptr) == NC_OK &&
                        packed == expected,
                    "%s: three threads pack %d bits", isa.c_str(), bits);
        tally.check(nc_unpack(packed.data(), packed.size(), bits, back.data(), n, &threaded, nullptr) == NC_OK &&
                        back == unpacked_by_codec(expected, n, bits, true),
                    "%s: three threads unpack %d bits", isa.c_str(), bits);

        Bytes pieces(expected.size());
        for (size_t at = 0, count; at < n; at += count) {
            count = std::min<size_t>(n - at, 8 * (1 + mix(at) % 20000));
            const size_t begin = stream_bytes(at, bits);
            nc_pack(codes.data() + at, count, bits, pieces.data() + begin, stream_bytes(count, bits), &options,
                    nullptr);
        }
        tally.check(pieces == expected, "%s: pieces of %d bits", isa.c_str(), bits);

        Bytes both = codes; // in place, and asked for threads
        tally.check(nc_pack(both.data(), n, bits, both.data(), expected.size(), &threaded, nullptr) == NC_OK &&
                        std::equal(expected.begin(), expected.end(), both.begin()),
                    "%s: in place, %d bits", isa.c_str(), bits);
    }
    // Far more than a cache holds.
    const size_t large = size_t{24} << 20;
    const Bytes many = random_codes(large, 2), expected = packed_by_codec(many, 6);
    Bytes packed(expected.size()), back(large);
    tally.check(nc_pack(many.data(), large, 6, packed.data(), packed.size(), &options, nullptr) == NC_OK &&
                    packed == expected,
                "%s: a large array is packed", isa.c_str());
    tally.check(nc_unpack(packed.data(), packed.size(), 6, back.data(), large, &options, nullptr) == NC_OK &&
                    back == unpacked_by_codec(packed, large, 6, false),
                "%s: a large array is unpacked", isa.c_str());
}

// The first code that does not fit is named, wherever it is, and nothing is written.
void checking(Tally& tally, const std::string& isa) {
    nc_pack_options options = pack_options(isa.c_str());
    options.check = 1;
    for (const int32_t is_signed : {0, 1})
        for (int bits = 1; bits <= 8; ++bits) {
            options.is_signed = is_signed;
            const int least = is_signed != 0 ? -(1 << (bits - 1)) : 0, most = least + (1 << bits) - 1;
            Bytes codes(200), packed(stream_bytes(codes.size(), bits));
            for (size_t i = 0; i < codes.size(); ++i)
                codes[i] = static_cast<uint8_t>(i % 2 != 0 ? least : most);
            nc_error error = no_error();
            const auto pack = [&] {
                return nc_pack(codes.data(), codes.size(), bits, packed.data(), packed.size(), &options, &error);
            };
            tally.check(pack() == NC_OK && packed == packed_by_codec(codes, bits), "%s: %d bits fit", isa.c_str(),
                        bits);
            for (const int wrong : {least - 1, most + 1}) {
                if (bits == 8 || (is_signed == 0 && wrong < 0))
                    continue;
                for (size_t i = 0; i < codes.size(); i += 7) {
                    const Bytes before = codes, untouched(packed.size(), 0xa5);
                    codes[i] = static_cast<uint8_t>(wrong);
                    codes[codes.size() - 1] = static_cast<uint8_t>(wrong);
                    packed = untouched;
                    tally.check(pack() == NC_ERROR_OVERFLOW && error.index == i && error.value == wrong &&
                                    error.reason == NC_REASON_FINITE && packed == untouched,
                                "%s: %d at %zu in %d bits: %s", isa.c_str(), wrong, i, bits, error.message);
                    codes = before;
                }
            }
        }
}

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
    codec(tally);
    facts(tally);
    refusals(tally);
    for (const std::string& isa : supported_isas()) {
        kernels(tally, *find_isa(isa.c_str()));
        interface(tally, isa);
        checking(tally, isa);
    }
    return tally.finish();
}

} // namespace
} // namespace narrowcast::test

int main() { return narrowcast::test::run(); }
