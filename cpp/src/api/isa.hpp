// The kernel table of one call: by name, or the default.
#pragma once

#include "dispatch/kernel_table.hpp"

namespace narrowcast {

// name may be null. NC_ERROR_ISA with a sentence if there is no such set, or this CPU lacks it.
nc_status choose_table(const char* name, nc_error* error, const KernelTable*& table) noexcept;

} // namespace narrowcast
