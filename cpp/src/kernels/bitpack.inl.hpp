// Codes of 1 to 8 bits, a byte each, to a dense stream of bits and back (the scalar text is codec/packing.hpp). A
// vector of codes becomes Bits / 8 of a vector: neighbours are joined to pairs, fours and eights until their bits end
// on a byte, and a byte shuffle closes the gaps; back, the same steps are taken in reverse. Text-included once per ISA
// unit; no guard.
//
// A step reads a whole vector and writes a whole vector, of which fewer bytes may count. Steps whose vectors would
// reach beyond the range, and codes that fill no vector, go through padded copies.

namespace narrowcast {
namespace {

// --- one vector ----------------------------------------------------------------------------------------------------

// The fewest codes whose bits end on a byte.
template <int Bits> consteval int unit_codes() { return Bits == 8 ? 1 : Bits == 4 ? 2 : Bits % 2 == 0 ? 4 : 8; }

struct alignas(16) Bytes16 {
    uint8_t at[16];
};
template <int Bits> consteval Bytes16 gaps_closed() {
    constexpr int unit = unit_codes<Bits>(), bytes = unit * Bits / 8;
    Bytes16 order{};
    for (int i = 0; i < 16; ++i)
        order.at[i] = static_cast<uint8_t>(i < 2 * Bits ? i / bytes * unit + i % bytes : 0x80);
    return order;
}
template <int Bits> consteval Bytes16 gaps_opened() {
    constexpr int unit = unit_codes<Bits>(), bytes = unit * Bits / 8;
    Bytes16 order{};
    for (int i = 0; i < 16; ++i)
        order.at[i] = static_cast<uint8_t>(i % unit < bytes ? i / unit * bytes + i % unit : 0x80);
    return order;
}
template <int Bits> struct Gaps {
    static constexpr Bytes16 closed = gaps_closed<Bits>(), opened = gaps_opened<Bits>();
};

// Every byte cut to its low bits.
template <int Bits> NC_INLINE U low_bits(U a) { return band(a, splat(0x01010101u * ((1u << Bits) - 1))); }

// Units, each at the bottom of as many bytes as it has codes.
template <int Bits> NC_INLINE U join_codes(U codes) {
    U x = low_bits<Bits>(codes);
    if constexpr (unit_codes<Bits>() >= 2)
        x = join_bytes<Bits>(x);
    if constexpr (unit_codes<Bits>() >= 4)
        x = join_words<2 * Bits>(x);
    if constexpr (unit_codes<Bits>() == 8)
        x = bor(band(x, upper_halves(splat(~0u))), shl64<4 * Bits>(upper_halves(x)));
    return x;
}

// 2 * Bits bytes at the bottom of each 16.
template <int Bits> NC_INLINE U pack_vector(U codes) {
    return shuffle_16(join_codes<Bits>(codes), Gaps<Bits>::closed.at);
}

// What a shift leaves above a code is cut off at the end; sign is the top bit of each code, or nothing.
template <int Bits> NC_INLINE U unpack_vector(U packed, U sign) {
    U x = shuffle_16(packed, Gaps<Bits>::opened.at);
    if constexpr (unit_codes<Bits>() == 8)
        x = select_bytes(upper_halves(splat(~0u)), x, shl64<32 - 4 * Bits>(x));
    if constexpr (unit_codes<Bits>() >= 4)
        x = select_bytes(splat(0x0000ffffu), x, shl<16 - 2 * Bits>(x));
    if constexpr (unit_codes<Bits>() >= 2)
        x = select_bytes(splat(0x00ff00ffu), x, shl<8 - Bits>(x));
    return sign_extend_bytes(low_bits<Bits>(x), sign);
}

// --- many vectors --------------------------------------------------------------------------------------------------

template <int Bits> void pack_vectors(const unsigned char* codes, unsigned char* packed, size_t count, bool) noexcept {
    for (size_t i = 0; i < count; ++i)
        store_pieces<2 * Bits>(packed + i * (lanes / 2 * Bits), pack_vector<Bits>(load(codes + i * block)));
}

template <int Bits>
void unpack_vectors(const unsigned char* packed, unsigned char* codes, size_t count, bool is_signed) noexcept {
    const U sign = splat(is_signed ? 0x01010101u << (Bits - 1) : 0);
    for (size_t i = 0; i < count; ++i) {
        const U pieces = load_pieces<2 * Bits>(packed + i * (lanes / 2 * Bits));
        store(codes + i * block, unpack_vector<Bits>(pieces, sign), false);
    }
}

// What a kernel is made of: its vectors, and how far each side goes on by one, in bytes.
struct VectorStep {
    void (*run)(const unsigned char* src, unsigned char* dst, size_t count, bool is_signed) noexcept;
    size_t src_bytes, dst_bytes;
    bool is_signed;
};

// Bytes of n codes on a side that goes on by step bytes with every vector of codes: n * (step / (lanes / 2)) / 8.
NC_INLINE size_t side_bytes(size_t n, size_t step) {
    const size_t bits = step / (lanes / 2);
    return n / 8 * bits + (n % 8 * bits + 7) / 8;
}

// n codes, of which so many bytes of either side may be touched.
NC_NOINLINE void run_vectors(const VectorStep& step, const unsigned char* src, size_t src_room, unsigned char* dst,
                             size_t dst_room, size_t n) {
    size_t whole = 0;
    if (src_room >= block && dst_room >= block) {
        const size_t from = (src_room - block) / step.src_bytes + 1, to = (dst_room - block) / step.dst_bytes + 1;
        whole = n / block;
        whole = from < whole ? from : whole;
        whole = to < whole ? to : whole;
        step.run(src, dst, whole, step.is_signed);
    }
    const size_t rest = n - whole * block; // fewer than 8 vectors: on one side less than a vector of bytes is left
    if (rest != 0) {
        alignas(64) unsigned char in[8 * block] = {};
        alignas(64) unsigned char out[8 * block];
        NC_COPY(in, src + whole * step.src_bytes, side_bytes(rest, step.src_bytes));
        step.run(in, out, (rest + block - 1) / block, step.is_signed);
        NC_COPY(dst + whole * step.dst_bytes, out, side_bytes(rest, step.dst_bytes));
    }
}

// Copies past the caches, but for what shares a line with other bytes.
NC_NOINLINE void stream_bytes(unsigned char* to, const unsigned char* from, size_t n) {
    size_t head = (64 - reinterpret_cast<uintptr_t>(to) % 64) % 64;
    head = head < n ? head : n;
    NC_COPY(to, from, head);
    size_t done = head;
    for (; n - done >= block; done += block)
        store(to + done, load(from + done), true);
    NC_COPY(to + done, from + done, n - done);
}

enum : size_t { stream_codes = 4096 };

NC_NOINLINE void run_codes(const VectorStep& step, const void* source, void* target, size_t n, bool stream) {
    const unsigned char* src = static_cast<const unsigned char*>(source);
    unsigned char* dst = static_cast<unsigned char*>(target);
    size_t src_room = side_bytes(n, step.src_bytes);
    if (has_stream && stream && n > stream_codes) { // stores overlap: they go to a tile in the nearest cache first
        alignas(64) unsigned char tile[size_t{stream_codes} + block];
        for (; n > stream_codes; n -= stream_codes) {
            const size_t bytes = side_bytes(stream_codes, step.dst_bytes);
            run_vectors(step, src, src_room, tile, sizeof tile, stream_codes);
            stream_bytes(dst, tile, bytes);
            src += side_bytes(stream_codes, step.src_bytes);
            src_room -= side_bytes(stream_codes, step.src_bytes);
            dst += bytes;
        }
        fence();
    }
    run_vectors(step, src, src_room, dst, side_bytes(n, step.dst_bytes), n);
}

template <int Bits> void pack_codes(const void* codes, void* packed, size_t n, bool stream) noexcept {
    run_codes({&pack_vectors<Bits>, block, lanes / 2 * Bits, false}, codes, packed, n, stream);
}

template <int Bits> void unpack_codes(const void* packed, void* codes, size_t n, bool is_signed, bool stream) noexcept {
    run_codes({&unpack_vectors<Bits>, lanes / 2 * Bits, block, is_signed}, packed, codes, n, stream);
}

// A code whose top bit is set is folded by turning its bits: of the two, that is the smaller number.
CodeBits code_bits(const void* codes, size_t n) noexcept {
    const unsigned char* const from = static_cast<const unsigned char*>(codes);
    const U ones = splat(~0u);
    U set[2] = {splat(0), splat(0)}, folded[2] = {splat(0), splat(0)};
    const auto look = [&](size_t k, U x) NC_INLINE_LAMBDA {
        set[k] = bor(set[k], x);
        folded[k] = bor(folded[k], min_bytes(x, bxor(x, ones)));
    };
    size_t i = 0;
    for (; n - i >= 2 * size_t{block}; i += 2 * size_t{block}) {
        look(0, load_once(from + i));
        look(1, load_once(from + i + block));
    }
    CodeBits found{};
    alignas(64) uint8_t bytes[2][block];
    store(bytes[0], bor(set[0], set[1]), false);
    store(bytes[1], bor(folded[0], folded[1]), false);
    for (size_t k = 0; k < block; ++k) {
        found.set = static_cast<uint8_t>(found.set | bytes[0][k]);
        found.folded = static_cast<uint8_t>(found.folded | bytes[1][k]);
    }
    for (; i < n; ++i) {
        const uint8_t code = from[i];
        found.set = static_cast<uint8_t>(found.set | code);
        found.folded = static_cast<uint8_t>(found.folded | (code < 0x80 ? code : ~code));
    }
    return found;
}

} // namespace
} // namespace narrowcast
