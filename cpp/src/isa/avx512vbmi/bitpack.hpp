// Packing and unpacking with VBMI: bytes go anywhere in a vector by one permutation, and eight codes are cut out of
// eight bytes by one multishift. Everything around a vector is kernels/bitpack.inl.hpp, after which this is included.
#pragma once

namespace narrowcast {
namespace {

struct alignas(64) Order64 {
    uint8_t at[64];
};
// The bytes of all units side by side; what comes after them is anything.
template <int Bits> consteval Order64 units_closed() {
    constexpr int unit = unit_codes<Bits>(), bytes = unit * Bits / 8;
    Order64 order{};
    for (int i = 0; i < 64; ++i)
        order.at[i] = static_cast<uint8_t>((i / bytes * unit + i % bytes) % 64);
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

template <int Bits> void permuted_pack(const unsigned char* codes, unsigned char* packed, size_t count, bool) noexcept {
    const __m512i order = _mm512_load_si512(Orders<Bits>::closed.at);
    for (size_t i = 0; i < count; ++i)
        store(packed + i * (8 * Bits), _mm512_permutexvar_epi8(order, join_codes<Bits>(load(codes + i * block))),
              false);
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
    table.pack[Bits] = &pack_by_permutation<Bits>;
    table.unpack[Bits] = &unpack_by_multishift<Bits>;
    if constexpr (Bits > 1)
        override_width<Bits - 1>(table);
}

} // namespace
} // namespace narrowcast
