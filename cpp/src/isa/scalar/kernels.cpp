// The portable table: plain loops over the codec, at the architecture's baseline. It is the reference of every sweep,
// so nothing here is clever.
#include <math.h>
#include <string.h>

#include <bit>
#include <type_traits>

#include "codec/codec.hpp"
#include "codec/packing.hpp"
#include "codec/philox.hpp"
#include "codec/quantize.hpp"
#include "dispatch/kernel_table.hpp"

namespace narrowcast {
namespace {

template <class T> T load(const void* from, size_t i) {
    T value;
    memcpy(&value, static_cast<const unsigned char*>(from) + i * sizeof(T), sizeof(T));
    return value;
}

template <class T> void store(void* to, size_t i, uint64_t code) {
    const T value = static_cast<T>(code);
    memcpy(static_cast<unsigned char*>(to) + i * sizeof(T), &value, sizeof(T));
}

template <int32_t Src, int32_t Dst, int32_t Rounding, int32_t Overflow>
void convert_all(const void* src, void* dst, size_t n, bool) noexcept {
    for (size_t i = 0; i < n; ++i)
        store<Storage<Dst>>(dst, i, convert<Src, Dst>(load<Storage<Src>>(src, i), Rounding, Overflow, 0));
}

template <int32_t Src, int32_t Dst>
void encode_all(const void* src, void* dst, size_t n, const EncodeMode& mode, bool) noexcept {
    for (size_t i = 0; i < n; ++i) {
        const uint32_t random = mode.rounding == NC_STOCHASTIC ? mode.random[i] : 0;
        store<Storage<Dst>>(dst, i,
                            convert<Src, Dst>(load<Storage<Src>>(src, i), mode.rounding, mode.overflow, random));
    }
}

void census(const uint32_t* f32, size_t n, const CensusRule& rule, Census& sum) noexcept {
    for (size_t i = 0; i < n; ++i) {
        const uint32_t bits = load<uint32_t>(f32, i);
        const uint32_t magnitude = bits & 0x7fffffff;
        const bool negative = bits != magnitude;
        if (magnitude > 0x7f800000) {
            sum.nan += 1;
            continue;
        }
        sum.negative += negative && magnitude != 0 ? 1 : 0;
        sum.zero += magnitude == 0 ? 1 : 0;
        sum.zeroed += magnitude != 0 && magnitude < rule.zero_below ? 1 : 0;
        sum.infinite += magnitude == 0x7f800000 ? 1 : 0;
        sum.overflow +=
            magnitude < 0x7f800000 && magnitude >= (negative ? rule.overflow_negative : rule.overflow_positive) ? 1 : 0;
    }
}

void error(const uint32_t* x_f32, const uint32_t* y_f32, size_t n, const CensusRule& rule,
           nc_error_sums& sums) noexcept {
    constexpr uint32_t inf = 0x7f800000;
    for (size_t i = 0; i < n; ++i) {
        const uint32_t x_bits = load<uint32_t>(x_f32, i), x_magnitude = x_bits & 0x7fffffff;
        const uint32_t y_magnitude = load<uint32_t>(y_f32, i) & 0x7fffffff;
        const uint32_t limit = x_bits != x_magnitude ? rule.overflow_negative : rule.overflow_positive;
        sums.overflowed += x_magnitude < inf && x_magnitude >= limit ? 1 : 0;
        sums.became_zero += x_magnitude != 0 && x_magnitude <= inf && y_magnitude == 0 ? 1 : 0;
        sums.became_nan += x_magnitude <= inf && y_magnitude > inf ? 1 : 0;
        if (x_magnitude >= inf || y_magnitude >= inf)
            continue;
        const double x = load<float>(x_f32, i), difference = fabs(x - double{load<float>(y_f32, i)});
        sums.finite += 1;
        sums.sum_x2 += x * x;
        sums.sum_error2 += difference * difference;
        if (sums.squares_only != 0)
            continue;
        sums.sum_error += difference;
        sums.max_error = difference > sums.max_error ? difference : sums.max_error;
    }
    sums.count += n;
}

void philox(uint64_t seed, uint64_t first_block, uint32_t* words, size_t blocks) noexcept {
    for (size_t i = 0; i < blocks; ++i) {
        const PhiloxBlock block = philox_block(seed, first_block + i);
        memcpy(words + 4 * i, block.word, sizeof block.word);
    }
}

template <int Bits> void pack_all(const void* codes, void* packed, size_t n, bool) noexcept {
    pack_stream(static_cast<const uint8_t*>(codes), static_cast<uint8_t*>(packed), n, Bits);
}

template <int Bits> void unpack_all(const void* packed, void* codes, size_t n, bool is_signed, bool) noexcept {
    unpack_stream(static_cast<const uint8_t*>(packed), static_cast<uint8_t*>(codes), n, Bits, is_signed);
}

CodeBits code_bits(const void* codes, size_t n) noexcept {
    const uint8_t* from = static_cast<const uint8_t*>(codes);
    unsigned set = 0, folded = 0;
    for (size_t i = 0; i < n; ++i) {
        set |= from[i];
        folded |= from[i] < 0x80 ? from[i] : from[i] ^ 0xffu;
    }
    return {static_cast<uint8_t>(set), static_cast<uint8_t>(folded)};
}

// The hardware multiplies numbers only: what it makes of a NaN differs between architectures.
template <int32_t Format> bool unscale(const void* src, void* dst, size_t n, float inv_scale, bool) noexcept {
    constexpr int32_t wide = Format == NC_FORMAT_f64 ? NC_FORMAT_f64 : NC_FORMAT_f32;
    using Float = std::conditional_t<Format == NC_FORMAT_f64, double, float>;
    constexpr Facts f = facts(Format);
    const bool multiply = inv_scale != 1;
    bool found = false;
    for (size_t i = 0; i < n; ++i) {
        uint64_t code = load<Storage<Format>>(src, i);
        found = found || (code & f.magnitude_mask) >= f.inf;
        if (multiply) {
            uint64_t bits = convert<Format, wide>(code, NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, 0);
            if ((bits & facts(wide).magnitude_mask) > facts(wide).inf)
                bits |= facts(wide).quiet_nan;
            else
                bits = std::bit_cast<Storage<wide>>(
                    static_cast<Float>(std::bit_cast<Float>(static_cast<Storage<wide>>(bits)) * Float{inv_scale}));
            code = convert<wide, Format>(bits, NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, 0);
        }
        store<Storage<Format>>(dst, i, code);
    }
    return found;
}

const unsigned char* row_at(const void* base, ptrdiff_t step, size_t row) {
    return static_cast<const unsigned char*>(base) + static_cast<ptrdiff_t>(row) * step;
}
unsigned char* row_at(void* base, ptrdiff_t step, size_t row) {
    return static_cast<unsigned char*>(base) + static_cast<ptrdiff_t>(row) * step;
}

template <int32_t Op, int32_t Hub, int32_t Direction>
void quantize(const void* x_f32, void* codes, const Rectangle& r, const QuantizeParams& params,
              const QuantizeRule& rule, bool) noexcept {
    for (size_t i = 0; i < r.rows; ++i) {
        const unsigned char* const from = row_at(x_f32, r.src_step, i);
        unsigned char* const to = row_at(codes, r.dst_step, i);
        for (size_t j = 0; j < r.cols; ++j) {
            const size_t at = Direction == along_rows ? i : j;
            const auto number = [at](const float* numbers) { return numbers != nullptr ? numbers[at] : 0; };
            const QuantizeEntry entry{params.factor[at], number(params.shift), number(params.zero),
                                      number(params.offset)};
            const float sum = quantized_sum<Op, Hub>(load<float>(from, j), entry);
            if (rule.item == 4) {
                store<uint32_t>(to, j, std::bit_cast<uint32_t>(one_nan(sum)));
                continue;
            }
            const auto code = static_cast<uint32_t>(quantized_code<Hub>(sum, entry.offset, rule));
            if (rule.item == 1)
                store<uint8_t>(to, j, code);
            else
                store<uint16_t>(to, j, code);
        }
    }
}

template <int32_t Kind> float load_integer(const void* from, size_t i) {
    if constexpr (Kind == codes_f32)
        return load<float>(from, i);
    else if constexpr (Kind == codes_i8)
        return load<int8_t>(from, i);
    else
        return load<uint8_t>(from, i);
}

template <int32_t Kind, int32_t Hub, int32_t Direction>
void dequantize(const void* codes, void* out, const Rectangle& r, const DequantizeParams& params, bool) noexcept {
    for (size_t i = 0; i < r.rows; ++i) {
        const unsigned char* const from = row_at(codes, r.src_step, i);
        unsigned char* const to = row_at(out, r.dst_step, i);
        for (size_t j = 0; j < r.cols; ++j) {
            const size_t at = Direction == along_rows ? i : j;
            const float* const bias = params.bias != nullptr ? params.bias + at : nullptr;
            const float value =
                dequantized(load_integer<Kind>(from, j), params.scale[at], params.zero[at], bias, params.fused);
            store<Storage<hub_format<Hub>()>>(to, j, hub_code<Hub>(value));
        }
    }
}

template <bool IsSigned, int32_t Hub>
void dequantize_nibbles(const void* codes, void* out, const Rectangle& r, const DequantizeParams& params,
                        bool) noexcept {
    for (size_t i = 0; i < r.rows; ++i) {
        const unsigned char* const from = row_at(codes, r.src_step, i);
        unsigned char* const to = row_at(out, r.dst_step, i);
        for (size_t j = 0; j < r.cols; ++j) {
            const int code = load<uint8_t>(from, j / 2) >> j % 2 * 4 & 0xf;
            const auto number = static_cast<float>(IsSigned && code >= 8 ? code - 16 : code);
            const float* const bias = params.bias != nullptr ? params.bias + i : nullptr;
            const float value = dequantized(number, params.scale[i], params.zero[i], bias, params.fused);
            store<Storage<hub_format<Hub>()>>(to, j, hub_code<Hub>(value));
        }
    }
}

template <int32_t Direction> void range(const void* x_f32, const Rectangle& r, float* low, float* high) noexcept {
    for (size_t i = 0; i < r.rows; ++i)
        for (size_t j = 0; j < r.cols; ++j) {
            const float x = load<float>(row_at(x_f32, r.src_step, i), j) + 0.0f; // -0 becomes +0
            const size_t at = Direction == along_rows ? i : j;
            if (!counts_in_range(x))
                continue;
            low[at] = x < low[at] ? x : low[at];
            high[at] = x > high[at] ? x : high[at];
        }
}

bool span(const void* x_f32, const Rectangle& r, float* low, float* high) noexcept {
    bool finite = true;
    for (size_t i = 0; i < r.rows; ++i)
        for (size_t j = 0; j < r.cols; ++j) {
            const float x = load<float>(row_at(x_f32, r.src_step, i), j);
            finite = finite && counts_in_range(x);
            low[i] = x < low[i] ? x : low[i];
            high[i] = x > high[i] ? x : high[i];
        }
    return finite;
}

template <class T> void sum_row(const unsigned char* codes, size_t n, int32_t& sum) {
    auto total = static_cast<uint32_t>(sum); // wraps
    for (size_t i = 0; i < n; ++i)
        total += static_cast<uint32_t>(load<T>(codes, i));
    sum = static_cast<int32_t>(total);
}

void code_sums(const void* codes, const Rectangle& r, int32_t item, bool is_signed, int32_t* sums) noexcept {
    for (size_t i = 0; i < r.rows; ++i) {
        const unsigned char* const row = row_at(codes, r.src_step, i);
        if (item == 1)
            is_signed ? sum_row<int8_t>(row, r.cols, sums[i]) : sum_row<uint8_t>(row, r.cols, sums[i]);
        else
            is_signed ? sum_row<int16_t>(row, r.cols, sums[i]) : sum_row<uint16_t>(row, r.cols, sums[i]);
    }
}

consteval bool is_byte_float(int32_t format) {
    const Row r = row(format);
    return r.is_float && r.storage_bytes == 1 && r.specials != Specials::scale;
}

template <int32_t Src> constexpr void fill_source(KernelTable& table) {
    constexpr int32_t even = NC_NEAREST_EVEN, ieee = NC_OVERFLOW_IEEE;
    if constexpr (Src != NC_FORMAT_f32 && Src != NC_FORMAT_tf32)
        table.widen[Src] = &convert_all < Src, NC_FORMAT_f32, is_wide(Src) ? round_to_odd : even, ieee > ;
    if constexpr (is_byte_float(Src)) {
        table.widen16[Src][hub_f16] = &convert_all<Src, NC_FORMAT_f16, even, ieee>;
        table.widen16[Src][hub_bf16] = &convert_all<Src, NC_FORMAT_bf16, even, ieee>;
    }
    if constexpr (is_wide(Src))
        table.to_f32[Src] = &encode_all<Src, NC_FORMAT_f32>;
    if constexpr ((is_wide(Src) && Src != NC_FORMAT_f64) || Src == NC_FORMAT_f32)
        table.to_f64[Src] = &encode_all<Src, NC_FORMAT_f64>;
}

template <int32_t Hub, int32_t HubFormat, int32_t Dst> constexpr void fill_direct(KernelTable& table) {
    if constexpr (HubFormat != Dst) {
        table.direct[Hub][Dst][0] = &convert_all<HubFormat, Dst, NC_NEAREST_EVEN, NC_OVERFLOW_IEEE>;
        table.direct[Hub][Dst][1] = &convert_all<HubFormat, Dst, NC_NEAREST_EVEN, NC_OVERFLOW_SATURATE>;
    }
}

template <int32_t Dst> constexpr void fill_target(KernelTable& table) {
    if constexpr (is_narrow(Dst)) {
        fill_direct<hub_f32, NC_FORMAT_f32, Dst>(table);
        fill_direct<hub_f16, NC_FORMAT_f16, Dst>(table);
        fill_direct<hub_bf16, NC_FORMAT_bf16, Dst>(table);
        table.encode[Dst] = &encode_all<NC_FORMAT_f32, Dst>;
        table.stochastic64[Dst] = &encode_all<NC_FORMAT_f64, Dst>;
    }
}

template <int Bits> constexpr void fill_width(KernelTable& table) {
    table.pack[Bits] = &pack_all<Bits>;
    table.unpack[Bits] = &unpack_all<Bits>;
    if constexpr (Bits > 1)
        fill_width<Bits - 1>(table);
}

template <int32_t Op, int32_t Hub> constexpr void fill_quantize(KernelTable& table) {
    table.quantize[Op][Hub][along_rows] = &quantize<Op, Hub, along_rows>;
    table.quantize[Op][Hub][along_columns] = &quantize<Op, Hub, along_columns>;
    if constexpr (Op != op_fma && Hub + 1 < hub_count)
        fill_quantize<Op, Hub + 1>(table);
    else if constexpr (Op + 1 < op_count)
        fill_quantize<Op + 1, hub_f32>(table);
}

template <int32_t Kind, int32_t Hub> constexpr void fill_dequantize(KernelTable& table) {
    table.dequantize[Kind][Hub][along_rows] = &dequantize<Kind, Hub, along_rows>;
    table.dequantize[Kind][Hub][along_columns] = &dequantize<Kind, Hub, along_columns>;
    if constexpr (Kind == codes_f32) {
        table.dequantize[codes_i4][Hub][along_rows] = &dequantize_nibbles<true, Hub>;
        table.dequantize[codes_u4][Hub][along_rows] = &dequantize_nibbles<false, Hub>;
    }
    if constexpr (Hub + 1 < hub_count)
        fill_dequantize<Kind, Hub + 1>(table);
    else if constexpr (Kind != codes_f32)
        fill_dequantize<Kind + 1, hub_f32>(table);
}

constexpr KernelTable make_table() {
    KernelTable table{};
    table.name = "scalar";
    table.flags_present = true;
#define NC_FLOAT(number, ...)                                                                                          \
    fill_source<number>(table);                                                                                        \
    fill_target<number>(table);
#define NC_INT(number, ...) fill_source<number>(table);
#include "narrowcast/formats.def"
    table.census = &census;
    table.error = &error;
    table.philox = &philox;
    fill_width<most_code_bits>(table);
    table.code_bits = &code_bits;
    fill_quantize<op_divide, hub_f32>(table);
    fill_dequantize<codes_i8, hub_f32>(table);
    table.range[along_rows] = &range<along_rows>;
    table.range[along_columns] = &range<along_columns>;
    table.span = &span;
    table.code_sums = &code_sums;
    table.unscale[NC_FORMAT_f64] = &unscale<NC_FORMAT_f64>;
    table.unscale[NC_FORMAT_f32] = &unscale<NC_FORMAT_f32>;
    table.unscale[NC_FORMAT_f16] = &unscale<NC_FORMAT_f16>;
    table.unscale[NC_FORMAT_bf16] = &unscale<NC_FORMAT_bf16>;
    return table;
}

} // namespace

extern const KernelTable table_scalar;
constinit const KernelTable table_scalar = make_table();

} // namespace narrowcast
