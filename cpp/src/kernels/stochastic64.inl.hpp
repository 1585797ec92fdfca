// float64 -> float32 lanes on a narrow target's grid, by stochastic rounding: the random word is compared with what is
// cut off from the float64 itself, which float32 could not hold. The exponent is unbounded, and float32 holds every
// point of such a grid, so the nearest-even kernel of the target then only has to write the code down (encode_double
// in table.inl.hpp). A plain loop that the compiler turns into this unit's instructions. Text-included once per ISA
// unit; no guard.

namespace narrowcast {
namespace {

// A target's grid, as float64 bits.
struct Grid {
    int64_t min_normal; // below it the last place no longer shrinks
    int64_t reach;      // from the power of two of a value to the one whose ulp is 2^-32 of the last place
};

constexpr int64_t magnitude_f64 = INT64_MAX, exponent_f64 = int64_t{0x7ff} << 52;

consteval int64_t power_f64(int32_t exponent) { return int64_t{1023 + exponent} << 52; }

template <int32_t Dst> consteval Grid grid_of() {
    const Row r = row(Dst);
    return {power_f64(is_scale<Dst>() ? -r.bias : 1 - r.bias), int64_t{52 - 32 - r.mantissa_bits} << 52};
}

NC_INLINE double to_double(int64_t bits) { return __builtin_bit_cast(double, bits); }
NC_INLINE int64_t to_bits(double value) { return __builtin_bit_cast(int64_t, value); }

// `power` is so large that the lowest bit of the sum is worth 2^-32 of the last place kept. The sum is rounded to
// nearest, which is one step too far if it lies above the exact one. Then the word is added, whose carry is the step
// away from zero, and what lies below the last place goes. All else is comparisons of bits and masks: anything
// nearer to a branch keeps compilers from vectorising. Beyond float32 there is nothing but overflow, so 2^128 stands
// for all of it, Inf too. Scale: E8M0, whose least value stands for all positive ones below it.
template <bool Scale>
NC_NOINLINE void round_to_grid(const unsigned char* from, const uint32_t* random, float* __restrict to, size_t n,
                               Grid grid) {
    constexpr int64_t beyond = power_f64(128);
    for (size_t i = 0; i < n; ++i) {
        const int64_t x = load_as<int64_t>(from, i);
        const int64_t magnitude = x & magnitude_f64;
        const int64_t limited = magnitude < beyond ? magnitude : beyond; // NaN too, for now
        const int64_t steep = limited > grid.min_normal ? limited : grid.min_normal;
        const int64_t a = Scale ? steep : limited;
        const double power = to_double((steep & exponent_f64) + grid.reach);
        const double sum = to_double(a) + power;
        const int64_t exact = to_bits(sum) - int64_t{to_bits(sum - power) > a};
        const int64_t kept = (exact + int64_t{random[i]}) & ~int64_t{0xffffffff};
        int64_t y = to_bits(to_double(kept) - power);
        if (Scale)
            y &= -int64_t{magnitude != 0};
        const int64_t nan = -int64_t{magnitude > exponent_f64};
        y = (y & ~nan) | (x & nan) | (x & ~magnitude_f64);
        to[i] = static_cast<float>(to_double(y));
    }
}

} // namespace
} // namespace narrowcast
