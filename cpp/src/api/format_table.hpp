// Rows and facts of all formats as run-time data, indexed by format code: what checks, plans and nc_format_get_info
// read. Made at compile time from format/format.hpp; nothing is typed here.
#pragma once

#include <stdint.h>

#include <array>

#include "dispatch/kernel_table.hpp"
#include "format/format.hpp"

namespace narrowcast {

struct Format {
    const char* name; // public name; null if no format has this code
    const char* id;
    Row row;
    Facts facts;
    bool wide;   // a source that float32 does not hold exactly
    bool narrow; // a target that overflow policies concern
    int32_t hub; // its place in KernelTable::direct, -1 if none
};

extern const std::array<Format, NC_FORMAT_LIMIT> format_table;

// The other way: by hub.
inline constexpr int32_t hub_formats[hub_count] = {NC_FORMAT_f32, NC_FORMAT_f16, NC_FORMAT_bf16};

inline bool format_exists(int32_t code) noexcept {
    return code > NC_FORMAT_INVALID && code < NC_FORMAT_LIMIT &&
           format_table[static_cast<size_t>(code)].name != nullptr;
}

// Only for codes that exist.
inline const Format& format_of(int32_t code) noexcept { return format_table[static_cast<size_t>(code)]; }

// The value of a code; of an integer that float64 does not hold, the nearest.
double value_of(int32_t format, uint64_t code) noexcept;

} // namespace narrowcast
