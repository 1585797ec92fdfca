// Static parts of equal size, rounded to the granule. The bookkeeping lives on the stack.
#include "parallel/split.hpp"

#include <algorithm>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace narrowcast {
namespace {

constexpr size_t most_parts = 256;

// Cores that this process may use: containers and taskset narrow the affinity, not hardware_concurrency.
size_t core_count() noexcept {
#if defined(__linux__)
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
        const int count = CPU_COUNT(&allowed);
        if (count > 0)
            return static_cast<size_t>(count);
    }
#endif
    return std::max<size_t>(1, std::thread::hardware_concurrency());
}

} // namespace

size_t part_count(size_t n, const SplitRule& rule) noexcept {
    if (rule.threads == 1)
        return 1;
    const size_t worth = n / std::max<size_t>({rule.least_part, rule.granule, 1});
    if (worth <= 1)
        return 1;
    const size_t wanted = rule.threads <= 0 ? core_count() : static_cast<size_t>(rule.threads);
    return std::max<size_t>(1, std::min({wanted, worth, most_parts}));
}

void run_parts(size_t n, const SplitRule& rule, PartFn part, void* context) noexcept {
    const size_t parts = part_count(n, rule);
    if (parts == 1) {
        part(context, 0, n);
        return;
    }
    // Whole granules, dealt as evenly as they go; the last part takes the rest.
    const size_t granules = n / rule.granule;
    const auto begin_of = [&](size_t i) {
        if (i == parts)
            return n;
        return (granules / parts * i + std::min(i, granules % parts)) * rule.granule;
    };
    std::thread workers[most_parts - 1];
    size_t made = 0;
    for (; made + 1 < parts; ++made) {
        try {
            workers[made] = std::thread(part, context, begin_of(made + 1), begin_of(made + 2));
        } catch (...) { // no more threads, or no memory for one
            break;
        }
    }
    part(context, 0, begin_of(1));
    if (made + 1 < parts)
        part(context, begin_of(made + 1), n);
    for (size_t i = 0; i < made; ++i)
        workers[i].join();
}

} // namespace narrowcast
