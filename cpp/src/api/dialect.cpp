// One entry per row of dialects.def, at the index of its code.
#include "api/dialect.hpp"

#include <stddef.h>

#include <array>

#include "narrowcast/narrowcast.h"

namespace narrowcast {
namespace {

constexpr std::array<Dialect, NC_DIALECT_LIMIT> make_dialects() {
    std::array<Dialect, NC_DIALECT_LIMIT> table{};
#define NC_DIALECT(number, id, quotient, zero, steps, nan)                                                             \
    table[number] = {#id, Quotient::quotient, Zero::zero, Steps::steps, Nan::nan};
#include "narrowcast/dialects.def"
    return table;
}
constexpr std::array<Dialect, NC_DIALECT_LIMIT> dialects = make_dialects();

} // namespace

const Dialect& dialect_of(int32_t code) noexcept { return dialects[static_cast<size_t>(code)]; }

const Dialect* find_dialect(int32_t code) noexcept {
    const bool exists = code > NC_DIALECT_INVALID && code < NC_DIALECT_LIMIT && dialect_of(code).name != nullptr;
    return exists ? &dialect_of(code) : nullptr;
}

} // namespace narrowcast
