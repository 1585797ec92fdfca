// Real numbers of one chunk at a time from codes: by the dequantizing kernel, in their place if they can be made there,
// else in a tile and from there to it. Part of nc_dequantize, nc_fake_quantize and nc_quantization_error.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "api/boxes.hpp"
#include "api/params.hpp"
#include "api/tiles.hpp"

namespace narrowcast {

class ValueMaker {
public:
    // tile: for the values of a chunk. raw: for what lies between, as large; the codes may lie there.
    ValueMaker(const KernelTable& table, const Operand& out, CodeKind kind, const Arithmetic& arithmetic, Along along,
               unsigned char* tile, unsigned char* raw) noexcept;

    // Whether values are made where they belong; if not, a chunk has at most quant_tile elements.
    bool direct(int64_t col) const noexcept { return !in_steps_ && out_.direct_hub(col); }

    // Makes the values of a chunk from its codes and brings them to `to`.
    void make(const Batch& batch, const Chunk& chunk, const Rows& codes, const DequantizeParams& params, const View& to,
              bool stream) noexcept;

    // Makes them in the tile, as float32.
    void make_floats(const Batch& batch, const Chunk& chunk, const Rows& codes,
                     const DequantizeParams& params) noexcept;

private:
    void run(DequantizeFn kernel, const Batch& batch, const Chunk& chunk, const Rows& codes, size_t code_bits,
             const Rows& to, size_t item, const DequantizeParams& params, bool stream) const noexcept;
    // The dialects whose way back is not one product.
    void in_steps(const Batch& batch, const Chunk& chunk, const Rows& codes, const DequantizeParams& params) noexcept;

    const KernelTable& table_;
    const Arithmetic& arithmetic_;
    Reals out_;
    CodeKind kind_;
    Along along_;
    bool in_steps_;
    unsigned char *tile_, *raw_;
};

} // namespace narrowcast
