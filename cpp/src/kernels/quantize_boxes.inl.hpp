// What quantizing kernels know of boxes: their numbers, a tile of boxes prepared together, and what all items of a run
// have in common. Text-included once per ISA unit, before quotient.inl.hpp; no guard.

namespace narrowcast {
namespace {

// --- the numbers of boxes ------------------------------------------------------------------------------------------

// Of one box in all lanes, or of a box per lane.
struct BoxVectors {
    U factor, shift, zero;
    U offset; // codes of a byte: an int32, 128 less if they are unsigned; else float32
};
// What is worked out for codes of a byte besides: see quotient.inl.hpp.
struct TileVectors : BoxVectors {
    U reciprocal, base;
};
enum : size_t { tile_boxes = 256 };
enum : size_t { field_factor, field_shift, field_zero, field_offset, field_reciprocal, field_base, box_fields };
enum : size_t { step_fields = field_reciprocal }; // those of BoxVectors

// Some boxes, prepared together.
struct BoxTile {
    alignas(64) uint32_t at[box_fields][tile_boxes];
    float limit;   // see rounded_product; 0: it is not to be used
    bool plain;    // offsets are all 0
    bool sums;     // something is added to x or to a quotient
    bool corrects; // see corrected_quotient; not for columns
    bool finite;   // all products are, and below 2^20
    bool fixed;    // codes of all items lie between the ends without a clamp, the outermost away from ties: see
                   // fixed_quotient
};

enum : uint32_t { doubt = 16 }; // see corrected_quotient

// See fixed_quotient.
constexpr float fixed_base = 256.5f + 4 * 0x1p-15f;
NC_INLINE M near_tie(U fixed) { return gt(splat(16), band(fixed, splat(0xffff))); }

NC_INLINE U unless_zero(U a) { return select(eq(a, splat(0)), splat(sign_f32), a); } // v + (-0) is v, of either sign

// Entries first to first + count of the parameters; more like the last of them, to the end of a vector or, where a box
// is a column, of a block.
NC_NOINLINE void prepare_boxes(BoxTile& tile, const QuantizeParams& p, size_t first, size_t count, bool columns,
                               bool divides, const QuantizeRule& rule) {
    const U turn = splat(rule.low < 0 ? 0 : 128), one = splat(0x3f800000), yes = splat(1);
    const auto turned = static_cast<float>(rule.low < 0 ? 128 : 0);
    const U lowest = splat_float(256 + turned + static_cast<float>(rule.low)),
            beyond = splat_float(257 + turned + static_cast<float>(rule.high));
    const U reach = splat_float(static_cast<float>(1 + (rule.high > -rule.low ? rule.high : -rule.low)));
    // What holds for any box.
    U limit = one, offsets = splat(0), useless = splat(0), doubtful = splat(0), infinite = splat(0), unclear = splat(0);
    const bool known = divides && p.low != nullptr;
    tile.sums = p.shift != nullptr || p.zero != nullptr;
    const size_t end = columns ? (count + block - 1) / block * block : count;
    for (size_t i = 0; i < end; i += lanes) {
        const auto numbers = [&](const float* from) NC_INLINE_LAMBDA {
            if (from == nullptr)
                return splat(0);
            if (i + lanes <= count)
                return load(from + first + i);
            const U last = splat_float(from[first + count - 1]);
            return i + 1 >= count ? last : load_some(from + first + i, count - i, last);
        };
        const U offset = numbers(p.offset), factor = numbers(p.factor);
        const U shift = unless_zero(numbers(p.shift)), zero = unless_zero(numbers(p.zero));
        U reciprocal = splat(0), base = splat(0);
        if (divides) {
            reciprocal = fdiv(one, factor);
            const U size = fadd(band(offset, splat(magnitude_f32)), band(zero, splat(magnitude_f32)));
            const U least = splat(0x0d800000), range = splat(0x64000000); // 2^-100, to 2^100
            useless = select(either(gt_u(sub(factor, least), range), gt(size, splat(0x43800000))), yes, useless); // 256
            // 1; 1/2 - (reach + |offset|) * 2^-22
            const M power_of_two = eq(band(factor, splat(0x7fffff)), splat(0));
            limit = min_u(
                limit, select(power_of_two, one, fsub(splat(0x3f000000), fmul(fadd(reach, size), splat(0x34800000)))));
            const U last = band(factor, splat(0x7fff)), most = splat(0x7fff - 2 * doubt); // see corrected_quotient
            doubtful = select(power_of_two, doubtful, select(gt_u(sub(last, splat(doubt)), most), yes, doubtful));
            base = fadd(fadd(offset, zero), splat_float(fixed_base + turned));
            if (known) {
                const U ends[] = {fadd(numbers(p.low), shift), fadd(numbers(p.high), shift)};
                for (const U& x : ends) {
                    infinite = max_u(infinite, band(fmul(x, reciprocal), splat(magnitude_f32)));
                    const U sum = fmul_add(x, reciprocal, base);
                    unclear = select(either(gt(lowest, sum), near_tie(add(sum, sum))), yes, unclear);
                    unclear = select(gt(beyond, sum), unclear, yes);
                }
            }
        }
        const U fixed_offset = rule.item == 1 ? sub(to_int(offset), turn) : offset;
        offsets = bor(offsets, fixed_offset);
        const U fields[] = {
            factor, unless_zero(numbers(p.shift)), unless_zero(numbers(p.zero)), fixed_offset, reciprocal, base};
        for (size_t f = 0; f < box_fields; ++f)
            store(&tile.at[f][i], fields[f], false);
    }
    const auto none = [](U a) NC_INLINE_LAMBDA { return !any(gt_u(a, splat(0))); };
    tile.plain = none(offsets);
    const bool useful = divides && none(useless);
    tile.limit = useful && !tile.sums && !rule.nan_high ? smallest(limit) : 0;
    tile.corrects = !columns && none(doubtful);
    tile.finite = known && !any(gt(infinite, splat(0x49800000))); // 2^20
    tile.fixed = known && useful && none(unclear);
}

NC_INLINE TileVectors box_vectors(const BoxTile& tile, size_t box) {
    const auto number = [&](size_t field) NC_INLINE_LAMBDA { return splat(tile.at[field][box]); };
    return {{number(field_factor), number(field_shift), number(field_zero), number(field_offset)},
            number(field_reciprocal),
            number(field_base)};
}
NC_INLINE TileVectors item_vectors(const BoxTile& tile, size_t i) {
    const auto numbers = [&](size_t field) NC_INLINE_LAMBDA { return load(&tile.at[field][i]); };
    return {{numbers(field_factor), numbers(field_shift), numbers(field_zero), numbers(field_offset)},
            numbers(field_reciprocal),
            numbers(field_base)};
}

// Which box of a tile item i of a run is in: the first and one more for every 2^shift items, or a column each.
struct Boxes {
    const BoxTile& tile;
    size_t first, shift;
    bool columns;
};

template <int32_t Hub> NC_INLINE U step(U a) {
    if constexpr (Hub == hub_f16)
        return round_half(a);
    else if constexpr (Hub == hub_bf16)
        return select(is_nan(a), a, band(even_untruncated<NC_FORMAT_bf16, false>(a), splat(0xffff0000)));
    else
        return a;
}

template <int32_t Op, int32_t Hub> NC_INLINE U quantized_sum(U x, const BoxVectors& v) {
    const U shifted = step<Hub>(fadd(x, v.shift));
    if constexpr (Op == op_fma) {
        return fmul_add(shifted, v.factor, v.zero);
    } else {
        const U quotient = Op == op_divide ? fdiv(shifted, v.factor) : fmul(shifted, v.factor);
        return step<Hub>(fadd(step<Hub>(quotient), v.zero));
    }
}

// What all boxes of a tile have in common.
struct Common {
    const QuantizeRule& rule;
    ByteEnds ends;
    U limit;    // what a distance, or a product, may not exceed
    U flip;     // signed codes in fixed point are 128 more
    bool fixed; // see BoxTile
};
NC_INLINE Common common_of(const BoxTile& tile, const QuantizeRule& rule) {
    const float limit = tile.corrects && tile.limit > 0 ? 0x1p20f : tile.limit;
    return {rule, byte_ends(rule.low, rule.high, tile.plain), sub(splat_float(limit), splat(1)), // nothing is below 0
            splat(rule.low < 0 ? 0x80808080 : 0), tile.fixed};
}

} // namespace
} // namespace narrowcast
