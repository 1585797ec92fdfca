// The NEON table: the generic kernels on this unit's vocabulary. Here is no algorithm and no format.
#if defined(__aarch64__) || defined(_M_ARM64)

#include "isa/neon/vec.hpp"

#include "kernels/all.inl.hpp"

namespace narrowcast {

extern const KernelTable table_neon;
constinit const KernelTable table_neon = generic_table("neon", true);

} // namespace narrowcast

#endif
