// Codes out of packed words, for any range of them in C order: what unpacking is, and where repacking has its codes
// from. Where a bit lies is said in codec/packing.hpp.
#include <string.h>

#include <algorithm>

#include "api/pack_layout.hpp"
#include "api/pack_words.hpp"

namespace narrowcast {
namespace {

// What is left to do with bits that were shifted down: take a code's own, extend the sign or take the bias off.
struct Finish {
    uint8_t mask, toggled, less;

    unsigned char operator()(uint32_t bits) const noexcept {
        return static_cast<unsigned char>(((bits & mask) ^ toggled) - less);
    }
};

Finish finish_of(const PackedArray& a) noexcept {
    const auto sign = static_cast<uint8_t>(a.is_signed ? 1u << (a.shape.bits - 1) : 0);
    return a.bias != 0 ? Finish{a.mask, 0, a.bias} : Finish{a.mask, sign, sign};
}

// --- lines of neighbours -------------------------------------------------------------------------------------------

void read_dense(const PackedArray& a, const unsigned char* line, size_t first, size_t count,
                unsigned char* codes) noexcept {
    const auto bits = static_cast<size_t>(a.shape.bits);
    const UnpackFn unpack = a.table->unpack[bits];
    const bool extend = a.is_signed && a.bias == 0;
    const bool plain = a.shape.order == PackOrder::in_order;
    alignas(64) unsigned char words[pack_span + 64], tile[pack_span + 8];
    while (count != 0) {
        // The kernel begins at a multiple of 8 codes, on a byte.
        const size_t lead = first % 8, n = std::min<size_t>(count, pack_span - lead);
        const unsigned char* from = line + line_offset(a.shape, first);
        if (!plain) {
            const size_t word = static_cast<size_t>(a.shape.word_bits);
            const size_t bytes = ((lead + n) * bits + word - 1) / word * (word / 8);
            memcpy(words, from, bytes);
            reorder_words(a.shape.order, words, bytes, false);
            from = words;
        }
        unpack(from, lead != 0 ? tile : codes, lead + n, extend, false);
        if (lead != 0)
            memcpy(codes, tile + lead, n);
        if (a.bias != 0)
            for (size_t i = 0; i < n; ++i)
                codes[i] = static_cast<unsigned char>(codes[i] - a.bias);
        codes += n;
        first += n;
        count -= n;
    }
}

void read_whole_words(const PackedArray& a, const unsigned char* line, size_t first, size_t count,
                      unsigned char* codes) noexcept {
    const Finish finish = finish_of(a);
    const auto bits = static_cast<size_t>(a.shape.bits), per_word = 32 / bits;
    size_t place = first % per_word;
    for (const unsigned char* from = line + line_offset(a.shape, first); count != 0; from += sizeof(uint32_t)) {
        const auto word = load_word<uint32_t>(from);
        const size_t n = std::min(per_word - place, count);
        for (size_t i = 0; i < n; ++i)
            codes[i] = finish(word >> ((place + i) * bits));
        codes += n;
        count -= n;
        place = 0;
    }
}

void read_lines(const PackedArray& a, const unsigned char* packed, size_t first, size_t count,
                unsigned char* codes) noexcept {
    while (count != 0) {
        const size_t at = first % a.shape.along, n = std::min(count, a.shape.along - at);
        const unsigned char* const line = packed + first / a.shape.along * a.line_bytes;
        if (a.shape.order == PackOrder::whole_words)
            read_whole_words(a, line, at, n, codes);
        else
            read_dense(a, line, at, n, codes);
        codes += n;
        first += n;
        count -= n;
    }
}

// --- lines side by side --------------------------------------------------------------------------------------------

template <class Word> Word word_at(const unsigned char* packed, size_t i) noexcept {
    return load_word<Word>(packed + i * sizeof(Word));
}

template <class Word>
void read_side_by_side(const PackedArray& a, const unsigned char* packed, size_t first, size_t count,
                       unsigned char* codes) noexcept {
    constexpr size_t word_bits = sizeof(Word) * 8;
    const Finish finish = finish_of(a);
    const auto bits = static_cast<size_t>(a.shape.bits), whole = word_bits / bits;
    const size_t along = a.shape.along, inner = a.shape.inner, words = a.line_bytes / sizeof(Word);
    while (count != 0) {
        const size_t row = first / inner, at = first % inner, n = std::min(count, inner - at);
        const size_t position = stream_position(a.shape.order, row % along);
        const bool dense = a.shape.order != PackOrder::whole_words;
        const size_t bit = dense ? position * bits : position / whole * word_bits + position % whole * bits;
        const size_t shift = bit % word_bits;
        const unsigned char* const from =
            packed + ((row / along * words + bit / word_bits) * inner + at) * sizeof(Word);
        if (shift + bits <= word_bits) {
            for (size_t j = 0; j < n; ++j)
                codes[j] = finish(static_cast<uint32_t>(word_at<Word>(from, j)) >> shift);
        } else {
            const unsigned char* const next = from + inner * sizeof(Word);
            for (size_t j = 0; j < n; ++j)
                codes[j] = finish(static_cast<uint32_t>(word_at<Word>(from, j)) >> shift |
                                  static_cast<uint32_t>(word_at<Word>(next, j)) << (word_bits - shift));
        }
        codes += n;
        first += n;
        count -= n;
    }
}

// --- strips --------------------------------------------------------------------------------------------------------

// Codes at one place of neighbouring bytes, eight at once.
void read_strip(const PackedArray& a, const unsigned char* from, size_t shift, size_t n,
                unsigned char* codes) noexcept {
    const Finish finish = finish_of(a);
    const uint64_t mask = each_byte(a.mask), bias = each_byte(a.bias);
    const uint64_t above = a.is_signed ? static_cast<uint8_t>(~a.mask) : 0; // what a set top bit is extended by
    size_t j = 0;
    for (; j + 8 <= n; j += 8) {
        uint64_t value = (load_bytes(from + j) >> shift & mask) ^ bias;
        value |= (value >> (a.shape.bits - 1) & each_byte(1)) * above;
        memcpy(codes + j, &value, sizeof value);
    }
    for (; j < n; ++j)
        codes[j] = finish(static_cast<uint32_t>(from[j]) >> shift);
}

void read_strips(const PackedArray& a, const unsigned char* packed, size_t first, size_t count,
                 unsigned char* codes) noexcept {
    const Strips s = strips_of(a.shape);
    const size_t lines = a.shape.along * a.shape.inner, outer = first / lines;
    size_t item = first % lines;
    size_t block = outer * s.blocks + item / (s.strips * s.columns);
    size_t strip = item / s.columns % s.strips, column = item % s.columns;
    while (count != 0) {
        const size_t n = std::min({count, s.columns - column, lines - item});
        const size_t shift = strip * static_cast<size_t>(a.shape.bits);
        read_strip(a, packed + block * s.columns + column, shift, n, codes);
        codes += n;
        count -= n;
        item += n;
        column = 0;
        strip = (strip + 1) % s.strips;
        block += strip == 0 ? 1 : 0;
        if (item == lines) { // of the next outer one, whose first strip it is
            block += strip == 0 ? 0 : 1;
            strip = 0;
            item = 0;
        }
    }
}

// --- tiles ---------------------------------------------------------------------------------------------------------

void read_tiles(const PackedArray& a, const unsigned char* packed, size_t first, size_t count,
                unsigned char* codes) noexcept {
    const Finish finish = finish_of(a);
    const size_t inner = a.shape.inner;
    while (count != 0) {
        const size_t row = first / inner, at = first % inner, n = std::min(count, inner - at);
        // Of 64 neighbours in a row, the bytes are 16 apart for eight, and then 4, within 16 threads' words.
        const size_t in_tile = row % 16, shift = in_tile / 8 * 4;
        const unsigned char* const rows = packed + row / 16 * inner * 8 + in_tile % 8 / 2 * 16 + in_tile % 2 * 2;
        size_t j = at;
        const auto one = [&] {
            const unsigned char byte = rows[j / 64 * 512 + j % 8 * 64 + j % 64 / 16 * 4 + j % 16 / 8];
            codes[j - at] = finish(static_cast<uint32_t>(byte) >> shift);
            ++j;
        };
        while (j < at + n && j % 64 != 0)
            one();
        for (; j + 64 <= at + n; j += 64) {
            unsigned char group[64]; // a store to codes might change what is read next, a compiler must believe
            for (size_t eight = 0; eight < 8; ++eight)
                for (size_t k = 0; k < 8; ++k)
                    group[eight * 8 + k] = rows[j / 64 * 512 + k * 64 + eight / 2 * 4 + eight % 2];
            for (size_t k = 0; k < 64; ++k)
                group[k] = finish(static_cast<uint32_t>(group[k]) >> shift);
            memcpy(codes + (j - at), group, sizeof group);
        }
        while (j < at + n)
            one();
        codes += n;
        first += n;
        count -= n;
    }
}

} // namespace

void read_codes(const PackedArray& a, const unsigned char* packed, size_t first, size_t count,
                unsigned char* codes) noexcept {
    if (is_strips(a.shape))
        read_strips(a, packed, first, count, codes);
    else if (a.shape.order == PackOrder::tiles)
        read_tiles(a, packed, first, count, codes);
    else if (a.shape.inner == 1)
        read_lines(a, packed, first, count, codes);
    else if (a.shape.word_bits == 8)
        read_side_by_side<uint8_t>(a, packed, first, count, codes);
    else
        read_side_by_side<uint32_t>(a, packed, first, count, codes);
}

} // namespace narrowcast
