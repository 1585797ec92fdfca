// The AVX2 table: the generic kernels on this unit's vocabulary, and packing of 1, 2 and 4 bits of its own.
#include "isa/avx2/vec.hpp"

#include "kernels/all.inl.hpp"

#include "isa/avx2/bitpack.hpp"

namespace narrowcast {

#if defined(__AVX2__) && ((defined(__F16C__) && defined(__FMA__)) || defined(_MSC_VER))
extern const KernelTable table_avx2;
constinit const KernelTable table_avx2 = with_whole_bytes(generic_table("avx2", true));
#endif

} // namespace narrowcast
