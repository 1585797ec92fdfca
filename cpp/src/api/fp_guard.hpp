// The floating-point environment of every kernel call: exceptions masked, no flush-to-zero of any kind, and the
// rounding direction that the plan asks for. The caller's word comes back exactly, sticky flags included, so a cast
// neither depends on the process's environment nor leaves a trace in it. Each thread needs its own guard.
//
// Other architectures go through <cfenv>, which knows of rounding and traps. They have no vector unit here, so that
// nothing flushes to zero.
#pragma once

#include <stdint.h>

#include "narrowcast/narrowcast.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#elif defined(_M_ARM64)
#include <intrin.h>
#elif !defined(__aarch64__)
#include <cfenv>
#endif

namespace narrowcast {

class FpGuard {
public:
    // rounding: NC_NEAREST_EVEN, NC_TOWARD_ZERO, NC_UP or NC_DOWN.
    explicit FpGuard(int32_t rounding) noexcept;
    ~FpGuard() noexcept;
    FpGuard(const FpGuard&) = delete;
    FpGuard& operator=(const FpGuard&) = delete;

private:
#if defined(__aarch64__) || defined(_M_ARM64)
    uint64_t control_;
    uint64_t status_;
#elif defined(__x86_64__) || defined(_M_X64)
    uint32_t control_;
#else
    std::fenv_t control_;
#endif
};

#if defined(__x86_64__) || defined(_M_X64)

// MXCSR: bits 13-14 are the direction (0 nearest, 1 down, 2 up, 3 zero), 7-12 the masks, 0-5 the sticky flags. A write
// costs more than a small cast: it is left out where the word is right but for the flags, which decide nothing.
inline FpGuard::FpGuard(int32_t rounding) noexcept : control_(_mm_getcsr()) {
    constexpr uint32_t directions[] = {0, 3, 2, 1}; // by nc_rounding
    const uint32_t wanted = 0x1f80u | directions[rounding & 3] << 13;
    if ((control_ & ~0x3fu) != wanted)
        _mm_setcsr(wanted);
}

inline FpGuard::~FpGuard() noexcept {
    if (_mm_getcsr() != control_)
        _mm_setcsr(control_);
}

#elif defined(__aarch64__) || defined(_M_ARM64)

// FPCR: bits 22-23 are the direction (0 nearest, 1 up, 2 down, 3 zero); all else zero is IEEE without traps, flushing,
// alternative half precision or default NaNs. FPSR holds the sticky flags.
inline FpGuard::FpGuard(int32_t rounding) noexcept {
    constexpr uint64_t directions[] = {0, 3, 1, 2}; // by nc_rounding
    const uint64_t wanted = directions[rounding & 3] << 22;
#if defined(_M_ARM64) && !defined(__clang__)
    control_ = static_cast<uint64_t>(_ReadStatusReg(ARM64_FPCR));
    status_ = static_cast<uint64_t>(_ReadStatusReg(ARM64_FPSR));
    _WriteStatusReg(ARM64_FPCR, static_cast<__int64>(wanted));
#else
    __asm__ volatile("mrs %0, fpcr" : "=r"(control_)::"memory");
    __asm__ volatile("mrs %0, fpsr" : "=r"(status_)::"memory");
    __asm__ volatile("msr fpcr, %0" ::"r"(wanted) : "memory");
#endif
}

inline FpGuard::~FpGuard() noexcept {
#if defined(_M_ARM64) && !defined(__clang__)
    _WriteStatusReg(ARM64_FPCR, static_cast<__int64>(control_));
    _WriteStatusReg(ARM64_FPSR, static_cast<__int64>(status_));
#else
    __asm__ volatile("msr fpcr, %0" ::"r"(control_) : "memory");
    __asm__ volatile("msr fpsr, %0" ::"r"(status_) : "memory");
#endif
}

#else

inline FpGuard::FpGuard(int32_t rounding) noexcept {
    constexpr int directions[] = {FE_TONEAREST, FE_TOWARDZERO, FE_UPWARD, FE_DOWNWARD}; // by nc_rounding
    std::feholdexcept(&control_);
    std::fesetround(directions[rounding & 3]);
}

inline FpGuard::~FpGuard() noexcept { std::fesetenv(&control_); }

#endif

} // namespace narrowcast
