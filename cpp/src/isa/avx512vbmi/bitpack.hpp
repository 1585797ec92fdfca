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

// Three vectors of four whose first 48 bytes count: vector k of the result takes what vector k has left, then what
// vector k + 1 has.
consteval Order64 three_quarters(int k) {
    Order64 order{};
    for (int i = 0; i < 64; ++i)
        order.at[i] = static_cast<uint8_t>(i < 48 - 16 * k ? 16 * k + i : 64 + i - (48 - 16 * k));
    return order;
}
struct ThreeQuarters {
    static constexpr Order64 first = three_quarters(0), second = three_quarters(1), third = three_quarters(2);
};

// What whole vectors of packed codes come from, and how many they are.
template <int Bits> consteval size_t whole_vectors() { return Bits % 3 == 0 ? 3 : 1; }
template <int Bits> consteval size_t whole_codes() { return whole_vectors<Bits>() * block * 8 / Bits; }

template <int Bits> NC_INLINE void pack_whole(const unsigned char* codes, unsigned char* to, bool stream) {
    const __m512i order = _mm512_load_si512(Orders<Bits>::closed.at);
    const auto vector = [&](size_t k) NC_INLINE_LAMBDA { return joined<Bits>(load(codes + k * block)); };
    const auto both = [&](size_t k) NC_INLINE_LAMBDA {
        return _mm512_permutex2var_epi8(vector(2 * k), order, vector(2 * k + 1));
    };
    if constexpr (Bits == 4) {
        store(to, both(0), stream);
    } else if constexpr (Bits == 2) {
        store(to, _mm512_mask_blend_epi32(0xff00, both(0), both(1)), stream);
    } else {
        static_assert(Bits == 3 || Bits == 6);
        const auto part = [&](size_t k) NC_INLINE_LAMBDA {
            return Bits == 3 ? both(k) : _mm512_permutexvar_epi8(order, vector(k));
        };
        const U parts[] = {part(0), part(1), part(2), part(3)};
        const auto whole = [&](size_t k, const Order64& from) NC_INLINE_LAMBDA {
            store(to + k * block, _mm512_permutex2var_epi8(parts[k], _mm512_load_si512(from.at), parts[k + 1]), stream);
        };
        whole(0, ThreeQuarters::first);
        whole(1, ThreeQuarters::second);
        whole(2, ThreeQuarters::third);
    }
}

template <int Bits> void pack_by_vectors(const void* codes, void* packed, size_t n, bool stream) noexcept {
    constexpr size_t once = whole_codes<Bits>(), bytes = whole_vectors<Bits>() * block;
    const VectorStep step{&permuted_pack<Bits>, block, 8 * Bits, false};
    const unsigned char* src = static_cast<const unsigned char*>(codes);
    unsigned char* dst = static_cast<unsigned char*>(packed);
    size_t head = (block - reinterpret_cast<uintptr_t>(dst) % block) % block;
    while (head % whole_vectors<Bits>() != 0) // units of 3 bytes
        head += block;
    const size_t before = head * 8 / Bits;
    stream = stream && n >= before + once;
    if (stream && head != 0) {
        run_codes(step, src, dst, before, false);
        src += before;
        dst += head;
        n -= before;
    }
    for (; n >= once; n -= once, src += once, dst += bytes)
        pack_whole<Bits>(src, dst, stream);
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
    if constexpr (Bits == 4 || Bits == 2 || Bits % 3 == 0)
        table.pack[Bits] = &pack_by_vectors<Bits>;
    else
        table.pack[Bits] = &pack_by_permutation<Bits>;
    table.unpack[Bits] = &unpack_by_multishift<Bits>;
    if constexpr (Bits > 1)
        override_width<Bits - 1>(table);
}

} // namespace
} // namespace narrowcast
