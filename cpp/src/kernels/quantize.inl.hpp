// float32 lanes and the numbers of their boxes to codes (the scalar text, which says what is computed, is
// codec/quantize.hpp). Text-included once per ISA unit; no guard. The way back to values is dequantize.inl.hpp; ranges
// and sums of codes are in range.inl.hpp.
//
// Codes of a byte are rounded to int32, and clamped by the steps that make bytes of them. Their offset is added
// between: a step of a 16-bit float would not round it, as integers up to 256 are exact there.

namespace narrowcast {
namespace {

// --- the numbers of boxes ------------------------------------------------------------------------------------------

// Of one box in all lanes, or of a box per lane.
struct BoxVectors {
    U factor, shift, zero;
    U offset; // codes of a byte: an int32, 128 less if they are unsigned; else float32
    U reciprocal;
};
enum : size_t { box_fields = sizeof(BoxVectors) / sizeof(U), tile_boxes = 256 };

// Some boxes, prepared together.
struct BoxTile {
    alignas(64) uint32_t at[box_fields][tile_boxes];
    float limit;   // see rounded_product; 0: it is not to be used
    bool plain;    // offsets are all 0
    bool corrects; // see corrected_quotient; not for columns
};

template <int32_t Hub> NC_INLINE U step(U a) {
    if constexpr (Hub == hub_f16)
        return round_half(a);
    else if constexpr (Hub == hub_bf16)
        return select(is_nan(a), a, band(even_untruncated<NC_FORMAT_bf16, false>(a), splat(0xffff0000)));
    else
        return a;
}

enum : uint32_t { doubt = 16 }; // see corrected_quotient

NC_INLINE U unless_zero(U a) { return select(eq(a, splat(0)), splat(sign_f32), a); } // v + (-0) is v, of either sign

// Entries first to first + count of the parameters; more like the last of them, to the end of a vector or, where a box
// is a column, of a block.
NC_NOINLINE void prepare_boxes(BoxTile& tile, const QuantizeParams& p, size_t first, size_t count, bool columns,
                               bool product, const QuantizeRule& rule) {
    const U turn = splat(rule.low < 0 ? 0 : 128);
    U limit = splat(0x3f800000), offsets = splat(0), doubtful = splat(0);
    const size_t end = columns ? (count + block - 1) / block * block : count;
    for (size_t i = 0; i < end; i += lanes) {
        const auto numbers = [&](const float* from) NC_INLINE_LAMBDA {
            if (i + lanes <= count)
                return load(from + first + i);
            const U last = splat_float(from[first + count - 1]);
            if (i + 1 >= count)
                return last;
            alignas(64) float padded[lanes];
            store(padded, last, false);
            NC_COPY(padded, from + first + i, (count - i) * 4);
            return load(padded);
        };
        BoxVectors v{};
        const U shift = numbers(p.shift), zero = numbers(p.zero), offset = numbers(p.offset);
        v.factor = numbers(p.factor);
        v.shift = unless_zero(shift);
        v.zero = unless_zero(zero);
        v.offset = rule.item == 1 ? sub(to_int(offset), turn) : offset;
        offsets = bor(offsets, v.offset);
        if (product) {
            v.reciprocal = numbers(p.reciprocal);
            const M power_of_two = eq(band(v.factor, splat(0x7fffff)), splat(0));
            const U reach = fadd(splat_float(static_cast<float>(1 + (rule.high > -rule.low ? rule.high : -rule.low))),
                                 band(offset, splat(magnitude_f32)));
            const U own = select(power_of_two, splat(0x3f800000), // 1; 1/2 - reach * 2^-22
                                 fsub(splat(0x3f000000), fmul(reach, splat(0x34800000))));
            const U addends = band(bor(shift, zero), splat(magnitude_f32));
            const U useless = bor(addends, select(gt(band(offset, splat(magnitude_f32)), splat(0x43800000)), // 256
                                                  splat(1), select(eq(v.reciprocal, splat(0)), splat(1), splat(0))));
            limit = min_u(limit, select(eq(useless, splat(0)), own, splat(0)));
            const U last = band(v.factor, splat(0x7fff)), most = splat(0x7fff - 2 * doubt); // see corrected_quotient
            doubtful = bor(doubtful, select(power_of_two, splat(0),
                                            select(gt_u(sub(last, splat(doubt)), most), splat(1), splat(0))));
        }
        const U fields[] = {v.factor, v.shift, v.zero, v.offset, v.reciprocal};
        for (size_t f = 0; f < box_fields; ++f)
            store(&tile.at[f][i], fields[f], false);
    }
    tile.plain = !any(gt_u(offsets, splat(0)));
    tile.limit = product && !rule.nan_high ? smallest(limit) : 0;
    tile.corrects = !columns && !any(gt_u(doubtful, splat(0)));
}

// Which box of a tile item i of a run is in: the first and one more for every 2^shift items, or a column each.
struct Boxes {
    const BoxTile& tile;
    size_t first, shift;
    bool columns;
};

// --- one vector ----------------------------------------------------------------------------------------------------

template <int32_t Op, int32_t Hub> NC_INLINE U quantized_sum(U x, const BoxVectors& v) {
    const U shifted = step<Hub>(fadd(x, v.shift));
    if constexpr (Op == op_fma) {
        return fmul_add(shifted, v.factor, v.zero);
    } else {
        const U quotient = Op == op_divide ? fdiv(shifted, v.factor) : fmul(shifted, v.factor);
        return step<Hub>(fadd(step<Hub>(quotient), v.zero));
    }
}

// An int32 of a code of two bytes. A NaN goes to the end that is taken first.
template <int32_t Hub> NC_INLINE U word_code(U sum, const BoxVectors& v, const QuantizeRule& rule) {
    const U low = splat_float(static_cast<float>(rule.low)), high = splat_float(static_cast<float>(rule.high));
    const U a = step<Hub>(fadd(round_even(sum), v.offset));
    return to_int(rule.nan_high ? fmax(fmin(a, high), low) : fmin(fmax(a, low), high));
}

// The quotient rounded to an int32 by way of the product with the reciprocal, and how far the product is from it.
//
// Let u = 2^-24. The reciprocal is (1 / factor)(1 + d) with |d| <= u, and the quotient q is x / factor rounded by at
// most u: the exact product p = x * reciprocal and q differ by less than 2.01 u |x / factor|, or by nothing that
// matters where x / factor is tiny, as both are next to 0. The offset is at most 256, so that rounded quotients of up
// to 511 make different codes, and there |p - q| < 2^-14. The multiply-subtract takes p - n with an error of u at most:
// if that is below 1/2 - 2^-13 for the integer n, it is the one next to q as well. Beyond 511 both round to what is
// clamped to the same end. Where n does not fit an int32 the distance is great. So it is with Inf; a NaN that does not
// raise the distance has the least int32, which becomes the low end (nan_high does not come here). Neither do shift and
// zero. A power of two has an exact reciprocal: there p is x / factor, and rounding it to float32 first does not change
// the integer next to it below 2^23; its limit is above any distance that an integer has.
NC_INLINE U rounded_product(U x, U reciprocal, U& distance) {
    const U n = to_int(fmul(x, reciprocal));
    distance = fmul_sub(x, reciprocal, to_float(n));
    return n;
}

// The quotient corrected by its residual, rounded to an int32: no tie is doubtful, and there is nothing to look at but
// the product, which must be small.
//
// With u, the reciprocal and q as above: product p = x * reciprocal is within 2.01 u |x / factor| of x / factor, and
// the residual x - p * factor is rounded by u of itself (by 2^-150 if it is subnormal, for which |x| > 2^-102 leaves
// room). The exact residual / factor + p is x / factor. So what the last step rounds, z, is within 6 u^2 |x / factor|
// of it, and q is x / factor itself, rounded in the same way. Both become the same integer unless a number where
// integers change lies between x / factor and z: J = (k + 1/2) +- half an ulp, k an integer below 512 (beyond, both are
// clamped; below 1/4, both are 0). Let factor = B 2^b with B an integer of 24 bits, and 2^e <= k + 1/2 < 2^(e+1), -1 <=
// e <= 8. x is a multiple of 2^(b+e), so x - J factor, in units of 2^b, is a multiple of 1/2 less or more B 2^(e-24);
// within 6 u^2 x it can be only if B is within 6 * 2^-48 * 2^(e+25) * 2^(24-e) = 12 of a multiple of 2^(23-e), and so
// of 2^15. Factors whose B is that near to one (`doubt`) do not come here, but for powers of two, with which every step
// is exact.
NC_INLINE U corrected_quotient(U x, U reciprocal, U factor, U& product) {
    product = fmul(x, reciprocal);
    return to_int(fmul_add(fmul_from(product, factor, x), reciprocal, product));
}

// --- many ----------------------------------------------------------------------------------------------------------

// How far on x is fetched, if it is to be. No address is wrong for a prefetch.
enum : size_t { prefetch_bytes = 16384 };

// What all boxes have in common.
struct Common {
    const QuantizeRule& rule;
    ByteEnds ends;
    U limit;
};

// The numbers of a block: a vector of each for each vector of items, every `step` entries another kind of them.
struct BlockNumbers {
    const uint32_t* at;
    size_t step;
    NC_INLINE U of(size_t field, size_t k) const { return load(at + field * step + k * lanes); }
    NC_INLINE BoxVectors of(size_t k) const { return {of(0, k), of(1, k), of(2, k), of(3, k), of(4, k)}; }
};
struct NumberRoom {
    alignas(64) uint32_t at[box_fields][block];
    size_t box; // whose numbers they all are; SIZE_MAX: several
};
NC_NOINLINE BlockNumbers numbers_of(const Boxes& boxes, size_t i, NumberRoom& room) {
    if (boxes.columns)
        return {&boxes.tile.at[0][i], tile_boxes};
    const size_t box = boxes.first + (i >> boxes.shift), last = boxes.first + ((i + block - 1) >> boxes.shift);
    if (room.box != box) {
        for (size_t f = 0; f < box_fields; ++f)
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

// The ways in which blocks of a run have their numbers.
enum BoxWay : int32_t { way_blocks = 0, way_vectors = 1, way_columns = 2 };

struct ProductVectors {
    U reciprocal, offset, factor;
};

// A block of bytes. What the limit does not allow (a distance, or a product) is divided.
template <bool Corrects, class Numbers>
NC_INLINE void product_block(const unsigned char* x, unsigned char* to, const Numbers& numbers, const Common& common,
                             bool stream) {
    U code[4], offset[4], distance[4];
    for (size_t k = 0; k < 4; ++k) {
        const ProductVectors v = numbers(k);
        if constexpr (Corrects)
            code[k] = corrected_quotient(load(x + k * lanes * 4), v.reciprocal, v.factor, distance[k]);
        else
            code[k] = rounded_product(load(x + k * lanes * 4), v.reciprocal, distance[k]);
        offset[k] = v.offset;
    }
    if (common.rule.fetch)
        for (size_t k = 0; k < 4; ++k)
            prefetch(x + prefetch_bytes + k * lanes * 4);
    const U most = max_u(larger_magnitude(distance[0], distance[1]), larger_magnitude(distance[2], distance[3]));
    if (any(gt(most, common.limit))) [[unlikely]] {
        for (size_t k = 0; k < 4; ++k)
            if (any(gt(larger_magnitude(distance[k], distance[k]), common.limit)))
                code[k] = to_int_or_end(fdiv(load(x + k * lanes * 4), numbers(k).factor), false);
    }
    store_clamped_bytes(to, code, offset, common.ends, stream);
}

// Whole blocks, items i to end of a run.
template <int32_t Way, bool Corrects>
NC_NOINLINE void product_blocks(const unsigned char* x, unsigned char* to, size_t i, size_t end, const Boxes& boxes,
                                const Common& given, bool stream) {
    const Common common = given; // a copy: nothing that is stored can change it
    const size_t first = boxes.first, shift = boxes.shift;
    const BoxTile& tile = boxes.tile;
    const auto splat_box = [&](size_t box) NC_INLINE_LAMBDA {
        return ProductVectors{splat(tile.at[4][box]), splat(tile.at[3][box]), splat(tile.at[0][box])};
    };
    while (i < end) {
        size_t stop = end;
        ProductVectors own{};
        if constexpr (Way == way_blocks) {
            const size_t next = ((i >> shift) + 1) << shift;
            stop = next < end ? next : end;
            own = splat_box(first + (i >> shift));
        }
        for (; i < stop; i += block)
            product_block<Corrects>(
                x + i * 4, to + i,
                [&](size_t k) NC_INLINE_LAMBDA {
                    const size_t at = i + k * lanes;
                    if constexpr (Way == way_blocks)
                        return own;
                    else if constexpr (Way == way_vectors)
                        return splat_box(first + (at >> shift));
                    else
                        return ProductVectors{load(&tile.at[4][at]), load(&tile.at[3][at]), load(&tile.at[0][at])};
                },
                common, stream);
    }
}

// A run of items. fn: for blocks that do not go by products.
template <size_t Item>
NC_NOINLINE void quantize_run(BlockFn fn, const unsigned char* from, unsigned char* to, size_t n, const Boxes& boxes,
                              const Common& common, bool stream) {
    NumberRoom room;
    room.box = ~size_t{0};
    const bool product = boxes.tile.limit > 0;
    in_blocks<Item>(to, n, stream, [&](size_t i, size_t count, bool nt) NC_INLINE_LAMBDA {
        if (count < block) {
            alignas(64) unsigned char in[block * 4] = {};
            alignas(64) unsigned char out[block * Item];
            copy_some(in, from + i * 4, count * 4);
            fn(in, out, numbers_of(boxes, i, room), common, false);
            copy_some(to + i * Item, out, count * Item);
            return;
        }
        if constexpr (Item == 1)
            if (product) {
                const bool corrects = boxes.tile.corrects;
                const auto blocks =
                    boxes.columns ? &product_blocks<way_columns, false>
                    : size_t{1} << boxes.shift >= block
                        ? (corrects ? &product_blocks<way_blocks, true> : &product_blocks<way_blocks, false>)
                        : (corrects ? &product_blocks<way_vectors, true> : &product_blocks<way_vectors, false>);
                blocks(from, to, i, i + count, boxes, common, nt);
                return;
            }
        for (const size_t end = i + count; i < end; i += block)
            fn(from + i * 4, to + i * Item, numbers_of(boxes, i, room), common, nt);
    });
}

NC_INLINE Common common_of(const BoxTile& tile, const QuantizeRule& rule) {
    const float limit = tile.corrects && tile.limit > 0 ? 0x1p20f : tile.limit;
    return {rule, byte_ends(rule.low, rule.high, tile.plain), sub(splat_float(limit), splat(1))}; // nothing is below 0
}

template <size_t Item>
NC_NOINLINE void quantize_rows(BlockFn fn, bool product, const void* x, void* codes, const Rectangle& r,
                               const QuantizeParams& p, const QuantizeRule& rule, bool stream) {
    BoxTile tile;
    const size_t shift = joined_shift<Item>(r, 4, codes, stream);
    for (size_t first = 0; first < r.rows; first += tile_boxes) {
        const size_t rest = r.rows - first, count = rest < tile_boxes ? rest : size_t{tile_boxes};
        prepare_boxes(tile, p, first, count, false, product, rule);
        const Common common = common_of(tile, rule);
        const size_t together = shift == no_shift ? 1 : count;
        for (size_t i = 0; i < count; i += together)
            quantize_run<Item>(fn, row_at(x, r.src_step, first + i), row_at(codes, r.dst_step, first + i),
                               together * r.cols, {tile, i, shift, false}, common, stream);
    }
}

template <size_t Item>
NC_NOINLINE void quantize_columns(BlockFn fn, bool product, const void* x, void* codes, const Rectangle& r,
                                  const QuantizeParams& p, const QuantizeRule& rule, bool stream) {
    BoxTile tile;
    for (size_t first = 0; first < r.cols; first += tile_boxes) {
        const size_t rest = r.cols - first, count = rest < tile_boxes ? rest : size_t{tile_boxes};
        prepare_boxes(tile, p, first, count, true, product, rule);
        const Common common = common_of(tile, rule);
        for (size_t row = 0; row < r.rows; ++row)
            quantize_run<Item>(fn, row_at(x, r.src_step, row) + first * 4,
                               row_at(codes, r.dst_step, row) + first * Item, count, {tile, 0, 0, true}, common,
                               stream && count == tile_boxes && reinterpret_cast<uintptr_t>(codes) % block == 0);
    }
}

template <int32_t Op, int32_t Hub, int32_t Direction>
void quantize(const void* x, void* codes, const Rectangle& r, const QuantizeParams& p, const QuantizeRule& rule,
              bool stream) noexcept {
    constexpr bool product = Op == op_divide && Hub == hub_f32;
    const auto run_items = [&](auto by_rows, auto by_columns, BlockFn fn) NC_INLINE_LAMBDA {
        (Direction == along_rows ? by_rows : by_columns)(fn, product && rule.item == 1, x, codes, r, p, rule, stream);
    };
    if (rule.item == 1)
        run_items(&quantize_rows<1>, &quantize_columns<1>, &quantize_block<Op, Hub, 1>);
    else if (rule.item == 2)
        run_items(&quantize_rows<2>, &quantize_columns<2>, &quantize_block<Op, Hub, 2>);
    else
        run_items(&quantize_rows<4>, &quantize_columns<4>, &quantize_block<Op, Hub, 4>);
    if (stream)
        fence();
}

} // namespace
} // namespace narrowcast
