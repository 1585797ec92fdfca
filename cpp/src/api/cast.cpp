// nc_cast: check, choose, arrange, scan, run. Each step is a room of its own (check, isa, layout, raise, plan, walk,
// block); what is here is their order, the splitting over threads, the choice of pieces, and the short way of small
// dense casts.
#include <algorithm>
#include <optional>

#include "api/block.hpp"
#include "api/cast_error.hpp"
#include "api/check.hpp"
#include "api/error.hpp"
#include "api/fp_guard.hpp"
#include "api/isa.hpp"
#include "api/layout.hpp"
#include "api/memory.hpp"
#include "api/plan.hpp"
#include "api/raise.hpp"
#include "api/walk.hpp"
#include "dispatch/registry.hpp"
#include "parallel/split.hpp"

namespace narrowcast {
namespace {

// Runs that are worth a kernel call of their own; shorter ones are gathered until a tile is full. If only one side has
// runs the other one is gathered anyway, and a run must be longer to be worth a smaller tile.
constexpr size_t least_run = 64;
constexpr size_t least_one_sided_run = 128;

struct Job {
    Plan plan;
    const Request* request;
    PhiloxFn philox;
    bool stream;
};

struct Part {
    const Job* job;
    const Layout* layout;
};

bool is_dense(const Job& job, const Layout& layout) noexcept {
    const Request& r = *job.request;
    return layout.count == 1 && !r.x.swapped && !r.out.swapped && layout.dims[0].x == static_cast<int64_t>(r.x.item) &&
           layout.dims[0].out == static_cast<int64_t>(r.out.item);
}

// How many elements go into the tile at position `at`: whole rows if they are short, equal pieces of long ones.
size_t tile_count(size_t row, size_t at) noexcept {
    const size_t inside = at % row;
    if (row <= tile_items)
        return tile_items / row * row - inside;
    const size_t pieces = (row + tile_items - 1) / tile_items;
    const size_t piece = std::min<size_t>(tile_items, ((row + pieces - 1) / pieces + 15) / 16 * 16);
    return std::min(piece, row - inside);
}

void cast_strided(const Job& job, const Layout& layout, size_t begin, size_t end) noexcept {
    const Request& r = *job.request;
    const size_t row = static_cast<size_t>(layout.dims[layout.count - 1].extent);
    Reader reader(layout, r.x.item, r.x.swapped, begin);
    Writer writer(layout, r.out.item, r.out.swapped, begin);
    std::optional<Words> random;
    if (job.plan.random())
        random.emplace(layout, job.philox, r.options.seed, r.options.offset, begin);
    for (size_t at = begin, n = 0; at < end; at += n) {
        const size_t left = end - at;
        const size_t from = reader.direct(), to = writer.direct();
        const size_t both = std::min(from, to);
        if (both >= least_run) {
            n = std::min({both, left, random ? size_t{tile_items} : left});
        } else {
            n = std::min(tile_count(row, at), left);
            if (from >= least_one_sided_run)
                n = std::min(n, from);
            if (to >= least_one_sided_run)
                n = std::min(n, to);
        }
        if (job.plan.copy && n > from && n <= to) { // straight to its place
            reader.gather(writer.next(n), n);
            writer.done(n);
            continue;
        }
        if (job.plan.copy && n > to) {
            writer.scatter(reader.next(n), n);
            continue;
        }
        const uint32_t* words = random ? random->next(n) : nullptr;
        const void* x = reader.next(n);
        run_plan(job.plan, x, writer.next(n), n, words, job.stream && n <= to);
        writer.done(n);
    }
}

void cast_part(void* context, size_t begin, size_t end) noexcept {
    const auto& [job, layout] = *static_cast<const Part*>(context);
    const FpGuard guard(job->plan.fp_rounding);
    if (is_dense(*job, *layout) && !job->plan.random())
        run_plan(job->plan, layout->x + begin * job->plan.src_item, layout->out + begin * job->plan.dst_item,
                 end - begin, nullptr, job->stream);
    else
        cast_strided(*job, *layout, begin, end);
}

void cast_layout(const Job& job, const Layout& layout, int32_t threads) noexcept {
    Part part{&job, &layout};
    if (threads == 1) { // the common case, without the arithmetic
        cast_part(&part, 0, layout.n);
        return;
    }
    const size_t item_bytes = job.plan.src_item + job.plan.dst_item;
    run_parts(layout.n, {threads, tile_items, least_part_bytes / item_bytes}, cast_part, &part);
}

// The cast and what it lost, piece by piece: each is compared while it lies in the nearest cache.
void cast_compared(const Job& job, const Layout& layout, const KernelTable& table, nc_error_sums& sums) noexcept {
    const Request& r = *job.request;
    const Comparison comparison(table, r.x.format, r.out.format, r.options.rounding);
    Part part{&job, &layout};
    for (size_t begin = 0; begin < layout.n; begin += comparison_items) {
        const size_t n = std::min(comparison_items, layout.n - begin);
        cast_part(&part, begin, begin + n);
        comparison.add(layout.x + begin * r.x.item, layout.out + begin * r.out.item, n, sums);
    }
}

// The order of visiting, and whether it is allowed: out must not overlap itself, and x only if it lies on it exactly.
nc_status order(const Request& request, bool random, nc_error* error, Layout& layout, bool& in_place) noexcept {
    if (const nc_status status = arrange(request, error, layout))
        return status;
    in_place = share_bytes(request.x, request.out);
    if (in_place) {
        const Dim& only = layout.dims[0];
        const bool exact = layout.count == 1 && layout.x == layout.out &&
                           only.x == static_cast<int64_t>(request.x.item) &&
                           only.out == static_cast<int64_t>(request.out.item);
        if (!exact || request.out.item > request.x.item)
            return fail(error, NC_ERROR_OVERLAP,
                        "out overlaps x; it may do so only if both are contiguous, begin at the same address, and "
                        "out's items (%zu bytes) are no larger than x's (%zu)",
                        request.out.item, request.x.item);
    }
    const bool dense = request.x.strides == nullptr && request.out.strides == nullptr;
    if (random && !dense) { // the words follow the logical index
        c_order(request, layout);
        if (in_place)
            memory_order(layout, true);
        else
            merge(layout);
    }
    return NC_OK;
}

nc_status cast(const Request& request, const KernelTable& table, nc_error* error) noexcept {
    Job job{make_plan(table, request.x.format, request.out.format, request.options.rounding, request.options.overflow),
            &request, table.philox, false};
    const bool random = job.plan.random();
    Layout layout;
    bool in_place = false;
    if (const nc_status status = order(request, random, error, layout, in_place))
        return status;
    if (request.options.overflow == NC_OVERFLOW_RAISE)
        if (const nc_status status = scan_for_overflow(table, request, error))
            return status;

    nc_error_sums* const lost = request.options.lost;
    if (lost != nullptr && in_place)
        return fail(error, NC_ERROR_OVERLAP,
                    "out is x itself, and options.lost asks what the cast lost, which needs both");
    const int32_t threads = in_place ? 1 : request.options.threads;
    if (lost != nullptr && threads == 1 && is_dense(job, layout)) {
        nc_error_sums sums = empty_sums(*lost);
        cast_compared(job, layout, table, sums);
        add_sums(sums, *lost);
        return NC_OK;
    }
    job.stream = !in_place && worth_streaming(request);
    const int32_t blocked = layout.count > 1 ? blocking_dimension(layout, request.x.item, request.out.item) : -1;
    if (blocked < 0)
        cast_layout(job, layout, threads);
    for (int i = 0; blocked >= 0 && i < block_parts; ++i) {
        Layout part;
        block_part(layout, blocked, request.x.item, random, i, part);
        if (part.n != 0)
            cast_layout(job, part, threads);
    }
    if (lost != nullptr)
        compare(table, request, *lost);
    return NC_OK;
}

// The calls that need no arranging, past all the rest; false if this is another one, or a wrong one.
bool cast_plain(const nc_array* x, const nc_array* out, const nc_cast_options* options) noexcept {
    if (x == nullptr || out == nullptr)
        return false;
    const size_t n = plain_elements(*x, *out, options);
    if (n == 0)
        return false;
    const char* isa = options != nullptr ? options->isa : nullptr;
    const KernelTable* table = isa != nullptr ? find_isa(isa) : default_isa().table;
    if (table == nullptr)
        return false;
    const int32_t rounding = options != nullptr ? options->rounding : int32_t{NC_NEAREST_EVEN};
    const int32_t overflow = options != nullptr ? options->overflow : int32_t{NC_OVERFLOW_IEEE};
    const Plan plan = make_plan(*table, x->format, out->format, rounding, overflow);
    const FpGuard guard(plan.fp_rounding);
    run_plan(plan, x->data, out->data, n, nullptr, false);
    return true;
}

} // namespace
} // namespace narrowcast

nc_status nc_cast(const nc_array* x, const nc_array* out, const nc_cast_options* options, nc_error* error) noexcept {
    using namespace narrowcast;
    if (!ready(error))
        return NC_ERROR_ARGUMENT;
    if (cast_plain(x, out, options))
        return NC_OK;
    Request request;
    if (const nc_status status = check_request(x, out, options, error, request))
        return status;
    if (request.options.lost != nullptr)
        if (const nc_status status = check_sums(request.options.lost, error))
            return status;
    const KernelTable* table = nullptr;
    if (const nc_status status = choose_table(request.options.isa, error, table))
        return status;
    return request.n == 0 ? NC_OK : cast(request, *table, error);
}
