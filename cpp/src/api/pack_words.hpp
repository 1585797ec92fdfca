// What packing and unpacking of layouts share: the size of their tiles, the parts of a layout of strips, and orders
// that are a matter of the nibbles of a word.
#pragma once

#include <string.h>

#include <algorithm>
#include <bit>

#include "api/bytes.hpp"
#include "codec/packing.hpp"

namespace narrowcast {

// Codes that are handled at once. Any whole number of words begins at a multiple of pack_span, whatever the width: it
// is a multiple of 32, of every 32 / bits and of every order's group; so is tiles_span of 64.
constexpr size_t pack_span = 1920, tiles_span = 960;

// The byte at which code `first` of a line of neighbours begins: a multiple of pack_span, or of 8 if it is dense.
constexpr size_t line_offset(const PackShape& shape, size_t first) noexcept {
    const auto bits = static_cast<size_t>(shape.bits);
    if (shape.order == PackOrder::whole_words)
        return first / (32 / bits) * 4;
    return first / 8 * bits;
}

constexpr bool is_strips(const PackShape& shape) noexcept {
    return shape.order == PackOrder::halves || shape.order == PackOrder::strips;
}

// Blocks of strips * columns items become blocks of so many columns of bytes.
struct Strips {
    size_t strips, columns, blocks, blocks_per_unit;
};
constexpr Strips strips_of(const PackShape& shape) noexcept {
    const size_t strips = 8 / static_cast<size_t>(shape.bits), granule = shape.order == PackOrder::halves ? 32 : strips;
    const size_t along = (shape.along + granule - 1) / granule * granule;
    const size_t per_block = shape.order == PackOrder::halves ? granule : along;
    const size_t columns = per_block / strips * shape.inner;
    return {strips, columns, along / per_block, std::max<size_t>(1, pack_span / columns)};
}

// Eight bytes as one number, and a byte in all of its places.
inline uint64_t load_bytes(const unsigned char* bytes) noexcept {
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}
constexpr uint64_t each_byte(uint8_t value) noexcept { return 0x0101010101010101u * value; }

// Words have their lowest byte first on every machine: packed bytes are the same everywhere. Both ways.
constexpr bool words_are_swapped = std::endian::native != std::endian::little;
template <class Word> Word load_word(const unsigned char* from) noexcept {
    return load_item<Word>(from, words_are_swapped);
}
template <class Word> void store_word(unsigned char* to, Word word) noexcept {
    store_item(to, word, words_are_swapped);
}

// Between the nibbles of words in their own order and in the layout's. For bytes that are whole words.
inline void reorder_words(PackOrder order, unsigned char* words, size_t bytes, bool packing) noexcept {
    if (order == PackOrder::pairs_swapped)
        for (size_t i = 0; i < bytes; ++i)
            words[i] = static_cast<unsigned char>(words[i] << 4 | words[i] >> 4);
    if (order != PackOrder::evens_first)
        return;
    for (size_t i = 0; i < bytes; i += sizeof(uint32_t)) {
        auto word = load_word<uint32_t>(words + i);
        // Two steps of a perfect shuffle: of the middle nibbles of each half, then of the middle bytes; or back.
        const auto swap = [&word](uint32_t middle, int distance) {
            const uint32_t moved = (word ^ word >> distance) & middle;
            word ^= moved ^ moved << distance;
        };
        if (packing) {
            swap(0x00f000f0u, 4);
            swap(0x0000ff00u, 8);
        } else {
            swap(0x0000ff00u, 8);
            swap(0x00f000f0u, 4);
        }
        store_word(words + i, word);
    }
}

} // namespace narrowcast
