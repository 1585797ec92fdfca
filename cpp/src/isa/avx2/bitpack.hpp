// Packing and unpacking of 1, 2 and 4 bits on AVX2, as many vectors of codes at a time as fill or come out of one
// vector of bytes. Everything around them is kernels/bitpack.inl.hpp, after which this is included.
#pragma once

namespace narrowcast {
namespace {

// Vectors whose joined codes are bytes in 16-bit or 32-bit lanes -> those bytes, in order.
NC_INLINE U narrow_words(U a, U b) { return _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0xD8); }

template <int Bits>
void gathered_pack(const unsigned char* codes, unsigned char* packed, size_t count, bool is_signed) noexcept {
    constexpr size_t together = 8 / Bits;
    size_t i = 0;
    for (; i + together <= count; i += together) {
        const unsigned char* const from = codes + i * block;
        unsigned char* const to = packed + i * (block / together);
        if constexpr (Bits == 4) {
            store(to, narrow_words(join_codes<Bits>(load(from)), join_codes<Bits>(load(from + block))), false);
        } else if constexpr (Bits == 2) {
            const U a = join_codes<Bits>(load(from)), b = join_codes<Bits>(load(from + block));
            const U c = join_codes<Bits>(load(from + 2 * block)), d = join_codes<Bits>(load(from + 3 * block));
            store_bytes(to, pack_bytes(a, b, c, d), false);
        } else {
            for (size_t k = 0; k < together; ++k) {
                const int bits = _mm256_movemask_epi8(_mm256_slli_epi16(load(from + k * block), 7));
                NC_COPY(to + k * sizeof bits, &bits, sizeof bits);
            }
        }
    }
    pack_vectors<Bits>(codes + i * block, packed + i * (block / together), count - i, is_signed);
}

template <int Bits>
void spread_unpack(const unsigned char* packed, unsigned char* codes, size_t count, bool is_signed) noexcept {
    constexpr size_t together = 8 / Bits;
    const U sign = splat(is_signed ? 0x01010101u << (Bits - 1) : 0);
    size_t i = 0;
    for (; i + together <= count; i += together) {
        const U bytes = load(packed + i * (block / together));
        unsigned char* const to = codes + i * block;
        const auto put = [&](size_t k, U x) { store(to + k * block, sign_extend_bytes(x, sign), false); };
        // Unpacking works within halves of a vector: what belongs into one result must be at the same place of both.
        if constexpr (Bits == 4) {
            const U x = _mm256_permute4x64_epi64(bytes, 0xD8);
            const U low = low_bits<Bits>(x), high = low_bits<Bits>(shr<4>(x));
            put(0, _mm256_unpacklo_epi8(low, high));
            put(1, _mm256_unpackhi_epi8(low, high));
        } else if constexpr (Bits == 2) {
            const U x = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
            const U first = low_bits<Bits>(x), second = low_bits<Bits>(shr<2>(x));
            const U third = low_bits<Bits>(shr<4>(x)), fourth = low_bits<Bits>(shr<6>(x));
            const U low = _mm256_unpacklo_epi8(first, second), low_next = _mm256_unpacklo_epi8(third, fourth);
            const U high = _mm256_unpackhi_epi8(first, second), high_next = _mm256_unpackhi_epi8(third, fourth);
            put(0, _mm256_unpacklo_epi16(low, low_next));
            put(1, _mm256_unpackhi_epi16(low, low_next));
            put(2, _mm256_unpacklo_epi16(high, high_next));
            put(3, _mm256_unpackhi_epi16(high, high_next));
        } else {
            const U own = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201)), one = splat(0x01010101);
            const U order = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
            for (size_t k = 0; k < together; ++k) {
                uint32_t four;
                NC_COPY(&four, packed + (i + k) * sizeof four, sizeof four);
                const U spread = band(_mm256_shuffle_epi8(splat(four), order), own);
                put(k, band(_mm256_cmpeq_epi8(spread, own), one));
            }
        }
    }
    unpack_vectors<Bits>(packed + i * (block / together), codes + i * block, count - i, is_signed);
}

template <int Bits> void pack_gathered(const void* codes, void* packed, size_t n, bool stream) noexcept {
    run_codes({&gathered_pack<Bits>, block, lanes / 2 * Bits, false}, codes, packed, n, stream);
}

template <int Bits>
void unpack_spread(const void* packed, void* codes, size_t n, bool is_signed, bool stream) noexcept {
    run_codes({&spread_unpack<Bits>, lanes / 2 * Bits, block, is_signed}, packed, codes, n, stream);
}

template <int Bits> constexpr void override_width(KernelTable& table) {
    table.pack[Bits] = &pack_gathered<Bits>;
    table.unpack[Bits] = &unpack_spread<Bits>;
}

constexpr KernelTable with_whole_bytes(KernelTable table) {
    override_width<1>(table);
    override_width<2>(table);
    override_width<4>(table);
    return table;
}

} // namespace
} // namespace narrowcast
