// How a nest falls into batches. Part of boxes.hpp.
#pragma once

#include <algorithm>

#include "api/boxes.hpp"

namespace narrowcast {

// Columns that cross boxes: lines down to the end of their box, a stretch of columns at a time.
template <class Visit>
void for_each_column_batch(const Nest& nest, size_t begin, size_t end, const Visit& visit) noexcept {
    const auto cols = static_cast<size_t>(nest.line());
    const Axis& inner = nest.axes[nest.count - 1];
    size_t line = begin / cols;
    const size_t last = end / cols;
    for (LineWalk walk(nest, line); line < last;) {
        bool own_boxes = false;
        size_t rows = std::min(walk.lines_in_a_row(own_boxes), last - line);
        if (own_boxes)
            rows = 1;
        Batch batch{walk.at(), rows, 0,    walk.row_axis() != nullptr ? walk.row_axis()->step : Place{}, inner.step, 0,
                    1,         0,    false};
        batch.row.first = inner.step.first;
        batch.row.second = inner.step.second;
        for (size_t col = 0; col < cols; col += batch.cols) {
            batch.cols = batch.boxes = std::min<size_t>(cols - col, most_boxes);
            batch.begins_line = col == 0;
            visit(batch);
            const auto moved = static_cast<int64_t>(batch.cols);
            batch.at.move_elements(moved, inner.step);
            batch.at.move_boxes(moved, inner.step);
        }
        walk.advance(rows);
        line += rows;
    }
}

template <class Visit>
void for_each_row_batch(const Nest& nest, size_t begin, size_t end, bool dynamic, size_t tile,
                        const Visit& visit) noexcept {
    const auto line = static_cast<size_t>(nest.line()), box = static_cast<size_t>(nest.box());
    const Axis& inner = nest.axes[nest.count - 1];
    size_t most = dynamic ? std::clamp<size_t>(tile / box, 1, most_boxes) : size_t{most_boxes};
    if (box % 8 != 0 && box != line) // batches of a line begin at multiples of 8 elements: packed codes on bytes
        most = std::max<size_t>(8, most / 8 * 8);
    LineWalk walk(nest, begin / line);
    size_t position = begin % line;
    for (size_t done = begin; done < end;) {
        bool own_boxes = false;
        const size_t lines = line == box && position == 0 ? walk.lines_in_a_row(own_boxes) : 1;
        const size_t rows = std::min({lines, (end - done) / line, most});
        if (rows > 1) { // whole lines of one box each
            Batch batch{walk.at(), rows, line, walk.row_axis()->step, inner.step, rows, line, 0, true};
            if (!own_boxes)
                batch.row.first = batch.row.second = 0;
            visit(batch);
            walk.advance(rows);
            done += rows * line;
            continue;
        }
        const size_t first_box = position / box, offset = position % box;
        size_t cols = std::min({line - position, end - done, most * box - offset});
        if (!dynamic && cols != line - position && cols != end - done)
            cols = cols / 8 * 8;
        Batch batch{walk.at(), 1,      cols,         inner.step, inner.step, (offset + cols + box - 1) / box,
                    box,       offset, position == 0};
        batch.at.move_elements(static_cast<int64_t>(position), inner.step);
        batch.at.move_boxes(static_cast<int64_t>(first_box), inner.step);
        visit(batch);
        done += cols;
        position += cols;
        if (position == line) {
            position = 0;
            walk.advance(1);
        }
    }
}

template <class Visit>
void for_each_batch(const Nest& nest, size_t begin, size_t end, bool dynamic, size_t tile,
                    const Visit& visit) noexcept {
    if (nest.along == along_columns)
        for_each_column_batch(nest, begin, end, visit);
    else
        for_each_row_batch(nest, begin, end, dynamic, tile, visit);
}

template <class Visit> void for_each_chunk(Along along, const Batch& batch, size_t most, const Visit& visit) noexcept {
    Chunk chunk{batch.at, batch.rows, batch.cols, 0, batch.offset, batch.begins_line};
    if (batch.cols <= most && batch.rows > 1) {
        const size_t rows = most / batch.cols;
        for (size_t row = 0; row < batch.rows; row += chunk.rows) {
            chunk.rows = std::min(rows, batch.rows - row);
            chunk.param = along == along_rows ? row : 0;
            visit(chunk);
            chunk.at.move_elements(static_cast<int64_t>(chunk.rows), batch.row);
        }
        return;
    }
    chunk.rows = 1;
    for (size_t row = 0; row < batch.rows; ++row) {
        const bool one_line = batch.rows == 1;
        for (size_t col = 0; col < batch.cols; col += chunk.cols) {
            chunk.at = batch.at;
            chunk.at.move_elements(static_cast<int64_t>(row), batch.row);
            chunk.at.move_elements(static_cast<int64_t>(col), batch.col);
            chunk.cols = std::min(most, batch.cols - col);
            chunk.param = one_line ? (batch.offset + col) / batch.box : row;
            chunk.offset = (batch.offset + col) % batch.box;
            chunk.begins_line = batch.begins_line && col == 0;
            visit(chunk);
        }
    }
}

template <class Visit>
void for_each_span(Along along, const Batch& batch, const Chunk& chunk, const Visit& visit) noexcept {
    if (along == along_columns || chunk.rows > 1) {
        visit(Span{0, chunk.rows, chunk.cols, chunk.param, true});
        return;
    }
    size_t at = 0, param = chunk.param;
    if (chunk.offset != 0 || chunk.cols < batch.box) {
        at = std::min(batch.box - chunk.offset, chunk.cols);
        visit(Span{0, 1, at, param++, true});
    }
    if (const size_t boxes = (chunk.cols - at) / batch.box; boxes != 0) {
        visit(Span{at, boxes, batch.box, param, false});
        at += boxes * batch.box;
        param += boxes;
    }
    if (at != chunk.cols)
        visit(Span{at, 1, chunk.cols - at, param, true});
}

} // namespace narrowcast
