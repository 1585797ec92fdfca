// Facts of layouts, and packing: units of L1 size, whose codes come from the source in runs, through which the same
// text packs and repacks. The way back is pack_read.cpp. Where a bit lies is said in codec/packing.hpp.
#include "api/pack_layout.hpp"

#include <string.h>

#include <algorithm>
#include <iterator>
#include <numeric>

#include "api/pack_words.hpp"

namespace narrowcast {
namespace {

constexpr PackLayout layouts[] = {
#define NC_LAYOUT(number, id, widths, word, order, axis, biased)                                                       \
    {#id, number, widths, word, PackOrder::order, axis, (biased) != 0},
#include "narrowcast/layouts.def"
};

constexpr size_t divide_up(size_t n, size_t by) noexcept { return n / by + (n % by != 0 ? 1 : 0); }

// What a unit works on: one of `outer`, and codes that lie side by side.
const unsigned char* fetch(const CodeSource& source, size_t first, size_t count, unsigned char* scratch) noexcept {
    if (source.array == nullptr)
        return source.memory + first;
    read_codes(*source.array, source.memory, first, count, scratch);
    return scratch;
}

// --- lines of neighbours -------------------------------------------------------------------------------------------

// A stretch of a line through the kernel; what it does not fill of its last word is zero.
void write_dense(const PackedArray& a, unsigned char* packed, const unsigned char* codes, size_t n) noexcept {
    const size_t used = n * static_cast<size_t>(a.shape.bits), word = static_cast<size_t>(a.shape.word_bits);
    const size_t written = divide_up(used, 8), bytes = divide_up(used, word) * (word / 8);
    alignas(64) unsigned char tile[pack_span];
    if (a.bias != 0) {
        for (size_t i = 0; i < n; ++i)
            tile[i] = codes[i] ^ a.bias;
        codes = tile;
    }
    a.table->pack[a.shape.bits](codes, packed, n, false);
    memset(packed + written, 0, bytes - written);
    reorder_words(a.shape.order, packed, bytes, true);
}

void write_whole_words(const PackedArray& a, unsigned char* packed, const unsigned char* codes, size_t n) noexcept {
    const size_t per_word = static_cast<size_t>(a.shape.word_bits / a.shape.bits);
    for (size_t i = 0; i < n; i += per_word, packed += sizeof(uint32_t)) {
        uint32_t word = 0;
        for (size_t k = 0; k < std::min(per_word, n - i); ++k)
            word |= static_cast<uint32_t>((codes[i + k] ^ a.bias) & a.mask) << (k * static_cast<size_t>(a.shape.bits));
        store_word(packed, word);
    }
}

void write_line_unit(const PackedArray& a, unsigned char* packed, size_t unit, const CodeSource& source) noexcept {
    unsigned char scratch[pack_span];
    const size_t per_line = divide_up(a.shape.along, pack_span), line = unit / per_line;
    const size_t begin = unit % per_line * pack_span, n = std::min<size_t>(pack_span, a.shape.along - begin);
    const unsigned char* const codes = fetch(source, line * a.shape.along + begin, n, scratch);
    unsigned char* const to = packed + line * a.line_bytes + line_offset(a.shape, begin);
    if (a.shape.order == PackOrder::whole_words)
        write_whole_words(a, to, codes, n);
    else
        write_dense(a, to, codes, n);
}

// --- lines side by side --------------------------------------------------------------------------------------------

// One row of words: of each code that has bits in it, a run goes into the words at one shift.
template <class Word>
void write_word_row(const PackedArray& a, unsigned char* packed, size_t unit, const CodeSource& source) noexcept {
    constexpr size_t word_bits = sizeof(Word) * 8;
    const auto& [order, width, word, along, inner] = a.shape;
    const auto bits = static_cast<size_t>(width);
    const size_t words = a.line_bytes / sizeof(Word), runs = divide_up(inner, pack_span);
    const size_t row = unit / runs, w = row % words, begin = unit % runs * pack_span;
    const size_t n = std::min<size_t>(pack_span, inner - begin);
    const bool dense = order != PackOrder::whole_words;
    const size_t first = dense ? w * word_bits / bits : w * (word_bits / bits);
    const size_t last = dense ? divide_up((w + 1) * word_bits, bits) : first + word_bits / bits;

    Word sum[pack_span] = {};
    unsigned char scratch[pack_span];
    for (size_t position = first; position < last; ++position) {
        const size_t k = code_at(order, position);
        if (k >= along)
            continue;
        const unsigned char* const codes = fetch(source, (row / words * along + k) * inner + begin, n, scratch);
        if (dense && position * bits < w * word_bits) {
            const size_t shift = w * word_bits - position * bits;
            for (size_t j = 0; j < n; ++j)
                sum[j] = static_cast<Word>(sum[j] | ((codes[j] ^ a.bias) & a.mask) >> shift);
        } else {
            const size_t shift = dense ? position * bits - w * word_bits : (position - first) * bits;
            for (size_t j = 0; j < n; ++j)
                sum[j] = static_cast<Word>(sum[j] | static_cast<Word>((codes[j] ^ a.bias) & a.mask) << shift);
        }
    }
    for (size_t j = 0; j < n; ++j)
        store_word(packed + (row * inner + begin + j) * sizeof(Word), sum[j]);
}

// --- strips --------------------------------------------------------------------------------------------------------

// n columns of one block from its strips: strip i begins at codes[i * step], and there are `have` codes in all.
void join_strips(const PackedArray& a, const unsigned char* codes, size_t step, size_t have, size_t n,
                 unsigned char* packed) noexcept {
    const auto bits = static_cast<size_t>(a.shape.bits), strips = 8 / bits;
    const size_t last = (strips - 1) * step, full = have > last ? std::min(n, have - last) : 0;
    size_t j = 0;
    for (; j + 8 <= full; j += 8) { // eight bytes of each strip at once
        uint64_t joined = 0;
        for (size_t i = 0; i < strips; ++i)
            joined |= ((load_bytes(codes + i * step + j) ^ each_byte(a.bias)) & each_byte(a.mask)) << (i * bits);
        memcpy(packed + j, &joined, sizeof joined);
    }
    for (; j < n; ++j) {
        uint32_t joined = 0;
        for (size_t i = 0; i < strips && i * step + j < have; ++i)
            joined |= static_cast<uint32_t>((codes[i * step + j] ^ a.bias) & a.mask) << (i * bits);
        packed[j] = static_cast<unsigned char>(joined);
    }
}

void write_strips_unit(const PackedArray& a, unsigned char* packed, size_t unit, const CodeSource& source) noexcept {
    unsigned char scratch[8 * pack_span];
    const Strips s = strips_of(a.shape);
    const size_t lines = a.shape.along * a.shape.inner;
    if (s.columns <= pack_span) { // whole blocks
        const size_t units = divide_up(s.blocks, s.blocks_per_unit), outer = unit / units;
        const size_t block = unit % units * s.blocks_per_unit, first = block * s.strips * s.columns;
        const size_t n = std::min(s.blocks_per_unit * s.strips * s.columns, lines - first);
        const unsigned char* const codes = fetch(source, outer * lines + first, n, scratch);
        unsigned char* to = packed + (outer * s.blocks + block) * s.columns;
        for (size_t at = 0; at < n; at += s.strips * s.columns, to += s.columns) {
            const size_t have = std::min(s.strips * s.columns, n - at);
            join_strips(a, codes + at, s.columns, have, s.columns, to);
        }
        return;
    }
    const size_t runs = divide_up(s.columns, pack_span), block = unit / runs, begin = unit % runs * pack_span;
    const size_t n = std::min<size_t>(pack_span, s.columns - begin);
    const size_t first = block % s.blocks * s.strips * s.columns + begin;
    unsigned char tile[8 * pack_span];
    size_t have = 0;
    for (size_t i = 0; i < s.strips; ++i) {
        const size_t at = first + i * s.columns;
        if (at >= lines)
            break;
        const size_t count = std::min(n, lines - at);
        memcpy(tile + i * pack_span, fetch(source, block / s.blocks * lines + at, count, scratch), count);
        have = i * pack_span + count;
    }
    // A strip that ends early is the last one, so the codes that there are come first.
    join_strips(a, tile, pack_span, have, n, packed + block * s.columns + begin);
}

// --- tiles ---------------------------------------------------------------------------------------------------------

void write_tiles_unit(const PackedArray& a, unsigned char* packed, size_t unit, const CodeSource& source) noexcept {
    unsigned char scratch[16][tiles_span];
    const unsigned char* rows[16];
    const size_t inner = a.shape.inner, runs = divide_up(inner, tiles_span), row = unit / runs;
    const size_t begin = unit % runs * tiles_span, n = std::min<size_t>(tiles_span, inner - begin);
    for (size_t r = 0; r < 16; ++r)
        rows[r] = fetch(source, (row * 16 + r) * inner + begin, n, scratch[r]);
    unsigned char* to = packed + (row * inner + begin) * 8;
    for (size_t at = 0; at < n; at += 64, to += 512)
        for (size_t r = 0; r < 8; r += 2) { // threads r / 2, r / 2 + 4, ...
            unsigned char even[64], odd[64];
            for (size_t j = 0; j < 64; ++j) {
                even[j] = static_cast<unsigned char>((rows[r][at + j] & 15) | rows[r + 8][at + j] << 4);
                odd[j] = static_cast<unsigned char>((rows[r + 1][at + j] & 15) | rows[r + 9][at + j] << 4);
            }
            for (size_t j = 0; j < 8; ++j)
                for (size_t tile = 0; tile < 4; ++tile) {
                    unsigned char* const word = to + ((j * 4 + r / 2) * 4 + tile) * 4;
                    word[0] = even[tile * 16 + j];
                    word[1] = even[tile * 16 + j + 8];
                    word[2] = odd[tile * 16 + j];
                    word[3] = odd[tile * 16 + j + 8];
                }
        }
}

} // namespace

// --- facts ---------------------------------------------------------------------------------------------------------

const PackLayout* pack_layout_at(int32_t position) noexcept {
    return position >= 0 && position < static_cast<int32_t>(std::size(layouts)) ? &layouts[position] : nullptr;
}

const PackLayout* find_pack_layout(int32_t layout) noexcept {
    for (const PackLayout& row : layouts)
        if (row.layout == layout)
            return &row;
    return nullptr;
}

size_t packed_line_granule(const PackLayout& layout, int32_t bits) noexcept {
    switch (layout.order) {
    case PackOrder::whole_words: return static_cast<size_t>(layout.word_bits / bits);
    case PackOrder::halves: return 32;
    case PackOrder::tiles: return 16;
    default: return static_cast<size_t>(layout.word_bits / std::gcd(layout.word_bits, bits));
    }
}

size_t packed_line_bytes(const PackLayout& layout, int32_t bits, size_t n) noexcept {
    const size_t granule = packed_line_granule(layout, bits);
    const auto width = static_cast<size_t>(bits), word_bytes = static_cast<size_t>(layout.word_bits / 8);
    if (layout.order == PackOrder::whole_words)
        return divide_up(n, granule) * word_bytes;
    if (layout.order == PackOrder::halves || layout.order == PackOrder::tiles || layout.order == PackOrder::strips)
        return divide_up(n, granule) * (granule * width / 8);
    const size_t rest = n % granule * width; // granules end on words
    return n / granule * (granule * width / 8) + divide_up(rest, word_bytes * 8) * word_bytes;
}

PackedArray packed_array(const PackLayout& layout, int32_t bits, bool is_signed, size_t n, size_t along,
                         size_t inner) noexcept {
    const auto bias = static_cast<uint8_t>(layout.biased && is_signed ? 1u << (bits - 1) : 0);
    // Lines that end on a word are one line, and codes that fill words are dense.
    PackOrder order = layout.order;
    if (inner == 1 && order != PackOrder::strips && along % packed_line_granule(layout, bits) == 0)
        along = n;
    if (order == PackOrder::whole_words && layout.word_bits % bits == 0)
        order = PackOrder::in_order;
    return {{order, bits, layout.word_bits, along, inner},
            n / along / inner,
            packed_line_bytes(layout, bits, along),
            static_cast<uint8_t>((1u << bits) - 1),
            bias,
            is_signed,
            nullptr};
}

bool is_stream(const PackedArray& array) noexcept {
    return array.shape.order == PackOrder::in_order && array.shape.inner == 1 && array.outer == 1 && array.bias == 0 &&
           (array.shape.word_bits == 8 || array.shape.along * static_cast<size_t>(array.shape.bits) % 32 == 0);
}

// --- units ---------------------------------------------------------------------------------------------------------

size_t pack_units(const PackedArray& a) noexcept {
    if (is_strips(a.shape)) {
        const Strips s = strips_of(a.shape);
        if (s.columns <= pack_span)
            return a.outer * divide_up(s.blocks, s.blocks_per_unit);
        return a.outer * s.blocks * divide_up(s.columns, pack_span);
    }
    if (a.shape.order == PackOrder::tiles)
        return a.outer * (a.shape.along / 16) * divide_up(a.shape.inner, tiles_span);
    if (a.shape.inner == 1)
        return a.outer * divide_up(a.shape.along, pack_span);
    return a.outer * (a.line_bytes * 8 / static_cast<size_t>(a.shape.word_bits)) * divide_up(a.shape.inner, pack_span);
}

size_t codes_per_unit(const PackedArray& a) noexcept {
    const size_t units = pack_units(a);
    return units == 0 ? 1 : divide_up(a.outer * a.shape.along * a.shape.inner, units);
}

void write_units(const PackedArray& a, unsigned char* packed, size_t begin, size_t end,
                 const CodeSource& source) noexcept {
    for (size_t unit = begin; unit < end; ++unit) {
        if (is_strips(a.shape))
            write_strips_unit(a, packed, unit, source);
        else if (a.shape.order == PackOrder::tiles)
            write_tiles_unit(a, packed, unit, source);
        else if (a.shape.inner == 1)
            write_line_unit(a, packed, unit, source);
        else if (a.shape.word_bits == 8)
            write_word_row<uint8_t>(a, packed, unit, source);
        else
            write_word_row<uint32_t>(a, packed, unit, source);
    }
}

} // namespace narrowcast
