// Packing: the codec against bits counted one by one, every instruction set's kernels against the codec between guard
// pages, and nc_pack and nc_unpack in the layout lsb. Golden bytes typed by hand are here and in tests/test_pack.py;
// other layouts are in pack_layout_test.cpp, what is refused is in pack_refusal_test.cpp.
#include "codec/packing.hpp"

#include "dispatch/registry.hpp"
#include "guarded_pages.hpp"
#include "pack_calls.hpp"

namespace narrowcast::test {
namespace {

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

int run() {
    Tally tally;
    codec(tally);
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
