// The range of each box of a batch, for nc_range and for nc_quantize where it computes its scales.
#pragma once

#include "api/boxes.hpp"
#include "api/tiles.hpp"

namespace narrowcast {

// Where elements are read to.
struct ReadRoom {
    unsigned char* raw; // quant_tile * 4 bytes
    float* tile;        // quant_tile
};

// Fills low and high, an entry per box; +Inf and -Inf where there is no finite value. The batch's values are in `rows`
// afterwards if all of them fit into the tile: then true.
bool find_ranges(const KernelTable& table, Along along, const Reals& x, unsigned char* data, const Batch& batch,
                 const ReadRoom& room, Rows& rows, float* low, float* high) noexcept;

// The same along rows, with zero in every range. finite: whether all values are.
bool find_spans(const KernelTable& table, const Reals& x, unsigned char* data, const Batch& batch, const ReadRoom& room,
                Rows& rows, float* low, float* high, bool& finite) noexcept;

} // namespace narrowcast
