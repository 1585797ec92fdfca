// Only strides are looked at here, never data.
#include "api/layout.hpp"

#include <algorithm>

#include "api/error.hpp"

namespace narrowcast {
namespace {

bool one_loop(const Dim& outer, const Dim& inner) noexcept {
    return outer.x == inner.x * inner.extent && outer.out == inner.out * inner.extent &&
           outer.logical == inner.logical * inner.extent;
}

// Visits a dimension from its other end.
void reverse(Layout& layout, Dim& dim) noexcept {
    layout.x += (dim.extent - 1) * dim.x;
    layout.out += (dim.extent - 1) * dim.out;
    layout.logical += static_cast<uint64_t>((dim.extent - 1) * dim.logical);
    dim.x = -dim.x;
    dim.out = -dim.out;
    dim.logical = -dim.logical;
}

} // namespace

void c_order(const Request& request, Layout& layout) noexcept {
    layout.x = request.x.data;
    layout.out = request.out.data;
    layout.logical = 0;
    layout.n = request.n;
    layout.count = 0;
    const int64_t x_item = static_cast<int64_t>(request.x.item);
    const int64_t out_item = static_cast<int64_t>(request.out.item);
    if (request.x.strides == nullptr && request.out.strides == nullptr) {
        layout.dims[layout.count++] = {static_cast<int64_t>(request.n), x_item, out_item, 1};
        return;
    }
    // Innermost first, since contiguous strides grow outwards; then turned around.
    int64_t elements = 1;
    for (int32_t i = request.ndim - 1; i >= 0; --i) {
        const int64_t extent = request.shape[i];
        if (extent == 1)
            continue;
        const int64_t x = request.x.strides != nullptr ? request.x.strides[i] : elements * x_item;
        const int64_t out = request.out.strides != nullptr ? request.out.strides[i] : elements * out_item;
        layout.dims[layout.count++] = {extent, x, out, elements};
        elements *= extent;
    }
    if (layout.count == 0)
        layout.dims[layout.count++] = {1, x_item, out_item, 1};
    std::reverse(layout.dims, layout.dims + layout.count);
}

void merge(Layout& layout) noexcept {
    int32_t kept = 0;
    for (int32_t i = 1; i < layout.count; ++i) {
        Dim& outer = layout.dims[kept];
        const Dim inner = layout.dims[i];
        if (one_loop(outer, inner))
            outer = {outer.extent * inner.extent, inner.x, inner.out, inner.logical};
        else
            layout.dims[++kept] = inner;
    }
    layout.count = kept + 1;
}

void memory_order(Layout& layout, bool keep_logical) noexcept {
    Dim* const first = layout.dims;
    for (int32_t i = 0; i < layout.count; ++i) {
        if (!keep_logical)
            first[i].logical = 0;
        if (first[i].out < 0)
            reverse(layout, first[i]);
    }
    // Insertion sort: few dimensions, mostly in order already, and std::stable_sort allocates.
    const auto outside = [](const Dim& a, const Dim& b) {
        return a.out != b.out ? a.out > b.out : magnitude(a.x) > magnitude(b.x);
    };
    for (int32_t i = 1; i < layout.count; ++i) {
        const Dim moved = first[i];
        int32_t place = i;
        for (; place > 0 && outside(moved, first[place - 1]); --place)
            first[place] = first[place - 1];
        first[place] = moved;
    }
    merge(layout);
}

bool may_collide(const Layout& layout, size_t out_item) noexcept {
    int64_t covered = static_cast<int64_t>(out_item); // bytes from the first to the last of the loops inside
    for (int32_t i = layout.count - 1; i >= 0; --i) {
        const Dim& dim = layout.dims[i];
        if (dim.extent > 1 && dim.out < covered)
            return true;
        covered += (dim.extent - 1) * dim.out;
    }
    return false;
}

nc_status arrange(const Request& request, nc_error* error, Layout& layout) noexcept {
    c_order(request, layout);
    if (request.x.strides == nullptr && request.out.strides == nullptr)
        return NC_OK;
    memory_order(layout, false);
    if (may_collide(layout, request.out.item))
        return fail(error, NC_ERROR_OVERLAP,
                    "out overlaps itself: its strides put several elements into the same bytes");
    return NC_OK;
}

} // namespace narrowcast
