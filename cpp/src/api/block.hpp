// Cache blocking of transposed layouts. If x runs along another dimension than out, visiting out row by row touches a
// new cache line of x for every element. Splitting both dimensions into blocks of one tile uses each line fully.
#pragma once

#include <stddef.h>

#include "api/layout.hpp"

namespace narrowcast {

// The dimension that x runs along if it is not the innermost one and blocking is worth it, else -1.
int32_t blocking_dimension(const Layout& layout, size_t x_item, size_t out_item) noexcept;

// Blocks that do not come out even leave stripes, so one layout becomes up to four; together they visit every element
// once. `index` 0 to 3; a part may be empty (n == 0). long_rows: rows of 64 elements at least, for random words come
// in runs.
enum : int { block_parts = 4 };
void block_part(const Layout& layout, int32_t dimension, size_t x_item, bool long_rows, int index,
                Layout& part) noexcept;

} // namespace narrowcast
