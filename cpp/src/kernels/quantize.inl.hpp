// float32 lanes and the numbers of their boxes to codes (the scalar text, which says what is computed, is
// codec/quantize.hpp). Text-included once per ISA unit; no guard. The way back to values is dequantize.inl.hpp; ranges
// and sums of codes are in range.inl.hpp.
//
// Codes of a byte are rounded to int32, and clamped by the steps that make bytes of them. Their offset is added
// between: a step of a 16-bit float would not round it, as integers up to 256 are exact there.

namespace narrowcast {
namespace {

// An int32 of a code of two bytes. A NaN goes to the end that is taken first.
template <int32_t Hub> NC_INLINE U word_code(U sum, const BoxVectors& v, const QuantizeRule& rule) {
    const U low = splat_float(static_cast<float>(rule.low)), high = splat_float(static_cast<float>(rule.high));
    const U a = step<Hub>(fadd(round_even(sum), v.offset));
    return to_int(rule.nan_high ? fmax(fmin(a, high), low) : fmin(fmax(a, low), high));
}

// --- many ----------------------------------------------------------------------------------------------------------

// The numbers of a block: a vector of each for each vector of items, every `step` entries another kind of them.
struct BlockNumbers {
    const uint32_t* at;
    size_t step;
    NC_INLINE U of(size_t field, size_t k) const { return load(at + field * step + k * lanes); }
    NC_INLINE BoxVectors of(size_t k) const {
        return {of(field_factor, k), of(field_shift, k), of(field_zero, k), of(field_offset, k)};
    }
};
struct NumberRoom {
    alignas(64) uint32_t at[step_fields][block];
    size_t box; // whose numbers they all are; SIZE_MAX: several
};
NC_NOINLINE BlockNumbers numbers_of(const Boxes& boxes, size_t i, NumberRoom& room) {
    if (boxes.columns)
        return {&boxes.tile.at[0][i], tile_boxes};
    const size_t box = boxes.first + (i >> boxes.shift), last = boxes.first + ((i + block - 1) >> boxes.shift);
    if (room.box != box) {
        for (size_t f = 0; f < step_fields; ++f)
            for (size_t k = 0; k < 4; ++k) {
                const size_t at = boxes.first + ((i + k * lanes) >> boxes.shift);
                store(&room.at[f][k * lanes], splat(boxes.tile.at[f][at < tile_boxes ? at : box]), false);
            }
        room.box = box == last ? box : ~size_t{0};
    }
    return {room.at[0], block};
}

// A block of x, whatever its numbers.
template <int32_t Op, int32_t Hub, size_t Item>
NC_NOINLINE void quantize_block(const unsigned char* x, unsigned char* to, const BlockNumbers& numbers,
                                const Common& common, bool stream) {
    U code[4], offset[4];
    for (size_t k = 0; k < 4; ++k) {
        const BoxVectors v = numbers.of(k);
        const U sum = quantized_sum<Op, Hub>(load(x + k * lanes * 4), v);
        offset[k] = v.offset;
        if constexpr (Item == 1)
            code[k] = to_int_or_end(sum, common.rule.nan_high);
        else if constexpr (Item == 2)
            code[k] = band(word_code<Hub>(sum, v, common.rule), splat(0xffff));
        else
            code[k] = select(is_nan(sum), splat(0x7fc00000), sum);
    }
    if constexpr (Item == 1) {
        store_clamped_bytes(to, code, offset, common.ends, stream);
    } else if constexpr (Item == 2) {
        store_words(to, code[0], code[1], stream);
        store_words(to + lanes * 4, code[2], code[3], stream);
    } else {
        for (size_t k = 0; k < 4; ++k)
            store(to + k * lanes * 4, code[k], stream);
    }
}
using BlockFn = void (*)(const unsigned char* x, unsigned char* to, const BlockNumbers& numbers, const Common& common,
                         bool stream);

// How blocks are made: one by itself, and many, if there is a way (codes of a byte, in float32).
struct Making {
    BlockFn block;
    BlocksFn (*blocks_of)(const Boxes& boxes);
    bool divides;
};

// A run of items.
template <size_t Item>
NC_NOINLINE void quantize_run(const Making& making, const unsigned char* from, unsigned char* to, size_t n,
                              const Boxes& boxes, const Common& common, bool stream) {
    NumberRoom room;
    room.box = ~size_t{0};
    in_blocks<Item>(to, n, stream, [&](size_t i, size_t count, bool nt) NC_INLINE_LAMBDA {
        if (count < block) {
            alignas(64) unsigned char in[block * 4] = {};
            alignas(64) unsigned char out[block * Item];
            copy_some(in, from + i * 4, count * 4);
            making.block(in, out, numbers_of(boxes, i, room), common, false);
            copy_some(to + i * Item, out, count * Item);
            return;
        }
        if constexpr (Item == 1)
            if (making.blocks_of != nullptr) {
                making.blocks_of(boxes)(from, to, i, i + count, boxes, common, nt);
                return;
            }
        for (const size_t end = i + count; i < end; i += block)
            making.block(from + i * 4, to + i * Item, numbers_of(boxes, i, room), common, nt);
    });
}

template <size_t Item>
NC_NOINLINE void quantize_rows(const Making& making, const void* x, void* codes, const Rectangle& r,
                               const QuantizeParams& p, const QuantizeRule& rule, bool stream) {
    BoxTile tile;
    const size_t shift = joined_shift<Item>(r, 4, codes, stream);
    for (size_t first = 0; first < r.rows; first += tile_boxes) {
        const size_t rest = r.rows - first, count = rest < tile_boxes ? rest : size_t{tile_boxes};
        prepare_boxes(tile, p, first, count, false, making.divides, rule);
        const Common common = common_of(tile, rule);
        const size_t together = shift == no_shift ? 1 : count;
        for (size_t i = 0; i < count; i += together)
            quantize_run<Item>(making, row_at(x, r.src_step, first + i), row_at(codes, r.dst_step, first + i),
                               together * r.cols, {tile, i, shift, false}, common, stream);
    }
}

template <size_t Item>
NC_NOINLINE void quantize_columns(const Making& making, const void* x, void* codes, const Rectangle& r,
                                  const QuantizeParams& p, const QuantizeRule& rule, bool stream) {
    BoxTile tile;
    for (size_t first = 0; first < r.cols; first += tile_boxes) {
        const size_t rest = r.cols - first, count = rest < tile_boxes ? rest : size_t{tile_boxes};
        prepare_boxes(tile, p, first, count, true, making.divides, rule);
        const Common common = common_of(tile, rule);
        for (size_t row = 0; row < r.rows; ++row)
            quantize_run<Item>(making, row_at(x, r.src_step, row) + first * 4,
                               row_at(codes, r.dst_step, row) + first * Item, count, {tile, 0, 0, true}, common,
                               stream && count == tile_boxes && reinterpret_cast<uintptr_t>(codes) % block == 0);
    }
}

template <int32_t Op, int32_t Hub, int32_t Direction>
void quantize(const void* x, void* codes, const Rectangle& r, const QuantizeParams& p, const QuantizeRule& rule,
              bool stream) noexcept {
    const auto run_items = [&](auto by_rows, auto by_columns, const Making& making) NC_INLINE_LAMBDA {
        (Direction == along_rows ? by_rows : by_columns)(making, x, codes, r, p, rule, stream);
    };
    if (rule.item == 1) {
        Making making{&quantize_block<Op, Hub, 1>, nullptr, false};
        if constexpr (Hub == hub_f32)
            making = {making.block, &blocks_fn<Op>, Op == op_divide};
        run_items(&quantize_rows<1>, &quantize_columns<1>, making);
    } else if (rule.item == 2) {
        run_items(&quantize_rows<2>, &quantize_columns<2>, {&quantize_block<Op, Hub, 2>, nullptr, false});
    } else {
        run_items(&quantize_rows<4>, &quantize_columns<4>, {&quantize_block<Op, Hub, 4>, nullptr, false});
    }
    if (stream)
        fence();
}

} // namespace
} // namespace narrowcast
