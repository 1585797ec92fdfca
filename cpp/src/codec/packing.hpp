// The reference of packing: codes of 1 to 8 bits, a byte each, and the dense stream of their bits, in which the first
// code has the lowest bits of the first byte. One code at a time through a register that holds less than two bytes; it
// is also the scalar instruction set. Vector twin: kernels/bitpack.inl.hpp. Layouts that take codes in another order
// are not here.
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

} // namespace narrowcast
