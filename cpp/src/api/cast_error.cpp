// What a cast lost: nc_cast_error, and the comparison that nc_cast uses when it is asked for it. Tile by tile the
// values of x and of out, side by side. Where float32 holds both, the instruction set's kernel compares them; float64
// and wide integers are compared here, in doubles.
#include "api/cast_error.hpp"

#include <string.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "api/check.hpp"
#include "api/error.hpp"
#include "api/format_table.hpp"
#include "api/fp_guard.hpp"
#include "api/isa.hpp"
#include "api/layout.hpp"
#include "api/walk.hpp"
#include "codec/reference.hpp"

namespace narrowcast {
namespace {

bool is_float32(int32_t format) noexcept { return format == NC_FORMAT_f32 || format == NC_FORMAT_tf32; }

// n elements as float32: where they are, or in the tile.
const uint32_t* as_float32(const KernelTable& table, int32_t format, const void* elements, size_t n,
                           uint32_t* tile) noexcept {
    if (is_float32(format))
        return static_cast<const uint32_t*>(elements);
    table.widen[format](elements, tile, n, false);
    return tile;
}

// The smallest float32 magnitude that is no less than the limit, Inf if there is none.
uint32_t float32_limit(double limit) noexcept {
    constexpr uint32_t inf = 0x7f800000;
    if (limit > 0x1.fffffep127)
        return inf;
    const float nearest = static_cast<float>(limit);
    return std::bit_cast<uint32_t>(nearest) + (double{nearest} < limit ? 1 : 0);
}

// A value as the sum of two doubles, the second of them 0 unless x is an integer of 64 bits: then both are exact.
struct Exact {
    double high, low;
};

template <class T> T load(const void* elements, size_t i) noexcept {
    T value;
    memcpy(&value, static_cast<const unsigned char*>(elements) + i * sizeof value, sizeof value);
    return value;
}

Exact exact_value(int32_t format, const void* elements, size_t i) noexcept {
    constexpr double two32 = 0x1p32;
    switch (format) {
    case NC_FORMAT_f64: return {load<double>(elements, i), 0};
    case NC_FORMAT_i32: return {static_cast<double>(load<int32_t>(elements, i)), 0};
    case NC_FORMAT_u32: return {static_cast<double>(load<uint32_t>(elements, i)), 0};
    case NC_FORMAT_i64: {
        const auto value = load<int64_t>(elements, i);
        return {static_cast<double>(value >> 32) * two32, static_cast<double>(value & 0xffffffff)};
    }
    case NC_FORMAT_u64: {
        const auto value = load<uint64_t>(elements, i);
        return {static_cast<double>(value >> 32) * two32, static_cast<double>(value & 0xffffffff)};
    }
    default: return {double{load<float>(elements, i)}, 0}; // widened before
    }
}

void add_exact(Exact x, double y, const OverflowLimits& limits, nc_error_sums& sums) noexcept {
    const double value = x.high + x.low, magnitude = std::fabs(value);
    sums.became_zero += magnitude > 0 && y == 0 ? 1 : 0;
    sums.became_nan += !std::isnan(value) && std::isnan(y) ? 1 : 0;
    if (!std::isfinite(value))
        return;
    sums.overflowed += magnitude >= (value < 0 ? limits.negative : limits.positive) ? 1 : 0;
    if (!std::isfinite(y))
        return;
    const double error = std::fabs(x.high - y + x.low); // near one another, so the first difference is exact
    sums.finite += 1;
    sums.sum_x2 += value * value;
    sums.sum_error2 += error * error;
    if (sums.squares_only != 0)
        return;
    sums.sum_error += error;
    sums.max_error = std::max(sums.max_error, error);
}

// The same nest for a Reader of out.
Layout with_out_as_source(Layout layout) noexcept {
    layout.x = layout.out;
    for (int32_t i = 0; i < layout.count; ++i)
        layout.dims[i].x = layout.dims[i].out;
    return layout;
}

} // namespace

Comparison::Comparison(const KernelTable& table, int32_t src, int32_t dst, int32_t rounding) noexcept
    : table_(table), limits_(overflow_limits(dst, rounding)),
      rule_{float32_limit(limits_.positive), float32_limit(limits_.negative), 0}, src_(src), dst_(dst) {}

void Comparison::add(const void* x, const void* out, size_t n, nc_error_sums& sums) const noexcept {
    const FpGuard guard(NC_NEAREST_EVEN);
    const bool wide_x = format_of(src_).wide, wide_out = dst_ == NC_FORMAT_f64;
    alignas(64) uint32_t x_tile[comparison_items], out_tile[comparison_items];
    if (!wide_x)
        x = as_float32(table_, src_, x, n, x_tile);
    if (!wide_out)
        out = as_float32(table_, dst_, out, n, out_tile);
    if (!wide_x && !wide_out) {
        table_.error(static_cast<const uint32_t*>(x), static_cast<const uint32_t*>(out), n, rule_, sums);
        return;
    }
    for (size_t i = 0; i < n; ++i)
        add_exact(exact_value(src_, x, i), wide_out ? load<double>(out, i) : double{load<float>(out, i)}, limits_,
                  sums);
    sums.count += n;
}

void compare(const KernelTable& table, const Request& request, nc_error_sums& to) noexcept {
    const Comparison comparison(table, request.x.format, request.out.format, request.options.rounding);
    Layout layout;
    c_order(request, layout);
    merge(layout);
    const Layout out_layout = with_out_as_source(layout);
    Reader x_reader(layout, request.x.item, request.x.swapped, 0);
    Reader out_reader(out_layout, request.out.item, request.out.swapped, 0);

    nc_error_sums sums = empty_sums(to);
    for (size_t at = 0, n = 0; at < request.n; at += n) {
        n = std::min(request.n - at, comparison_items);
        if (n > std::min(x_reader.direct(), out_reader.direct()))
            n = std::min<size_t>(n, tile_items);
        const void* x = x_reader.next(n);
        comparison.add(x, out_reader.next(n), n, sums);
    }
    add_sums(sums, to);
}

nc_status check_sums(const nc_error_sums* sums, nc_error* error) noexcept {
    if (sums->size != sizeof *sums)
        return fail(
            error, NC_ERROR_ARGUMENT,
            "the size of the nc_error_sums is %zu; it must be sizeof(nc_error_sums), which is %zu in this library",
            sums->size, sizeof *sums);
    if (sums->squares_only < 0 || sums->squares_only > 1)
        return fail(error, NC_ERROR_ARGUMENT, "squares_only of the nc_error_sums is %d; it must be 0 or 1",
                    sums->squares_only);
    if (sums->reserved != 0)
        return fail(error, NC_ERROR_ARGUMENT, "reserved of the nc_error_sums is %d; it must be 0", sums->reserved);
    return NC_OK;
}

nc_error_sums empty_sums(const nc_error_sums& like) noexcept {
    nc_error_sums sums{};
    sums.squares_only = like.squares_only;
    return sums;
}

void add_sums(const nc_error_sums& found, nc_error_sums& sums) noexcept {
    sums.count += found.count;
    sums.finite += found.finite;
    sums.sum_x2 += found.sum_x2;
    sums.sum_error2 += found.sum_error2;
    sums.sum_error += found.sum_error;
    sums.max_error = std::max(sums.max_error, found.max_error);
    sums.overflowed += found.overflowed;
    sums.became_zero += found.became_zero;
    sums.became_nan += found.became_nan;
}

} // namespace narrowcast

nc_status nc_cast_error(const nc_array* x, const nc_array* out, const nc_cast_options* options, nc_error_sums* sums,
                        nc_error* error) noexcept {
    using namespace narrowcast;
    if (!ready(error))
        return NC_ERROR_ARGUMENT;
    if (sums == nullptr)
        return fail(error, NC_ERROR_ARGUMENT, "sums is null; it must point to an nc_error_sums");
    if (const nc_status status = check_sums(sums, error))
        return status;
    Request request;
    if (const nc_status status = check_request(x, out, options, error, request))
        return status;
    const KernelTable* table = nullptr;
    if (const nc_status status = choose_table(request.options.isa, error, table))
        return status;
    if (request.n == 0)
        return NC_OK;
    compare(*table, request, *sums);
    return NC_OK;
}
