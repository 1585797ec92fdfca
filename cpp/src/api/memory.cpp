// The caches of this machine, asked for once.
#include "api/memory.hpp"

#include <algorithm>

#if defined(__linux__)
#include <unistd.h>
#endif

namespace narrowcast {
namespace {

// The last-level cache that one call may count on. Some machines, virtual ones above all, report the sum over all core
// complexes or sockets; a core has no more than its own complex's share.
size_t last_level_cache() noexcept {
    static constexpr size_t usual = size_t{32} << 20;
    static const size_t bytes = []() -> size_t {
#if defined(_SC_LEVEL3_CACHE_SIZE)
        const long found = sysconf(_SC_LEVEL3_CACHE_SIZE);
        if (found > 0)
            return std::min(static_cast<size_t>(found), usual);
#endif
        return usual;
    }();
    return bytes;
}

} // namespace

bool exceeds_caches(size_t bytes) noexcept {
    return bytes > size_t{1} << 20 && bytes > last_level_cache(); // small calls do not ask for the cache's size
}

bool worth_streaming(const Request& request) noexcept {
    return exceeds_caches(request.n * (request.x.item + request.out.item)) &&
           reinterpret_cast<uintptr_t>(request.out.data) % request.out.item == 0;
}

} // namespace narrowcast
