// Filling nc_error: one sentence per failure, never more of the struct than the caller says there is.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "narrowcast/narrowcast.h"

#if defined(__GNUC__)
#define NC_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define NC_PRINTF(text, first)
#endif

namespace narrowcast {

// What every call begins with: NC_OK and no sentence (error may be null). False if the size of an nc_error does not
// even cover itself: it was never set up, and a sentence has nowhere to go.
bool ready(nc_error* error) noexcept;

// Writes status and sentence (error may be null) and returns status.
NC_PRINTF(3, 4) nc_status fail(nc_error* error, nc_status status, const char* format, ...) noexcept;

// The rest of an NC_ERROR_OVERFLOW.
void describe_element(nc_error* error, nc_reason reason, uint64_t index, double value) noexcept;

} // namespace narrowcast
