// The AVX-512 table (F+BW+DQ+VL): the generic kernels on this unit's vocabulary; packed codes of 4 bits become values
// by nibbles.hpp.
#include "isa/avx512/vec.hpp"

#include "kernels/all.inl.hpp"

#include "isa/avx512/nibbles.hpp"

namespace narrowcast {

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
namespace {
constexpr KernelTable make_table() {
    KernelTable table = generic_table("avx512", true);
    override_nibbles(table);
    return table;
}
} // namespace

extern const KernelTable table_avx512;
constinit const KernelTable table_avx512 = make_table();
#endif

} // namespace narrowcast
