// Philox4x32-10, a block per lane (the scalar text and the source are in codec/philox.hpp). Text-included once per
// ISA unit; no guard.

namespace narrowcast {
namespace {

NC_INLINE void philox_lanes(uint64_t seed, uint64_t first_block, uint32_t* words) {
    const U low = splat(static_cast<uint32_t>(first_block));
    U c0 = add(low, iota());
    U c1 = add(splat(static_cast<uint32_t>(first_block >> 32)), select(gt_u(low, c0), splat(1), splat(0)));
    U c2 = splat(0), c3 = splat(0);
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        U high0, low0, high1, low1;
        mul_wide(c0, 0xD2511F53, high0, low0);
        mul_wide(c2, 0xCD9E8D57, high1, low1);
        c0 = bxor(bxor(high1, c1), splat(k0));
        c2 = bxor(bxor(high0, c3), splat(k1));
        c1 = low1;
        c3 = low0;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    store_interleaved(words, c0, c1, c2, c3);
}

void philox_all(uint64_t seed, uint64_t first_block, uint32_t* words, size_t blocks) noexcept {
    size_t i = 0;
    for (; i + lanes <= blocks; i += lanes)
        philox_lanes(seed, first_block + i, words + 4 * i);
    if (i < blocks) {
        uint32_t rest[4 * lanes];
        philox_lanes(seed, first_block + i, rest);
        __builtin_memcpy(words + 4 * i, rest, (blocks - i) * 16);
    }
}

} // namespace
} // namespace narrowcast
