// One entry per row of dialects.def, at the index of its code.
#include "api/dialect.hpp"

namespace narrowcast {
namespace {

consteval std::array<Dialect, NC_DIALECT_LIMIT> make_table() {
    std::array<Dialect, NC_DIALECT_LIMIT> table{};
#define NC_DIALECT(number, id, quotient, zero, steps, nan)                                                             \
    table[number] = {#id, Quotient::quotient, Zero::zero, Steps::steps, Nan::nan};
#include "narrowcast/dialects.def"
    return table;
}

} // namespace

constinit const std::array<Dialect, NC_DIALECT_LIMIT> dialect_table = make_table();

} // namespace narrowcast
