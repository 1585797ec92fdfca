// The reference of packing: codes of 1 to 8 bits, a byte each, and the dense stream of their bits, in which the first
// code has the lowest bits of the first byte. One code at a time through a register that holds less than two bytes; it
// is also the scalar instruction set. Vector twin: kernels/bitpack.inl.hpp. And where each bit of a code lies in the
// layouts of layouts.def; their fast twin is api/pack_layout.cpp.
#pragma once

#include "base.hpp"

namespace narrowcast {

// packed may begin where codes begins: no byte is written before the codes that lie in it are read.
NC_HD constexpr void pack_stream(const uint8_t* codes, uint8_t* packed, size_t n, int bits) {
    const unsigned mask = (1u << bits) - 1;
    unsigned held = 0;
    int held_bits = 0;
    for (size_t i = 0; i < n; ++i) {
        held |= (codes[i] & mask) << held_bits;
        held_bits += bits;
        if (held_bits >= 8) {
            *packed++ = static_cast<uint8_t>(held);
            held >>= 8;
            held_bits -= 8;
        }
    }
    if (held_bits > 0)
        *packed = static_cast<uint8_t>(held);
}

NC_HD constexpr void unpack_stream(const uint8_t* packed, uint8_t* codes, size_t n, int bits, bool is_signed) {
    const unsigned mask = (1u << bits) - 1, sign = is_signed ? 1u << (bits - 1) : 0;
    unsigned held = 0;
    int held_bits = 0;
    for (size_t i = 0; i < n; ++i) {
        if (held_bits < bits) {
            held |= static_cast<unsigned>(*packed++) << held_bits;
            held_bits += 8;
        }
        codes[i] = static_cast<uint8_t>(((held & mask) ^ sign) - sign);
        held >>= bits;
        held_bits -= bits;
    }
}

// Whether a code is a number of so many bits.
NC_HD constexpr bool code_fits(uint8_t code, int bits, bool is_signed) {
    const int value = is_signed && code >= 128 ? code - 256 : code;
    const int least = is_signed ? -(1 << (bits - 1)) : 0;
    return value >= least && value < least + (1 << bits);
}

// --- layouts -------------------------------------------------------------------------------------------------------

// How the codes of a line enter the stream; layouts.def says what each name means.
enum class PackOrder : int32_t { in_order, whole_words, pairs_swapped, evens_first, halves, strips, tiles };

// Where in the stream of its line a code is, and which code is there: for orders that are one stream per line.
NC_HD constexpr size_t stream_position(PackOrder order, size_t code) {
    if (order == PackOrder::pairs_swapped)
        return code ^ 1;
    if (order == PackOrder::evens_first)
        return code / 8 * 8 + code % 2 * 4 + code % 8 / 2;
    return code;
}
NC_HD constexpr size_t code_at(PackOrder order, size_t position) {
    if (order == PackOrder::pairs_swapped)
        return position ^ 1;
    if (order == PackOrder::evens_first)
        return position / 8 * 8 + position % 4 * 2 + position % 8 / 4;
    return position;
}

// Lines of `along` codes, `inner` of them side by side: code k of line j is item k * inner + j of the codes, and word w
// of line j is word w * inner + j of what they are packed to.
struct PackShape {
    PackOrder order;
    int bits, word_bits;
    size_t along, inner;
};

// Which bit, counted from the lowest of the first byte, is bit i of code k of line j.
NC_HD constexpr size_t packed_bit(const PackShape& shape, size_t k, size_t j, size_t i) {
    const auto bits = static_cast<size_t>(shape.bits), word_bits = static_cast<size_t>(shape.word_bits);
    if (shape.order == PackOrder::halves || shape.order == PackOrder::strips) {
        // A strip is as many items as there are bytes; strips go from low bits to high ones.
        const size_t strips = 8 / bits;
        const size_t codes = shape.order == PackOrder::halves ? 16 : (shape.along + strips - 1) / strips;
        const size_t columns = codes * shape.inner, item = k * shape.inner + j, block = item / (strips * columns);
        const size_t strip = item / columns % strips;
        return (block * columns + item % columns) * 8 + strip * bits + i;
    }
    if (shape.order == PackOrder::tiles) {
        // 1. Four tiles, 16 rows of 64 codes, are 128 words. Thread 0 to 31 has four of them, one of each tile.
        const size_t row = k % 16, column = j % 64, thread = column % 8 * 4 + row % 8 / 2;
        const size_t word = (k / 16 * (shape.inner / 64) + j / 64) * 128 + thread * 4 + column / 16;
        // 2. In a word, even rows before odd ones, then the tile's left half, then its upper half.
        return word * 32 + row % 2 * 16 + column % 16 / 8 * 8 + row / 8 * 4 + i;
    }
    const size_t position = stream_position(shape.order, k), whole = word_bits / bits;
    const size_t bit = shape.order == PackOrder::whole_words
                           ? position / whole * word_bits + position % whole * bits + i
                           : position * bits + i;
    return (bit / word_bits * shape.inner + j) * word_bits + bit % word_bits;
}

} // namespace narrowcast
