// The limit loop on 512-bit registers. Built with the flags of avx512; run only where narrowcast finds avx512.
#include "limits.hpp"

#include <immintrin.h>

namespace narrowcast_limits {
namespace {

using vec = __m512i;
constexpr size_t width = 64;

inline vec load(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline vec merge(vec a, vec b) { return _mm512_or_si512(a, b); }
inline void store(uint8_t* p, vec v) { _mm512_storeu_si512(p, v); }
inline void stream(uint8_t* p, vec v) { _mm512_stream_si512(reinterpret_cast<__m512i*>(p), v); }
inline void fence() { _mm_sfence(); }

#include "limits.inl.hpp"

const Form forms[] = {{"512 bit, plain", "avx512", move<false>}, {"512 bit, non-temporal", "avx512", move<true>}};

} // namespace

const FormList avx512_forms = {forms, 2};

} // namespace narrowcast_limits
