// The limit loop for any machine, on 16-byte registers of the architecture's baseline where the compiler has vector
// types, else on pairs of integers. No non-temporal form: the language has none.
#include "limits.hpp"

#include <string.h>

namespace narrowcast_limits {
namespace {

#if defined(__GNUC__)
using vec = uint64_t __attribute__((vector_size(16)));
inline vec merge(vec a, vec b) { return a | b; }
#else
struct vec {
    uint64_t low;
    uint64_t high;
};
inline vec merge(vec a, vec b) { return vec{a.low | b.low, a.high | b.high}; }
#endif
constexpr size_t width = sizeof(vec);

inline vec load(const uint8_t* p) {
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}
inline void store(uint8_t* p, vec v) { memcpy(p, &v, sizeof v); }
[[maybe_unused]] inline void stream(uint8_t* p, vec v) { store(p, v); }
[[maybe_unused]] inline void fence() {}

#include "limits.inl.hpp"

const Form forms[] = {{"portable, plain", "scalar", move<false>}};

} // namespace

const FormList generic_forms = {forms, 1};

} // namespace narrowcast_limits
