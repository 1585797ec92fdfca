// The rows of dialects.def as run-time data, indexed by code. What a dialect computes is in codec/qparams.hpp and
// params.cpp.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <array>

#include "narrowcast/narrowcast.h"

namespace narrowcast {

// A row of dialects.def.
enum class Quotient : uint8_t { divide, multiply, fma };
enum class Zero : uint8_t { after, before, shift };
enum class Steps : uint8_t { source, float32 };
enum class Nan : uint8_t { low, high };
struct Dialect {
    const char* name; // null if no dialect has this code
    Quotient quotient;
    Zero zero;
    Steps steps;
    Nan nan;
};

extern const std::array<Dialect, NC_DIALECT_LIMIT> dialect_table;

// Only for codes that exist.
inline const Dialect& dialect_of(int32_t code) noexcept { return dialect_table[static_cast<size_t>(code)]; }

inline bool dialect_exists(int32_t code) noexcept {
    return code > NC_DIALECT_INVALID && code < NC_DIALECT_LIMIT && dialect_of(code).name != nullptr;
}

} // namespace narrowcast
