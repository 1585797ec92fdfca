// Gradients of a scaled loss back to their size, and whether any of them is not finite, in one pass: for nc_unscale.
// Text-included once per ISA unit, after widen.inl.hpp; no guard.
//
// The products are those of float32 for all but float64, and go back to nearest-even. With a factor of 1 the bits are
// copied, so that a NaN keeps its payload, signaling or not.

namespace narrowcast {
namespace {

// A vector of float64, each times factor. Compilers make one instruction of it.
NC_INLINE U multiply_doubles(U a, double factor) {
    double x[lanes / 2];
    NC_COPY(x, &a, sizeof x);
    for (double& value : x)
        value *= factor;
    NC_COPY(&a, x, sizeof x);
    return a;
}

template <bool Multiply> bool unscale_doubles(const void* src, void* dst, size_t n, double factor, bool stream) {
    bool found = false;
    run<8, 8>(src, dst, n, stream,
              [&found, factor](const unsigned char* from, unsigned char* to, bool nt) NC_INLINE_LAMBDA {
                  U high = splat(0);
                  for (size_t at = 0; at < block * 8; at += lanes * 4) {
                      const U x = load(from + at);
                      high = max_u(high, band(upper_halves(x), splat(magnitude_f32)));
                      store(to + at, Multiply ? multiply_doubles(x, factor) : x, nt);
                  }
                  if (any(gt(high, splat(0x7fefffff)))) [[unlikely]] // beyond the upper half of the largest number
                      found = true;
              });
    return found;
}

template <int32_t Format> NC_INLINE void store_product(unsigned char* to, U (&x)[4], U factor, bool nt) {
    U y[4];
    for (size_t k = 0; k < 4; ++k)
        y[k] = fmul(x[k], factor);
    if constexpr (Format == NC_FORMAT_f32) {
        for (size_t k = 0; k < 4; ++k)
            store(to + k * lanes * 4, y[k], nt);
    } else if constexpr (Format == NC_FORMAT_f16) {
        store_halves(to, y[0], y[1], nt);
        store_halves(to + lanes * 4, y[2], y[3], nt);
    } else {
        static_assert(Format == NC_FORMAT_bf16);
        U rounded[4];
        for (size_t k = 0; k < 4; ++k)
            rounded[k] = even_untruncated<Format, false>(y[k]);
        restore_nan<Format>(y, rounded);
        store_words(to, shr<16>(rounded[0]), shr<16>(rounded[1]), nt);
        store_words(to + lanes * 4, shr<16>(rounded[2]), shr<16>(rounded[3]), nt);
    }
}

template <int32_t Format, bool Multiply>
bool unscale_floats(const void* src, void* dst, size_t n, float inv_scale, bool stream) {
    constexpr size_t item = static_cast<size_t>(row(Format).storage_bytes);
    uint32_t bits = 0;
    NC_COPY(&bits, &inv_scale, sizeof bits);
    const U factor = splat(bits);
    bool found = false;
    run<item, item>(src, dst, n, stream, [&](const unsigned char* from, unsigned char* to, bool nt) NC_INLINE_LAMBDA {
        U x[4];
        load_block<Format>(from, x); // Inf and NaN are Inf and NaN in float32, and nothing else is
        const U magnitude = splat(magnitude_f32);
        const U low = max_u(band(x[0], magnitude), band(x[1], magnitude));
        const U high = max_u(band(x[2], magnitude), band(x[3], magnitude));
        if (any(gt(max_u(low, high), splat(inf_f32 - 1)))) [[unlikely]]
            found = true;
        if constexpr (Multiply) {
            store_product<Format>(to, x, factor, nt);
        } else {
            for (size_t at = 0; at < block * item; at += lanes * 4)
                store(to + at, load(from + at), nt);
        }
    });
    return found;
}

template <int32_t Format> bool unscale(const void* src, void* dst, size_t n, float inv_scale, bool stream) noexcept {
    const bool multiply = inv_scale < 1.0f || inv_scale > 1.0f;
    if constexpr (Format == NC_FORMAT_f64) {
        const double factor = static_cast<double>(inv_scale);
        return multiply ? unscale_doubles<true>(src, dst, n, factor, stream)
                        : unscale_doubles<false>(src, dst, n, factor, stream);
    } else {
        return multiply ? unscale_floats<Format, true>(src, dst, n, inv_scale, stream)
                        : unscale_floats<Format, false>(src, dst, n, inv_scale, stream);
    }
}

} // namespace
} // namespace narrowcast
