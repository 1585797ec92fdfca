// Every step is a kernel of the instruction set or a move. The loops over elements here: a float64 that is beyond
// float32 counts as the largest value, if there is one; the bits above a code count for nothing.
#include "api/tiles.hpp"

#include <string.h>

#include <algorithm>
#include <bit>
#include <limits>

#include "api/format_table.hpp"
#include "api/walk.hpp"

namespace narrowcast {
namespace {

void narrow_doubles(const unsigned char* from, float* to, size_t n) noexcept {
    constexpr double largest = std::numeric_limits<float>::max(), infinite = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < n; ++i) {
        double value;
        memcpy(&value, from + i * sizeof value, sizeof value);
        const bool finite = value < infinite && value > -infinite;
        to[i] = static_cast<float>(finite ? std::clamp(value, -largest, largest) : value);
    }
}

bool any_infinite(const float* values, size_t n) noexcept {
    uint32_t found = 0;
    for (size_t i = 0; i < n; ++i)
        found |= (std::bit_cast<uint32_t>(values[i]) & 0x7fffffff) == 0x7f800000 ? 1u : 0u;
    return found != 0;
}

// Copies a rectangle that is not dense into a dense one, or the other way round.
void gather(const View& view, unsigned char* to, size_t item, bool swapped) noexcept {
    const auto bytes = static_cast<int64_t>(item);
    move_block(
        {to, view.data, view.rows, view.cols, bytes * static_cast<int64_t>(view.cols), bytes, view.row, view.col}, item,
        swapped);
}

void scatter(const View& view, const unsigned char* from, size_t item, bool swapped) noexcept {
    const auto bytes = static_cast<int64_t>(item);
    move_block(
        {view.data, from, view.rows, view.cols, view.row, view.col, bytes * static_cast<int64_t>(view.cols), bytes},
        item, swapped);
}

// A rectangle cut in two, between rows if there are several.
struct Halves {
    View first, second;
};
Halves halves_of(const View& view) noexcept {
    Halves halves{view, view};
    if (view.rows > 1) {
        halves.first.rows = view.rows / 2;
        halves.second.rows = view.rows - halves.first.rows;
        halves.second.data += static_cast<int64_t>(halves.first.rows) * view.row;
    } else {
        halves.first.cols = view.cols / 2;
        halves.second.cols = view.cols - halves.first.cols;
        halves.second.data += static_cast<int64_t>(halves.first.cols) * view.col;
    }
    return halves;
}

// Whether the rectangle is one run of elements.
bool is_dense(const View& view, size_t item) noexcept {
    const auto bytes = static_cast<int64_t>(item);
    return view.col == bytes && (view.rows == 1 || view.row == bytes * static_cast<int64_t>(view.cols));
}

} // namespace

// --- real numbers --------------------------------------------------------------------------------------------------

Reals::Reals(const KernelTable& table, const Operand& operand, int32_t rounded) noexcept
    : table_(table), format_(operand.format), rounded_(hub_formats[rounded] == operand.format ? hub_f32 : rounded),
      hub_(std::max(format_of(operand.format).hub, 0)), item_(operand.item), swapped_(operand.swapped),
      direct_(!operand.swapped) {}

Rows Reals::read(const View& view, unsigned char* raw, float* tile) const noexcept {
    if (direct_f32(view.col))
        return {view.data, static_cast<ptrdiff_t>(view.row)};
    const auto step = static_cast<ptrdiff_t>(view.cols * sizeof(float));
    auto* const floats = reinterpret_cast<unsigned char*>(tile);
    const size_t n = view.rows * view.cols;
    const unsigned char* from = view.data;
    if (swapped_ || !is_dense(view, item_)) {
        if (n * item_ > sizeof Tiles::raw) {
            const auto [first, second] = halves_of(view);
            read(first, raw, tile);
            read(second, raw, tile + first.rows * first.cols);
            return {floats, step};
        }
        unsigned char* const to = format_ == NC_FORMAT_f32 ? floats : raw;
        gather(view, to, item_, swapped_);
        from = to;
    }
    if (format_ == NC_FORMAT_f64) {
        table_.to_f32[NC_FORMAT_f64](from, tile, n, {NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, nullptr}, false);
        if (any_infinite(tile, n)) // perhaps it was finite
            narrow_doubles(from, tile, n);
    } else if (format_ != NC_FORMAT_f32)
        table_.widen[format_](from, tile, n, false);
    if (rounded_ == hub_f32)
        return {format_ == NC_FORMAT_f32 ? const_cast<unsigned char*>(from) : floats, step};
    const void* const exact = format_ == NC_FORMAT_f32 ? static_cast<const void*>(from) : tile;
    table_.direct[hub_f32][hub_formats[rounded_]][0](exact, raw, n, false);
    table_.widen[hub_formats[rounded_]](raw, tile, n, false);
    return {floats, step};
}

bool Reals::direct_hub(int64_t col) const noexcept {
    return direct_ && hub_formats[hub_] == format_ && col == static_cast<int64_t>(item_);
}

void Reals::write(const View& view, const void* tile, unsigned char* raw, bool stream) const noexcept {
    const size_t n = view.rows * view.cols;
    if (hub_formats[hub_] == format_) {
        scatter(view, static_cast<const unsigned char*>(tile), item_, swapped_);
        return;
    }
    const bool straight = direct_ && is_dense(view, item_);
    if (!straight && n * item_ > sizeof Tiles::raw) {
        const auto [first, second] = halves_of(view);
        write(first, tile, raw, false);
        write(second, static_cast<const float*>(tile) + first.rows * first.cols, raw, false);
        return;
    }
    unsigned char* const to = straight ? view.data : raw;
    if (format_ == NC_FORMAT_f64)
        table_.to_f64[NC_FORMAT_f32](tile, to, n, {NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, nullptr}, straight && stream);
    else
        table_.direct[hub_f32][format_][0](tile, to, n, straight && stream);
    if (!straight)
        scatter(view, raw, item_, swapped_);
}

// --- codes ---------------------------------------------------------------------------------------------------------

Codes::Codes(const QuantRequest& request) noexcept
    : table_(*request.table), bits_(request.bits), float_format_(request.options.format),
      item_(request.bits > 8 ? 2 : 1), packed_(request.packed && request.codes.data != nullptr),
      swapped_(request.codes.swapped), is_signed_(request.options.is_signed != 0) {}

void Codes::write(const View& view, const unsigned char* tile, bool stream) const noexcept {
    if (!packed_) {
        scatter(view, tile, item_, swapped_);
        return;
    }
    const auto row_bits = static_cast<int64_t>(view.cols) * bits_;
    if (view.rows == 1 || view.row == row_bits) {
        table_.pack[bits_](tile, view.data, view.rows * view.cols, stream);
        return;
    }
    for (size_t row = 0; row < view.rows; ++row)
        table_.pack[bits_](tile + row * view.cols, view.data + static_cast<int64_t>(row) * view.row / 8, view.cols,
                           false);
}

Rows Codes::normal(unsigned char* codes, size_t n, size_t cols, unsigned char* tile) const noexcept {
    if (is_float()) {
        table_.widen[float_format_](codes, tile, n, false);
        return {tile, static_cast<ptrdiff_t>(cols * sizeof(float))};
    }
    const unsigned mask = (1u << bits_) - 1, sign = is_signed_ ? 1u << (bits_ - 1) : 0;
    if (item_ == 1) {
        if (bits_ == 8)
            return {codes, static_cast<ptrdiff_t>(cols)};
        for (size_t i = 0; i < n; ++i)
            tile[i] = static_cast<unsigned char>(((codes[i] & mask) ^ sign) - sign);
        return {tile, static_cast<ptrdiff_t>(cols)};
    }
    for (size_t i = 0; i < n; ++i) {
        uint16_t code;
        memcpy(&code, codes + i * sizeof code, sizeof code);
        const auto value = static_cast<float>(static_cast<int32_t>((code & mask) ^ sign) - static_cast<int32_t>(sign));
        memcpy(tile + i * sizeof value, &value, sizeof value);
    }
    return {tile, static_cast<ptrdiff_t>(cols * sizeof(float))};
}

Rows Codes::read(const View& view, unsigned char* raw, unsigned char* tile) const noexcept {
    if (direct_read(view.col))
        return {view.data, static_cast<ptrdiff_t>(view.row)};
    const size_t n = view.rows * view.cols;
    if (!packed_) {
        unsigned char* from = view.data;
        if (swapped_ || !is_dense(view, item_)) {
            gather(view, raw, item_, swapped_);
            from = raw;
        }
        return normal(from, n, view.cols, tile);
    }
    const bool extend = is_signed_ && !is_float();
    unsigned char* const to = is_float() ? raw : tile;
    if (view.rows == 1 || view.row == static_cast<int64_t>(view.cols) * bits_)
        table_.unpack[bits_](view.data, to, n, extend, false);
    else
        for (size_t row = 0; row < view.rows; ++row)
            table_.unpack[bits_](view.data + static_cast<int64_t>(row) * view.row / 8, to + row * view.cols, view.cols,
                                 extend, false);
    return is_float() ? normal(to, n, view.cols, tile) : Rows{to, static_cast<ptrdiff_t>(view.cols)};
}

} // namespace narrowcast
