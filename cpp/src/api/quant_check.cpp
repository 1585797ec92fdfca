// The order is: options, the shape and its boxes, each array by itself, all pairs of them. As in check.cpp no
// arithmetic on extents, strides or addresses can overflow after this.
#include "api/quant_check.hpp"

#include <algorithm>
#include <cmath>

#include "api/dialect.hpp"
#include "api/error.hpp"
#include "api/format_table.hpp"
#include "api/isa.hpp"

namespace narrowcast {
namespace {

bool is_flag(int32_t value) noexcept { return value == 0 || value == 1; }

nc_status check_code_options(QuantRequest& r, nc_error* error) noexcept {
    const nc_quantize_options& o = r.options;
    if (o.format != NC_FORMAT_INVALID) {
        if (!format_exists(o.format) || !format_of(o.format).row.is_float || format_of(o.format).row.bits > 8 ||
            o.format == NC_FORMAT_e8m0fnu)
            return fail(error, NC_ERROR_ARGUMENT,
                        "options.format is %d; it must be an 8-, 6- or 4-bit float format with a sign, or 0 for "
                        "integer codes",
                        o.format);
        if (o.qmin != 0 || o.qmax != 0)
            return fail(error, NC_ERROR_ARGUMENT, "options.qmin and qmax are %d and %d; with float codes both are 0",
                        o.qmin, o.qmax);
        r.bits = format_of(o.format).row.bits;
        return NC_OK;
    }
    if (o.bits < 1 || o.bits > 16)
        return fail(error, NC_ERROR_ARGUMENT, "options.bits is %d; it must be 1 to 16", o.bits);
    r.bits = o.bits;
    const int32_t low = o.is_signed != 0 ? -(1 << (o.bits - 1)) : 0, high = low + (1 << o.bits) - 1;
    r.codes_in_use = {low, high, o.qmin == 0 && o.qmax == 0};
    if (r.codes_in_use.all)
        return NC_OK;
    if (o.qmin < low || o.qmax > high || o.qmin >= o.qmax)
        return fail(error, NC_ERROR_ARGUMENT,
                    "options.qmin and qmax are %d and %d; they must be %d <= qmin < qmax <= %d, or both 0", o.qmin,
                    o.qmax, low, high);
    r.codes_in_use = {o.qmin, o.qmax, false};
    return NC_OK;
}

nc_status check_options(QuantRequest& r, nc_error* error) noexcept {
    const nc_quantize_options& o = r.options;
    if (!dialect_exists(o.dialect))
        return fail(error, NC_ERROR_ARGUMENT, "options.dialect is %d; it must be a code of dialects.def", o.dialect);
    const struct {
        const char* name;
        int32_t value;
    } flags[] = {{"is_signed", o.is_signed}, {"symmetric", o.symmetric}, {"dynamic", o.dynamic}};
    for (const auto& flag : flags)
        if (!is_flag(flag.value))
            return fail(error, NC_ERROR_ARGUMENT, "options.%s is %d; it must be 0 or 1", flag.name, flag.value);
    if (const nc_status status = check_code_options(r, error))
        return status;
    if (o.compute != NC_FORMAT_INVALID && o.compute != NC_FORMAT_f32 && o.compute != NC_FORMAT_f16 &&
        o.compute != NC_FORMAT_bf16)
        return fail(error, NC_ERROR_ARGUMENT,
                    "options.compute is %d; it must be float32, float16, bfloat16, or 0 for the dialect's own",
                    o.compute);
    if (dialect_of(o.dialect).quotient == Quotient::fma && o.compute > NC_FORMAT_f32)
        return fail(error, NC_ERROR_ARGUMENT, "options.compute is %s; the dialect %s computes in float32 only",
                    format_of(o.compute).name, dialect_of(o.dialect).name);
    if (o.layout != NC_LAYOUT_INVALID && o.layout != NC_LAYOUT_lsb)
        return fail(error, NC_ERROR_ARGUMENT, "options.layout is %d; it must be NC_LAYOUT_lsb (%d), or 0 for unpacked",
                    o.layout, NC_LAYOUT_lsb);
    r.packed = o.layout != NC_LAYOUT_INVALID;
    if (r.packed && r.bits > 8)
        return fail(error, NC_ERROR_ARGUMENT, "options.bits is %d; packed codes have 1 to 8 bits", r.bits);
    if (!(o.scale_max >= 0) || !std::isfinite(o.scale_max))
        return fail(error, NC_ERROR_ARGUMENT, "options.scale_max is %g; it must be finite and positive, or 0",
                    static_cast<double>(o.scale_max));
    if (o.threads < 0)
        return fail(error, NC_ERROR_ARGUMENT, "options.threads is %d; it must be 1 or more, or 0 for one per core",
                    o.threads);
    return NC_OK;
}

// --- shapes --------------------------------------------------------------------------------------------------------

nc_status find_boxes(QuantRequest& r, nc_error* error) noexcept {
    for (int32_t i = 0; i < r.ndim; ++i) {
        const int64_t extent = r.shape[i];
        const int64_t asked = r.options.block != nullptr ? r.options.block[i] : std::max<int64_t>(extent, 1);
        if (asked < 1)
            return fail(error, NC_ERROR_ARGUMENT, "options.block[%d] is %lld; an extent of a box must be 1 or more", i,
                        static_cast<long long>(asked));
        r.block[i] = std::clamp<int64_t>(extent, 1, asked);
        r.box_shape[i] = extent / r.block[i] + (extent % r.block[i] != 0 ? 1 : 0);
    }
    uint64_t boxes = r.n == 0 ? 0 : 1; // no more than elements
    for (int32_t i = 0; i < r.ndim; ++i)
        boxes *= static_cast<uint64_t>(r.box_shape[i]);
    r.boxes = static_cast<size_t>(boxes);
    return NC_OK;
}

// What the array of a role must look like, next to x's shape.
nc_status expected_shape(const QuantRequest& r, const Given& given, nc_error* error, int64_t* shape,
                         int32_t& ndim) noexcept {
    const bool per_box = given.role == Role::scale || given.role == Role::zero || given.role == Role::range;
    std::copy_n(per_box ? r.box_shape : r.shape, r.ndim, shape);
    ndim = r.ndim;
    if (given.role == Role::sums) {
        if (r.ndim == 0)
            return fail(error, NC_ERROR_ARGUMENT, "row_sums is given, but x has no dimension to sum along");
        if (r.options.format != NC_FORMAT_INVALID)
            return fail(error, NC_ERROR_ARGUMENT, "row_sums is given, but float codes have no integer sums");
        --ndim;
    }
    if (given.role == Role::codes && r.packed) {
        if (r.ndim == 0)
            return fail(error, NC_ERROR_ARGUMENT, "options.layout is given, but x has no dimension to pack along");
        const int64_t codes = shape[ndim - 1];
        if (codes % 8 * r.bits % 8 != 0)
            return fail(error, NC_ERROR_ARGUMENT,
                        "the last axis has %lld codes of %d bits, which do not end on a byte: leave them unpacked or "
                        "pad the axis",
                        static_cast<long long>(codes), r.bits);
        shape[ndim - 1] = packed_extent(codes, r.bits);
    }
    return NC_OK;
}

bool format_fits(const QuantRequest& r, Role role, int32_t format, const char*& allowed) noexcept {
    const Row& row = format_of(format).row;
    switch (role) {
    case Role::real: allowed = "a float format other than tfloat32"; return is_real_format(format);
    case Role::made: allowed = "a float format"; return row.is_float;
    case Role::scale:
        allowed = "float32, float16, bfloat16 or float8_e8m0fnu";
        return format == NC_FORMAT_f32 || format == NC_FORMAT_f16 || format == NC_FORMAT_bf16 ||
               format == NC_FORMAT_e8m0fnu;
    case Role::zero:
        if (dialect_of(r.options.dialect).zero == Zero::shift) {
            allowed = "float32, float16, bfloat16 or int32";
            return format == NC_FORMAT_f32 || format == NC_FORMAT_f16 || format == NC_FORMAT_bf16 ||
                   format == NC_FORMAT_i32;
        }
        allowed = "int32";
        return format == NC_FORMAT_i32;
    case Role::range: allowed = "float32"; return format == NC_FORMAT_f32;
    case Role::sums: allowed = "int32"; return format == NC_FORMAT_i32;
    case Role::codes: break;
    }
    if (r.packed || r.options.format == NC_FORMAT_INVALID) {
        allowed = r.bits > 8 ? "a 16-bit integer format" : "an integer format of one byte";
        return !row.is_float && format != NC_FORMAT_boolean && row.storage_bytes == (r.bits > 8 ? 2 : 1);
    }
    allowed = "options.format";
    return format == r.options.format;
}

nc_status check_shape(const QuantRequest& r, const Given& given, nc_error* error) noexcept {
    int64_t expected[NC_MAX_NDIM];
    int32_t ndim = 0;
    if (const nc_status status = expected_shape(r, given, error, expected, ndim))
        return status;
    const nc_array& array = *given.array;
    if (array.ndim != ndim)
        return fail(error, NC_ERROR_ARGUMENT, "%s.ndim is %d; it must be %d here", given.name, array.ndim, ndim);
    for (int32_t i = 0; i < ndim; ++i)
        if (array.shape[i] != expected[i])
            return fail(error, NC_ERROR_ARGUMENT, "%s.shape[%d] is %lld; it must be %lld here", given.name, i,
                        static_cast<long long>(array.shape[i]), static_cast<long long>(expected[i]));
    return NC_OK;
}

nc_status check_memory(const QuantRequest& r, const Given& given, nc_error* error) noexcept {
    uint64_t n = 0;
    if (!count_elements(*given.array, n))
        return fail(error, NC_ERROR_ARGUMENT, "%s.shape has more elements than can be addressed", given.name);
    if (r.n == 0)
        n = 0;
    if (const nc_status status = fill_operand(*given.array, given.name, n, error, *given.operand))
        return status;
    if (given.role != Role::codes || !r.packed || n == 0)
        return NC_OK;
    const Operand& codes = *given.operand;
    const int32_t last = r.ndim - 1;
    if (codes.strides != nullptr && given.array->shape[last] > 1 && codes.strides[last] != 1)
        return fail(error, NC_ERROR_ARGUMENT, "%s.strides[%d] is %lld; packed codes lie side by side, so it must be 1",
                    given.name, last, static_cast<long long>(codes.strides[last]));
    if ((codes.high - codes.low) >> 59 != 0) // their strides will be counted in bits
        return fail(error, NC_ERROR_ARGUMENT, "%s.strides reach beyond what can be addressed", given.name);
    return NC_OK;
}

// Whether two elements may share bytes. Never says no wrongly.
bool overlaps_itself(const nc_array& array, const Operand& operand) noexcept {
    if (operand.strides == nullptr)
        return false;
    struct Loop {
        uint64_t stride;
        int64_t extent;
    } loops[NC_MAX_NDIM];
    int32_t count = 0;
    for (int32_t i = 0; i < array.ndim; ++i) {
        if (array.shape[i] == 1)
            continue;
        loops[count++] = {magnitude(operand.strides[i]), array.shape[i]};
    }
    std::sort(loops, loops + count, [](const Loop& a, const Loop& b) { return a.stride < b.stride; });
    uint64_t covered = operand.item;
    for (int32_t i = 0; i < count; ++i) {
        if (loops[i].stride < covered)
            return true;
        covered += loops[i].stride * static_cast<uint64_t>(loops[i].extent - 1);
    }
    return false;
}

bool is_written(const QuantRequest& r, const Given& given) noexcept {
    return given.use == Use::written || (given.use == Use::computed && r.options.dynamic != 0);
}

nc_status check_overlap(const QuantRequest& r, std::span<const Given> given, nc_error* error) noexcept {
    for (const Given& g : given) {
        const Operand& a = *g.operand;
        if (!is_written(r, g) || a.data == nullptr)
            continue;
        if (overlaps_itself(*g.array, a))
            return fail(error, NC_ERROR_OVERLAP,
                        "%s overlaps itself: its strides put several elements into the same bytes", g.name);
        for (const Given& other : given) {
            const Operand& b = *other.operand;
            if (&other != &g && b.data != nullptr && share_bytes(a, b))
                return fail(error, NC_ERROR_OVERLAP, "%s overlaps %s; it needs memory of its own", g.name, other.name);
        }
    }
    return NC_OK;
}

} // namespace

bool is_real_format(int32_t format) noexcept {
    return format_exists(format) && format_of(format).row.is_float && format != NC_FORMAT_tf32;
}

nc_status read_options(const nc_quantize_options* given, nc_error* error, QuantRequest& r) noexcept {
    if (!ready(error))
        return NC_ERROR_ARGUMENT;
    r.options = NC_QUANTIZE_OPTIONS_INIT;
    if (given != nullptr) {
        if (given->size != sizeof r.options) // there is no shorter version yet
            return fail(error, NC_ERROR_ARGUMENT,
                        "options.size is %zu; it must be sizeof(nc_quantize_options), which is %zu in this library",
                        given->size, sizeof r.options);
        r.options = *given;
    }
    r.codes_in_use = {0, 0, true};
    r.x = r.codes = r.scale = r.zero = r.sums = Operand{};
    return check_options(r, error);
}

nc_status check_arrays(std::span<Given> given, nc_error* error, QuantRequest& r) noexcept {
    bool codes = false;
    r.reads_zeros = false;
    for (const Given& g : given) {
        const bool optional = g.role == Role::zero || g.role == Role::sums;
        if (g.array == nullptr && !optional)
            return fail(error, NC_ERROR_ARGUMENT, "%s is null; it must point to an nc_array", g.name);
        codes = codes || g.role == Role::codes;
        r.reads_zeros = r.reads_zeros || (g.role == Role::zero && !is_written(r, g));
    }
    r.packed = r.packed && codes;
    const auto absent = std::remove_if(given.begin(), given.end(), [](const Given& g) { return g.array == nullptr; });
    given = given.first(static_cast<size_t>(absent - given.begin()));
    for (const Given& g : given) {
        if (const nc_status status = check_array(*g.array, g.name, error))
            return status;
        const char* allowed = "";
        const int32_t format = g.array->format;
        if (!format_fits(r, g.role, format, allowed))
            return fail(error, NC_ERROR_FORMAT, "%s.format is %s; it must be %s", g.name, format_of(format).name,
                        allowed);
    }
    const Given& shaped = given.front().role == Role::codes ? given.back() : given.front();
    uint64_t n = 0;
    if (!count_elements(*shaped.array, n))
        return fail(error, NC_ERROR_ARGUMENT, "%s.shape has more elements than can be addressed", shaped.name);
    r.n = static_cast<size_t>(n);
    r.shape = shaped.array->shape;
    r.ndim = shaped.array->ndim;
    if (const nc_status status = find_boxes(r, error))
        return status;
    for (const Given& g : given)
        if (const nc_status status = check_shape(r, g, error))
            return status;
    for (const Given& g : given)
        if (const nc_status status = check_memory(r, g, error))
            return status;
    return r.n == 0 ? NC_OK : check_overlap(r, given, error);
}

nc_status check_call(const nc_quantize_options* options, std::span<Given> given, nc_error* error,
                     QuantRequest& r) noexcept {
    if (const nc_status status = read_options(options, error, r))
        return status;
    if (const nc_status status = check_arrays(given, error, r))
        return status;
    if (r.reads_zeros)
        if (const nc_status status = check_zero_points(r, error))
            return status;
    return choose_table(r.options.isa, error, r.table);
}

void strides_of(const Operand& operand, const int64_t* shape, int32_t ndim, int64_t* strides) noexcept {
    if (operand.strides != nullptr) {
        std::copy_n(operand.strides, ndim, strides);
        return;
    }
    auto step = static_cast<int64_t>(operand.item);
    for (int32_t i = ndim - 1; i >= 0; --i) {
        strides[i] = step;
        step *= shape[i];
    }
}

} // namespace narrowcast
