// Philox4x32-10, a block per 64-bit lane: the lower half of a product is the next word as it lies, and what stands
// above it does no harm (the scalar text and the source are in codec/philox.hpp). Text-included once per ISA unit; no
// guard.

namespace narrowcast {
namespace {

// Two vectors at once: each round waits for its multiplications, and independent ones fill the wait.
enum : size_t { philox_vectors = 2, philox_step = philox_vectors * lanes / 2 };

NC_INLINE void philox_lanes(uint64_t seed, uint64_t first_block, uint32_t* words) {
    U c0[philox_vectors], c1[philox_vectors], c2[philox_vectors], c3[philox_vectors];
    for (size_t v = 0; v < philox_vectors; ++v) {
        c0[v] = numbers(first_block + v * (lanes / 2));
        c1[v] = upper_halves(c0[v]);
        c2[v] = c3[v] = splat(0);
    }
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        for (size_t v = 0; v < philox_vectors; ++v) {
            const U product0 = mul_lower_halves(c0[v], 0xD2511F53), product1 = mul_lower_halves(c2[v], 0xCD9E8D57);
            c0[v] = bxor(bxor(upper_halves(product1), c1[v]), splat(k0));
            c2[v] = bxor(bxor(upper_halves(product0), c3[v]), splat(k1));
            c1[v] = product1;
            c3[v] = product0;
        }
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    for (size_t v = 0; v < philox_vectors; ++v)
        store_lower_halves(words + v * (2 * lanes), c0[v], c1[v], c2[v], c3[v]);
}

void philox_all(uint64_t seed, uint64_t first_block, uint32_t* words, size_t blocks) noexcept {
    size_t i = 0;
    for (; i + philox_step <= blocks; i += philox_step)
        philox_lanes(seed, first_block + i, words + 4 * i);
    if (i < blocks) {
        uint32_t rest[4 * philox_step];
        philox_lanes(seed, first_block + i, rest);
        NC_COPY(words + 4 * i, rest, (blocks - i) * 16);
    }
}

} // namespace
} // namespace narrowcast
