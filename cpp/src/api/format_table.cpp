// One entry per row of formats.def, at the index of its code.
#include "api/format_table.hpp"

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

} // namespace narrowcast
