// What a cast lost: sums and counts over pairs of float32 values, for nc_cast_error. Text-included once per ISA unit,
// after widen.inl.hpp; no guard. Where the pairs come from, and those that float32 does not hold: api/cast_error.cpp.
//
// A strip is a few vectors of each side. Its squares are added up in float32, lane by lane, and go on as doubles. That
// is good to 2^-19 where nothing overflows, is lost below the smallest float32, or has to be counted one by one. A
// strip that is not so plain is done in doubles throughout.

namespace narrowcast {
namespace {

enum : size_t { strip = 4 * block, strip_bytes = strip * 4 }; // 16 vectors

// Sixteen squares of smaller magnitudes add up below 2^128.
constexpr uint32_t plain_limit = 0x5e000000; // 2^61
// Below the smallest float32 sixteen squares cannot have lost more than 2^-146: little beside a sum from here on.
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
NC_INLINE bool add_plain(const unsigned char* x, const unsigned char* y, uint32_t limit, LaneSums& sums) {
    const U zero = splat(0), one = splat(1), magnitude = splat(magnitude_f32);
    U x2 = zero, error2 = zero, error = zero, largest_x = zero, largest_error = zero, smallest_y = magnitude;
    for (size_t at = 0; at < strip_bytes; at += lanes * 4) {
        const U a = load(x + at), b = load(y + at), difference = fsub(a, b);
        const U abs_a = band(a, magnitude), abs_difference = band(difference, magnitude);
        largest_x = max_u(largest_x, abs_a);
        largest_error = max_u(largest_error, abs_difference);
        x2 = fmul_add(a, a, x2);
        error2 = fmul_add(difference, difference, error2);
        error = fadd(error, abs_difference);
        smallest_y = min_u(smallest_y, band(b, magnitude));
    }
    // Inf and NaN of y are among the differences that are too large. Bits of positive floats compare as integers.
    const auto lost = [=](U sum, U largest) NC_INLINE_LAMBDA {
        return gt(band(sub(zero, min_u(largest, one)), splat(plain_sum)), sum); // small, though not all were 0
    };
    U odd = count(zero, gt(largest_x, splat(limit)));
    odd = count(odd, gt(largest_error, splat(plain_limit)));
    odd = count(odd, lost(x2, largest_x));
    odd = count(odd, lost(error2, largest_error));
    if (any(gt(odd, zero))) [[unlikely]]
        return false;

    float lane[3][lanes];
    store(lane[0], x2, false);
    store(lane[1], error2, false);
    store(lane[2], error, false);
    for (size_t i = 0; i < lanes; ++i) {
        sums.x2[i] += static_cast<double>(lane[0][i]);
        sums.error2[i] += static_cast<double>(lane[1][i]);
        sums.error[i] += static_cast<double>(lane[2][i]);
    }
    store(sums.max_plain, max_u(load(sums.max_plain), largest_error), false);
    if (any(eq(smallest_y, zero))) {
        U became_zero = zero;
        for (size_t at = 0; at < strip_bytes; at += lanes * 4)
            became_zero = count(became_zero, lost_to_zero(load(x + at), load(y + at)));
        add_counts(sums.became_zero, became_zero);
    }
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

NC_INLINE void add_lanes(const LaneSums& lane, nc_error_sums& sums) {
    float max_plain[lanes];
    NC_COPY(max_plain, lane.max_plain, sizeof max_plain);
    for (size_t i = 0; i < lanes; ++i) {
        sums.sum_x2 += lane.x2[i];
        sums.sum_error2 += lane.error2[i];
        sums.sum_error += lane.error[i];
        const double plain = static_cast<double>(max_plain[i]);
        const double largest = plain > lane.max_error[i] ? plain : lane.max_error[i];
        sums.max_error = largest > sums.max_error ? largest : sums.max_error;
        sums.finite -= lane.not_finite[i];
        sums.overflowed += lane.overflowed[i];
        sums.became_zero += lane.became_zero[i];
        sums.became_nan += lane.became_nan[i];
    }
}

void error_all(const uint32_t* x_f32, const uint32_t* y_f32, size_t n, const CensusRule& rule,
               nc_error_sums& sums) noexcept {
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
            if (!add_plain(a, b, limit, lane)) [[unlikely]]
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

} // namespace
} // namespace narrowcast
