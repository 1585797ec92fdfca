// The inner loops are templates on the element's width and byte order. A rectangle that runs down its columns on one
// side (a transposed array) is moved a few columns at a time, so that every cache line is used while it is there.
#include "api/walk.hpp"

#include <string.h>

#include <algorithm>

#include "api/bytes.hpp"

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h> // the baseline of x86-64
#endif

namespace narrowcast {
namespace {

template <class T, bool Swap> void copy_element(unsigned char* to, const unsigned char* from) noexcept {
    store_item(to, load_item<T>(from, Swap), false);
}

template <class T, bool Swap>
void copy_line(unsigned char* to, int64_t to_step, const unsigned char* from, int64_t from_step, size_t n) noexcept {
    constexpr int64_t item = sizeof(T);
    // Steps that are constants let the compiler do better than one element at a time.
    if (to_step == item && from_step == item) {
        for (size_t i = 0; i < n; ++i)
            copy_element<T, Swap>(to + i * sizeof(T), from + i * sizeof(T));
    } else if (to_step == item && from_step == 2 * item) {
        for (size_t i = 0; i < n; ++i)
            copy_element<T, Swap>(to + i * sizeof(T), from + i * (2 * sizeof(T)));
    } else {
        for (size_t i = 0; i < n; ++i, to += to_step, from += from_step)
            copy_element<T, Swap>(to, from);
    }
}

// Columns [first, first + Group) of all rows. Packed: the columns lie side by side in `to`.
template <class T, bool Swap, int Group, bool Packed> void move_columns(const Move& m, size_t first) noexcept {
    const auto column = static_cast<int64_t>(first);
    unsigned char* to = m.to + column * m.to_col;
    const unsigned char* from = m.from + column * m.from_col;
    for (size_t r = 0; r < m.rows; ++r, to += m.to_row, from += m.from_row) {
        unsigned char row[Group * sizeof(T)]; // filled before it is stored, so the stores can be one
        for (int g = 0; g < Group; ++g)
            copy_element<T, Swap>(row + static_cast<size_t>(g) * sizeof(T), from + g * m.from_col);
        if constexpr (Packed) {
            memcpy(to, row, sizeof row);
        } else {
            for (int g = 0; g < Group; ++g)
                memcpy(to + g * m.to_col, row + static_cast<size_t>(g) * sizeof(T), sizeof(T));
        }
    }
}

// Four rows of four 32-bit elements from four columns that run down memory: loaded down, stored across.
void transpose_quad(unsigned char* to, int64_t to_row, const unsigned char* from, int64_t from_col) noexcept {
#if defined(__SSE2__) || defined(_M_X64)
    const auto column = [&](int c) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + c * from_col)); };
    const __m128i ab_low = _mm_unpacklo_epi32(column(0), column(1)), ab_high = _mm_unpackhi_epi32(column(0), column(1));
    const __m128i cd_low = _mm_unpacklo_epi32(column(2), column(3)), cd_high = _mm_unpackhi_epi32(column(2), column(3));
    const auto row = [&](int r, __m128i value) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + r * to_row), value);
    };
    row(0, _mm_unpacklo_epi64(ab_low, cd_low));
    row(1, _mm_unpackhi_epi64(ab_low, cd_low));
    row(2, _mm_unpacklo_epi64(ab_high, cd_high));
    row(3, _mm_unpackhi_epi64(ab_high, cd_high));
#else
    for (int r = 0; r < 4; ++r)
        for (int c = 0; c < 4; ++c)
            memcpy(to + r * to_row + c * 4, from + c * from_col + r * 4, 4);
#endif
}

template <class T, bool Swap, bool Packed> void move_by_columns(const Move& m) noexcept {
    size_t c = 0;
    if constexpr (sizeof(T) == 4 && Packed && !Swap) {
        if (m.from_row == 4 && m.rows % 4 == 0) {
            for (; c + 4 <= m.cols; c += 4)
                for (size_t r = 0; r < m.rows; r += 4) {
                    const auto row = static_cast<int64_t>(r), column = static_cast<int64_t>(c);
                    transpose_quad(m.to + row * m.to_row + column * 4, m.to_row, m.from + row * 4 + column * m.from_col,
                                   m.from_col);
                }
        }
    }
    for (; c + 4 <= m.cols; c += 4)
        move_columns<T, Swap, 4, Packed>(m, c);
    for (; c + 2 <= m.cols; c += 2)
        move_columns<T, Swap, 2, Packed>(m, c);
    if (c < m.cols)
        move_columns<T, Swap, 1, Packed>(m, c);
}

template <class T, bool Swap> void move_block(const Move& m) noexcept {
    // Down the columns if one side lies that way (that side is the array, the other one a tile in L1), or if the rows
    // are too short to be worth a loop each.
    const bool downwards = magnitude(m.from_row) < magnitude(m.from_col) || magnitude(m.to_row) < magnitude(m.to_col);
    if (m.rows > 1 && (downwards || m.cols < 8)) {
        if (m.to_col == static_cast<int64_t>(sizeof(T)))
            move_by_columns<T, Swap, true>(m);
        else
            move_by_columns<T, Swap, false>(m);
        return;
    }
    for (size_t r = 0; r < m.rows; ++r) {
        const auto row = static_cast<int64_t>(r);
        copy_line<T, Swap>(m.to + row * m.to_row, m.to_col, m.from + row * m.from_row, m.from_col, m.cols);
    }
}

template <class T> void move_block(const Move& m, bool swapped) noexcept {
    if (swapped)
        move_block<T, true>(m);
    else
        move_block<T, false>(m);
}

} // namespace

void move_block(const Move& m, size_t item, bool swapped) noexcept {
    switch (item) {
    case 1: move_block<uint8_t>(m, false); break;
    case 2: move_block<uint16_t>(m, swapped); break;
    case 4: move_block<uint32_t>(m, swapped); break;
    default: move_block<uint64_t>(m, swapped);
    }
}

Cursor::Cursor(const Layout& layout, int64_t Dim::* stride, size_t begin) noexcept
    : dims_(layout.dims), stride_(stride), outer_count_(std::max(layout.count - 2, 0)) {
    const Dim& inner = layout.dims[layout.count - 1];
    cols_ = inner.extent;
    col_stride_ = inner.*stride;
    rows_ = layout.count > 1 ? layout.dims[layout.count - 2].extent : 1;
    row_stride_ = layout.count > 1 ? layout.dims[layout.count - 2].*stride : 0;
    outer_offset_ = 0;
    int64_t rest = static_cast<int64_t>(begin);
    col_ = rest % cols_;
    rest /= cols_;
    row_ = rest % rows_;
    rest /= rows_;
    for (int32_t i = outer_count_ - 1; i >= 0; --i) {
        outer_index_[i] = rest % dims_[i].extent;
        outer_offset_ += outer_index_[i] * (dims_[i].*stride_);
        rest /= dims_[i].extent;
    }
}

void Cursor::next_outer() noexcept {
    for (int32_t i = outer_count_ - 1; i >= 0; --i) {
        const int64_t step = dims_[i].*stride_;
        if (++outer_index_[i] < dims_[i].extent) {
            outer_offset_ += step;
            return;
        }
        outer_index_[i] = 0;
        outer_offset_ -= (dims_[i].extent - 1) * step;
    }
}

Piece Cursor::take(size_t n) noexcept {
    Piece piece{offset(), 1, 0, row_stride_, col_stride_};
    const size_t cols = static_cast<size_t>(cols_);
    if (col_ == 0 && n >= cols) {
        piece.rows = std::min(n / cols, static_cast<size_t>(rows_ - row_));
        piece.cols = cols;
        row_ += static_cast<int64_t>(piece.rows);
    } else {
        piece.cols = std::min(n, static_cast<size_t>(cols_ - col_));
        col_ += static_cast<int64_t>(piece.cols);
        if (col_ == cols_) {
            col_ = 0;
            ++row_;
        }
    }
    if (row_ == rows_) {
        row_ = 0;
        next_outer();
    }
    return piece;
}

void Cursor::skip(size_t n) noexcept {
    while (n != 0) {
        const Piece piece = take(n);
        n -= piece.rows * piece.cols;
    }
}

size_t contiguous_run(const Layout& layout, int64_t Dim::* stride, size_t item) noexcept {
    size_t run = 1;
    for (int32_t i = layout.count - 1; i >= 0; --i) {
        if (layout.dims[i].*stride != static_cast<int64_t>(run * item))
            break;
        run *= static_cast<size_t>(layout.dims[i].extent);
    }
    return run;
}

Reader::Reader(const Layout& layout, size_t item, bool swapped, size_t begin) noexcept
    : cursor_(layout, &Dim::x, begin), base_(layout.x), item_(item), swapped_(swapped),
      run_(swapped ? 0 : contiguous_run(layout, &Dim::x, item)), position_(begin) {}

const void* Reader::next(size_t n) noexcept {
    if (n <= direct()) {
        const void* here = base_ + cursor_.offset();
        cursor_.skip(n);
        position_ += n;
        return here;
    }
    gather(tile_, n);
    return tile_;
}

void Reader::gather(void* to, size_t n) noexcept {
    auto* target = static_cast<unsigned char*>(to);
    position_ += n;
    while (n != 0) {
        const Piece p = cursor_.take(n);
        const auto item = static_cast<int64_t>(item_);
        move_block({target, base_ + p.offset, p.rows, p.cols, item * static_cast<int64_t>(p.cols), item, p.row_stride,
                    p.col_stride},
                   item_, swapped_);
        target += p.rows * p.cols * item_;
        n -= p.rows * p.cols;
    }
}

Writer::Writer(const Layout& layout, size_t item, bool swapped, size_t begin) noexcept
    : cursor_(layout, &Dim::out, begin), base_(layout.out), item_(item), swapped_(swapped),
      run_(swapped ? 0 : contiguous_run(layout, &Dim::out, item)), position_(begin) {}

void Writer::done(size_t n) noexcept {
    if (n <= direct()) {
        cursor_.skip(n);
        position_ += n;
        return;
    }
    scatter(tile_, n);
}

void Writer::scatter(const void* from, size_t n) noexcept {
    const auto* source = static_cast<const unsigned char*>(from);
    position_ += n;
    while (n != 0) {
        const Piece p = cursor_.take(n);
        const auto item = static_cast<int64_t>(item_);
        move_block({base_ + p.offset, source, p.rows, p.cols, p.row_stride, p.col_stride,
                    item * static_cast<int64_t>(p.cols), item},
                   item_, swapped_);
        source += p.rows * p.cols * item_;
        n -= p.rows * p.cols;
    }
}

Words::Words(const Layout& layout, PhiloxFn philox, uint64_t seed, uint64_t offset, size_t begin) noexcept
    : cursor_(layout, &Dim::logical, begin), philox_(philox), seed_(seed), first_(offset + layout.logical) {}

const uint32_t* Words::generate(uint64_t first, size_t n, uint32_t* room) const noexcept {
    const size_t skipped = first % 4;
    const size_t blocks = (skipped + n + 3) / 4;
    const uint64_t first_block = first / 4;
    constexpr uint64_t block_limit = uint64_t{1} << 62; // the index wraps modulo 2^64, the block therefore here
    const size_t before_wrap = static_cast<size_t>(std::min<uint64_t>(blocks, block_limit - first_block));
    philox_(seed_, first_block, room, before_wrap);
    if (before_wrap != blocks)
        philox_(seed_, 0, room + 4 * before_wrap, blocks - before_wrap);
    return room + skipped;
}

const uint32_t* Words::next(size_t n) noexcept {
    size_t done = 0;
    while (done != n) {
        const Piece p = cursor_.take(n - done);
        const uint64_t origin = first_ + static_cast<uint64_t>(p.offset);
        const bool consecutive = p.col_stride == 1 && (p.rows == 1 || p.row_stride == static_cast<int64_t>(p.cols));
        if (consecutive && p.rows * p.cols == n)
            return generate(origin, n, words_);
        for (size_t r = 0; r < p.rows; ++r) {
            const uint64_t start = origin + r * static_cast<uint64_t>(p.row_stride);
            if (p.col_stride == 1 && start % 4 == 0) { // up to 3 words too many: overwritten next, or slack
                generate(start, p.cols, words_ + done);
                done += p.cols;
                continue;
            }
            if (p.col_stride == 1) {
                memcpy(words_ + done, generate(start, p.cols, row_), p.cols * sizeof *words_);
                done += p.cols;
                continue;
            }
            for (size_t c = 0; c < p.cols; ++c)
                words_[done++] = *generate(start + c * static_cast<uint64_t>(p.col_stride), 1, row_);
        }
    }
    return words_;
}

} // namespace narrowcast
