// nc_unscale: all arrays are checked before the first one is written; then each is walked in the order of its memory,
// straight through or, where its elements lie apart, tile by tile.
#include <algorithm>
#include <atomic>
#include <cmath>

#include "api/check.hpp"
#include "api/error.hpp"
#include "api/format_table.hpp"
#include "api/fp_guard.hpp"
#include "api/isa.hpp"
#include "api/layout.hpp"
#include "api/memory.hpp"
#include "api/walk.hpp"
#include "parallel/split.hpp"

namespace narrowcast {
namespace {

// A run that is worth a kernel call of its own.
constexpr size_t least_run = 64;

struct Job {
    const Request* request;
    const Layout* layout;
    UnscaleFn kernel;
    float inv_scale;
    bool stream;
    std::atomic<bool> found;
};

nc_status check_one(const nc_array* x, const nc_array* out, const nc_cast_options* options, nc_error* error,
                    Request& request) noexcept {
    if (format_exists(x->format) && x->format != NC_FORMAT_f64 && x->format != NC_FORMAT_f32 &&
        x->format != NC_FORMAT_f16 && x->format != NC_FORMAT_bf16)
        return fail(error, NC_ERROR_FORMAT,
                    "x.format is %s; only float64, float32, float16 and bfloat16 can be unscaled",
                    format_of(x->format).name);
    if (const nc_status status = check_request(x, out, options, error, request))
        return status;
    if (x->format != out->format)
        return fail(error, NC_ERROR_FORMAT, "out.format is %s but x.format is %s; they must be equal",
                    format_of(out->format).name, format_of(x->format).name);
    return NC_OK;
}

// The order of visiting. out is x, element by element, or apart from it.
nc_status order(const Request& request, nc_error* error, Layout& layout, bool& in_place) noexcept {
    if (const nc_status status = arrange(request, error, layout))
        return status;
    in_place = share_bytes(request.x, request.out);
    if (!in_place)
        return NC_OK;
    bool exact = layout.x == layout.out && request.x.swapped == request.out.swapped;
    for (int32_t i = 0; i < layout.count; ++i)
        exact = exact && layout.dims[i].x == layout.dims[i].out;
    if (!exact)
        return fail(error, NC_ERROR_OVERLAP, "out overlaps x; it may do so only if it is x, element by element");
    return NC_OK;
}

void unscale_part(void* context, size_t begin, size_t end) noexcept {
    Job& job = *static_cast<Job*>(context);
    const Request& r = *job.request;
    const FpGuard guard(NC_NEAREST_EVEN);
    Reader reader(*job.layout, r.x.item, r.x.swapped, begin);
    Writer writer(*job.layout, r.out.item, r.out.swapped, begin);
    bool found = false;
    for (size_t at = begin, n = 0; at < end; at += n) {
        const size_t both = std::min(reader.direct(), writer.direct());
        n = std::min<size_t>(end - at, both >= least_run ? both : tile_items);
        const void* x = reader.next(n);
        void* out = writer.next(n);
        found = job.kernel(x, out, n, job.inv_scale, job.stream && n <= both) || found;
        writer.done(n);
    }
    if (found)
        job.found.store(true, std::memory_order_relaxed); // the threads are joined before it is read
}

bool unscale_one(const Request& request, const Layout& layout, const KernelTable& table, float inv_scale,
                 bool in_place) noexcept {
    const size_t item_bytes = request.x.item + request.out.item;
    const bool stream = !in_place && worth_streaming(request);
    Job job{&request, &layout, table.unscale[request.x.format], inv_scale, stream, false};
    run_parts(layout.n, {request.options.threads, tile_items, least_part_bytes / item_bytes}, unscale_part, &job);
    return job.found.load(std::memory_order_relaxed);
}

} // namespace
} // namespace narrowcast

nc_status nc_unscale(const nc_array* x, const nc_array* out, size_t count, float inv_scale,
                     const nc_cast_options* options, int32_t* found_inf, nc_error* error) noexcept {
    using namespace narrowcast;
    if (!ready(error))
        return NC_ERROR_ARGUMENT;
    if (found_inf == nullptr)
        return fail(error, NC_ERROR_ARGUMENT, "found_inf is null; it must point to an int32_t");
    if (x == nullptr && count != 0)
        return fail(error, NC_ERROR_ARGUMENT, "x is null; it must point to %zu nc_array", count);
    if (!std::isfinite(inv_scale) || inv_scale == 0)
        return fail(error, NC_ERROR_ARGUMENT, "inv_scale is %g; it must be finite and not 0",
                    static_cast<double>(inv_scale));
    if (out == nullptr)
        out = x;
    // Twice, for nothing is allocated here to remember what the first time showed: first only to refuse.
    bool found = false;
    for (const bool work : {false, true}) {
        for (size_t i = 0; i < count; ++i) {
            Request request;
            if (const nc_status status = check_one(x + i, out + i, options, error, request))
                return status;
            const KernelTable* table = nullptr;
            if (const nc_status status = choose_table(request.options.isa, error, table))
                return status;
            if (request.n == 0)
                continue;
            Layout layout;
            bool in_place = false;
            if (const nc_status status = order(request, error, layout, in_place))
                return status;
            if (work)
                found = unscale_one(request, layout, *table, inv_scale, in_place) || found;
        }
    }
    if (found)
        *found_inf = 1;
    return NC_OK;
}
