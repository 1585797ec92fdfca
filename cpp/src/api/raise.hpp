// NC_OVERFLOW_RAISE: looking at every element before anything is written. Refused are a finite
// value beyond the largest one after rounding, and whatever special or sign the target does not have.
#pragma once

#include "api/check.hpp"
#include "dispatch/kernel_table.hpp"

namespace narrowcast {

// NC_OK, or NC_ERROR_OVERFLOW naming the refused element with the smallest C-order index.
nc_status scan_for_overflow(const KernelTable& table, const Request& request, nc_error* error) noexcept;

} // namespace narrowcast
