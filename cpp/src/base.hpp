// What every unit may need: host/device marks, bit reinterpretation, counting zeros. The only compiler #ifdefs of the
// core's arithmetic live here. Safe to include from an ISA unit: nothing here is emitted as a symbol.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__CUDACC__)
#define NC_HD __host__ __device__
#else
#define NC_HD
#endif

// At the start of a function that runs under the rounding mode of its caller. Clang otherwise converts wide integers
// by subtracting magic numbers, which makes -0 of 0 when rounding down. (GCC knows no such pragma, nor such a trick.)
#if defined(__clang__)
#define NC_ROUNDING_IS_DYNAMIC _Pragma("STDC FENV_ACCESS ON")
#else
#define NC_ROUNDING_IS_DYNAMIC
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#include <string.h>
#define NC_COPY memcpy
#define NC_INLINE __forceinline
#define NC_NOINLINE __declspec(noinline)
#define NC_INLINE_LAMBDA
#else
#define NC_COPY __builtin_memcpy // no header: an ISA unit includes next to none
#define NC_INLINE inline __attribute__((always_inline))
#define NC_INLINE_LAMBDA __attribute__((always_inline))
#if defined(__clang__)
#define NC_NOINLINE __attribute__((noinline))
#else
#define NC_NOINLINE __attribute__((noinline, noclone)) // a clone per caller would double every kernel
#endif
#endif

namespace narrowcast {

// 64 for 0. Halving steps, so that it is constexpr on host and device without <bit>.
NC_HD constexpr int leading_zeros(uint64_t value) {
    if (value == 0)
        return 64;
    int zeros = 0;
    for (int step = 32; step != 0; step /= 2) {
        if ((value >> (64 - step)) == 0) {
            zeros += step;
            value <<= step;
        }
    }
    return zeros;
}

} // namespace narrowcast
