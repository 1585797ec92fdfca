// A block is a cache line of x high (64 bytes along x's own dimension) and as wide as a tile then allows; blocks follow
// each other along the innermost dimension, so that out is written in long rows.
#include "api/block.hpp"

#include <algorithm>

#include "dispatch/kernel_table.hpp"

namespace narrowcast {
namespace {

constexpr uint64_t line_bytes = 64;

} // namespace

int32_t blocking_dimension(const Layout& layout, size_t x_item, size_t out_item) noexcept {
    // What fits into L1 needs no care, and x lines that hold the next elements of a row are used anyway.
    constexpr size_t l1_bytes = 16 * 1024;
    const Dim& inner = layout.dims[layout.count - 1];
    if (layout.n * (x_item + out_item) <= l1_bytes || magnitude(inner.x) < line_bytes || inner.extent < 4)
        return -1;
    int32_t best = -1;
    for (int32_t i = 0; i + 1 < layout.count; ++i) {
        const Dim& dim = layout.dims[i];
        if (dim.extent < 4 || magnitude(dim.x) >= line_bytes)
            continue;
        if (best < 0 || magnitude(dim.x) < magnitude(layout.dims[best].x))
            best = i;
    }
    return best;
}

void block_part(const Layout& layout, int32_t dimension, size_t x_item, bool long_rows, int index,
                Layout& part) noexcept {
    // 1. Whole blocks or the stripe that is left over, along both dimensions.
    const Dim row = layout.dims[dimension];
    const Dim col = layout.dims[layout.count - 1];
    const int64_t high = long_rows ? 8 : static_cast<int64_t>(line_bytes / x_item);
    const int64_t wide = static_cast<int64_t>(tile_items) / high;
    struct Stripe {
        int64_t first, blocks, size;
    };
    const auto stripe = [](int64_t extent, int64_t size, bool rest) -> Stripe {
        const int64_t whole = extent / size;
        if (rest)
            return {whole * size, extent % size != 0 ? 1 : 0, extent % size};
        return {0, whole, size};
    };
    const Stripe rows = stripe(row.extent, high, (index & 1) != 0);
    const Stripe cols = stripe(col.extent, wide, (index & 2) != 0);
    // 2. The part begins at the stripes' first element.
    part.x = layout.x + rows.first * row.x + cols.first * col.x;
    part.out = layout.out + rows.first * row.out + cols.first * col.out;
    part.logical = layout.logical + static_cast<uint64_t>(rows.first * row.logical + cols.first * col.logical);
    part.n = layout.n / static_cast<size_t>(row.extent * col.extent) *
             static_cast<size_t>(rows.blocks * rows.size * cols.blocks * cols.size);
    // 3. The other dimensions stay outside; then rows of blocks, blocks, and the elements of one block.
    part.count = 0;
    const auto add = [&part](const Dim& dim, int64_t extent, int64_t step) {
        if (extent != 1)
            part.dims[part.count++] = {extent, dim.x * step, dim.out * step, dim.logical * step};
    };
    for (int32_t i = 0; i + 1 < layout.count; ++i)
        if (i != dimension)
            add(layout.dims[i], layout.dims[i].extent, 1);
    add(row, rows.blocks, rows.size);
    add(col, cols.blocks, cols.size);
    add(row, rows.size, 1);
    add(col, cols.size, 1);
    if (part.count == 0)
        part.dims[part.count++] = {1, 0, 0, 0};
}

} // namespace narrowcast
