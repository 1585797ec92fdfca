// What the tests of nc_pack and nc_unpack in the layout lsb share.
#pragma once

#include "support.hpp"

namespace narrowcast::test {

using Bytes = std::vector<uint8_t>;

inline size_t stream_bytes(size_t n, int bits) { return (n * static_cast<size_t>(bits) + 7) / 8; }

inline nc_pack_options pack_options(const char* isa = nullptr) {
    return {sizeof(nc_pack_options), NC_LAYOUT_lsb, 0, 0, 1, isa, 0, 0};
}

inline nc_error no_error() {
    nc_error error{};
    error.size = sizeof error;
    return error;
}

} // namespace narrowcast::test
