// Layouts: nc_pack, nc_unpack and nc_repack, between guard pages and with every instruction set, against the place of
// each single bit that codec/packing.hpp gives; shapes that are refused. Golden bytes are in
// tests/test_pack_layouts.py.
#include "api/pack_layout.hpp"
#include "dispatch/registry.hpp"
#include "guarded_pages.hpp"
#include "support.hpp"

namespace narrowcast::test {
namespace {

using Bytes = std::vector<uint8_t>;

struct Shape {
    size_t outer, along, inner;

    size_t n() const { return outer * along * inner; }
};

Bytes random_bytes(size_t n, uint64_t seed) {
    Bytes bytes(n);
    for (size_t i = 0; i < n; ++i)
        bytes[i] = static_cast<uint8_t>(mix(seed + i) >> 21);
    return bytes;
}

size_t packed_bytes(const PackLayout& layout, int bits, const Shape& shape) {
    size_t line = 0;
    nc_packed_bytes(shape.along, bits, layout.layout, &line);
    return line * shape.outer * shape.inner;
}

// Bit by bit, with the bias added by hand.
class Reference {
public:
    Reference(const PackLayout& layout, int bits, bool is_signed, const Shape& shape)
        : shape_{layout.order, bits, layout.word_bits, shape.along, shape.inner}, outer_(shape.outer),
          block_(packed_bytes(layout, bits, {1, shape.along, shape.inner})), is_signed_(is_signed),
          bias_(layout.biased && is_signed ? 1 << (bits - 1) : 0) {}

    Bytes pack(const Bytes& codes) const {
        Bytes packed(outer_ * block_);
        each([&](size_t code, size_t byte, int place, int i) {
            const int stored = codes[code] + bias_;
            packed[byte] = static_cast<uint8_t>(packed[byte] | (stored >> i & 1) << place);
        });
        return packed;
    }

    Bytes unpack(const Bytes& packed) const {
        Bytes codes(outer_ * shape_.along * shape_.inner);
        each([&](size_t code, size_t byte, int place, int i) {
            codes[code] = static_cast<uint8_t>(codes[code] | (packed[byte] >> place & 1) << i);
        });
        for (uint8_t& code : codes) {
            int value = code - bias_;
            if (bias_ == 0 && is_signed_ && (code >> (shape_.bits - 1) & 1) != 0)
                value -= 1 << shape_.bits;
            code = static_cast<uint8_t>(value);
        }
        return codes;
    }

private:
    template <class Visit> void each(const Visit& visit) const {
        for (size_t o = 0; o < outer_; ++o)
            for (size_t k = 0; k < shape_.along; ++k)
                for (size_t j = 0; j < shape_.inner; ++j)
                    for (int i = 0; i < shape_.bits; ++i) {
                        const size_t bit = packed_bit(shape_, k, j, static_cast<size_t>(i));
                        visit((o * shape_.along + k) * shape_.inner + j, o * block_ + bit / 8,
                              static_cast<int>(bit % 8), i);
                    }
    }

    PackShape shape_;
    size_t outer_, block_;
    bool is_signed_;
    int bias_;
};

nc_pack_options pack_options(const PackLayout& layout, const Shape& shape, bool is_signed, const char* isa) {
    nc_pack_options options = NC_PACK_OPTIONS_INIT;
    options.layout = layout.layout;
    options.is_signed = is_signed ? 1 : 0;
    options.isa = isa;
    options.along = shape.along;
    options.inner = shape.inner;
    return options;
}

std::vector<Shape> shapes(const PackLayout& layout) {
    if (layout.order == PackOrder::tiles)
        return {{1, 16, 64}, {2, 16, 128}, {1, 48, 192}, {1, 16, 1024}};
    return {{1, 1, 1},    {1, 7, 1}, {1, 64, 1}, {5, 9, 1},   {3, 33, 1},  {4, 32, 1},   {1, 1919, 1}, {1, 3841, 1},
            {2, 1921, 1}, {1, 2, 5}, {2, 37, 3}, {1, 64, 16}, {2, 33, 33}, {1, 3, 1921}, {1, 5, 1000}, {3, 8, 7}};
}

class Layouts {
public:
    Layouts(Tally& tally, std::string isa) : tally_(tally), isa_(std::move(isa)) {}

    void check(const PackLayout& layout, int bits, bool is_signed, const Shape& shape, bool at_end) {
        const Reference reference(layout, bits, is_signed, shape);
        const size_t n = shape.n(), bytes = packed_bytes(layout, bits, shape);
        const Bytes codes = random_bytes(n, n), expected = reference.pack(codes);
        nc_pack_options options = pack_options(layout, shape, is_signed, isa_.c_str());
        options.threads = at_end ? 1 : 3;
        const auto report = [&](bool right, const char* what) {
            tally_.check(right, "%s, %s: %zu x %zu x %zu codes of %d %s bits %s", isa_.c_str(), layout.name,
                         shape.outer, shape.along, shape.inner, bits, is_signed ? "signed" : "unsigned", what);
        };
        uint8_t* const from = place(codes_, n, at_end);
        uint8_t* const to = place(packed_, bytes, at_end);
        std::copy(codes.begin(), codes.end(), from);
        report(nc_pack(from, n, bits, to, bytes, &options, nullptr) == NC_OK &&
                   std::equal(expected.begin(), expected.end(), to),
               "are packed wrongly");
        report(packed_.clean_around(to, bytes), "are packed outside");

        const Bytes noise = random_bytes(bytes, n + 1), back = reference.unpack(noise); // bits of no code too
        std::copy(noise.begin(), noise.end(), to);
        uint8_t* const out = place(codes_, n, at_end);
        report(nc_unpack(to, bytes, bits, out, n, &options, nullptr) == NC_OK &&
                   std::equal(back.begin(), back.end(), out),
               "are unpacked wrongly");
        report(codes_.clean_around(out, n), "are unpacked outside");
    }

    // Through the other layout and back, with shapes of their own over the same codes.
    void check_repack(const PackLayout& layout, const PackLayout& other, int bits, const Shape& shape,
                      const Shape& others) {
        const Bytes codes = random_bytes(shape.n(), 3);
        const Bytes given = Reference(layout, bits, true, shape).pack(codes);
        const Bytes expected = Reference(other, bits, true, others).pack(codes);
        const nc_pack_options from = pack_options(layout, shape, true, isa_.c_str());
        const nc_pack_options to = pack_options(other, others, true, isa_.c_str());
        uint8_t* const source = place(codes_, given.size(), true);
        uint8_t* const target = place(packed_, expected.size(), true);
        std::copy(given.begin(), given.end(), source);
        tally_.check(
            nc_repack(source, given.size(), shape.n(), bits, target, expected.size(), &from, &to, nullptr) == NC_OK &&
                std::equal(expected.begin(), expected.end(), target) && packed_.clean_around(target, expected.size()),
            "%s: %zu x %zu x %zu codes of %d bits from %s to %s", isa_.c_str(), shape.outer, shape.along, shape.inner,
            bits, layout.name, other.name);
    }

private:
    static uint8_t* place(GuardedPages& pages, size_t size, bool at_end) {
        pages.clear();
        return pages.place(size, at_end);
    }

    Tally& tally_;
    std::string isa_;
    GuardedPages codes_{40000}, packed_{40000};
};

template <class Visit> void each_row(const Visit& visit) {
    for (int32_t position = 0; const PackLayout* layout = pack_layout_at(position); ++position)
        for (int bits = 1; bits <= most_code_bits; ++bits)
            if (has_width(*layout, bits))
                visit(*layout, bits);
}

void layouts(Tally& tally, const std::string& isa) {
    Layouts layouts(tally, isa);
    each_row([&](const PackLayout& layout, int bits) {
        for (const Shape& shape : shapes(layout))
            for (const bool is_signed : {false, true})
                for (const bool at_end : {false, true})
                    layouts.check(layout, bits, is_signed, shape, at_end);
        each_row([&](const PackLayout& other, int width) {
            if (width != bits || (bits != 4 && bits != 3))
                return;
            const bool tiles = layout.order == PackOrder::tiles || other.order == PackOrder::tiles;
            const Shape rows = tiles ? Shape{1, 32, 128} : Shape{1, 33, 70};
            const Shape columns{rows.along, rows.inner, 1};
            const auto own = [&](const PackLayout& l) { return l.axis == -1 ? columns : rows; };
            layouts.check_repack(layout, other, bits, own(layout), own(other));
            if (!tiles)
                layouts.check_repack(layout, other, bits, {2, 7, 5}, {1, 2, 35});
        });
    });
}

// Refused with a sentence, and nothing is written.
void refusals(Tally& tally) {
    alignas(16) uint8_t memory[256];
    memset(memory, 0xa5, sizeof memory);
    nc_error error{};
    error.size = sizeof error;
    const auto refused = [&](nc_status status, const char* word) {
        const bool clean = std::all_of(memory, memory + sizeof memory, [](uint8_t byte) { return byte == 0xa5; });
        tally.check(status == NC_ERROR_ARGUMENT && strstr(error.message, word) != nullptr && clean, "%s: \"%s\"", word,
                    error.message);
    };
    const auto wrong = [&](int32_t layout, size_t n, int32_t bits, size_t bytes, size_t along, size_t inner,
                           const char* word) {
        nc_pack_options options = NC_PACK_OPTIONS_INIT, plain = NC_PACK_OPTIONS_INIT;
        plain.layout = NC_LAYOUT_lsb;
        options.layout = layout;
        options.along = along;
        options.inner = inner;
        refused(nc_pack(memory, n, bits, memory + 128, bytes, &options, &error), word);
        refused(nc_unpack(memory + 128, bytes, bits, memory, n, &options, &error), word);
        refused(nc_repack(memory + 128, bytes, n, bits, memory, n * 4 / 8, &options, &plain, &error), word);
    };
    wrong(NC_LAYOUT_awq, 16, 3, 8, 0, 0, "layout awq has no codes of that many bits");
    wrong(NC_LAYOUT_awq, 16, 4, 4, 0, 0, "packed_bytes is 4; it must be 8");
    wrong(NC_LAYOUT_gptq, 16, 4, 16, 8, 3, ".inner is 3");
    wrong(NC_LAYOUT_gptq, 16, 4, 16, 3, 2, ".along is 3");
    wrong(NC_LAYOUT_gptq, 16, 4, 8, SIZE_MAX, SIZE_MAX, ".inner is");
    wrong(NC_LAYOUT_marlin, 64, 4, 32, 0, 0, "multiples of 16 and of 64");
    wrong(NC_LAYOUT_marlin, 64, 4, 32, 1, 64, "multiples of 16 and of 64");
    wrong(NC_LAYOUT_compressed_tensors, SIZE_MAX / 2, 8, 8, 1, 1, "no memory holds");
    // Codes cannot become words where they lie, but for those of lsb.
    nc_pack_options options = NC_PACK_OPTIONS_INIT;
    options.layout = NC_LAYOUT_msb_nibble;
    tally.check(nc_pack(memory, 16, 4, memory, 8, &options, &error) == NC_ERROR_OVERLAP && memory[0] == 0xa5,
                "in place: \"%s\"", error.message);
    tally.check(nc_repack(memory, 8, 16, 4, memory + 4, 8, &options, &options, &error) == NC_ERROR_OVERLAP &&
                    memory[4] == 0xa5,
                "repack over itself: \"%s\"", error.message);
    tally.check(nc_repack(nullptr, 0, 0, 4, nullptr, 0, &options, &options, nullptr) == NC_OK, "nothing to repack");
    // An older caller's options end before the extents.
    options.size = offsetof(nc_pack_options, along);
    options.along = 3;
    tally.check(nc_pack(memory, 16, 4, memory + 128, 8, &options, nullptr) == NC_OK, "options without extents");
}

int run() {
    Tally tally;
    refusals(tally);
    for (const std::string& isa : supported_isas())
        layouts(tally, isa);
    return tally.finish();
}

} // namespace
} // namespace narrowcast::test

int main() { return narrowcast::test::run(); }
