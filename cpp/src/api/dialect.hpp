// The rows of dialects.def as run-time data, indexed by code. What a dialect computes is in codec/qparams.hpp and
// params.cpp.
#pragma once

#include <stdint.h>

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
const Dialect& dialect_of(int32_t code) noexcept; // of a code that exists
const Dialect* find_dialect(int32_t code) noexcept;

} // namespace narrowcast
