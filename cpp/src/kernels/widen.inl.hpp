// Integer sources, and the casts between float32, float64 and wide integers: plain loops that the compiler turns into
// this unit's instructions. Text-included once per ISA unit; no guard.

namespace narrowcast {
namespace {

template <class T> NC_INLINE T load_as(const void* p, size_t i) {
    T value;
    NC_COPY(&value, static_cast<const unsigned char*>(p) + i * sizeof(T), sizeof(T));
    return value;
}
template <class T> NC_INLINE void store_as(void* p, size_t i, T value) {
    NC_COPY(static_cast<unsigned char*>(p) + i * sizeof(T), &value, sizeof(T));
}

template <int32_t Format> struct CTypeOf;
template <> struct CTypeOf<NC_FORMAT_f32> {
    using type = float;
};
template <> struct CTypeOf<NC_FORMAT_f64> {
    using type = double;
};
template <> struct CTypeOf<NC_FORMAT_i32> {
    using type = int32_t;
};
template <> struct CTypeOf<NC_FORMAT_u32> {
    using type = uint32_t;
};
template <> struct CTypeOf<NC_FORMAT_i64> {
    using type = int64_t;
};
template <> struct CTypeOf<NC_FORMAT_u64> {
    using type = uint64_t;
};

// Integers of up to 24 bits -> float32, exact.
template <int32_t Format> void widen_small(const void* src, void* dst, size_t n, bool) noexcept {
    constexpr Row r = row(Format);
    constexpr uint32_t mask = static_cast<uint32_t>(facts(Format).code_mask);
    constexpr uint32_t sign = static_cast<uint32_t>(facts(Format).sign_mask);
    for (size_t i = 0; i < n; ++i) {
        uint32_t code = r.storage_bytes == 1 ? load_as<uint8_t>(src, i) : load_as<uint16_t>(src, i);
        if constexpr (Format == NC_FORMAT_boolean)
            code = code != 0 ? 1 : 0;
        else
            code &= mask;
        store_as(dst, i, static_cast<float>(static_cast<int32_t>((code ^ sign) - sign)));
    }
}

// 32-bit integers -> float32, rounded to odd at bit 8 once they have more than 24 bits: 17 significant bits or more.
template <int32_t Format> void widen_i32(const void* src, void* dst, size_t n, bool) noexcept {
    for (size_t i = 0; i < n; ++i) {
        const uint32_t code = load_as<uint32_t>(src, i);
        const bool negative = Format == NC_FORMAT_i32 && (code >> 31) != 0;
        const uint32_t m = negative ? 0 - code : code;
        const uint32_t marked = (m & 0xffffff00u) | ((m & 0xff) != 0 ? 0x100u : 0u);
        const uint32_t exact = m >> 24 != 0 ? marked : m;
        // Two exact halves: a uint32 conversion is slow on some instruction sets.
        const float value = static_cast<float>(static_cast<int32_t>(exact >> 8)) * 256.0f +
                            static_cast<float>(static_cast<int32_t>(exact & 0xff));
        store_as(dst, i, negative ? -value : value);
    }
}

// 64-bit integers -> float64, rounded to odd at bit 11 once they have more than 53 bits; then as float64.
template <int32_t Format> void widen_i64(const void* src, void* dst, size_t n, bool) noexcept {
    using T = typename CTypeOf<Format>::type;
    double tile[block];
    const unsigned char* from = static_cast<const unsigned char*>(src);
    unsigned char* to = static_cast<unsigned char*>(dst);
    for (size_t done = 0; done < n;) {
        const size_t count = n - done < block ? n - done : static_cast<size_t>(block);
        for (size_t i = 0; i < count; ++i) {
            const uint64_t code = static_cast<uint64_t>(load_as<T>(from, done + i));
            const bool negative = Format == NC_FORMAT_i64 && (code >> 63) != 0;
            const uint64_t m = negative ? 0 - code : code;
            const uint64_t marked = (m & ~uint64_t{0x7ff}) | ((m & 0x7ff) != 0 ? uint64_t{0x800} : 0);
            const uint64_t exact = m >> 53 != 0 ? marked : m;
            const double value = static_cast<double>(static_cast<uint32_t>(exact >> 32)) * 4294967296.0 +
                                 static_cast<double>(static_cast<uint32_t>(exact));
            tile[i] = negative ? -value : value;
        }
        for (size_t i = count; i < block; ++i)
            tile[i] = 0;
        U out[4];
        load_block<NC_FORMAT_f64>(reinterpret_cast<const unsigned char*>(tile), out);
        NC_COPY(to + done * 4, out, count * 4);
        done += count;
    }
}

// One conversion by the language's own rule: the rounding mode that the environment holds.
template <int32_t Src, int32_t Dst>
void convert_language(const void* src, void* dst, size_t n, const EncodeMode&, bool) noexcept {
    NC_ROUNDING_IS_DYNAMIC
    using S = typename CTypeOf<Src>::type;
    using D = typename CTypeOf<Dst>::type;
    for (size_t i = 0; i < n; ++i)
        store_as(dst, i, static_cast<D>(load_as<S>(src, i)));
}

} // namespace
} // namespace narrowcast
