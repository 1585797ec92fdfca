// The limit loop on pairs of 128-bit registers (LDP, STP, STNP). Built and run on aarch64, whose baseline has them.
#include "limits.hpp"

#include <arm_neon.h>

namespace narrowcast_limits {
namespace {

using vec = uint8x16x2_t;
constexpr size_t width = 32;

inline vec load(const uint8_t* p) { return vec{{vld1q_u8(p), vld1q_u8(p + 16)}}; }
inline vec merge(vec a, vec b) { return vec{{vorrq_u8(a.val[0], b.val[0]), vorrq_u8(a.val[1], b.val[1])}}; }
inline void store(uint8_t* p, vec v) {
    vst1q_u8(p, v.val[0]);
    vst1q_u8(p + 16, v.val[1]);
}
#if defined(__GNUC__)
inline void stream(uint8_t* p, vec v) {
    __asm__ volatile("stnp %q1, %q2, [%0]" : : "r"(p), "w"(v.val[0]), "w"(v.val[1]) : "memory");
}
#else
inline void stream(uint8_t* p, vec v) { store(p, v); }
#endif
inline void fence() {} // STNP keeps the ordinary order towards the own thread

#include "limits.inl.hpp"

const Form forms[] = {{"128 bit, plain", "neon", move<false>}, {"128 bit, non-temporal", "neon", move<true>}};

} // namespace

const FormList neon_forms = {forms, 2};

} // namespace narrowcast_limits
