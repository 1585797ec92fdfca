// The checks of quant_check.hpp that a dialect decides: which zero points there must be, and what they may be.
#include <string.h>

#include <algorithm>

#include "api/dialect.hpp"
#include "api/error.hpp"
#include "api/quant_check.hpp"
#include "api/walk.hpp"

namespace narrowcast {
namespace {

bool needs_zero_points(const QuantRequest& r) noexcept {
    const int32_t dialect = r.options.dialect;
    if (r.options.format != NC_FORMAT_INVALID || dialect == NC_DIALECT_llm_int8)
        return false;
    return dialect == NC_DIALECT_fbgemm || r.options.symmetric == 0 || r.options.is_signed == 0;
}

} // namespace

nc_status check_computed(const QuantRequest& r, nc_error* error) noexcept {
    if (!needs_zero_points(r))
        return NC_OK;
    if (r.zero.data == nullptr)
        return fail(error, NC_ERROR_ARGUMENT,
                    "zero_point is null; scales that are computed need it, unless the codes are signed and symmetric");
    if (dialect_of(r.options.dialect).zero == Zero::shift && r.zero.format == NC_FORMAT_i32)
        return fail(error, NC_ERROR_FORMAT, "zero_point.format is int32; the dialect %s computes float ones",
                    dialect_of(r.options.dialect).name);
    return NC_OK;
}

nc_status check_zero_points(const QuantRequest& r, nc_error* error) noexcept {
    if (r.zero.data == nullptr || r.zero.format != NC_FORMAT_i32 || r.n == 0)
        return NC_OK;
    const int32_t dialect = r.options.dialect;
    const bool among_codes = dialect == NC_DIALECT_onnx || dialect == NC_DIALECT_torch || dialect == NC_DIALECT_torchao;
    // float32 holds every integer below 2^24; what is added to a code of a byte may be 2^14.
    const bool added = dialect_of(dialect).zero != Zero::before && r.bits <= 8;
    const int32_t exact = added ? 1 << 14 : (1 << 24) - 1;
    const int32_t bits = r.bits, least = r.options.is_signed != 0 ? -(1 << (bits - 1)) : 0;
    const int32_t low = among_codes ? least : -exact, high = among_codes ? least + (1 << bits) - 1 : exact;
    Layout layout; // the zero points alone, in C order
    layout.x = r.zero.data;
    layout.out = nullptr;
    layout.logical = 0;
    layout.n = r.boxes;
    layout.count = 0;
    int64_t strides[NC_MAX_NDIM];
    strides_of(r.zero, r.box_shape, r.ndim, strides);
    for (int32_t i = 0; i < r.ndim; ++i)
        if (r.box_shape[i] != 1)
            layout.dims[layout.count++] = {r.box_shape[i], strides[i], 0, 0};
    if (layout.count == 0)
        layout.dims[layout.count++] = {1, 4, 0, 0};
    Reader reader(layout, r.zero.item, r.zero.swapped, 0);
    for (size_t at = 0, n = 0; at < r.boxes; at += n) {
        n = std::min<size_t>(r.boxes - at, tile_items);
        const auto* items = static_cast<const unsigned char*>(reader.next(n));
        int32_t smallest = high, largest = low;
        for (size_t i = 0; i < n; ++i) {
            int32_t value;
            memcpy(&value, items + i * sizeof value, sizeof value);
            smallest = std::min(smallest, value);
            largest = std::max(largest, value);
        }
        if (smallest < low || largest > high)
            return fail(error, NC_ERROR_ARGUMENT, "zero_point holds %d; in the dialect %s it must be %d to %d",
                        smallest < low ? smallest : largest, dialect_of(dialect).name, low, high);
    }
    return NC_OK;
}

} // namespace narrowcast
