// Hostile input of the quantizing functions ends here: options and arrays are read, checked against each other and put
// into a QuantRequest whose every number may be computed with. What is allowed is written in narrowcast.h. Of the data
// only zero points are read (check_zero_points), after their memory was checked.
#pragma once

#include "api/check.hpp"
#include "codec/qparams.hpp"

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

// What one of the functions was asked for. An operand whose data is null is absent.
struct QuantRequest {
    nc_quantize_options options; // complete, whatever the caller's size
    CodeRange codes_in_use;      // for float codes: the finite values
    int32_t bits;                // of a code
    bool packed;
    const int64_t* shape; // of x
    int32_t ndim;
    size_t n, boxes;
    int64_t block[NC_MAX_NDIM];     // 1 to the extent
    int64_t box_shape[NC_MAX_NDIM]; // boxes along each axis
    Operand x, codes, scale, zero, sums;
};

// The roles of arrays. real: any float format but TF32. made: any float format. box: one number per box.
enum class Role : uint8_t { real, made, codes, scale, zero, range, sums };

// An array that one of the functions takes, and what it is called in a refusal.
struct Given {
    const nc_array* array;
    const char* name;
    Role role;
    bool written;
    Operand* operand; // where it goes
};

// Whether values of this format are quantized.
bool is_real_format(int32_t format) noexcept;

// Reads the options (null: the defaults).
nc_status read_quantize_options(const nc_quantize_options* given, nc_error* error, QuantRequest& request) noexcept;

// Checks `count` arrays; the first one gives the shape unless it holds packed codes, then the second one does. Null
// arrays are absent if they are zero points or sums. No array that is written may overlap itself or another.
nc_status check_arrays(Given* given, size_t count, nc_error* error, QuantRequest& request) noexcept;

// Whether every given zero point is what its dialect can take.
nc_status check_zero_points(const QuantRequest& request, nc_error* error) noexcept;

// The strides of an operand in bytes, one per extent.
void strides_of(const Operand& operand, const int64_t* shape, int32_t ndim, int64_t* strides) noexcept;

} // namespace narrowcast
