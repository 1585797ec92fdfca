// What the size of a call says about the memory that it will meet: whether stores should go past the caches, and how
// much work a thread is worth.
#pragma once

#include <stddef.h>

#include "api/check.hpp"

namespace narrowcast {

// Bytes read and written that make a thread worth its making.
enum : size_t { least_part_bytes = size_t{1} << 20 };

// Whether so many bytes, read and written, are more than will be found in a cache again.
bool exceeds_caches(size_t bytes) noexcept;

// Whether out is stored past the caches: if neither side will be found in one again. Not for casts in place.
bool worth_streaming(const Request& request) noexcept;

} // namespace narrowcast
