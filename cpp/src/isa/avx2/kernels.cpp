// The AVX2 table: the generic kernels on this unit's vocabulary.
#include "isa/avx2/vec.hpp"

#include "kernels/all.inl.hpp"

namespace narrowcast {

#if defined(__AVX2__) && (defined(__F16C__) || defined(_MSC_VER))
extern const KernelTable table_avx2;
constinit const KernelTable table_avx2 = generic_table("avx2", true);
#endif

} // namespace narrowcast
