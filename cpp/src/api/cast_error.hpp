// The comparison of values with their cast, for nc_cast_error and for nc_cast when its caller wants to know what it
// lost. Elements are contiguous here; walking through arrays is the callers'.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "api/check.hpp"
#include "codec/reference.hpp"
#include "dispatch/kernel_table.hpp"

namespace narrowcast {

// Most elements per comparison: more than a tile, for every call adds up its lanes.
inline constexpr size_t comparison_items = 8 * size_t{tile_items};

class Comparison {
public:
    Comparison(const KernelTable& table, int32_t src, int32_t dst, int32_t rounding) noexcept;

    // Compares n <= comparison_items contiguous elements in native byte order and adds what it finds, size apart.
    void add(const void* x, const void* out, size_t n, nc_error_sums& sums) const noexcept;

private:
    const KernelTable& table_;
    OverflowLimits limits_;
    CensusRule rule_;
    int32_t src_, dst_;
};

nc_status check_sums(const nc_error_sums* sums, nc_error* error) noexcept;
// Zeros, for sums of the same kind.
nc_error_sums empty_sums(const nc_error_sums& like) noexcept;
void add_sums(const nc_error_sums& found, nc_error_sums& sums) noexcept;
// Compares all elements of a request and adds what it finds.
void compare(const KernelTable& table, const Request& request, nc_error_sums& to) noexcept;

} // namespace narrowcast
