// Codes of one chunk at a time: from float32 by the quantizing kernel, in their place if they can be made there, else
// in a tile, and from there to it. Part of nc_quantize and nc_fake_quantize.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "api/boxes.hpp"
#include "api/params.hpp"
#include "api/tiles.hpp"

namespace narrowcast {

class CodeMaker {
public:
    CodeMaker(const QuantRequest& request, const Arithmetic& arithmetic, Along along, Tiles& tiles) noexcept
        : table_(*request.table), request_(request), rule_(arithmetic.rule), along_(along),
          quantize_(table_.quantize[arithmetic.op][arithmetic.hub][along]), items_(request), tiles_(tiles) {}

    // Whether codes are made where they belong; if not, a chunk has at most quant_tile elements.
    bool direct(int64_t col) const noexcept { return request_.codes.data != nullptr && items_.direct(col); }

    // Makes the codes of a chunk, whose float32 values are `rows`, in place or tiles.numbers: native and unpacked, in
    // their place or in tiles.codes.
    Rows make(const Batch& batch, const Chunk& chunk, const Rows& rows, const QuantizeParams& params,
              bool stream) noexcept;
    // Adds up the codes just made, line by line.
    void add_sums(const Batch& batch, const Chunk& chunk, const Rows& codes) noexcept;
    // Brings the codes just made to their place if they are in the tile.
    void put(const Batch& batch, const Chunk& chunk, bool stream) noexcept;

    const Codes& items() const noexcept { return items_; }

private:
    const KernelTable& table_;
    const QuantRequest& request_;
    QuantizeRule rule_;
    Along along_;
    QuantizeFn quantize_;
    Codes items_;
    Tiles& tiles_;
};

} // namespace narrowcast
