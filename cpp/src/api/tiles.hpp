// Moving elements between arrays and what the quantizing kernels take: real numbers as float32, codes as a byte or two
// each. Where an array already lies as a kernel wants it, it is used as it is; all else goes through tiles in the
// nearest cache. Of numbers that belong to boxes, see params.hpp.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "api/boxes.hpp"
#include "api/quant_check.hpp"
#include "dispatch/kernel_table.hpp"

namespace narrowcast {

// Elements per tile: several boxes, for every call of a kernel and every set of parameters costs something.
inline constexpr size_t quant_tile = 8 * size_t{tile_items};

// What a thread works in between arrays and kernels: little, for a caller's stack may be small. What is used up makes
// room for what comes next.
struct Tiles {
    alignas(64) float numbers[quant_tile];
    alignas(64) unsigned char raw[quant_tile * 4]; // elements as they lie in arrays, of 8 bytes half a tile at a time
    alignas(64) unsigned char codes[quant_tile * 2];

    unsigned char* number_bytes() noexcept { return reinterpret_cast<unsigned char*>(numbers); }
};

// Where a rectangle of elements lies. Steps in bytes (of packed codes: bits, as is the offset behind `data`).
struct View {
    unsigned char* data;
    size_t rows, cols;
    int64_t row, col;
};

// A chunk in an array that the nest visits as x, or as codes that are not packed.
inline View view_as_x(unsigned char* data, const Batch& batch, const Chunk& chunk) noexcept {
    return {data + chunk.at.x, chunk.rows, chunk.cols, batch.row.x, batch.col.x};
}
inline View view_as_codes(unsigned char* data, const Batch& batch, const Chunk& chunk) noexcept {
    return {data + chunk.at.codes, chunk.rows, chunk.cols, batch.row.codes, batch.col.codes};
}

// Rows of neighbours, as a kernel takes them.
struct Rows {
    unsigned char* data;
    ptrdiff_t step;
};

// An array of real numbers.
class Reals {
public:
    // rounded: hub_f16 or hub_bf16 if the values are to be rounded to that format first.
    Reals(const KernelTable& table, const Operand& operand, int32_t rounded) noexcept;

    // Whether float32 can be used where it is.
    bool direct_f32(int64_t col) const noexcept {
        return direct_ && format_ == NC_FORMAT_f32 && rounded_ == hub_f32 && col == 4;
    }
    // The values as float32, in place or in the tile; at most quant_tile if in the tile. raw: four bytes for each.
    Rows read(const View& view, unsigned char* raw, float* tile) const noexcept;

    // The format that values are best made in (a hub), and whether they may be made in place.
    int32_t hub() const noexcept { return hub_; }
    bool direct_hub(int64_t col) const noexcept;
    // Brings values that were made in the format of the hub, row by row without gaps, to their place.
    void write(const View& view, const void* tile, unsigned char* raw, bool stream) const noexcept;

private:
    const KernelTable& table_;
    int32_t format_, rounded_, hub_;
    size_t item_;
    bool swapped_, direct_;
};

// An array of codes, or of none: then they are only made in tiles.
class Codes {
public:
    explicit Codes(const QuantRequest& request) noexcept;

    bool is_float() const noexcept { return float_format_ != NC_FORMAT_INVALID; }
    int32_t float_format() const noexcept { return float_format_; }
    size_t item() const noexcept { return item_; } // of an unpacked code
    // Whether unpacked integer codes can be made where they are.
    bool direct(int64_t col) const noexcept {
        return !packed_ && !swapped_ && !is_float() && col == static_cast<int64_t>(item_);
    }
    // Where a place's codes are.
    unsigned char* at(unsigned char* data, int64_t offset) const noexcept {
        return data + (packed_ ? offset / 8 : offset);
    }

    View view(unsigned char* data, const Batch& batch, const Chunk& chunk) const noexcept {
        return {at(data, chunk.at.codes), chunk.rows, chunk.cols, batch.row.codes, batch.col.codes};
    }

    // Brings unpacked native codes, row by row without gaps, to their place.
    void write(const View& view, const unsigned char* tile, bool stream) const noexcept;

    // What kernels dequantize: signed or unsigned bytes, or float32 for wider and float codes.
    CodeKind kind() const noexcept { return is_float() || item_ > 1 ? codes_f32 : is_signed_ ? codes_i8 : codes_u8; }
    // Whether packed codes are dequantized as they are, where boxes are along rows and begin with bytes: as which kind.
    bool as_nibbles() const noexcept { return packed_ && bits_ == 4 && !is_float(); }
    CodeKind nibble_kind() const noexcept { return is_signed_ ? codes_i4 : codes_u4; }
    // Codes of kind(): in place or in the tile.
    Rows read(const View& view, unsigned char* raw, unsigned char* tile) const noexcept;
    bool direct_read(int64_t col) const noexcept { return direct(col) && bits_ == 8; }
    // The same from native unpacked codes without gaps.
    Rows normal(unsigned char* codes, size_t n, size_t cols, unsigned char* tile) const noexcept;

private:
    const KernelTable& table_;
    int32_t bits_, float_format_;
    size_t item_;
    bool packed_, swapped_, is_signed_;
};

} // namespace narrowcast
