// The AVX-512 table (F+BW+DQ+VL): the generic kernels on this unit's vocabulary.
#include "isa/avx512/vec.hpp"

#include "kernels/all.inl.hpp"

namespace narrowcast {

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
extern const KernelTable table_avx512;
constinit const KernelTable table_avx512 = generic_table("avx512", true);
#endif

} // namespace narrowcast
