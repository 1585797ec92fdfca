// The order in which boxes of elements are visited: a nest of loops over the array of real numbers, the array of codes
// and the numbers that belong to boxes, with as few dimensions as the strides and the boxes allow; and the batches that
// the innermost loops fall into, each with few enough boxes for one set of parameters. What is done with a batch is not
// here.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "api/quant_check.hpp"
#include "dispatch/kernel_table.hpp"

namespace narrowcast {

// A position in all arrays at once: distances from their first elements, in bytes; `codes` in bits if they are packed.
// first and second are what belongs to a box: scale and zero point, or low and high.
struct Place {
    int64_t x, codes, first, second, sums;

    // By so many elements and by so many boxes: the two that a step is made of.
    void move_elements(int64_t by, const Place& step) noexcept {
        x += by * step.x;
        codes += by * step.codes;
        sums += by * step.sums;
    }
    void move_boxes(int64_t by, const Place& step) noexcept {
        first += by * step.first;
        second += by * step.second;
    }
};

// One loop. A step of an element moves x, codes and sums (but not the innermost loop's: sums are of lines); a step of a
// box, every `box` elements, first and second.
struct Axis {
    int64_t extent, box;
    Place step;
};

struct Nest {
    size_t n;
    int32_t count;          // loops, at least 1
    Axis axes[NC_MAX_NDIM]; // outermost first; only the first `count` are set
    Along along;            // along_rows: boxes are stretches of the innermost loop; else it crosses them
    int64_t line() const noexcept { return axes[count - 1].extent; }
    int64_t box() const noexcept { return axes[count - 1].box; }
};

// What must not be rearranged.
struct Wish {
    bool keep_last;   // the last axis stays the innermost loop, by itself: it is packed, or summed
    bool whole_boxes; // boxes must lie within the innermost loop
};

// first and second: the arrays with a number per box (either may be absent). NC_ERROR_ARGUMENT if whole_boxes cannot
// be had.
nc_status make_nest(const QuantRequest& request, const Operand& first, const Operand& second, Wish wish,
                    nc_error* error, Nest& nest) noexcept;

// Boxes of a batch at most: what the arrays of parameters hold.
enum : size_t { most_boxes = 512 };

// rows x cols elements and the boxes they belong to. along_rows: either one line (rows = 1), whose first element is the
// `offset`th of its box, or whole lines of one box each. along_columns: a box per column.
struct Batch {
    Place at;
    size_t rows, cols;
    Place row, col; // the steps to the next one; row.first and row.second lead to the next box
    size_t boxes;
    size_t box, offset; // one line: elements of a box
    bool begins_line;
};

// Goes through some lines of a nest.
class LineWalk {
public:
    LineWalk(const Nest& nest, size_t line) noexcept;
    const Place& at() const noexcept { return at_; }
    // The lines from here on, this one included, that are steps of one loop: all of one box, or each of one of its own.
    size_t lines_in_a_row(bool& own_boxes) const noexcept;
    const Axis* row_axis() const noexcept { return rows_; }
    void advance(size_t lines) noexcept; // at most lines_in_a_row

private:
    const Nest& nest_;
    const Axis* rows_; // null: there is but one line
    Place at_;
    int64_t index_[NC_MAX_NDIM];
    int64_t in_box_[NC_MAX_NDIM];
};

// Calls visit(batch) for the elements [begin, end) of the nest in its order; along_columns, for whole lines.
// dynamic: batches are whole boxes, as many as fit into a tile of `tile` elements; one at least, or eight if the second
// would begin within a byte of packed codes.
template <class Visit>
void for_each_batch(const Nest& nest, size_t begin, size_t end, bool dynamic, size_t tile, const Visit& visit) noexcept;

// A batch, or what of it is worked on at once.
struct Chunk {
    Place at; // first and second are the batch's
    size_t rows, cols;
    size_t param;  // of its first row or column
    size_t offset; // one line: its first element's place in its box
    bool begins_line;
};

// Calls visit(chunk) for chunks of at most `most` elements (>= most_boxes). Whole rows, or stretches of one.
template <class Visit> void for_each_chunk(Along along, const Batch& batch, size_t most, const Visit& visit) noexcept;

// What of a chunk one kernel call takes: rows of `cols` elements, `at` elements from the chunk's first one.
struct Span {
    size_t at, rows, cols, param;
    bool own_rows; // its rows are the chunk's; else they follow each other in one line
};

// Calls visit(span): the whole chunk, or the boxes of its line: part of one, whole ones, part of one.
template <class Visit>
void for_each_span(Along along, const Batch& batch, const Chunk& chunk, const Visit& visit) noexcept;

} // namespace narrowcast

#include "api/boxes.inl.hpp"
