// One entry per row of formats.def, at the index of its code.
#include "api/format_table.hpp"

#include <bit>

#include "codec/reference.hpp"

namespace narrowcast {
namespace {

consteval int32_t hub_of(int32_t code) {
    for (int32_t hub = 0; hub < hub_count; ++hub)
        if (hub_formats[hub] == code)
            return hub;
    return -1;
}

consteval std::array<Format, NC_FORMAT_LIMIT> make_table() {
    std::array<Format, NC_FORMAT_LIMIT> table{};
#define NC_ROW(number, id, name)                                                                                       \
    table[number] = {name, #id, row(number), facts(number), is_wide(number), is_narrow(number), hub_of(number)};
#define NC_FLOAT(number, id, name, ...) NC_ROW(number, id, name)
#define NC_INT(number, id, name, ...) NC_ROW(number, id, name)
#include "narrowcast/formats.def"
#undef NC_ROW
    return table;
}

} // namespace

constinit const std::array<Format, NC_FORMAT_LIMIT> format_table = make_table();

double value_of(int32_t format, uint64_t code) noexcept {
    return std::bit_cast<double>(format == NC_FORMAT_f64
                                     ? code
                                     : convert_code(format, code, NC_FORMAT_f64, NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, 0));
}

} // namespace narrowcast
