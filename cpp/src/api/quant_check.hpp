// Hostile input of the quantizing functions ends here: options and arrays are read, checked against each other and put
// into a QuantRequest whose every number may be computed with. What is allowed is written in narrowcast.h. Of the data
// only zero points are read (check_zero_points), after their memory was checked.
#pragma once

#include <span>

#include "api/check.hpp"
#include "codec/qparams.hpp"
#include "dispatch/kernel_table.hpp"

namespace narrowcast {

// What one of the functions was asked for. An operand whose data is null is absent.
struct QuantRequest {
    nc_quantize_options options; // complete, whatever the caller's size
    CodeRange codes_in_use;      // for float codes: the finite values
    int32_t bits;                // of a code
    bool packed;
    bool reads_zeros; // zero points are given, not computed
    const KernelTable* table;
    const int64_t* shape; // of x
    int32_t ndim;
    size_t n, boxes;
    int64_t block[NC_MAX_NDIM];     // 1 to the extent
    int64_t box_shape[NC_MAX_NDIM]; // boxes along each axis
    Operand x, codes, scale, zero, sums;
};

// Bytes of so many codes of so many bits, which end on a byte; does not overflow.
constexpr int64_t packed_extent(int64_t codes, int32_t bits) noexcept {
    return codes / 8 * bits + codes % 8 * bits / 8;
}

// The roles of arrays. real: any float format but TF32. made: any float format. box: one number per box.
enum class Role : uint8_t { real, made, codes, scale, zero, range, sums };

// Whether an array is written; computed: if options.dynamic, else it is read.
enum class Use : uint8_t { read, written, computed };

// An array that one of the functions takes, and what it is called in a refusal.
struct Given {
    const nc_array* array; // null if absent, as zero points and sums may be
    const char* name;
    Role role;
    Use use;
    Operand* operand; // where it goes
};

// What the functions begin with: all of the steps below, in this order, and the choice of a kernel table. The zero
// points are checked if they are read.
nc_status check_call(const nc_quantize_options* options, std::span<Given> given, nc_error* error,
                     QuantRequest& request) noexcept;

// Whether values of this format are quantized.
bool is_real_format(int32_t format) noexcept;

// Clears the error and reads the options (null: the defaults).
nc_status read_options(const nc_quantize_options* given, nc_error* error, QuantRequest& request) noexcept;

// The first array gives the shape unless it holds packed codes, then the last one does. Codes are packed only if there
// are any. No array that is written may overlap itself or another.
nc_status check_arrays(std::span<Given> given, nc_error* error, QuantRequest& request) noexcept;

// Whether every given zero point is what its dialect can take.
nc_status check_zero_points(const QuantRequest& request, nc_error* error) noexcept;

// Whether what is computed has where to go: scales may come with zero points that must be kept.
nc_status check_computed(const QuantRequest& request, nc_error* error) noexcept;

// The strides of an operand in bytes, one per extent.
void strides_of(const Operand& operand, const int64_t* shape, int32_t ndim, int64_t* strides) noexcept;

} // namespace narrowcast
