// Packing and unpacking with VBMI: bytes go anywhere in a vector by one permutation, and eight codes are cut out of
// eight bytes by one multishift. Everything around a vector is kernels/bitpack.inl.hpp, after which this is included.
#pragma once

namespace narrowcast {
namespace {

struct alignas(64) Order64 {
    uint8_t at[64];
};
// The bytes of all units side by side, of one vector or two; what comes after them is anything.
template <int Bits> consteval Order64 units_closed() {
    constexpr int unit = unit_codes<Bits>(), bytes = unit * Bits / 8;
    Order64 order{};
    for (int i = 0; i < 64; ++i)
        order.at[i] = static_cast<uint8_t>(i / bytes * unit + i % bytes);
    return order;
}
// The bytes of eight codes at the bottom of every eight; and where in them each code begins.
template <int Bits> consteval Order64 eights_opened() {
    Order64 order{};
    for (int i = 0; i < 64; ++i)
        order.at[i] = static_cast<uint8_t>((i / 8 * Bits + i % 8) % 64);
    return order;
}
template <int Bits> consteval Order64 first_bits() {
    Order64 bit{};
    for (int i = 0; i < 64; ++i)
        bit.at[i] = static_cast<uint8_t>(i % 8 * Bits);
    return bit;
}
template <int Bits> struct Orders {
    static constexpr Order64 closed = units_closed<Bits>(), opened = eights_opened<Bits>(), first = first_bits<Bits>();
};

// Units at the bottom of as many bytes as they have codes; what is above them is anything. Neighbours are joined by
// sums of products with powers of two.
template <int Bits> NC_INLINE U joined(U codes) {
    U x = low_bits<Bits>(codes);
    if constexpr (unit_codes<Bits>() >= 2)
        x = _mm512_maddubs_epi16(_mm512_set1_epi16(static_cast<short>((1 << (8 + Bits)) | 1)), x);
    if constexpr (unit_codes<Bits>() >= 4)
        x = _mm512_madd_epi16(x, splat((1 << (16 + 2 * Bits)) | 1));
    if constexpr (unit_codes<Bits>() == 8) {
        if constexpr (4 * Bits <= 16) // nothing of the lower half comes down
            x = bor(x, _mm512_srli_epi64(x, 32 - 4 * Bits));
        else
            x = bor(band(x, upper_halves(splat(~0u))), shl64<4 * Bits>(upper_halves(x)));
    }
    return x;
}

template <int Bits> void permuted_pack(const unsigned char* codes, unsigned char* packed, size_t count, bool) noexcept {
    const __m512i order = _mm512_load_si512(Orders<Bits>::closed.at);
    for (size_t i = 0; i < count; ++i) {
        const U x = _mm512_permutexvar_epi8(order, joined<Bits>(load(codes + i * block)));
        unsigned char* const to = packed + i * (8 * Bits);
        if constexpr (Bits <= 4)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_castsi512_si256(x));
        else
            store(to, x, false);
    }
}

// A whole vector of codes of 4 or 2 bits at a time.
template <int Bits> NC_INLINE U whole_packed(const unsigned char* codes) {
    const auto vector = [&](size_t k) NC_INLINE_LAMBDA { return joined<Bits>(load(codes + k * block)); };
    const __m512i order = _mm512_load_si512(Orders<Bits>::closed.at);
    if constexpr (Bits == 4) {
        return _mm512_permutex2var_epi8(vector(0), order, vector(1));
    } else {
        static_assert(Bits == 2);
        return _mm512_mask_blend_epi32(0xff00, _mm512_permutex2var_epi8(vector(0), order, vector(1)),
                                       _mm512_permutex2var_epi8(vector(2), order, vector(3)));
    }
}

template <int Bits> void pack_whole(const void* codes, void* packed, size_t n, bool stream) noexcept {
    constexpr size_t once = block * 8 / Bits;
    const VectorStep step{&permuted_pack<Bits>, block, 8 * Bits, false};
    const unsigned char* src = static_cast<const unsigned char*>(codes);
    unsigned char* dst = static_cast<unsigned char*>(packed);
    const size_t head = (block - reinterpret_cast<uintptr_t>(dst) % block) % block, before = head * 8 / Bits;
    stream = stream && n >= before + once;
    if (stream && head != 0) {
        run_codes(step, src, dst, before, false);
        src += before;
        dst += head;
        n -= before;
    }
    for (; n >= once; n -= once, src += once, dst += block)
        store(dst, whole_packed<Bits>(src), stream);
    if (n != 0)
        run_codes(step, src, dst, n, false);
    if (stream)
        fence();
}

template <int Bits>
void multishift_unpack(const unsigned char* packed, unsigned char* codes, size_t count, bool is_signed) noexcept {
    const __m512i order = _mm512_load_si512(Orders<Bits>::opened.at), first = _mm512_load_si512(Orders<Bits>::first.at);
    const U sign = splat(is_signed ? 0x01010101u << (Bits - 1) : 0);
    for (size_t i = 0; i < count; ++i) {
        const __m512i eights = _mm512_permutexvar_epi8(order, load(packed + i * (8 * Bits)));
        const U x = low_bits<Bits>(_mm512_multishift_epi64_epi8(first, eights));
        store(codes + i * block, sign_extend_bytes(x, sign), false);
    }
}

template <int Bits> void pack_by_permutation(const void* codes, void* packed, size_t n, bool stream) noexcept {
    run_codes({&permuted_pack<Bits>, block, 8 * Bits, false}, codes, packed, n, stream);
}

template <int Bits>
void unpack_by_multishift(const void* packed, void* codes, size_t n, bool is_signed, bool stream) noexcept {
    run_codes({&multishift_unpack<Bits>, 8 * Bits, block, is_signed}, packed, codes, n, stream);
}

template <int Bits> constexpr void override_width(KernelTable& table) {
    if constexpr (Bits == 4 || Bits == 2)
        table.pack[Bits] = &pack_whole<Bits>;
    else
        table.pack[Bits] = &pack_by_permutation<Bits>;
    table.unpack[Bits] = &unpack_by_multishift<Bits>;
    if constexpr (Bits > 1)
        override_width<Bits - 1>(table);
}

} // namespace
} // namespace narrowcast
