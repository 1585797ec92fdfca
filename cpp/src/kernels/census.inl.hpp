// Counts what a cast would lose, for "raise" and reports. Text-included once per ISA unit; no guard.

namespace narrowcast {
namespace {

// Not branchy, so that the compiler vectorises it; 32-bit counts within a tile of at most 2^16 values.
void census_all(const uint32_t* f32, size_t n, const CensusRule& rule, Census& sum) noexcept {
    const uint32_t positive = rule.overflow_positive, negative = rule.overflow_negative, zero_below = rule.zero_below;
    for (size_t done = 0; done < n;) {
        const size_t count = n - done < 65536 ? n - done : size_t{65536};
        uint32_t overflow = 0, infinite = 0, zeroed = 0, zero = 0, below = 0, nan = 0;
        for (size_t i = 0; i < count; ++i) {
            const uint32_t bits = load_as<uint32_t>(f32, done + i);
            const uint32_t a = bits & 0x7fffffff, is_negative = bits >> 31;
            const uint32_t limit = is_negative != 0 ? negative : positive;
            const uint32_t finite = a < inf_f32 ? 1 : 0, number = a <= inf_f32 ? 1 : 0, nonzero = a != 0 ? 1 : 0;
            overflow += finite & (a >= limit ? 1u : 0u);
            infinite += a == inf_f32 ? 1 : 0;
            zeroed += nonzero & (a < zero_below ? 1u : 0u);
            zero += 1 - nonzero;
            below += is_negative & nonzero & number;
            nan += 1 - number;
        }
        sum.overflow += overflow;
        sum.infinite += infinite;
        sum.zeroed += zeroed;
        sum.zero += zero;
        sum.negative += below;
        sum.nan += nan;
        done += count;
    }
}

} // namespace
} // namespace narrowcast
