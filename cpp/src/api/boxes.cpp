// Only shapes, blocks and strides are looked at here, never data.
#include "api/boxes.hpp"

#include <algorithm>

#include "api/error.hpp"

namespace narrowcast {
namespace {

bool has_own_box_everywhere(const Axis& axis) noexcept { return axis.box == 1; }
bool is_one_box(const Axis& axis) noexcept { return axis.box == axis.extent; }

// Whether two neighbours are one loop; if so, it replaces outer.
bool join(Axis& outer, const Axis& inner) noexcept {
    const Place &o = outer.step, &i = inner.step;
    const int64_t extent = inner.extent;
    if (o.x != i.x * extent || o.codes != i.codes * extent || o.sums != i.sums * extent)
        return false;
    if (is_one_box(inner)) { // its box and those of the outer loop it fills
        outer = {outer.extent * extent, outer.box * extent, {i.x, i.codes, o.first, o.second, i.sums}};
        return true;
    }
    if (!has_own_box_everywhere(outer) || extent % inner.box != 0)
        return false;
    const int64_t boxes = extent / inner.box;
    if (o.first != i.first * boxes || o.second != i.second * boxes)
        return false;
    outer = {outer.extent * extent, inner.box, i};
    return true;
}

void merge(Nest& nest, int32_t movable) noexcept {
    int32_t kept = 0;
    for (int32_t i = 1; i < nest.count; ++i)
        if (i >= movable || !join(nest.axes[kept], nest.axes[i]))
            nest.axes[++kept] = nest.axes[i];
    nest.count = kept + 1;
}

// The strides of an array that may be absent: then it stays where it is.
void steps_of(const Operand& operand, const int64_t* shape, int32_t ndim, int64_t* steps) noexcept {
    if (operand.data != nullptr)
        strides_of(operand, shape, ndim, steps);
    else
        std::fill_n(steps, ndim, int64_t{0});
}

// Those of packed codes, in bits.
void packed_steps(const QuantRequest& r, int64_t* steps) noexcept {
    int64_t bytes[NC_MAX_NDIM];
    const int32_t last = r.ndim - 1;
    std::copy_n(r.shape, last, bytes);
    bytes[last] = packed_extent(r.shape[last], r.bits);
    strides_of(r.codes, bytes, r.ndim, steps);
    for (int32_t i = 0; i < last; ++i)
        steps[i] = r.shape[i] == 1 ? 0 : steps[i] * 8;
    steps[last] = r.bits;
}

// The loops in C order; extents of 1 are dropped.
void c_order(const QuantRequest& r, const Operand& first, const Operand& second, Nest& nest) noexcept {
    // Not cleared: calls are short. Only the first ndim of each are used.
    int64_t x[NC_MAX_NDIM], codes[NC_MAX_NDIM], firsts[NC_MAX_NDIM], seconds[NC_MAX_NDIM], sums[NC_MAX_NDIM];
    strides_of(r.x, r.shape, r.ndim, x);
    if (r.packed && r.codes.data != nullptr)
        packed_steps(r, codes);
    else
        steps_of(r.codes, r.shape, r.ndim, codes);
    steps_of(first, r.box_shape, r.ndim, firsts);
    steps_of(second, r.box_shape, r.ndim, seconds);
    steps_of(r.sums, r.shape, r.ndim - 1, sums);
    nest.n = r.n;
    nest.count = 0;
    for (int32_t i = 0; i < r.ndim; ++i) {
        if (r.shape[i] == 1)
            continue;
        const bool one_box = r.box_shape[i] == 1; // whatever was said about that stride
        nest.axes[nest.count++] = {
            r.shape[i],
            r.block[i],
            {x[i], codes[i], one_box ? 0 : firsts[i], one_box ? 0 : seconds[i], i + 1 < r.ndim ? sums[i] : 0}};
    }
}

} // namespace

nc_status make_nest(const QuantRequest& r, const Operand& first, const Operand& second, Wish wish, nc_error* error,
                    Nest& nest) noexcept {
    c_order(r, first, second, nest);
    Axis* const axes = nest.axes;
    const bool last_is_there = r.ndim > 0 && r.shape[r.ndim - 1] != 1;
    if (wish.keep_last && !last_is_there) // a line of one element
        axes[nest.count++] = {1, 1, {static_cast<int64_t>(r.x.item), r.packed ? r.bits : 0, 0, 0, 0}};
    if (nest.count == 0)
        axes[nest.count++] = {1, 1, {static_cast<int64_t>(r.x.item), static_cast<int64_t>(r.codes.item), 0, 0, 0}};
    const int32_t movable = nest.count - (wish.keep_last ? 1 : 0);
    // Whole boxes: what crosses them goes outside, the rest stays in its order. Else the order of the codes' memory (of
    // x's, if there are none).
    const bool by_codes = r.codes.data != nullptr;
    const auto outside = [by_codes, wish](const Axis& a, const Axis& b) {
        if (wish.whole_boxes)
            return has_own_box_everywhere(a) && !has_own_box_everywhere(b);
        const uint64_t ax = magnitude(a.step.x), bx = magnitude(b.step.x);
        const uint64_t ac = magnitude(a.step.codes), bc = magnitude(b.step.codes);
        return by_codes && ac != bc ? ac > bc : ax > bx;
    };
    // Insertion sort: few loops, mostly in order already, and std::stable_sort allocates.
    for (int32_t i = 1; i < movable; ++i) {
        const Axis moved = axes[i];
        int32_t place = i;
        for (; place > 0 && outside(moved, axes[place - 1]); --place)
            axes[place] = axes[place - 1];
        axes[place] = moved;
    }
    merge(nest, r.sums.data != nullptr ? nest.count - 1 : nest.count);
    const Axis& inner = axes[nest.count - 1];
    nest.along = wish.whole_boxes || inner.box != 1 || inner.extent == 1 ? along_rows : along_columns;
    if (wish.whole_boxes)
        for (int32_t i = 0; i + 1 < nest.count; ++i)
            if (axes[i].box != 1)
                return fail(error, NC_ERROR_ARGUMENT,
                            "options.dynamic is set, but a box is no stretch of one axis or of contiguous memory: use "
                            "nc_range and nc_choose_qparams");
    return NC_OK;
}

LineWalk::LineWalk(const Nest& nest, size_t line) noexcept
    : nest_(nest), rows_(nest.count > 1 ? &nest.axes[nest.count - 2] : nullptr), at_{} {
    auto rest = static_cast<int64_t>(line);
    for (int32_t i = nest.count - 2; i >= 0; --i) {
        const Axis& axis = nest.axes[i];
        const int64_t index = rest % axis.extent, boxes = index / axis.box;
        rest /= axis.extent;
        index_[i] = index;
        in_box_[i] = index % axis.box;
        at_.move_elements(index, axis.step);
        at_.move_boxes(boxes, axis.step);
    }
}

size_t LineWalk::lines_in_a_row(bool& own_boxes) const noexcept {
    own_boxes = false;
    if (rows_ == nullptr)
        return 1;
    const int32_t i = nest_.count - 2;
    const int64_t left = rows_->extent - index_[i];
    own_boxes = rows_->box == 1;
    return static_cast<size_t>(own_boxes ? left : std::min(left, rows_->box - in_box_[i]));
}

void LineWalk::advance(size_t lines) noexcept {
    auto by = static_cast<int64_t>(lines);
    for (int32_t i = nest_.count - 2; i >= 0; --i, by = 1) {
        const Axis& axis = nest_.axes[i];
        int64_t boxes = by; // box boundaries that are crossed
        if (axis.box != 1) {
            in_box_[i] += by;
            boxes = in_box_[i] == axis.box ? 1 : 0;
            in_box_[i] -= boxes * axis.box;
        }
        index_[i] += by;
        at_.move_elements(by, axis.step);
        at_.move_boxes(boxes, axis.step);
        if (index_[i] < axis.extent)
            return;
        at_.move_elements(-axis.extent, axis.step); // all the way back
        at_.move_boxes(-(axis.extent / axis.box), axis.step);
        index_[i] = in_box_[i] = 0;
    }
}

} // namespace narrowcast
