// What a cast lost: sums and counts over pairs of float32 values, for nc_cast_error. Text-included once per ISA unit,
// after widen.inl.hpp; no guard. Where the pairs come from, and those that float32 does not hold: api/cast_error.cpp.
//
// A strip is a few vectors of each side. Its squares are added up in float32, lane by lane, and go on as doubles. That
// is good to 2^-19 where nothing overflows, is lost below the smallest float32, or has to be counted one by one. A
// strip that is not so plain is done in doubles throughout.

namespace narrowcast {
namespace {

enum : size_t { strip = 8 * block, strip_bytes = strip * 4 }; // 32 vectors, in two halves

// 32 squares of smaller magnitudes add up below 2^128.
constexpr uint32_t plain_limit = 0x5e000000; // 2^61
// Below the smallest float32 32 squares cannot have lost more than 2^-145: little beside a sum from here on.
constexpr uint32_t plain_sum = 0x03800000; // 2^-120

struct LaneSums {
    double x2[lanes], error2[lanes], error[lanes], max_error[lanes];
    uint32_t max_plain[lanes]; // float32 bits; max_error is for the other strips
    uint32_t not_finite[lanes], overflowed[lanes], became_zero[lanes], became_nan[lanes];
};

NC_INLINE void clear(LaneSums& sums) { // field by field: as a whole it would become a slow string instruction
    for (size_t i = 0; i < lanes; ++i)
        sums.x2[i] = sums.error2[i] = sums.error[i] = sums.max_error[i] = 0;
    for (size_t i = 0; i < lanes; ++i)
        sums.max_plain[i] = sums.not_finite[i] = sums.overflowed[i] = sums.became_zero[i] = sums.became_nan[i] = 0;
}

NC_INLINE void add_counts(uint32_t* sums, U counts) { store(sums, add(load(sums), counts), false); }

// a is not 0 and b is.
NC_INLINE M lost_to_zero(U a, U b) {
    const U magnitude = splat(magnitude_f32);
    return gt(min_u(band(a, magnitude), splat(1)), band(b, magnitude));
}

// Adds a strip to sums and returns true, or does nothing if it is not plain. limit: the largest magnitude of x that
// neither overflows nor reaches plain_limit.
template <bool Magnitudes>
NC_INLINE bool add_plain(const unsigned char* x, const unsigned char* y, uint32_t limit, LaneSums& sums) {
    const U zero = splat(0), one = splat(1), magnitude = splat(magnitude_f32);
    U largest_x = zero, smallest_x = magnitude, largest_error = zero, zeros = zero;
    U half_x2[2] = {zero, zero}, half_error2[2] = {zero, zero}, half_error[2] = {zero, zero}; // shorter chains
    for (size_t at = 0; at < strip_bytes / 2; at += lanes * 4) {
        for (size_t half = 0; half < 2; ++half) {
            const size_t i = at + half * (strip_bytes / 2);
            const U a = load(x + i), b = load(y + i), difference = fsub(a, b);
            largest_x = max_magnitude(largest_x, a);
            smallest_x = min_magnitude(smallest_x, a);
            zeros = count(zeros, eq(band(b, magnitude), zero));
            if constexpr (Magnitudes) {
                largest_error = max_magnitude(largest_error, difference);
                half_error[half] = fadd(half_error[half], band(difference, magnitude));
            }
            half_x2[half] = fmul_add(a, a, half_x2[half]);
            half_error2[half] = fmul_add(difference, difference, half_error2[half]);
        }
    }
    const U x2 = fadd(half_x2[0], half_x2[1]), error2 = fadd(half_error2[0], half_error2[1]);
    if constexpr (!Magnitudes)
        if (any(gt(splat(plain_sum), error2))) [[unlikely]]
            for (size_t at = 0; at < strip_bytes; at += lanes * 4)
                largest_error = max_magnitude(largest_error, fsub(load(x + at), load(y + at)));
    // Inf and NaN of x and y are among the squares that are too large: a magnitude that is compared may have passed
    // over a NaN. Bits of positive floats compare as integers.
    const auto lost = [=](U sum, U largest) NC_INLINE_LAMBDA {
        return gt(band(sub(zero, min_u(largest, one)), splat(plain_sum)), sum); // small, though not all were 0
    };
    U odd = count(zero, gt(largest_x, splat(limit)));
    odd = count(odd, gt(band(x2, magnitude), splat(inf_f32 - 1)));
    odd = count(odd, gt(band(error2, magnitude), splat(inf_f32 - 1)));
    if constexpr (Magnitudes)
        odd = count(odd, gt(largest_error, splat(plain_limit)));
    odd = count(odd, lost(x2, largest_x));
    odd = count(odd, lost(error2, largest_error));
    if (any(gt(odd, zero))) [[unlikely]]
        return false;

    float lane[3][lanes];
    store(lane[0], x2, false);
    store(lane[1], error2, false);
    for (size_t i = 0; i < lanes; ++i) {
        sums.x2[i] += static_cast<double>(lane[0][i]);
        sums.error2[i] += static_cast<double>(lane[1][i]);
    }
    if constexpr (Magnitudes) {
        store(lane[2], fadd(half_error[0], half_error[1]), false);
        for (size_t i = 0; i < lanes; ++i)
            sums.error[i] += static_cast<double>(lane[2][i]);
        store(sums.max_plain, max_u(load(sums.max_plain), largest_error), false);
    }
    if (any(eq(smallest_x, zero))) { // not every zero was something else
        zeros = zero;
        for (size_t at = 0; at < strip_bytes; at += lanes * 4)
            zeros = count(zeros, lost_to_zero(load(x + at), load(y + at)));
    }
    add_counts(sums.became_zero, zeros);
    return true;
}

// Any strip: counts, and zeros in place of pairs that are not finite; then doubles.
NC_NOINLINE void add_careful(const unsigned char* x, const unsigned char* y, const CensusRule& rule, LaneSums& sums) {
    const U zero = splat(0), one = splat(1), inf = splat(inf_f32), magnitude = splat(magnitude_f32);
    const U positive = splat(rule.overflow_positive - 1), negative = splat(rule.overflow_negative - 1);
    for (size_t at = 0; at < strip_bytes; at += lanes * 4) {
        const U a = load(x + at), b = load(y + at), abs_a = band(a, magnitude), abs_b = band(b, magnitude);
        const M is_nan = gt(abs_a, inf), is_finite = gt(inf, abs_a), both_finite = gt(inf, max_u(abs_a, abs_b));
        const U number = select(is_nan, zero, abs_a), finite = select(is_finite, abs_a, zero);
        const U limit = select(gt(zero, a), negative, positive);
        const U either = select(both_finite, zero, one);
        add_counts(sums.not_finite, either);
        add_counts(sums.overflowed, count(zero, gt(finite, limit)));
        add_counts(sums.became_zero, count(zero, lost_to_zero(number, b)));
        add_counts(sums.became_nan, count(zero, gt(abs_b, select(is_nan, magnitude, inf))));
        float value[lanes], after[lanes];
        store(value, select(both_finite, a, zero), false);
        store(after, select(both_finite, b, zero), false);
        for (size_t i = 0; i < lanes; ++i) {
            const double from = static_cast<double>(value[i]), difference = from - static_cast<double>(after[i]);
            const double error = difference < 0 ? -difference : difference;
            sums.x2[i] += from * from;
            sums.error2[i] += difference * difference;
            sums.error[i] += error;
            sums.max_error[i] = error > sums.max_error[i] ? error : sums.max_error[i];
        }
    }
}

// Adds lanes up in pairs, which vectorises; one after the other they would wait for each other.
NC_INLINE double sum_of(const double (&lane)[lanes]) {
    double sum[lanes];
    NC_COPY(sum, lane, sizeof sum);
    for (size_t width = lanes / 2; width > 0; width /= 2)
        for (size_t i = 0; i < width; ++i)
            sum[i] += sum[i + width];
    return sum[0];
}

NC_INLINE uint32_t sum_of(const uint32_t (&lane)[lanes]) {
    uint32_t sum = 0;
    for (size_t i = 0; i < lanes; ++i)
        sum += lane[i];
    return sum;
}

// One call's elements, at most 2^24 of them a lane: the counts of all lanes together hold them.
NC_INLINE void add_lanes(const LaneSums& lane, nc_error_sums& sums) {
    sums.sum_x2 += sum_of(lane.x2);
    sums.sum_error2 += sum_of(lane.error2);
    sums.finite -= sum_of(lane.not_finite);
    sums.overflowed += sum_of(lane.overflowed);
    sums.became_zero += sum_of(lane.became_zero);
    sums.became_nan += sum_of(lane.became_nan);
    if (sums.squares_only != 0)
        return;
    float max_plain[lanes];
    NC_COPY(max_plain, lane.max_plain, sizeof max_plain);
    double largest = sums.max_error;
    for (size_t i = 0; i < lanes; ++i) {
        const double plain = static_cast<double>(max_plain[i]);
        const double either = plain > lane.max_error[i] ? plain : lane.max_error[i];
        largest = either > largest ? either : largest;
    }
    sums.max_error = largest;
    sums.sum_error += sum_of(lane.error);
}

template <bool Magnitudes>
NC_INLINE void add_pairs(const uint32_t* x_f32, const uint32_t* y_f32, size_t n, const CensusRule& rule,
                         nc_error_sums& sums) {
    const auto* x = reinterpret_cast<const unsigned char*>(x_f32);
    const auto* y = reinterpret_cast<const unsigned char*>(y_f32);
    uint32_t limit = rule.overflow_positive < rule.overflow_negative ? rule.overflow_positive : rule.overflow_negative;
    limit = (limit < plain_limit ? limit : plain_limit) - 1;
    constexpr size_t most = size_t{1} << 24; // the counts of a lane hold them
    for (size_t done = 0; done < n;) {
        const size_t items = n - done < most ? n - done : most, rest = items % strip;
        LaneSums lane;
        clear(lane);
        const auto add_strip = [&](const unsigned char* a, const unsigned char* b) NC_INLINE_LAMBDA {
            if (!add_plain<Magnitudes>(a, b, limit, lane)) [[unlikely]]
                add_careful(a, b, rule, lane);
        };
        for (size_t i = 0; i + strip <= items; i += strip)
            add_strip(x + (done + i) * 4, y + (done + i) * 4);
        if (rest != 0) { // zeros that stay zeros change nothing
            unsigned char a[strip_bytes] = {}, b[strip_bytes] = {};
            NC_COPY(a, x + (done + items - rest) * 4, rest * 4);
            NC_COPY(b, y + (done + items - rest) * 4, rest * 4);
            add_strip(a, b);
        }
        sums.finite += items;
        add_lanes(lane, sums);
        done += items;
    }
    sums.count += n;
}

void error_all(const uint32_t* x, const uint32_t* y, size_t n, const CensusRule& rule, nc_error_sums& sums) noexcept {
    if (sums.squares_only != 0)
        add_pairs<false>(x, y, n, rule, sums);
    else
        add_pairs<true>(x, y, n, rule, sums);
}

} // namespace
} // namespace narrowcast
