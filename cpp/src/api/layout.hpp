// The order in which a cast visits its elements: a nest of loops over x, out and the logical (C-order) index at once,
// outermost first, with as few dimensions as the strides allow. Whether out may overlap x or itself is decided here,
// from the same nest. How elements are moved is in walk.hpp.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "api/check.hpp"

namespace narrowcast {

struct Dim {
    int64_t extent;
    int64_t x;       // bytes
    int64_t out;     // bytes
    int64_t logical; // elements in C order
};

struct Layout {
    const unsigned char* x; // the first element visited
    unsigned char* out;
    uint64_t logical; // its index in C order
    size_t n;
    int32_t count;             // dimensions, at least 1
    Dim dims[NC_MAX_NDIM + 2]; // +2: blocking splits two dimensions. Only the first `count` are set.
};

// The nest in C order; extents of 1 are dropped, nothing else is changed.
void c_order(const Request& request, Layout& layout) noexcept;

// The nest in the order of out's memory, neighbours merged: every stride of out positive, the inner ones smallest.
// Merging follows the logical index too if keep_logical; otherwise the logical index is lost.
void memory_order(Layout& layout, bool keep_logical) noexcept;

// Merges neighbours that one loop can visit, the logical index included.
void merge(Layout& layout) noexcept;

// The nest in C order if both arrays are contiguous, else in memory order: then NC_ERROR_OVERLAP if out may overlap
// itself.
nc_status arrange(const Request& request, nc_error* error, Layout& layout) noexcept;

// Given a nest in memory order, whether two elements of out may share bytes. Never says no wrongly.
bool may_collide(const Layout& layout, size_t out_item) noexcept;

} // namespace narrowcast
