// The layouts of layouts.def at work: codes in C order, a byte each, into packed words and back, for any range of them.
// Bits that end on a line are the kernels' matter; arguments are checked in pack.cpp.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <limits>

#include "codec/packing.hpp"
#include "dispatch/kernel_table.hpp"

namespace narrowcast {

// No array is longer; below it the arithmetic on sizes cannot overflow.
constexpr size_t most_codes = std::numeric_limits<ptrdiff_t>::max();

struct PackLayout {
    const char* name;
    int32_t layout; // nc_layout
    uint32_t widths;
    int32_t word_bits;
    PackOrder order;
    int32_t axis;
    bool biased;
};

const PackLayout* pack_layout_at(int32_t position) noexcept; // null past the end
const PackLayout* find_pack_layout(int32_t layout) noexcept; // null if there is none
inline bool has_width(const PackLayout& layout, int32_t bits) noexcept {
    return bits >= 1 && bits <= most_code_bits && (layout.widths >> bits & 1) != 0;
}
// Bytes of a line of n codes, and how many codes a line must be a multiple of to fill them.
size_t packed_line_bytes(const PackLayout& layout, int32_t bits, size_t n) noexcept;
size_t packed_line_granule(const PackLayout& layout, int32_t bits) noexcept;

// One packed array: `outer` blocks of PackShape's lines.
struct PackedArray {
    PackShape shape;
    size_t outer;
    size_t line_bytes;
    uint8_t mask;             // of a code's bits
    uint8_t bias;             // what is added to them, in the layout; 0: nothing
    bool is_signed;           // codes are to be sign-extended
    const KernelTable* table; // to be set
};
PackedArray packed_array(const PackLayout& layout, int32_t bits, bool is_signed, size_t n, size_t along,
                         size_t inner) noexcept;

// Whether it is one dense stream of codes in their own order: what the kernels make without any help.
bool is_stream(const PackedArray& array) noexcept;

// Where codes come from: from memory if `array` is null, else from there, packed, `memory` being its bytes.
struct CodeSource {
    const unsigned char* memory;
    const PackedArray* array;
};

// Codes [first, first + count) in C order.
void read_codes(const PackedArray& array, const unsigned char* packed, size_t first, size_t count,
                unsigned char* codes) noexcept;
// Packing goes by units, in any order, each with bytes of its own.
size_t pack_units(const PackedArray& array) noexcept;
size_t codes_per_unit(const PackedArray& array) noexcept; // about
void write_units(const PackedArray& array, unsigned char* packed, size_t begin, size_t end,
                 const CodeSource& source) noexcept;

} // namespace narrowcast
