// Which kernels turn a contiguous run of source elements into target elements, and running them. Every pair of formats
// and every option ends in one Plan: a copy, one kernel, two kernels through a tile in L1, or the scalar codec.
// Where the runs come from is in walk.hpp.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "dispatch/kernel_table.hpp"

namespace narrowcast {

// What happens, in this order; a null pointer is a step that is not needed. Exactly one of the last four is set.
struct Plan {
    ConvertFn widen;     // source -> float32 tile
    EncodeFn widen64;    // source -> float64 tile, exact
    ConvertFn convert;   // source or tile -> target
    EncodeFn encode;     // the same with a mode
    bool reference;      // source -> target by the scalar codec
    bool copy;           // the formats are equal: bits move
    EncodeMode mode;     // without the random words
    int32_t fp_rounding; // what the floating-point environment must say
    int32_t src;
    int32_t dst;
    size_t src_item;
    size_t dst_item;

    bool random() const noexcept { return mode.rounding == NC_STOCHASTIC && !copy; }
};

// src and dst are formats that nc_cast converts; overflow is any nc_overflow (raise casts as ieee).
Plan make_plan(const KernelTable& table, int32_t src, int32_t dst, int32_t rounding, int32_t overflow) noexcept;

// Converts n contiguous elements in native byte order. words: one per element if plan.random(). out may be x if its
// items are no larger. Runs under an FpGuard(plan.fp_rounding).
void run_plan(const Plan& plan, const void* x, void* out, size_t n, const uint32_t* words, bool stream) noexcept;

} // namespace narrowcast
