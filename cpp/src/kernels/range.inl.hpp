// The finite range of values, and sums of codes (the scalar text, which says what is computed, is codec/quantize.hpp).
// Text-included once per ISA unit, after quantize.inl.hpp; no guard.

namespace narrowcast {
namespace {

// --- ranges --------------------------------------------------------------------------------------------------------

// The least and the largest value of each lane. Carelessly, NaN may be passed over or stay, and Inf counts; then one of
// the ends is not finite, and all is done once more with care. (The ends of nothing are +Inf and -Inf.)
struct Ends {
    U low, high;
};
constexpr uint32_t minus_inf_f32 = 0xff800000;
NC_INLINE Ends no_ends() { return {splat(inf_f32), splat(minus_inf_f32)}; }
template <bool Careful> NC_INLINE void widen(Ends& ends, U x) {
    if constexpr (Careful) {
        const M finite = gt(splat(inf_f32), band(x, splat(magnitude_f32)));
        ends.low = fmin(select(finite, x, splat(inf_f32)), ends.low);
        ends.high = fmax(select(finite, x, splat(minus_inf_f32)), ends.high);
    } else {
        ends.low = fmin_seen(x, ends.low);
        ends.high = fmax_seen(x, ends.high);
    }
}

template <bool Careful> NC_INLINE Ends row_ends(const unsigned char* x, size_t n) {
    Ends ends = no_ends();
    size_t i = 0;
    if (n >= block) {
        Ends more[3] = {no_ends(), no_ends(), no_ends()};
        for (; n - i >= block; i += block) {
            widen<Careful>(ends, load_once(x + i * 4));
            for (size_t k = 1; k < 4; ++k)
                widen<Careful>(more[k - 1], load_once(x + (i + k * lanes) * 4));
        }
        const Ends both{fmin_seen(more[0].low, more[1].low), fmax_seen(more[0].high, more[1].high)};
        ends = {fmin_seen(fmin_seen(both.low, more[2].low), ends.low),
                fmax_seen(fmax_seen(both.high, more[2].high), ends.high)};
    }
    for (; n - i >= lanes; i += lanes)
        widen<Careful>(ends, load_once(x + i * 4));
    if (i < n) {
        widen<Careful>(ends, load_some(x + i * 4, n - i, splat(load_as<uint32_t>(x, i)))); // one that is there
    }
    return ends;
}

// -0 becomes +0.
NC_INLINE void merge(float found_low, float found_high, float& low, float& high) {
    low = found_low + 0.0f < low ? found_low + 0.0f : low;
    high = found_high + 0.0f > high ? found_high + 0.0f : high;
}
NC_INLINE bool finite_ends(float low, float high) {
    constexpr float most = 3.4028234663852886e38f;
    return low >= -most && high <= most;
}

// In integers, for the compiler to make it wide.
NC_INLINE bool all_finite(const float* low, const float* high, size_t count) {
    uint32_t wrong = 0;
    for (size_t i = 0; i < count; ++i)
        wrong |= (load_as<uint32_t>(low, i) & magnitude_f32) >= inf_f32 ||
                         (load_as<uint32_t>(high, i) & magnitude_f32) >= inf_f32
                     ? 1u
                     : 0u;
    return wrong == 0;
}

// What four vectors come to, each by itself.
template <class Both> NC_INLINE void fold_four(const U (&a)[4], const Both& both, float* to) {
    store_four(to, fold_parts(fold_quads(fold_pairs(a[0], a[1], both), fold_pairs(a[2], a[3], both), both), both));
}

NC_NOINLINE void careful_range(const unsigned char* x, size_t n, float& low, float& high) {
    const Ends ends = row_ends<true>(x, n);
    low = smallest(ends.low);
    high = largest(ends.high);
}

// Four rows at once, of which lanes are folded together; then all rows of a tile.
void range_rows(const void* x, const Rectangle& r, float* low, float* high) noexcept {
    alignas(64) float lows[tile_boxes], highs[tile_boxes];
    for (size_t first = 0; first < r.rows; first += tile_boxes) {
        const size_t rest = r.rows - first, count = rest < tile_boxes ? rest : size_t{tile_boxes};
        for (size_t i = 0; i < count; i += 4) {
            Ends ends[4];
            for (size_t k = 0; k < 4; ++k)
                ends[k] = i + k < count ? row_ends<false>(row_at(x, r.src_step, first + i + k), r.cols) : no_ends();
            const auto smaller = [](U a, U b) NC_INLINE_LAMBDA { return fmin_seen(a, b); };
            const auto larger = [](U a, U b) NC_INLINE_LAMBDA { return fmax_seen(a, b); };
            fold_four({ends[0].low, ends[1].low, ends[2].low, ends[3].low}, smaller, lows + i);
            fold_four({ends[0].high, ends[1].high, ends[2].high, ends[3].high}, larger, highs + i);
        }
        if (!all_finite(lows, highs, count)) [[unlikely]] {
            for (size_t i = 0; i < count; ++i)
                if (!finite_ends(lows[i], highs[i]))
                    careful_range(row_at(x, r.src_step, first + i), r.cols, lows[i], highs[i]);
        }
        for (size_t i = 0; i < count; ++i)
            merge(lows[i], highs[i], low[first + i], high[first + i]);
    }
}

// As signed integers the largest bits are those of the largest positive value, as unsigned ones those of the negative
// value of the largest magnitude; a NaN or an infinity of that sign is above it.
struct Span {
    U positive, negative;
};
NC_INLINE void extend(Span& span, U x) {
    span.positive = max_s(span.positive, x);
    span.negative = max_u(span.negative, x);
}
NC_INLINE Span row_span(const unsigned char* x, size_t n) {
    Span spans[2] = {{splat(0), splat(0)}, {splat(0), splat(0)}};
    size_t i = 0;
    for (; n - i >= block; i += block)
        for (size_t k = 0; k < 4; ++k)
            extend(spans[k % 2], load_once(x + (i + k * lanes) * 4));
    for (; n - i >= lanes; i += lanes)
        extend(spans[0], load_once(x + i * 4));
    if (i < n)
        extend(spans[0], load_some(x + i * 4, n - i, splat(0)));
    return {max_s(spans[0].positive, spans[1].positive), max_u(spans[0].negative, spans[1].negative)};
}

bool span_rows(const void* x, const Rectangle& r, float* low, float* high) noexcept {
    alignas(64) float positive[tile_boxes], negative[tile_boxes];
    uint32_t wrong = 0;
    for (size_t first = 0; first < r.rows; first += tile_boxes) {
        const size_t rest = r.rows - first, count = rest < tile_boxes ? rest : size_t{tile_boxes};
        for (size_t i = 0; i < count; i += 4) {
            const auto row = [&](size_t k) NC_INLINE_LAMBDA {
                return i + k < count ? row_span(row_at(x, r.src_step, first + i + k), r.cols)
                                     : Span{splat(0), splat(0)};
            };
            const Span s[4] = {row(0), row(1), row(2), row(3)}; // in registers
            const auto positives = [](U a, U b) NC_INLINE_LAMBDA { return max_s(a, b); };
            const auto negatives = [](U a, U b) NC_INLINE_LAMBDA { return max_u(a, b); };
            fold_four({s[0].positive, s[1].positive, s[2].positive, s[3].positive}, positives, positive + i);
            fold_four({s[0].negative, s[1].negative, s[2].negative, s[3].negative}, negatives, negative + i);
        }
        for (size_t i = 0; i < count; ++i) {
            const auto up = load_as<uint32_t>(positive, i), down = load_as<uint32_t>(negative, i);
            wrong |= up >= inf_f32 || down >= minus_inf_f32 ? 1u : 0u;
            const float below = down > sign_f32 ? negative[i] : 0.0f;
            low[first + i] = below < low[first + i] ? below : low[first + i];
            high[first + i] = positive[i] > high[first + i] ? positive[i] : high[first + i];
        }
    }
    return wrong == 0;
}

enum : size_t { range_columns_once = 512 };
struct ColumnEnds {
    alignas(64) float low[range_columns_once], high[range_columns_once];
};

// count columns of all rows, four rows at once.
template <bool Careful>
NC_NOINLINE void column_ends(const unsigned char* x, const Rectangle& r, size_t count, ColumnEnds& ends) {
    for (size_t i = 0; i < count; i += lanes) {
        store(ends.low + i, splat(inf_f32), false);
        store(ends.high + i, splat(minus_inf_f32), false);
    }
    for (size_t row = 0; row < r.rows; row += 4) {
        const size_t rows = r.rows - row < 4 ? r.rows - row : 4;
        for (size_t i = 0; i < count; i += lanes) {
            Ends both{load(ends.low + i), load(ends.high + i)};
            for (size_t k = 0; k < 4; ++k) {
                if (k >= rows)
                    break;
                const unsigned char* const from = row_at(x, r.src_step, row + k) + i * 4;
                if (count - i >= lanes) {
                    widen<Careful>(both, load(from));
                } else {
                    widen<Careful>(both, load_some(from, count - i, splat(0))); // lanes that nobody reads
                }
            }
            store(ends.low + i, both.low, false);
            store(ends.high + i, both.high, false);
        }
    }
}

void range_columns(const void* x, const Rectangle& r, float* low, float* high) noexcept {
    if (r.rows == 0)
        return;
    ColumnEnds ends;
    for (size_t done = 0; done < r.cols; done += range_columns_once) {
        const size_t rest = r.cols - done, count = rest < range_columns_once ? rest : size_t{range_columns_once};
        const unsigned char* const from = static_cast<const unsigned char*>(x) + done * 4;
        column_ends<false>(from, r, count, ends);
        if (!all_finite(ends.low, ends.high, count)) [[unlikely]]
            column_ends<true>(from, r, count, ends);
        for (size_t i = 0; i < count; ++i)
            merge(ends.low[i], ends.high[i], low[done + i], high[done + i]);
    }
}

// --- sums ----------------------------------------------------------------------------------------------------------

// Bytes are summed as unsigned ones: a signed one with its top bit turned is itself + 128.
NC_INLINE uint32_t sum_of_bytes(const unsigned char* codes, size_t n, bool is_signed) {
    const U turn = splat(is_signed ? 0x80808080u : 0);
    U sum = splat(0);
    size_t i = 0;
    for (; n - i >= block; i += block)
        sum = add(sum, sum_bytes(bxor(load(codes + i), turn)));
    if (i < n) {
        alignas(64) unsigned char padded[block];
        store(padded, turn, false);
        copy_some(padded, codes + i, n - i);
        sum = add(sum, sum_bytes(bxor(load(padded), turn)));
    }
    return sum_lanes(sum) - (is_signed ? static_cast<uint32_t>(n) * 128u : 0);
}

template <class T> NC_INLINE uint32_t sum_of_words(const unsigned char* codes, size_t n) {
    uint32_t sum = 0;
    for (size_t i = 0; i < n; ++i)
        sum += static_cast<uint32_t>(load_as<T>(codes, i));
    return sum;
}

void code_sums(const void* codes, const Rectangle& r, int32_t item, bool is_signed, int32_t* sums) noexcept {
    for (size_t row = 0; row < r.rows; ++row) {
        const unsigned char* const from = row_at(codes, r.src_step, row);
        const uint32_t sum = item == 1   ? sum_of_bytes(from, r.cols, is_signed)
                             : is_signed ? sum_of_words<int16_t>(from, r.cols)
                                         : sum_of_words<uint16_t>(from, r.cols);
        sums[row] = static_cast<int32_t>(static_cast<uint32_t>(sums[row]) + sum);
    }
}

} // namespace
} // namespace narrowcast
