// Fuzzes nc_pack, nc_unpack, nc_repack and nc_unscale: counts, widths, layouts, axes, arrays and options are decoded
// from the input bytes. Each array lies in a heap block of exactly its size, so that AddressSanitizer sees every byte
// too many.
//
// What must hold, besides what attempt.hpp asks of any function: of packed codes the same codes come back, repacking is
// unpacking and packing, a code that does not fit is refused where that is asked for, and nc_unscale gives for each
// element what a call for it alone gives. cpp/tests/fuzz_pack_corpus_test.cpp replays the kept corpus without
// libFuzzer.
#include <cmath>

#include "attempt.hpp"

namespace narrowcast::test {
namespace {

// --- packing -------------------------------------------------------------------------------------------------------

// So many bytes, in a block of exactly that size.
void make_bytes(Bytes& bytes, Array& array, size_t n) {
    array.shape = {static_cast<int64_t>(n)};
    array.view.format = NC_FORMAT_u8;
    array.view.bytes = 1;
    array.view.strides = {1};
    array.at = element_offsets(array.view, array.shape, n);
    array.block = random_block(static_cast<int64_t>(n), bytes.take(2));
}

// Bytes that all lines take; 0 if there is no such array.
size_t packed_bytes(const nc_pack_options& options, size_t n, int32_t bits) {
    const size_t inner = options.inner != 0 ? options.inner : 1, along = options.along != 0 ? options.along : n / inner;
    size_t line = 0;
    if (n == 0 || along == 0 || n % inner != 0 || n / inner % along != 0 ||
        nc_packed_bytes(along, bits, options.layout, &line) != NC_OK)
        return 0;
    return n / along * line;
}

void fuzz_pack(Bytes& bytes) {
    std::vector<int32_t> layouts;
    for (int32_t i = 0; nc_layout_at(i) != NC_LAYOUT_INVALID; ++i)
        layouts.push_back(nc_layout_at(i));
    const auto bits = static_cast<int32_t>(bytes.one_in(8) ? bytes.below(10) : 1 + bytes.below(8));
    nc_pack_options from = NC_PACK_OPTIONS_INIT, to = NC_PACK_OPTIONS_INIT;
    size_t n = 1;
    const bool tiles = bytes.one_in(4); // extents that marlin has
    from.inner = bytes.one_in(2) ? 1 : tiles ? 64 * bytes.below(4) : bytes.take(bytes.one_in(4) ? 2 : 1) % 2500;
    from.along = tiles ? 16 * bytes.below(9) : bytes.take(bytes.one_in(4) ? 2 : 1) % 4500;
    n = std::min<size_t>(from.inner * from.along * bytes.below(4), 60000);
    to.inner = bytes.one_in(2) ? from.inner : bytes.below(40);
    to.along = bytes.one_in(2) ? from.along : bytes.below(40);
    for (nc_pack_options* options : {&from, &to}) {
        options->layout = bytes.one_in(16) ? static_cast<int32_t>(bytes.take(4)) : layouts[bytes.below(layouts.size())];
        options->threads = bytes.one_in(16) ? static_cast<int32_t>(bytes.below(5)) - 1 : 1;
    }
    from.is_signed = to.is_signed = static_cast<int32_t>(bytes.below(bytes.one_in(16) ? 3 : 2));
    from.check = static_cast<int32_t>(bytes.below(2));
    if (bytes.one_in(32))
        from.size = bytes.below(80); // what lies beyond it is not read
    const bool extends =
        from.size >= offsetof(nc_pack_options, is_signed) + sizeof from.is_signed && from.is_signed != 0;

    Array codes, packed, back, other, expected;
    make_bytes(bytes, codes, n);
    const bool fit = bytes.one_in(2);
    const auto trimmed = [&](unsigned char code) {
        const unsigned mask = (1u << bits) - 1, sign = extends ? 1u << (bits - 1) : 0;
        return static_cast<unsigned char>(((code & mask) ^ sign) - sign);
    };
    const bool width = bits >= 1 && bits <= 8;
    if (fit && width)
        for (unsigned char& code : codes.block)
            code = trimmed(code);
    const size_t off = bytes.one_in(16) ? 1 : 0;
    make_bytes(bytes, packed, packed_bytes(from, n, bits) + off);
    make_bytes(bytes, back, n);
    make_bytes(bytes, other, packed_bytes(to, n, bits) + off);
    make_bytes(bytes, expected, other.block.size());
    const auto with = [](nc_pack_options options, const char* isa) {
        options.isa = isa;
        return options;
    };
    const nc_status made = attempt({&codes}, {&packed}, false, [&](const char* isa, nc_error* error) {
        const nc_pack_options options = with(from, isa);
        return nc_pack(codes.block.data(), n, bits, packed.block.data(), packed.block.size(), &options, error);
    });
    if (n != 0)
        REQUIRE(off == 0 || made != NC_OK);
    if (made == NC_ERROR_OVERFLOW)
        REQUIRE(!fit && from.check != 0);
    const nc_status unpacked = attempt({&packed}, {&back}, false, [&](const char* isa, nc_error* error) {
        const nc_pack_options options = with(from, isa);
        return nc_unpack(packed.block.data(), packed.block.size(), bits, back.block.data(), n, &options, error);
    });
    if (made == NC_OK) {
        REQUIRE(unpacked == NC_OK);
        for (size_t i = 0; i < n; ++i)
            REQUIRE(back.block[i] == trimmed(codes.block[i]));
    }
    const nc_status repacked = attempt({&packed}, {&other}, false, [&](const char* isa, nc_error* error) {
        const nc_pack_options options = with(to, isa);
        return nc_repack(packed.block.data(), packed.block.size(), n, bits, other.block.data(), other.block.size(),
                         &from, &options, error);
    });
    if (unpacked != NC_OK || repacked != NC_OK)
        return;
    nc_pack_options unchecked = to;
    unchecked.check = 0;
    REQUIRE(nc_pack(back.block.data(), n, bits, expected.block.data(), expected.block.size(), &unchecked, nullptr) ==
            NC_OK);
    REQUIRE(other.block == expected.block);
}

// --- gradients -----------------------------------------------------------------------------------------------------

void fuzz_unscale(Bytes& bytes) {
    constexpr int32_t formats[] = {NC_FORMAT_f64, NC_FORMAT_f32, NC_FORMAT_f16, NC_FORMAT_bf16};
    std::vector<int64_t> shape(bytes.below(4));
    int64_t most = bytes.one_in(4) ? 6000 : 300;
    for (int64_t& extent : shape) {
        extent = std::min<int64_t>(static_cast<int64_t>(bytes.take(2) % (bytes.one_in(2) ? 9 : 5000)), most);
        most = extent != 0 ? most / extent : most;
    }
    Array x, out;
    x.make(bytes, shape, bytes.one_in(16) ? NC_FORMAT_e5m2 : formats[bytes.below(4)]);
    out.make(bytes, shape, bytes.one_in(16) ? NC_FORMAT_f32 : x.view.format);
    float inv_scale = 1;
    const auto scale_bits = static_cast<uint32_t>(bytes.take(4));
    if (scale_bits != 0)
        memcpy(&inv_scale, &scale_bits, sizeof inv_scale);
    nc_cast_options options = cast_options(NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, nullptr);
    options.threads = bytes.one_in(8) ? static_cast<int32_t>(bytes.below(4)) : 1;
    for (size_t i = 0; i < std::min<size_t>(x.at.size(), 24); ++i)
        if (const uint64_t code = bytes.take(static_cast<size_t>(x.view.bytes)); code != 0)
            x.put(i, code);

    int32_t first = -1;
    const bool must_fail = !std::isfinite(inv_scale) || inv_scale == 0;
    const nc_status status = attempt({&x}, {&out}, must_fail, [&](const char* isa, nc_error* error) {
        nc_cast_options now = options;
        now.isa = isa;
        int32_t found = 0;
        const nc_status result = nc_unscale(&x.array, &out.array, 1, inv_scale, &now, &found, error);
        REQUIRE(result == NC_OK || found == 0);
        REQUIRE(first == -1 || found == first);
        first = found;
        return result;
    });
    if (status != NC_OK)
        return;
    int32_t any = 0;
    options.isa = "scalar";
    const int64_t one = 1;
    for (size_t i = 0; i < x.at.size(); ++i) {
        uint64_t code = 0, made = 0;
        const auto item = static_cast<size_t>(x.view.bytes);
        store_code(&code, 0, item, x.get(i));
        const nc_array from{&code, &one, nullptr, 1, x.view.format, 0, 0},
            to{&made, &one, nullptr, 1, x.view.format, 0, 0};
        REQUIRE(nc_unscale(&from, &to, 1, inv_scale, &options, &any, nullptr) == NC_OK);
        REQUIRE(load_code(&made, 0, item) == out.get(i));
    }
    REQUIRE(any == first || x.at.empty());
    // In place: the same, over x itself.
    if (x.overlaps_itself)
        return;
    const nc_status again = attempt({}, {&x}, false, [&](const char* isa, nc_error* error) {
        nc_cast_options now = options;
        now.isa = isa;
        int32_t found = 0;
        return nc_unscale(&x.array, nullptr, 1, inv_scale, &now, &found, error);
    });
    if (again == NC_OK)
        for (size_t i = 0; i < x.at.size(); ++i)
            REQUIRE(x.get(i) == out.get(i));
}

} // namespace
} // namespace narrowcast::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    narrowcast::test::Bytes bytes(data, size);
    if (bytes.one_in(3))
        narrowcast::test::fuzz_unscale(bytes);
    else
        narrowcast::test::fuzz_pack(bytes);
    return 0;
}
