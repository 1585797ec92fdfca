// The instruction sets compiled into this library, best first, and which of them this CPU can run. Rows come from
// cpp/cmake/isa.cmake by way of the generated isa_list.def. Everything is found out at first use: no static
// initialisers, no ifunc. A call that names its set does not touch the default.
#pragma once

#include <stddef.h>

#include "dispatch/kernel_table.hpp"

namespace narrowcast {

// Compiled sets, best first; null past the end. A set whose compiler flags did not reach its unit does not count.
const char* isa_name(size_t position) noexcept;

// The table of a name if this CPU can run it, else null.
const KernelTable* find_isa(const char* name) noexcept;

// Whether the name is compiled in, whatever the CPU.
bool isa_is_compiled(const char* name) noexcept;

// What calls use that name no set. table is null if NARROWCAST_ISA asked for one that there is not; asked is then
// what it said (cut to fit).
struct DefaultIsa {
    const KernelTable* table;
    char asked[64];
};
const DefaultIsa& default_isa() noexcept;

// "avx512, avx2, scalar": the sets that this CPU can run, best first, always terminated, cut to fit.
void list_supported_isas(char* buffer, size_t size) noexcept;

} // namespace narrowcast
