// Hostile input ends here: nc_cast's arguments are read, checked and put into a Request whose every number may be
// computed with. What is allowed is written in narrowcast.h; each refusal says what came and what would be right.
// Overlap is not judged here (layout.hpp), values are not read (raise.hpp).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "narrowcast/narrowcast.h"

namespace narrowcast {

// Of a stride: also of the one that has no opposite.
constexpr uint64_t magnitude(int64_t stride) noexcept {
    return stride < 0 ? 0 - static_cast<uint64_t>(stride) : static_cast<uint64_t>(stride);
}

struct Operand {
    unsigned char* data;    // the first element; never written through for x
    const int64_t* strides; // null if C-contiguous
    int32_t format;
    size_t item;    // bytes
    bool swapped;   // not in the CPU's byte order, and it matters
    uintptr_t low;  // first byte of any element
    uintptr_t high; // one past the last byte of any element
};

inline bool share_bytes(const Operand& a, const Operand& b) noexcept { return a.high > b.low && b.high > a.low; }

struct Request {
    Operand x;
    Operand out;
    const int64_t* shape;
    int32_t ndim;
    size_t n;                // elements
    nc_cast_options options; // complete, whatever the caller's size
};

// The steps of it that other checks share, in this order. What can be said about one array without the others:
nc_status check_array(const nc_array& array, const char* name, nc_error* error) noexcept;
// The number of elements: 0 if any extent is 0, whatever the others. False if they are more than can be addressed.
bool count_elements(const nc_array& array, uint64_t& n) noexcept;
// Where the n elements lie. If n is 0 nothing but what the format says is filled in.
nc_status fill_operand(const nc_array& array, const char* name, uint64_t n, nc_error* error, Operand& operand) noexcept;

// Fills request, or fails. If request.n is 0 nothing but formats and options is filled in.
nc_status check_request(const nc_array* x, const nc_array* out, const nc_cast_options* options, nc_error* error,
                        Request& request) noexcept;

// Most calls: small dense arrays that are apart or in place, a deterministic rounding, nothing refused. Everything that
// check_request and the overlap rules would look at (all but options.isa) is looked at here too; whatever is out of the
// ordinary gives 0, and the call goes on to them. Otherwise the number of elements, whose bytes number at most
// plain_bytes.
enum : size_t { plain_bytes = size_t{1} << 18 };
size_t plain_elements(const nc_array& x, const nc_array& out, const nc_cast_options* options) noexcept;

} // namespace narrowcast
