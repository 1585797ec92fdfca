// Moving elements between an array of any strides and byte order and the contiguous native runs that kernels take.
// A Reader hands out pointers to the next n elements, a Writer pointers to where the next n go, Words their random
// words; each points into the array itself where it is contiguous, else into an L1 tile of its own.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "api/layout.hpp"
#include "dispatch/kernel_table.hpp"

namespace narrowcast {

// Copies rows x cols elements of 1, 2, 4 or 8 bytes, each side with its own strides in bytes; swapped: reverses the
// bytes of each.
struct Move {
    unsigned char* to;
    const unsigned char* from;
    size_t rows, cols;
    int64_t to_row, to_col, from_row, from_col;
};
void move_block(const Move& m, size_t item, bool swapped) noexcept;

// A rectangle of elements, in rows.
struct Piece {
    int64_t offset; // of its first element, in the unit of the strides
    size_t rows;
    size_t cols;
    int64_t row_stride;
    int64_t col_stride;
};

// Goes through a layout in its order and cuts it into rectangles of the two innermost dimensions.
class Cursor {
public:
    Cursor(const Layout& layout, int64_t Dim::* stride, size_t begin) noexcept;
    // The next elements, at least one and at most n, as one rectangle.
    Piece take(size_t n) noexcept;
    void skip(size_t n) noexcept;
    // Where the next element is.
    int64_t offset() const noexcept { return outer_offset_ + row_ * row_stride_ + col_ * col_stride_; }

private:
    void next_outer() noexcept;

    const Dim* dims_;
    int64_t Dim::* stride_;
    int32_t outer_count_; // dimensions outside the rectangle
    int64_t rows_, cols_, row_stride_, col_stride_;
    int64_t row_, col_; // next element
    int64_t outer_offset_;
    int64_t outer_index_[NC_MAX_NDIM];
};

// How many elements follow each other without a gap, from a multiple of that number on.
size_t contiguous_run(const Layout& layout, int64_t Dim::* stride, size_t item) noexcept;

enum : size_t { tile_bytes = tile_items * 8 };

class Reader {
public:
    Reader(const Layout& layout, size_t item, bool swapped, size_t begin) noexcept;
    // How many of the next elements lie in the array as a kernel wants them.
    size_t direct() const noexcept { return run_ == 0 ? 0 : run_ - position_ % run_; }
    // The next n elements, contiguous and native; n <= max(direct(), tile_items). Good until the next call.
    const void* next(size_t n) noexcept;
    // The next n elements into `to`.
    void gather(void* to, size_t n) noexcept;

private:
    Cursor cursor_;
    const unsigned char* base_;
    size_t item_;
    bool swapped_;
    size_t run_; // 0 if nothing is direct
    size_t position_;
    alignas(64) unsigned char tile_[tile_bytes];
};

class Writer {
public:
    Writer(const Layout& layout, size_t item, bool swapped, size_t begin) noexcept;
    size_t direct() const noexcept { return run_ == 0 ? 0 : run_ - position_ % run_; }
    // Where the next n elements are to be written, contiguous and native; then done(n) brings them home.
    void* next(size_t n) noexcept { return n <= direct() ? base_ + cursor_.offset() : tile_; }
    void done(size_t n) noexcept;
    // The next n elements from `from`.
    void scatter(const void* from, size_t n) noexcept;

private:
    Cursor cursor_;
    unsigned char* base_;
    size_t item_;
    bool swapped_;
    size_t run_;
    size_t position_;
    alignas(64) unsigned char tile_[tile_bytes];
};

class Words {
public:
    Words(const Layout& layout, PhiloxFn philox, uint64_t seed, uint64_t offset, size_t begin) noexcept;
    // The words of the next n elements, n <= tile_items. Good until the next call.
    const uint32_t* next(size_t n) noexcept;

private:
    // Words of the elements first, first + 1, ... (modulo 2^64); returns where in `room` (n + 6 words) they begin.
    const uint32_t* generate(uint64_t first, size_t n, uint32_t* room) const noexcept;

    Cursor cursor_;
    PhiloxFn philox_;
    uint64_t seed_;
    uint64_t first_; // index of the layout's first element
    uint32_t words_[tile_items + 8];
    uint32_t row_[tile_items + 8];
};

} // namespace narrowcast
