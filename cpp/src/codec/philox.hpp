// Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011): the words of
// stochastic rounding. Counter (lo, hi of block, 0, 0), key (lo, hi of seed); word i of a cast is word i mod 4 of
// block i div 4. Scalar reference; the vector twin is kernels/philox.inl.hpp.
#pragma once

#include "base.hpp"

namespace narrowcast {

struct PhiloxBlock {
    uint32_t word[4];
};

NC_HD constexpr PhiloxBlock philox_block(uint64_t seed, uint64_t block) {
    uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32), c2 = 0, c3 = 0;
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const uint64_t product0 = uint64_t{0xD2511F53} * c0;
        const uint64_t product1 = uint64_t{0xCD9E8D57} * c2;
        const uint32_t next0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ k0;
        const uint32_t next2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ k1;
        c1 = static_cast<uint32_t>(product1);
        c3 = static_cast<uint32_t>(product0);
        c0 = next0;
        c2 = next2;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    return {{c0, c1, c2, c3}};
}

static_assert(philox_block(0, 0).word[0] == 0x6627e8d5 && philox_block(0, 0).word[3] == 0x9b00dbd8);

} // namespace narrowcast
