// The order is: options, each array by itself, the pair. Sizes are computed with overflow checks; after this file no
// arithmetic on extents, strides or addresses can overflow.
#include "api/check.hpp"

#include <algorithm>
#include <limits>

#include "api/error.hpp"
#include "api/format_table.hpp"
#include "api/options.hpp"

namespace narrowcast {
namespace {

// No array reaches over more bytes than this; half of int64_t, so that stride * extent cannot overflow either.
constexpr uint64_t most_bytes = std::min<uint64_t>(static_cast<uint64_t>(std::numeric_limits<ptrdiff_t>::max()),
                                                   std::numeric_limits<int64_t>::max() / 2);

// Whether a * b <= most_bytes, for a, b <= 2^63.
bool multiply(uint64_t a, uint64_t b, uint64_t& product) noexcept {
    constexpr uint64_t small = uint64_t{1} << 31;
    if ((a > small || b > small) && a != 0 && b > most_bytes / a)
        return false;
    product = a * b;
    return product <= most_bytes;
}

nc_status read_options(const nc_cast_options* given, nc_error* error, nc_cast_options& options) noexcept {
    using O = nc_cast_options;
    options = {sizeof options, NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, 0, 0, 1, 0, nullptr, nullptr};
    if (const nc_status status =
            copy_options(given, "options", "nc_cast_options", error, options, &O::rounding, &O::overflow, &O::seed,
                         &O::offset, &O::threads, &O::reserved, &O::isa, &O::lost))
        return status;
    if (options.rounding < NC_NEAREST_EVEN || options.rounding > NC_STOCHASTIC)
        return fail(error, NC_ERROR_ARGUMENT, "options.rounding is %d; it must be an nc_rounding, 0 to %d",
                    options.rounding, NC_STOCHASTIC);
    if (options.overflow < NC_OVERFLOW_IEEE || options.overflow > NC_OVERFLOW_RAISE)
        return fail(error, NC_ERROR_ARGUMENT, "options.overflow is %d; it must be an nc_overflow, 0 to %d",
                    options.overflow, NC_OVERFLOW_RAISE);
    if (options.overflow == NC_OVERFLOW_RAISE && options.rounding == NC_STOCHASTIC)
        return fail(error, NC_ERROR_ARGUMENT,
                    "options.overflow is raise and options.rounding stochastic; raise needs a deterministic rounding");
    if (options.threads < 0)
        return fail(error, NC_ERROR_ARGUMENT, "options.threads is %d; it must be 1 or more, or 0 for one per core",
                    options.threads);
    if (options.reserved != 0)
        return fail(error, NC_ERROR_ARGUMENT, "options.reserved is %d; it must be 0", options.reserved);
    return NC_OK;
}

nc_status check_pair(const nc_array& x, const nc_array& out, nc_error* error) noexcept {
    if (x.ndim != out.ndim)
        return fail(error, NC_ERROR_ARGUMENT, "out.ndim is %d but x.ndim is %d; the shapes must be equal", out.ndim,
                    x.ndim);
    for (int32_t i = 0; i < x.ndim; ++i)
        if (x.shape[i] != out.shape[i])
            return fail(error, NC_ERROR_ARGUMENT,
                        "out.shape[%d] is %lld but x.shape[%d] is %lld; the shapes must be equal", i,
                        static_cast<long long>(out.shape[i]), i, static_cast<long long>(x.shape[i]));
    if (!format_of(out.format).row.is_float)
        return fail(error, NC_ERROR_FORMAT,
                    "out.format is %s; a cast gives floats only, integers are reached by quantizing",
                    format_of(out.format).name);
    if (x.format == NC_FORMAT_tf32)
        return fail(error, NC_ERROR_FORMAT,
                    "x.format is %s, which is a target only; its codes are float32 values, so pass float32",
                    format_of(x.format).name);
    return NC_OK;
}

bool c_contiguous(const nc_array& array, size_t item) noexcept {
    if (array.strides == nullptr)
        return true;
    int64_t expected = static_cast<int64_t>(item);
    for (int32_t i = array.ndim - 1; i >= 0; --i) {
        if (array.shape[i] != 1 && array.strides[i] != expected)
            return false;
        expected *= array.shape[i];
    }
    return true;
}

// The bytes that the elements lie in, as addresses. Needs n > 0 and n * item within bounds.
bool find_range(const nc_array& array, uint64_t n, Operand& operand) noexcept {
    uint64_t below = 0, above = operand.item; // distances from data
    if (operand.strides == nullptr) {
        above = n * operand.item;
    } else {
        for (int32_t i = 0; i < array.ndim; ++i) {
            const int64_t stride = array.strides[i];
            uint64_t reach = 0;
            if (!multiply(magnitude(stride), static_cast<uint64_t>(array.shape[i] - 1), reach))
                return false;
            (stride < 0 ? below : above) += reach;
            if (below > most_bytes || above > most_bytes || below + above > most_bytes)
                return false;
        }
    }
    const uintptr_t data = reinterpret_cast<uintptr_t>(operand.data);
    if (data < below || std::numeric_limits<uintptr_t>::max() - data < above)
        return false;
    operand.low = data - static_cast<uintptr_t>(below);
    operand.high = data + static_cast<uintptr_t>(above);
    return true;
}

} // namespace

nc_status check_array(const nc_array& array, const char* name, nc_error* error) noexcept {
    if (!format_exists(array.format))
        return fail(error, NC_ERROR_ARGUMENT, "%s.format is %d; it must be a code that nc_format_at gives", name,
                    array.format);
    if (array.ndim < 0 || array.ndim > NC_MAX_NDIM)
        return fail(error, NC_ERROR_ARGUMENT, "%s.ndim is %d; it must be 0 to %d", name, array.ndim, NC_MAX_NDIM);
    if (array.ndim > 0 && array.shape == nullptr)
        return fail(error, NC_ERROR_ARGUMENT, "%s.shape is null; it must hold %d extents", name, array.ndim);
    for (int32_t i = 0; i < array.ndim; ++i)
        if (array.shape[i] < 0)
            return fail(error, NC_ERROR_ARGUMENT, "%s.shape[%d] is %lld; an extent must be 0 or more", name, i,
                        static_cast<long long>(array.shape[i]));
    if ((array.flags & ~uint32_t{NC_ARRAY_BYTE_SWAPPED}) != 0)
        return fail(error, NC_ERROR_ARGUMENT, "%s.flags is %u; only NC_ARRAY_BYTE_SWAPPED (1) may be set", name,
                    array.flags);
    if (array.reserved != 0)
        return fail(error, NC_ERROR_ARGUMENT, "%s.reserved is %u; it must be 0", name, array.reserved);
    return NC_OK;
}

bool count_elements(const nc_array& array, uint64_t& n) noexcept {
    n = 1;
    bool fits = true;
    for (int32_t i = 0; i < array.ndim; ++i) {
        if (array.shape[i] == 0) {
            n = 0;
            return true;
        }
        fits = fits && multiply(n, static_cast<uint64_t>(array.shape[i]), n);
    }
    return fits;
}

nc_status fill_operand(const nc_array& array, const char* name, uint64_t n, nc_error* error,
                       Operand& operand) noexcept {
    operand.data = static_cast<unsigned char*>(array.data);
    operand.format = array.format;
    operand.item = static_cast<size_t>(format_of(array.format).row.storage_bytes);
    operand.swapped = (array.flags & NC_ARRAY_BYTE_SWAPPED) != 0 && operand.item > 1;
    uint64_t bytes = 0;
    if (n == 0)
        return NC_OK;
    if (array.data == nullptr)
        return fail(error, NC_ERROR_ARGUMENT, "%s.data is null; it may be null only if there are no elements", name);
    if (!multiply(n, operand.item, bytes))
        return fail(error, NC_ERROR_ARGUMENT,
                    "%s.shape asks for %llu elements of %zu bytes, more than can be addressed", name,
                    static_cast<unsigned long long>(n), operand.item);
    operand.strides = c_contiguous(array, operand.item) ? nullptr : array.strides;
    if (!find_range(array, n, operand))
        return fail(error, NC_ERROR_ARGUMENT, "%s.strides reach beyond what can be addressed", name);
    return NC_OK;
}

nc_status check_request(const nc_array* x, const nc_array* out, const nc_cast_options* options, nc_error* error,
                        Request& request) noexcept {
    if (x == nullptr || out == nullptr)
        return fail(error, NC_ERROR_ARGUMENT, "%s is null; it must point to an nc_array", x == nullptr ? "x" : "out");
    if (const nc_status status = read_options(options, error, request.options))
        return status;
    if (const nc_status status = check_array(*x, "x", error))
        return status;
    if (const nc_status status = check_array(*out, "out", error))
        return status;
    if (const nc_status status = check_pair(*x, *out, error))
        return status;
    uint64_t n = 0;
    if (!count_elements(*x, n))
        return fail(error, NC_ERROR_ARGUMENT, "x.shape has more elements than can be addressed");
    request.n = static_cast<size_t>(n);
    request.shape = x->shape;
    request.ndim = x->ndim;
    if (const nc_status status = fill_operand(*x, "x", n, error, request.x))
        return status;
    return fill_operand(*out, "out", n, error, request.out);
}

size_t plain_elements(const nc_array& x, const nc_array& out, const nc_cast_options* options) noexcept {
    // 1. Options: one part whatever the threads (plain_bytes is less than a thread is made for).
    if (options != nullptr) {
        const bool usual = options->size == sizeof *options &&
                           static_cast<uint32_t>(options->rounding) < NC_STOCHASTIC &&
                           static_cast<uint32_t>(options->overflow) < NC_OVERFLOW_RAISE && options->threads >= 0 &&
                           options->reserved == 0 && options->lost == nullptr;
        if (!usual)
            return 0;
    }
    // 2. Formats and flags.
    const bool known = format_exists(x.format) && format_exists(out.format) && x.format != NC_FORMAT_tf32 &&
                       (x.flags | out.flags | x.reserved | out.reserved) == 0;
    if (!known || !format_of(out.format).row.is_float)
        return 0;
    const auto x_item = static_cast<uint64_t>(format_of(x.format).row.storage_bytes);
    const auto out_item = static_cast<uint64_t>(format_of(out.format).row.storage_bytes);
    // 3. Equal shapes without zeros, C-contiguous, small: no product below can overflow.
    if (x.ndim != out.ndim || static_cast<uint32_t>(x.ndim) > NC_MAX_NDIM || x.data == nullptr || out.data == nullptr ||
        (x.ndim != 0 && (x.shape == nullptr || out.shape == nullptr)))
        return 0;
    uint64_t n = 1;
    for (int32_t i = x.ndim - 1; i >= 0; --i) {
        const int64_t extent = x.shape[i];
        if (extent != out.shape[i] || extent < 1 || extent > static_cast<int64_t>(plain_bytes))
            return 0;
        if (x.strides != nullptr && x.strides[i] != static_cast<int64_t>(n * x_item))
            return 0;
        if (out.strides != nullptr && out.strides[i] != static_cast<int64_t>(n * out_item))
            return 0;
        n *= static_cast<uint64_t>(extent);
        if (n > plain_bytes)
            return 0;
    }
    if (n * (x_item + out_item) > plain_bytes)
        return 0;
    // 4. Addresses: neither array wraps, and they are apart or begin together with items that do not grow.
    const auto from = reinterpret_cast<uintptr_t>(x.data), to = reinterpret_cast<uintptr_t>(out.data);
    if (std::max(from, to) > std::numeric_limits<uintptr_t>::max() - plain_bytes)
        return 0;
    const bool apart = from + n * x_item <= to || to + n * out_item <= from;
    return apart || (from == to && out_item <= x_item) ? static_cast<size_t>(n) : 0;
}

} // namespace narrowcast
