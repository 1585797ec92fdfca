// The memory limit that casts are measured against: loops that load n * S bytes and store n * D bytes and do nothing
// else. This header is the contract between the Python module (limits_module.cpp) and the loops, one unit per vector
// width (limits_generic, limits_avx2, limits_avx512, limits_neon), each compiled with its own flags.
//
// A loop must be a bound that a cast cannot beat, so it may not skip anything: every source byte is ORed into some
// destination byte, and every destination byte is written. That also makes the loops testable, and leaves nothing that
// a compiler could drop.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace narrowcast_limits {

// Source and destination must not overlap; any alignment. Item sizes are 1, 2, 4 or 8 bytes; or 3
// on one side and 4 or 8 on the other.
struct Job {
    const uint8_t* source;
    uint8_t* destination;
    size_t count; // items
    uint32_t source_bytes;
    uint32_t destination_bytes;
};

using LoopFn = void (*)(const Job& job);

// One way to move the bytes. `isa` is the narrowcast instruction set that the caller must know to be present before
// it runs the loop; "scalar" is always there.
struct Form {
    const char* name;
    const char* isa;
    LoopFn run;
};

// Each unit exports its forms, plain stores first, and nothing else.
struct FormList {
    const Form* forms;
    size_t count;
};

extern const FormList generic_forms;
extern const FormList avx2_forms;
extern const FormList avx512_forms;
extern const FormList neon_forms;

} // namespace narrowcast_limits
