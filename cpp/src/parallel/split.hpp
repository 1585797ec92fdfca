// Splitting a range over threads that are made for one call and joined in it: no pool, nothing that outlives the call,
// nothing to break at fork. What is done with a part, and whether splitting is allowed, is the caller's business.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace narrowcast {

// Must not throw; runs on any thread; parts of one call never overlap.
using PartFn = void (*)(void* context, size_t begin, size_t end) noexcept;

struct SplitRule {
    int32_t threads;   // at most this many parts; 0: as many as the process has cores
    size_t granule;    // parts begin at multiples of this many items
    size_t least_part; // no part has fewer items, unless there is only one
};

// How many parts run_parts would make of n items.
size_t part_count(size_t n, const SplitRule& rule) noexcept;

// Calls part for ranges that cover [0, n), one of them on the calling thread, and returns when all are done. A thread
// that cannot be made costs time, not correctness: the calling thread does its part.
void run_parts(size_t n, const SplitRule& rule, PartFn part, void* context) noexcept;

} // namespace narrowcast
