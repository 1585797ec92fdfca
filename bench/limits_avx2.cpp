// The limit loop on 256-bit registers. Built with the flags of avx2; run only where narrowcast finds avx2.
#include "limits.hpp"

#include <immintrin.h>

namespace narrowcast_limits {
namespace {

using vec = __m256i;
constexpr size_t width = 32;

inline vec load(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline vec merge(vec a, vec b) { return _mm256_or_si256(a, b); }
inline void store(uint8_t* p, vec v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
inline void stream(uint8_t* p, vec v) { _mm256_stream_si256(reinterpret_cast<__m256i*>(p), v); }
inline void fence() { _mm_sfence(); }

#include "limits.inl.hpp"

const Form forms[] = {{"256 bit, plain", "avx2", move<false>}, {"256 bit, non-temporal", "avx2", move<true>}};

} // namespace

const FormList avx2_forms = {forms, 2};

} // namespace narrowcast_limits
