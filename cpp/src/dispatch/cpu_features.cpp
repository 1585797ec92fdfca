// CPUID says what the CPU has; XGETBV says which registers the operating system saves. An AVX bit without the saved
// state is a fault at the first instruction, so both must agree before a feature counts.
#include "dispatch/cpu_features.hpp"

#if defined(__x86_64__) || defined(_M_X64)
#define NARROWCAST_X86 1
#if defined(_MSC_VER)
#include <immintrin.h>
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace narrowcast {
namespace {

#if defined(NARROWCAST_X86)

struct Registers {
    uint32_t eax, ebx, ecx, edx;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf) noexcept {
    Registers r{};
#if defined(_MSC_VER)
    int values[4];
    __cpuidex(values, static_cast<int>(leaf), static_cast<int>(subleaf));
    r = {static_cast<uint32_t>(values[0]), static_cast<uint32_t>(values[1]), static_cast<uint32_t>(values[2]),
         static_cast<uint32_t>(values[3])};
#else
    __cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
#endif
    return r;
}

// XCR0. Only to be asked when CPUID says OSXSAVE.
uint64_t saved_state() noexcept {
#if defined(_MSC_VER)
    return _xgetbv(0);
#else
    uint32_t low = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0)); // the intrinsic would need -mxsave
    return (uint64_t{high} << 32) | low;
#endif
}

constexpr bool bit(uint32_t word, int position) noexcept { return ((word >> position) & 1) != 0; }

FeatureSet detect() noexcept {
    FeatureSet found;
    const auto add = [&found](bool present, CpuFeature feature) {
        if (present)
            found.add(feature);
    };
    const uint32_t last_leaf = cpuid(0, 0).eax;
    if (last_leaf < 1)
        return found;
    const Registers basic = cpuid(1, 0);
    if (!bit(basic.ecx, 27)) // OSXSAVE: without it there is no XGETBV
        return found;
    const uint64_t saved = saved_state();
    constexpr uint64_t ymm = 0x06, zmm = 0xe0; // XMM and YMM; opmask, upper ZMM, ZMM16-31
    if ((saved & ymm) != ymm || !bit(basic.ecx, 28))
        return found;
    add(bit(basic.ecx, 12), CpuFeature::fma);
    add(bit(basic.ecx, 29), CpuFeature::f16c);
    if (last_leaf < 7)
        return found;
    const Registers extended = cpuid(7, 0);
    add(bit(extended.ebx, 5), CpuFeature::avx2);
    if ((saved & zmm) != zmm || !bit(extended.ebx, 16))
        return found;
    found.add(CpuFeature::avx512f);
    add(bit(extended.ebx, 17), CpuFeature::avx512dq);
    add(bit(extended.ebx, 30), CpuFeature::avx512bw);
    add(bit(extended.ebx, 31), CpuFeature::avx512vl);
    add(bit(extended.ecx, 1), CpuFeature::avx512vbmi);
    if (extended.eax >= 1)
        add(bit(cpuid(7, 1).eax, 5), CpuFeature::avx512bf16);
    return found;
}

#elif defined(__aarch64__) || defined(_M_ARM64)

FeatureSet detect() noexcept {
    FeatureSet found;
#if defined(__linux__)
    constexpr unsigned long hwcap_asimd = 1ul << 1; // the kernel's ABI; its header is not everywhere
    if ((getauxval(AT_HWCAP) & hwcap_asimd) == 0)
        return found;
#endif
    found.add(CpuFeature::asimd); // elsewhere the architecture's baseline
    return found;
}

#else

FeatureSet detect() noexcept { return {}; }

#endif

} // namespace

FeatureSet cpu_features() noexcept {
    static const FeatureSet found = detect();
    return found;
}

} // namespace narrowcast
