// What this CPU and operating system can run, read from CPUID and XGETBV (x86-64) or the kernel (aarch64) once, at
// first use. The names are those that cpp/cmake/isa.cmake uses for "needed CPU bits". Which instruction set is chosen
// is not decided here (registry.hpp). The unit is compiled at baseline flags.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <string_view>

namespace narrowcast {

enum class CpuFeature : uint8_t {
    avx2,
    f16c,
    fma,
    avx512f,
    avx512bw,
    avx512dq,
    avx512vl,
    avx512vbmi,
    avx512bf16,
    asimd,
};

struct NamedFeature {
    std::string_view name;
    CpuFeature feature;
};

inline constexpr NamedFeature cpu_feature_list[] = {
    {"avx2", CpuFeature::avx2},
    {"f16c", CpuFeature::f16c},
    {"fma", CpuFeature::fma},
    {"avx512f", CpuFeature::avx512f},
    {"avx512bw", CpuFeature::avx512bw},
    {"avx512dq", CpuFeature::avx512dq},
    {"avx512vl", CpuFeature::avx512vl},
    {"avx512vbmi", CpuFeature::avx512vbmi},
    {"avx512bf16", CpuFeature::avx512bf16},
    {"asimd", CpuFeature::asimd},
};

class FeatureSet {
public:
    constexpr void add(CpuFeature feature) noexcept { bits_ |= bit(feature); }
    constexpr bool has(CpuFeature feature) const noexcept { return (bits_ & bit(feature)) != 0; }

    // Whether all of a list such as "avx2;f16c" is here. A name that is not in cpu_feature_list is not here.
    constexpr bool has_all(std::string_view needed) const noexcept {
        while (!needed.empty()) {
            const size_t end = needed.find(';');
            if (!has_name(needed.substr(0, end)))
                return false;
            needed = end == std::string_view::npos ? std::string_view{} : needed.substr(end + 1);
        }
        return true;
    }

private:
    static constexpr uint32_t bit(CpuFeature feature) noexcept { return uint32_t{1} << static_cast<unsigned>(feature); }

    constexpr bool has_name(std::string_view name) const noexcept {
        for (const NamedFeature& row : cpu_feature_list)
            if (row.name == name)
                return has(row.feature);
        return false;
    }

    uint32_t bits_ = 0;
};

FeatureSet cpu_features() noexcept;

} // namespace narrowcast
