// The questions of narrowcast.h that have constant answers: formats, instruction sets, CPU, version, status names.
#include <string.h>

#include <algorithm>

#include "api/error.hpp"
#include "api/format_table.hpp"
#include "api/isa.hpp"
#include "api/options.hpp"
#include "dispatch/cpu_features.hpp"
#include "dispatch/registry.hpp"

namespace narrowcast {
namespace {

constexpr int32_t codes_in_order[] = {
#define NC_FLOAT(number, ...) number,
#define NC_INT(number, ...) number,
#include "narrowcast/formats.def"
};

nc_format_info describe(const Format& format) noexcept {
    const Row& row = format.row;
    const Facts& f = format.facts;
    const auto stored = [&f](uint64_t code) { return code << f.container_shift; };
    nc_format_info info{};
    info.size = sizeof info;
    info.name = format.name;
    info.id = format.id;
    info.format = row.format;
    info.is_float = row.is_float;
    info.storage_bytes = row.storage_bytes;
    info.bits = row.bits;
    info.sign_bits = row.sign_bits;
    info.exponent_bits = row.exponent_bits;
    info.mantissa_bits = row.mantissa_bits;
    info.bias = row.bias;
    info.has_inf = f.has_inf;
    info.has_nan = f.has_nan;
    info.has_zero = f.has_zero;
    info.has_negative_zero = f.has_negative_zero;
    info.max_code = stored(f.max);
    // Floats are sign and magnitude, integers two's complement; without a sign the smallest code is 0.
    info.min_code = stored(row.is_float && row.sign_bits != 0 ? f.sign_mask | f.max : f.sign_mask);
    info.smallest_normal_code = stored(f.min_normal);
    info.smallest_subnormal_code = stored(f.min_positive);
    info.nan_code = stored(f.quiet_nan);
    info.negative_nan_code = stored(f.negative_quiet_nan);
    info.inf_code = stored(f.inf);
    return info;
}

} // namespace
} // namespace narrowcast

using namespace narrowcast;

int32_t nc_format_at(int32_t position) noexcept {
    constexpr auto count = static_cast<int32_t>(std::size(codes_in_order));
    return position >= 0 && position < count ? codes_in_order[position] : int32_t{NC_FORMAT_INVALID};
}

nc_status nc_format_get_info(int32_t format, nc_format_info* info) noexcept {
    if (info == nullptr || info->size < sizeof info->size || !format_exists(format))
        return NC_ERROR_ARGUMENT;
    copy_info(describe(format_of(format)), *info);
    return NC_OK;
}

int32_t nc_format_from_name(const char* name) noexcept {
    if (name == nullptr)
        return NC_FORMAT_INVALID;
    for (const int32_t code : codes_in_order)
        if (strcmp(name, format_of(code).name) == 0 || strcmp(name, format_of(code).id) == 0)
            return code;
    return NC_FORMAT_INVALID;
}

const char* nc_isa_name(int32_t position) noexcept {
    return position < 0 ? nullptr : isa_name(static_cast<size_t>(position));
}

int32_t nc_isa_supported(const char* name) noexcept { return name != nullptr && find_isa(name) != nullptr ? 1 : 0; }

nc_status nc_isa_default(const char** name, nc_error* error) noexcept {
    if (!ready(error))
        return NC_ERROR_ARGUMENT;
    if (name == nullptr)
        return fail(error, NC_ERROR_ARGUMENT, "name is null; it must point to where the name is to be written");
    *name = nullptr;
    const KernelTable* table = nullptr;
    if (const nc_status status = choose_table(nullptr, error, table))
        return status;
    *name = table->name;
    return NC_OK;
}

size_t nc_cpu_features(char* buffer, size_t size) noexcept {
    size_t length = 0;
    const FeatureSet found = cpu_features();
    const auto append = [&](char letter) {
        if (buffer != nullptr && length + 1 < size)
            buffer[length] = letter;
        ++length;
    };
    for (const NamedFeature& row : cpu_feature_list) {
        if (!found.has(row.feature))
            continue;
        if (length != 0)
            append(' ');
        std::for_each(row.name.begin(), row.name.end(), append);
    }
    if (buffer != nullptr && size != 0)
        buffer[std::min(length, size - 1)] = '\0';
    return length;
}

const char* nc_version(void) noexcept { return NARROWCAST_VERSION; }

const char* nc_status_name(int32_t status) noexcept {
    switch (status) {
    case NC_OK: return "ok";
    case NC_ERROR_ARGUMENT: return "argument";
    case NC_ERROR_FORMAT: return "format";
    case NC_ERROR_OVERLAP: return "overlap";
    case NC_ERROR_OVERFLOW: return "overflow";
    case NC_ERROR_ISA: return "isa";
    default: return "unknown";
    }
}
