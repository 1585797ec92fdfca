// float32 lanes and the numbers of their boxes to codes of a byte, block by block: the ways to the integer next to
// x / factor from the product with the reciprocal instead of a division, each with the proof that it is that integer,
// and the plain ways. Text-included once per ISA unit, before quantize.inl.hpp; no guard.

namespace narrowcast {
namespace {

// --- one vector ----------------------------------------------------------------------------------------------------

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

// The quotient in fixed point, which is all there is to do where its integer is clear. The base is 256 + 1/2 + 4 *
// 2^-15 and the offset, and 128 more if codes are signed, so that a code's byte is the integer of x * reciprocal +
// base, less 256, rounded down: with the sum in [256, 512), these are its bits 15 to 22, and the 15 below are the
// fraction.
//
// With u, the reciprocal and q as above, and the offset and what is added to q at most 256 together: |q| is below 512,
// so that in units of 2^-15 the exact product is within 1 of x / factor, q within 1/2 of that; what is added to q
// rounds that sum by 1/4 and, if it is no integer, the base by 1; and the sum is rounded by 1/2. A q on or above a
// number where integers change is therefore at least 4 - 3.25 units above it in the sum, and one below it less than 4
// + 3.25: where the fraction is not among the first 8 units (`near_tie`), the integer is that of q.
NC_INLINE U fixed_quotient(U x, U reciprocal, U base) {
    const U sum = fmul_add(x, reciprocal, base);
    return add(sum, sum); // the code's byte is the third one, the fraction what is below it
}

// --- blocks --------------------------------------------------------------------------------------------------------

// The numbers of vectors of items: of one box; of a box for the vector from item i on; of a box per item.
struct OneBox {
    TileVectors own;
    NC_INLINE const TileVectors& of(size_t) const { return own; }
};
struct BoxPerVector {
    const BoxTile& tile;
    size_t first, shift;
    NC_INLINE TileVectors of(size_t i) const { return box_vectors(tile, first + (i >> shift)); }
};
struct BoxPerItem {
    const BoxTile& tile;
    NC_INLINE TileVectors of(size_t i) const { return item_vectors(tile, i); }
};

// How codes are made. Of products with reciprocals: rounded or corrected, `finite` if nothing is beyond the limit. Or
// by the steps of the codec: with nothing added in between, or all of them.
enum Quotient : int32_t {
    quotient_rounded,
    quotient_corrected,
    quotient_corrected_finite,
    quotient_multiplied,
    quotient_in_steps, // op_divide, op_multiply and op_fma
};

// The block from item i on. What the limit does not allow (a distance, or a product) is divided.
template <Quotient Way, int32_t Op, class Numbers>
NC_INLINE void code_block(const unsigned char* x, unsigned char* to, size_t i, const Numbers& numbers,
                          const Common& common, bool stream) {
    const auto x_of = [&](size_t k) NC_INLINE_LAMBDA { return load_once(x + (i + k * lanes) * 4); };
    U code[4], offset[4], distance[4];
    for (size_t k = 0; k < 4; ++k) {
        const TileVectors v = numbers.of(i + k * lanes);
        if constexpr (Way == quotient_rounded)
            code[k] = rounded_product(x_of(k), v.reciprocal, distance[k]);
        else if constexpr (Way == quotient_corrected || Way == quotient_corrected_finite)
            code[k] = corrected_quotient(x_of(k), v.reciprocal, v.factor, distance[k]);
        else if constexpr (Way == quotient_multiplied)
            code[k] = to_int_or_end(fmul(x_of(k), v.factor), common.rule.nan_high);
        else
            code[k] = to_int_or_end(quantized_sum<Op, hub_f32>(x_of(k), v), common.rule.nan_high);
        offset[k] = v.offset;
    }
    if constexpr (Way == quotient_rounded || Way == quotient_corrected) {
        const U most = max_u(larger_magnitude(distance[0], distance[1]), larger_magnitude(distance[2], distance[3]));
        if (any(gt(most, common.limit))) [[unlikely]] {
            for (size_t k = 0; k < 4; ++k)
                if (any(gt(larger_magnitude(distance[k], distance[k]), common.limit)))
                    code[k] = to_int_or_end(fdiv(x_of(k), numbers.of(i + k * lanes).factor), false);
        }
    }
    store_clamped_bytes(to + i, code, offset, common.ends, stream);
}

// Blocks of items i to end in fixed point, up to the first one that has an item near a tie: the number of its first.
template <bool Shifted, class Numbers>
NC_INLINE size_t fixed_blocks(const unsigned char* x, unsigned char* to, size_t i, size_t end, const Numbers& numbers,
                              const Common& common, bool stream) {
    for (; i < end; i += block) {
        U v[4];
        for (size_t k = 0; k < 4; ++k) {
            const TileVectors own = numbers.of(i + k * lanes);
            const U item = load(x + (i + k * lanes) * 4);
            v[k] = fixed_quotient(Shifted ? fadd(item, own.shift) : item, own.reciprocal, own.base);
        }
        if (any(near_tie(min_words(min_words(v[0], v[1]), min_words(v[2], v[3]))))) [[unlikely]]
            break;
        store_third_bytes(to + i, v, common.flip, stream);
    }
    return i;
}

// After a block near a tie some more go the other way: where ties are many, most do.
constexpr size_t items_after_tie = size_t{8} * block;

template <Quotient Way, int32_t Op, class Numbers>
NC_INLINE void code_stretch(const unsigned char* x, unsigned char* to, size_t i, size_t end, const Numbers& numbers,
                            const Common& common, bool stream) {
    while (i < end) {
        size_t stop = end;
        if constexpr (Op == op_divide)
            if (common.fixed) {
                i = fixed_blocks<Way == quotient_in_steps>(x, to, i, end, numbers, common, stream);
                stop = end - i < items_after_tie ? end : i + items_after_tie;
            }
        for (; i < stop; i += block)
            code_block<Way, Op>(x, to, i, numbers, common, stream);
    }
}

// Whole blocks, items i to end of a run.
using BlocksFn = void (*)(const unsigned char* x, unsigned char* to, size_t i, size_t end, const Boxes& boxes,
                          const Common& given, bool stream);
template <Quotient Way, int32_t Op>
NC_NOINLINE void code_blocks(const unsigned char* x, unsigned char* to, size_t i, size_t end, const Boxes& boxes,
                             const Common& given, bool stream) {
    const Common common = given; // a copy: nothing that is stored can change it
    const size_t first = boxes.first, shift = boxes.shift;
    if (size_t{1} << shift < block) {
        code_stretch<Way, Op>(x, to, i, end, BoxPerVector{boxes.tile, first, shift}, common, stream);
        return;
    }
    while (i < end) {
        const size_t next = ((i >> shift) + 1) << shift, stop = next < end ? next : end;
        code_stretch<Way, Op>(x, to, i, stop, OneBox{box_vectors(boxes.tile, first + (i >> shift))}, common, stream);
        i = stop;
    }
}
template <Quotient Way, int32_t Op>
NC_NOINLINE void code_columns(const unsigned char* x, unsigned char* to, size_t i, size_t end, const Boxes& boxes,
                              const Common& given, bool stream) {
    const Common common = given;
    code_stretch<Way, Op>(x, to, i, end, BoxPerItem{boxes.tile}, common, stream);
}

// The best way for the boxes of a tile.
template <int32_t Op> NC_INLINE BlocksFn blocks_fn(const Boxes& boxes) {
    const BoxTile& tile = boxes.tile;
    if constexpr (Op == op_divide) {
        if (tile.limit > 0 && boxes.columns)
            return &code_columns<quotient_rounded, Op>;
        if (tile.limit > 0 && tile.corrects)
            return tile.finite ? &code_blocks<quotient_corrected_finite, Op> : &code_blocks<quotient_corrected, Op>;
        if (tile.limit > 0)
            return &code_blocks<quotient_rounded, Op>;
    }
    if constexpr (Op == op_multiply)
        if (!tile.sums)
            return boxes.columns ? &code_columns<quotient_multiplied, Op> : &code_blocks<quotient_multiplied, Op>;
    return boxes.columns ? &code_columns<quotient_in_steps, Op> : &code_blocks<quotient_in_steps, Op>;
}

} // namespace
} // namespace narrowcast
