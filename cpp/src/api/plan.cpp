// The decision follows the contract: round once. Everything reaches everything through float32, which is exact for
// all sources but the wide ones (float64 and integers of 32 and 64 bits); those are rounded to odd on the way to a
// narrow target (stochastic rounding takes float64, which holds 32-bit integers, as it is), and converted from their
// own bits to float32 and float64.
#include "api/plan.hpp"

#include <string.h>

#include <algorithm>

#include "api/format_table.hpp"
#include "codec/reference.hpp"

namespace narrowcast {
namespace {

// Modes that neither the floating-point environment nor an encode of rounded-to-odd values can express: nearest_away
// is fine for narrow targets, stochastic needs the exact part that is cut off.
bool needs_source_bits(int32_t rounding) noexcept { return rounding == NC_NEAREST_AWAY || rounding == NC_STOCHASTIC; }

void plan_to_float32(Plan& plan, const KernelTable& table, const Format& source) noexcept {
    const size_t src = static_cast<size_t>(plan.src);
    if (!source.wide) {
        plan.convert = table.widen[src]; // exact, so no option matters
        plan.mode.rounding = NC_NEAREST_EVEN;
    } else if (needs_source_bits(plan.mode.rounding)) {
        plan.reference = true;
    } else {
        plan.encode = table.to_f32[src];
        plan.fp_rounding = plan.mode.rounding;
    }
}

void plan_to_float64(Plan& plan, const KernelTable& table, const Format& source) noexcept {
    const size_t src = static_cast<size_t>(plan.src);
    if (source.wide && source.row.bits > 53 && needs_source_bits(plan.mode.rounding)) {
        plan.reference = true;
        return;
    }
    if (source.wide && source.row.bits > 53) {
        plan.encode = table.to_f64[src];
        plan.fp_rounding = plan.mode.rounding;
        return;
    }
    plan.mode.rounding = NC_NEAREST_EVEN; // exact from here on
    if (source.wide || plan.src == NC_FORMAT_f32) {
        plan.encode = table.to_f64[src];
    } else {
        plan.widen = table.widen[src];
        plan.encode = table.to_f64[NC_FORMAT_f32];
    }
}

void plan_to_narrow(Plan& plan, const KernelTable& table, const Format& source, const Format& target) noexcept {
    const size_t src = static_cast<size_t>(plan.src), dst = static_cast<size_t>(plan.dst);
    const bool saturate = plan.mode.overflow == NC_OVERFLOW_SATURATE;
    const bool nearest = plan.mode.rounding == NC_NEAREST_EVEN;
    // 1. A fused kernel for the pair.
    if (nearest && source.hub >= 0) {
        plan.convert = table.direct[source.hub][dst][saturate];
        return;
    }
    // 2. Exact 8 -> 16 bits. Saturation still matters if the source can be infinite.
    if (target.hub >= 0 && table.widen16[src][target.hub] != nullptr && !(saturate && source.facts.has_inf)) {
        plan.convert = table.widen16[src][target.hub];
        plan.mode.rounding = NC_NEAREST_EVEN;
        return;
    }
    // 3. Random bits compare with what is cut off, which rounding to odd has lost.
    if (source.wide && plan.mode.rounding == NC_STOCHASTIC) {
        plan.reference = source.row.bits > 53 && plan.src != NC_FORMAT_f64;
        if (!plan.reference) {
            plan.widen64 = table.to_f64[src];
            plan.encode = table.stochastic64[dst];
        }
        return;
    }
    // 4. Through a tile of float32.
    plan.widen = plan.src == NC_FORMAT_f32 ? nullptr : table.widen[src];
    if (nearest)
        plan.convert = table.direct[hub_f32][dst][saturate];
    else
        plan.encode = table.encode[dst];
}

// The last step, from wherever the values are now.
void finish(const Plan& plan, const void* from, void* out, size_t n, const uint32_t* words, bool stream) noexcept {
    if (plan.convert != nullptr) {
        plan.convert(from, out, n, stream);
        return;
    }
    EncodeMode mode = plan.mode;
    mode.random = words;
    if (plan.encode != nullptr)
        plan.encode(from, out, n, mode, stream);
    else
        reference_cast(plan.src, plan.dst, from, out, n, mode);
}

} // namespace

Plan make_plan(const KernelTable& table, int32_t src, int32_t dst, int32_t rounding, int32_t overflow) noexcept {
    const Format& source = format_of(src);
    const Format& target = format_of(dst);
    const bool saturate = overflow == NC_OVERFLOW_SATURATE && target.narrow;
    Plan plan{};
    plan.mode = {rounding, saturate ? NC_OVERFLOW_SATURATE : NC_OVERFLOW_IEEE, nullptr};
    plan.fp_rounding = NC_NEAREST_EVEN;
    plan.src = src;
    plan.dst = dst;
    plan.src_item = static_cast<size_t>(source.row.storage_bytes);
    plan.dst_item = static_cast<size_t>(target.row.storage_bytes);
    if (src == dst)
        plan.copy = true;
    else if (dst == NC_FORMAT_f32)
        plan_to_float32(plan, table, source);
    else if (dst == NC_FORMAT_f64)
        plan_to_float64(plan, table, source);
    else
        plan_to_narrow(plan, table, source, target);
    return plan;
}

void run_plan(const Plan& plan, const void* x, void* out, size_t n, const uint32_t* words, bool stream) noexcept {
    if (plan.copy) {
        memmove(out, x, n * plan.dst_item); // the same place, if they overlap at all
        return;
    }
    if (plan.widen == nullptr && plan.widen64 == nullptr) {
        finish(plan, x, out, n, words, stream);
        return;
    }
    alignas(64) uint64_t tile[tile_items]; // float32 or float64
    const auto* from = static_cast<const unsigned char*>(x);
    auto* to = static_cast<unsigned char*>(out);
    for (size_t done = 0; done < n; done += tile_items) {
        const size_t count = std::min<size_t>(tile_items, n - done);
        if (plan.widen != nullptr)
            plan.widen(from + done * plan.src_item, tile, count, false);
        else
            plan.widen64(from + done * plan.src_item, tile, count, {NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, nullptr}, false);
        finish(plan, tile, to + done * plan.dst_item, count, words == nullptr ? nullptr : words + done, stream);
    }
}

} // namespace narrowcast
