// AVX-512 with VBMI and BF16: the AVX-512 table with overrides of single slots, each bit-equal to the codec.
//
//  - byte codes -> float32, float16, bfloat16: byte tables held in registers;
//  - bfloat16 -> byte codes, nearest-even: 16-bit lanes, power and base looked up by exponent;
//  - float32 and float16 -> byte codes, nearest-even: the generic addition fused, its bytes picked by permutations;
//  - float32 and float16 -> bfloat16: the hardware conversion. It flushes subnormals and keeps NaN payloads, so it is
//    used only for blocks that a class test shows free of both;
//  - packing: bitpack.hpp; packed codes of 4 bits to values: ../avx512/nibbles.hpp.
#include "isa/avx512/vec.hpp"

#include "kernels/all.inl.hpp"

#if defined(__AVX512VBMI__) && (defined(__AVX512BF16__) || defined(_MSC_VER))

#include "isa/avx512/nibbles.hpp"
#include "isa/avx512vbmi/bitpack.hpp"

namespace narrowcast {
namespace {

struct alignas(64) Bytes64 {
    uint8_t at[64];
};
struct alignas(64) Bytes128 {
    uint8_t at[128];
};
NC_INLINE __m512i load_table(const uint8_t* p) { return _mm512_load_si512(p); }

// --- byte codes -> 16 and 32 bits -----------------------------------------------------------------------------------

// The float32 bits of a positive code: every byte format is exact in the top 16 of them.
template <int32_t Format> consteval uint32_t decoded_f32(uint64_t magnitude) {
    constexpr Row r = row(Format);
    constexpr Facts f = facts(Format);
    if (f.has_nan && r.specials != Specials::fnuz && magnitude > (f.has_inf ? f.inf : f.max))
        return 0x7fc00000;
    if (f.has_inf && magnitude == f.inf)
        return 0x7f800000;
    if (magnitude == 0)
        return 0;
    int32_t exponent = 1 - r.bias; // subnormals: normalise by doubling
    uint64_t fraction = magnitude;
    if (magnitude >> r.mantissa_bits != 0) {
        exponent = static_cast<int32_t>(magnitude >> r.mantissa_bits) - r.bias;
        fraction = magnitude & (f.min_normal - 1);
    } else {
        for (; fraction >> r.mantissa_bits == 0; fraction *= 2)
            exponent -= 1;
        fraction -= f.min_normal;
    }
    return static_cast<uint32_t>(exponent + 127) << 23 | static_cast<uint32_t>(fraction) << (23 - r.mantissa_bits);
}

// The same as binary16, of which every byte format but E8M0 is a subset.
consteval uint32_t half_of_f32(uint32_t x) {
    if (x >= 0x7f800000)
        return x == 0x7f800000 ? 0x7c00 : 0x7e00;
    const int32_t exponent = static_cast<int32_t>(x >> 23) - 127;
    const uint32_t significand = (x & 0x7fffff) | 0x800000;
    if (x == 0)
        return 0;
    return exponent >= -14 ? static_cast<uint32_t>(exponent + 15) << 10 | (significand >> 13 & 0x3ff)
                           : significand >> (13 - 14 - exponent);
}

// Byte Part of the 16-bit result, for all codes of 7 bits (formats of 8 bits: the sign joins later) or, below 8 bits,
// for all codes of 6 bits, sign included; what stands above a narrower code repeats.
template <int32_t Format, int32_t Hub> consteval uint32_t decoded_word(uint32_t code) {
    constexpr Row r = row(Format);
    constexpr Facts f = facts(Format);
    code &= static_cast<uint32_t>(f.code_mask);
    const uint32_t x = decoded_f32<Format>(code & f.magnitude_mask);
    const uint32_t value = Hub == hub_f16 ? half_of_f32(x) : x >> 16;
    uint32_t sign = 0;
    if (r.bits < 8)
        sign = (code & f.sign_mask) != 0 ? 0x8000 : 0;
    return value | sign;
}
template <int32_t Format, int32_t Hub, int Part> consteval Bytes128 decode_table() {
    Bytes128 table{};
    for (uint32_t code = 0; code < 128; ++code)
        table.at[code] = static_cast<uint8_t>(decoded_word<Format, Hub>(code) >> (8 * Part));
    return table;
}
template <int32_t Format, int32_t Hub> struct DecodeTables {
    static constexpr Bytes128 low = decode_table<Format, Hub, 0>(), high = decode_table<Format, Hub, 1>();
};

// Low and high bytes of the 16-bit values of 64 codes.
template <int32_t Format, int32_t Hub> NC_INLINE void decode_word_bytes(B codes, B& low, B& high) {
    constexpr Row r = row(Format);
    if constexpr (is_scale<Format>()) { // the code is the exponent; 2^-127 and NaN have the top fraction bit besides
        static_assert(Hub == hub_bf16);
        const MB half = byte_eq(codes, splat_byte(0)) | byte_eq(codes, splat_byte(0xff));
        high = byte_and(_mm512_srli_epi16(codes, 1), splat_byte(0x7f));
        low = byte_and(_mm512_slli_epi16(codes, 7), splat_byte(0x80));
        low = _mm512_mask_add_epi8(low, half, low, splat_byte(0x40));
    } else if constexpr (r.bits < 8) {
        using Tables = DecodeTables<Format, Hub>;
        low = _mm512_permutexvar_epi8(codes, load_table(Tables::low.at));
        high = _mm512_permutexvar_epi8(codes, load_table(Tables::high.at));
    } else {
        using Tables = DecodeTables<Format, Hub>;
        low = _mm512_permutex2var_epi8(load_table(Tables::low.at), codes, load_table(Tables::low.at + 64));
        high = _mm512_permutex2var_epi8(load_table(Tables::high.at), codes, load_table(Tables::high.at + 64));
        high = _mm512_ternarylogic_epi32(high, codes, splat_byte(0x80), 0xF8); // high | (codes & 80)
        if constexpr (r.specials == Specials::fnuz) {                          // the code of -0 is NaN
            constexpr uint16_t nan = Hub == hub_f16 ? 0xfe00 : 0xffc0;
            const MB is_nan = byte_eq(codes, splat_byte(0x80));
            high = _mm512_mask_mov_epi8(high, is_nan, splat_byte(nan >> 8));
            if constexpr ((nan & 0xff) != 0)
                low = _mm512_mask_mov_epi8(low, is_nan, splat_byte(nan & 0xff));
        }
    }
}

template <int32_t Src> void table_to_f32(const void* src, void* dst, size_t n, bool stream) noexcept {
    run<1, 4>(src, dst, n, stream, [](const unsigned char* from, unsigned char* to, bool nt) NC_INLINE_LAMBDA {
        // Two rounds of in-lane unpacking follow: deal the codes out so that they end up in order.
        const __m512i deal = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        B low, high;
        decode_word_bytes<Src, hub_bf16>(_mm512_permutexvar_epi32(deal, load(from)), low, high);
        const __m512i zero = _mm512_setzero_si512();
        const __m512i first = _mm512_unpacklo_epi8(low, high), second = _mm512_unpackhi_epi8(low, high);
        store(to, _mm512_unpacklo_epi16(zero, first), nt);
        store(to + 64, _mm512_unpackhi_epi16(zero, first), nt);
        store(to + 128, _mm512_unpacklo_epi16(zero, second), nt);
        store(to + 192, _mm512_unpackhi_epi16(zero, second), nt);
    });
}

template <int32_t Src, int32_t Hub> void table_to_16(const void* src, void* dst, size_t n, bool stream) noexcept {
    run<1, 2>(src, dst, n, stream, [](const unsigned char* from, unsigned char* to, bool nt) NC_INLINE_LAMBDA {
        const __m512i deal = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
        B low, high;
        decode_word_bytes<Src, Hub>(_mm512_permutexvar_epi64(deal, load(from)), low, high);
        store(to, _mm512_unpacklo_epi8(low, high), nt);
        store(to + 64, _mm512_unpackhi_epi8(low, high), nt);
    });
}

// Codes with the sign of `signs`, whose top bits alone count. FNUZ has no -0: there 7F + code carries into the top bit
// unless the code is 0.
template <int32_t Format> NC_INLINE B join_top_bits(B codes, B signs) {
    constexpr Row r = row(Format);
    const B sign_bit = splat_byte(static_cast<uint8_t>(facts(Format).sign_mask));
    if constexpr (r.bits < 8)
        signs = _mm512_srli_epi16(signs, 8 - r.bits);
    if constexpr (r.specials == Specials::fnuz)
        signs = _mm512_ternarylogic_epi32(signs, _mm512_add_epi8(codes, splat_byte(0x7f)), sign_bit, 0x80);
    return _mm512_ternarylogic_epi32(codes, signs, sign_bit, 0xF8); // codes | (signs & bit)
}

// --- 16-bit lanes -> byte codes, nearest-even ----------------------------------------------------------------------

// A word holds a bfloat16: exponent e, fraction; its significand 1.fffffff is an 8-bit integer s. Multiplied by
// power[e], the bits to keep stand in the high byte and the cut-off ones in the low byte, subnormals included; the code
// is base[e] + kept + round. Exponents far below and above share the first and last entry, where the power is 0.
template <int32_t Format, bool Saturate> struct WordEncode {
    static constexpr Row r = row(Format);
    static constexpr Facts f = facts(Format);
    static constexpr int32_t normal = 128 - r.bias;                 // exponent field of the smallest normal
    static constexpr int32_t lowest = normal - r.mantissa_bits - 2; // everything here and below becomes zero
    static constexpr int32_t highest = static_cast<int32_t>(value_bits<Format>(f.max) >> 23) + 1; // overflows
    static constexpr uint8_t beyond = static_cast<uint8_t>(Saturate || f.overflow == f.max ? f.max : f.max + 1);
    // Rounding up from the largest value gives `beyond` by itself, unless there is none or the code after it is taken.
    static constexpr bool needs_limit = Saturate || f.overflow == f.max || r.specials == Specials::fn;
    static_assert(lowest >= 0 && highest <= 255 && highest - lowest < 64 && r.mantissa_bits <= 5);

    static consteval Bytes64 powers() {
        Bytes64 table{};
        for (int32_t e = lowest + 1; e < highest; ++e)
            table.at[e % 64] = static_cast<uint8_t>(1 << (r.mantissa_bits + 1 - (e < normal ? normal - e : 0)));
        return table;
    }
    static consteval Bytes64 bases() {
        Bytes64 table{};
        for (int32_t e = lowest; e <= highest; ++e)
            table.at[e % 64] = static_cast<uint8_t>(e == highest ? beyond
                                                    : e < normal ? 0
                                                                 : (e - normal) << r.mantissa_bits);
        return table;
    }
    static constexpr Bytes64 power = powers(), base = bases();
};

// Two vectors of words give one of bytes, interleaved: byte 2 w from word w of the first, byte 2 w + 1 from the second.
template <int Part> consteval Bytes64 gather_order() { // Part: 1 the high bytes, 0 the low ones
    Bytes64 index{};
    for (int w = 0; w < 32; ++w) {
        index.at[2 * w] = static_cast<uint8_t>(2 * w + Part);
        index.at[2 * w + 1] = static_cast<uint8_t>(2 * w + Part + 64);
    }
    return index;
}
consteval Bytes64 ungather_order() {
    Bytes64 index{};
    for (int i = 0; i < 64; ++i)
        index.at[i] = static_cast<uint8_t>(i < 32 ? 2 * i : 2 * (i - 32) + 1);
    return index;
}
struct Gather {
    static constexpr Bytes64 low = gather_order<0>(), high = gather_order<1>(), undo = ungather_order();
};

// The codes, interleaved; sig_a and sig_b hold the significands in their low bytes, 0 in the high ones. The exponents
// come out too, for the search for NaN.
template <int32_t Format, bool Saturate> NC_INLINE B encode_words(W a, W b, W sig_a, W sig_b, B& exponents) {
    using Tables = WordEncode<Format, Saturate>;
    const __m512i high = load_table(Gather::high.at), low = load_table(Gather::low.at);
    const __m512i upper = splat_word(0xff00);
    exponents =
        _mm512_ternarylogic_epi32(_mm512_srli_epi16(a, 7), _mm512_add_epi16(b, b), upper, 0xD8); // upper ? b : a
    const B index =
        _mm512_min_epu8(_mm512_max_epu8(exponents, splat_byte(Tables::lowest)), splat_byte(Tables::highest));
    const B power = _mm512_permutexvar_epi8(index, load_table(Tables::power.at));
    const B base = _mm512_permutexvar_epi8(index, load_table(Tables::base.at));
    // Products of byte pairs, summed: the significand's neighbour is 0, so whatever stands beside its power is gone.
    const W za = _mm512_maddubs_epi16(sig_a, power);
    const W zb = _mm512_maddubs_epi16(sig_b, _mm512_srli_epi16(power, 8));
    const B kept = _mm512_permutex2var_epi8(za, high, zb), cut = _mm512_permutex2var_epi8(za, low, zb);
    // More than half, or half and odd: cut | (kept & 1) > 80.
    const MB up = _mm512_cmpgt_epu8_mask(_mm512_ternarylogic_epi32(cut, kept, splat_byte(1), 0xF8), splat_byte(0x80));
    B code = _mm512_add_epi8(base, kept);
    code = _mm512_mask_sub_epi8(code, up, code, splat_byte(0xff));
    if constexpr (Tables::needs_limit)
        code = _mm512_min_epu8(code, splat_byte(Tables::beyond));
    return join_top_bits<Format>(code, _mm512_permutex2var_epi8(a, high, b));
}
NC_INLINE void store_interleaved_bytes(void* p, B codes, bool stream) {
    store_vector(p, _mm512_permutexvar_epi8(load_table(Gather::undo.at), codes), stream);
}

template <int32_t Format, bool Saturate>
void words_from_bf16(const void* src, void* dst, size_t n, bool stream) noexcept {
    run<2, 1>(src, dst, n, stream, [](const unsigned char* from, unsigned char* to, bool nt) NC_INLINE_LAMBDA {
        const W a = load(from), b = load(from + 64);
        const W fraction = splat_word(0x7f), one = splat_word(0x80);
        const W sig_a = _mm512_ternarylogic_epi32(a, fraction, one, 0xEA); // (a & fraction) | one
        const W sig_b = _mm512_ternarylogic_epi32(b, fraction, one, 0xEA);
        B exponents;
        const B codes = encode_words<Format, Saturate>(a, b, sig_a, sig_b, exponents);
        if constexpr (!nan_is_overflow<Format, Saturate>()) {
            if (byte_eq(exponents, splat_byte(0xff)) != 0) [[unlikely]] { // Inf or NaN
                store_unpacked_bytes(to, encode_even_words<Format, Saturate>(a, b), nt);
                return;
            }
        }
        store_interleaved_bytes(to, codes, nt);
    });
}

// --- float32 lanes -> byte codes, nearest-even ----------------------------------------------------------------------

// even_clamped's addition as a multiplication and addition in one: E | bias is the float 2^E (1 + bias ulps), and times
// 2^(23 - mantissa bits) it is the power of two to add. The sum's exponent field says E again, so its bits from
// 23 - mantissa bits up and its low byte add up to the code.
template <int32_t Format, bool Saturate> NC_INLINE U even_sum(U x) {
    constexpr Row r = row(Format);
    constexpr uint32_t normal = value_bits<Format>(facts(Format).min_normal);
    constexpr uint32_t constant = ((normal >> 23) + 23u - r.mantissa_bits) << r.mantissa_bits;
    constexpr uint32_t bias = (0u - constant) & 0xff;
    static_assert(bias % 2 == 0);
    const U a = min_u(band(x, splat(magnitude_f32)), splat(even_limit<Format, Saturate>()));
    const U e =
        _mm512_ternarylogic_epi32(max_u(a, splat(normal)), splat(inf_f32), splat(bias), 0xEA); // (a & inf) | bias
    const U factor = splat(static_cast<uint32_t>(127 + 23 - r.mantissa_bits) << 23);
    return as_bits(_mm512_fmadd_ps(as_float(e), as_float(factor), as_float(a)));
}

// Bit offsets, within two lanes, of the low byte and the exponent byte of each; on the even or the odd dword.
template <int32_t Mantissa, int Place> consteval Bytes64 sum_bytes() {
    Bytes64 index{};
    for (int q = 0; q < 8; ++q) {
        const uint8_t bits[4] = {0, 32, 23 - Mantissa, 32 + 23 - Mantissa};
        for (int i = 0; i < 4; ++i)
            index.at[8 * q + 4 * Place + i] = bits[i];
    }
    return index;
}
template <int32_t Mantissa> struct SumBytes {
    static constexpr Bytes64 even = sum_bytes<Mantissa, 0>(), odd = sum_bytes<Mantissa, 1>();
};
// Natural order of one of the two kinds, from two vectors that hold qwords of (two low, two exponent bytes) of the even
// vector, then of the odd one.
template <int Part> consteval Bytes64 sum_order() {
    Bytes64 index{};
    for (int i = 0; i < 64; ++i) {
        const int vector = i / 16, lane = i % 16;
        index.at[i] = static_cast<uint8_t>(8 * (lane / 2) + 4 * (vector % 2) + 2 * Part + lane % 2 + 64 * (vector / 2));
    }
    return index;
}
consteval Bytes64 top_order() { // the top bytes of two vectors in the low half
    Bytes64 index{};
    for (int i = 0; i < 32; ++i)
        index.at[i] = static_cast<uint8_t>(4 * (i % 16) + 3 + 64 * (i / 16));
    for (int i = 32; i < 64; ++i)
        index.at[i] = index.at[i - 32];
    return index;
}
struct SumOrder {
    static constexpr Bytes64 low = sum_order<0>(), exponent = sum_order<1>(), top = top_order();
};

template <int32_t Src, int32_t Format, bool Saturate>
void sums_from_f32(const void* src, void* dst, size_t n, bool stream) noexcept {
    run<static_cast<size_t>(row(Src).storage_bytes), 1>(
        src, dst, n, stream, [](const unsigned char* from, unsigned char* to, bool nt) NC_INLINE_LAMBDA {
            constexpr Row r = row(Format);
            U x[4];
            load_block<Src>(from, x);
            const __m512i even = load_table(SumBytes<r.mantissa_bits>::even.at);
            const __m512i odd = load_table(SumBytes<r.mantissa_bits>::odd.at);
            const auto pair = [&](U first, U second) NC_INLINE_LAMBDA {
                return _mm512_mask_blend_epi32(0xAAAA,
                                               _mm512_multishift_epi64_epi8(even, even_sum<Format, Saturate>(first)),
                                               _mm512_multishift_epi64_epi8(odd, even_sum<Format, Saturate>(second)));
            };
            const __m512i low_pair = pair(x[0], x[1]), high_pair = pair(x[2], x[3]);
            const B codes =
                _mm512_add_epi8(_mm512_permutex2var_epi8(low_pair, load_table(SumOrder::low.at), high_pair),
                                _mm512_permutex2var_epi8(low_pair, load_table(SumOrder::exponent.at), high_pair));
            const __m512i top = load_table(SumOrder::top.at);
            const B signs = _mm512_mask_blend_epi64(0xF0, _mm512_permutex2var_epi8(x[0], top, x[1]),
                                                    _mm512_permutex2var_epi8(x[2], top, x[3]));
            if constexpr (!nan_is_overflow<Format, Saturate>()) {
                if (any_nan(x[0], x[1], x[2], x[3])) [[unlikely]] {
                    store_bytes(to, encode_even_bytes<Format, Saturate>(x[0], x[1], x[2], x[3]), nt);
                    return;
                }
            }
            store_vector(to, join_top_bits<Format>(codes, signs), nt);
        });
}

// --- to bfloat16 ---------------------------------------------------------------------------------------------------

NC_INLINE M hardware_class(U x) { return _mm512_fpclass_ps_mask(as_float(x), 0xA1); } // NaN or subnormal
NC_INLINE __m512i hardware_bf16(U low, U high) {
    const __m512bh words = _mm512_cvtne2ps_pbh(as_float(high), as_float(low));
    __m512i result;
    NC_COPY(&result, &words, sizeof result);
    return result;
}

template <int32_t Src, bool Saturate>
void hardware_to_bf16(const void* src, void* dst, size_t n, bool stream) noexcept {
    run<static_cast<size_t>(row(Src).storage_bytes), 2>(
        src, dst, n, stream, [](const unsigned char* from, unsigned char* to, bool nt) NC_INLINE_LAMBDA {
            U x[4];
            load_block<Src>(from, x);
            bool differs;
            if constexpr (Src == NC_FORMAT_f16) // its values are never subnormal in float32
                differs = any_nan(x[0], x[1], x[2], x[3]);
            else
                differs =
                    (hardware_class(x[0]) | hardware_class(x[1]) | hardware_class(x[2]) | hardware_class(x[3])) != 0;
            if (differs) [[unlikely]] {
                store_even<NC_FORMAT_bf16, Saturate>(to, x, nt);
                return;
            }
            if constexpr (Saturate)
                for (U& v : x)
                    v = limit_magnitude(v, splat(value_bits<NC_FORMAT_bf16>(facts(NC_FORMAT_bf16).max)));
            store(to, hardware_bf16(x[0], x[1]), nt);
            store(to + 64, hardware_bf16(x[2], x[3]), nt);
        });
}

// --- the table -----------------------------------------------------------------------------------------------------

template <int32_t Format> constexpr void override_bytes(KernelTable& table) {
    if constexpr (row(Format).is_float && row(Format).storage_bytes == 1)
        table.widen[Format] = &table_to_f32<Format>;
    if constexpr (row(Format).is_float && row(Format).storage_bytes == 1 && !is_scale<Format>()) {
        table.widen16[Format][hub_f16] = &table_to_16<Format, hub_f16>;
        table.widen16[Format][hub_bf16] = &table_to_16<Format, hub_bf16>;
        table.direct[hub_f32][Format][0] = &sums_from_f32<NC_FORMAT_f32, Format, false>;
        table.direct[hub_f32][Format][1] = &sums_from_f32<NC_FORMAT_f32, Format, true>;
        table.direct[hub_f16][Format][0] = &sums_from_f32<NC_FORMAT_f16, Format, false>;
        table.direct[hub_f16][Format][1] = &sums_from_f32<NC_FORMAT_f16, Format, true>;
        table.direct[hub_bf16][Format][0] = &words_from_bf16<Format, false>;
        table.direct[hub_bf16][Format][1] = &words_from_bf16<Format, true>;
    }
}

constexpr KernelTable make_table() {
    KernelTable table = generic_table("avx512vbmi", true);
#define NC_FLOAT(number, ...) override_bytes<number>(table);
#define NC_INT(number, ...)
#include "narrowcast/formats.def"
    override_width<most_code_bits - 1>(table); // codes of 8 bits are copied
    override_nibbles(table);
    table.direct[hub_f32][NC_FORMAT_bf16][0] = &hardware_to_bf16<NC_FORMAT_f32, false>;
    table.direct[hub_f32][NC_FORMAT_bf16][1] = &hardware_to_bf16<NC_FORMAT_f32, true>;
    table.direct[hub_f16][NC_FORMAT_bf16][0] = &hardware_to_bf16<NC_FORMAT_f16, false>;
    table.direct[hub_f16][NC_FORMAT_bf16][1] = &hardware_to_bf16<NC_FORMAT_f16, true>;
    return table;
}

} // namespace

extern const KernelTable table_avx512vbmi;
constinit const KernelTable table_avx512vbmi = make_table();

} // namespace narrowcast

#endif
