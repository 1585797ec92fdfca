// nc_quantize: check, arrange, split, and batch by batch: the numbers of the boxes, then codes, then their sums. Where
// scales are computed, a batch is what stays in a near cache between its range and its codes.
#include <algorithm>

#include "api/boxes.hpp"
#include "api/code_maker.hpp"
#include "api/error.hpp"
#include "api/fp_guard.hpp"
#include "api/memory.hpp"
#include "api/params.hpp"
#include "api/quant_check.hpp"
#include "api/range.hpp"
#include "api/tiles.hpp"
#include "parallel/split.hpp"

namespace narrowcast {
namespace {

// Elements of a batch that are read twice where they are: few enough for the second cache, and enough that the memory
// behind it is not waited for too often.
constexpr size_t direct_tile = 16 * quant_tile;

struct Job {
    const QuantRequest* request;
    Arithmetic arithmetic;
    Nest nest;
    bool stream;
};

void quantize_part(void* context, size_t begin, size_t end) noexcept {
    const Job& job = *static_cast<const Job*>(context);
    const QuantRequest& r = *job.request;
    const FpGuard guard(NC_NEAREST_EVEN);
    BoxNumbers numbers(r, job.arithmetic);
    const Reals x(*r.table, r.x, job.arithmetic.hub);
    Tiles tiles;
    CodeMaker maker(r, job.arithmetic, job.nest.along, tiles);
    const size_t once = x.direct_f32(job.nest.axes[job.nest.count - 1].step.x) ? direct_tile : quant_tile;
    for_each_batch(job.nest, begin, end, r.options.dynamic != 0, once, [&](const Batch& batch) {
        Rows held{};
        bool holds = false, finite = false;
        alignas(64) float low[most_boxes], high[most_boxes];
        if (r.options.dynamic != 0) {
            const ReadRoom room{tiles.raw, tiles.numbers};
            holds = job.arithmetic.takes_in_zero
                        ? find_spans(*r.table, x, r.x.data, batch, room, held, low, high, finite)
                        : find_ranges(*r.table, job.nest.along, x, r.x.data, batch, room, held, low, high);
            numbers.choose(batch, low, high, finite);
        } else {
            numbers.load(batch);
        }
        QuantizeParams params = numbers.quantize_params();
        if (finite) {
            params.low = low;
            params.high = high;
        }
        const bool direct = x.direct_f32(batch.col.x) && maker.direct(batch.col.codes);
        for_each_chunk(job.nest.along, batch, direct ? batch.rows * batch.cols : quant_tile, [&](const Chunk& chunk) {
            if (!holds)
                held = x.read(view_as_x(r.x.data, batch, chunk), tiles.raw, tiles.numbers);
            const Rows codes = maker.make(batch, chunk, held, params, job.stream);
            if (r.sums.data != nullptr)
                maker.add_sums(batch, chunk, codes);
            maker.put(batch, chunk, job.stream);
        });
    });
}

// Where parts may begin.
size_t granule_of(const QuantRequest& r, const Nest& nest) noexcept {
    const auto line = static_cast<size_t>(nest.line()), box = static_cast<size_t>(nest.box());
    if (nest.along == along_columns || r.sums.data != nullptr)
        return line;
    if (r.options.dynamic == 0)
        return quant_tile;
    if (line % box != 0)
        return line;
    return box % 8 == 0 ? box : box * 8; // packed codes of a part begin on a byte
}

nc_status quantize(const QuantRequest& r, nc_error* error) noexcept {
    Job job; // not cleared: a nest is long, and calls are short
    job.request = &r;
    job.arithmetic = make_arithmetic(r);
    const bool dynamic = r.options.dynamic != 0;
    if (dynamic)
        if (const nc_status status = check_computed(r, error))
            return status;
    if (const nc_status status =
            make_nest(r, r.scale, r.zero, {r.packed || r.sums.data != nullptr, dynamic}, error, job.nest))
        return status;
    const size_t bytes = r.x.item + r.codes.item;
    // Codes of computed scales come in bursts, between which x is read: stores past the caches would be waited for.
    job.stream = !dynamic && r.sums.data == nullptr && exceeds_caches(r.n * bytes);
    if (r.options.threads == 1)
        quantize_part(&job, 0, r.n);
    else
        run_parts(r.n, {r.options.threads, granule_of(r, job.nest), least_part_bytes / bytes}, quantize_part, &job);
    return NC_OK;
}

} // namespace
} // namespace narrowcast

nc_status nc_quantize(const nc_array* x, const nc_array* codes, const nc_array* scale, const nc_array* zero_point,
                      const nc_array* row_sums, const nc_quantize_options* options, nc_error* error) noexcept {
    using namespace narrowcast;
    QuantRequest r;
    Given given[] = {{x, "x", Role::real, Use::read, &r.x},
                     {codes, "codes", Role::codes, Use::written, &r.codes},
                     {scale, "scale", Role::scale, Use::computed, &r.scale},
                     {zero_point, "zero_point", Role::zero, Use::computed, &r.zero},
                     {row_sums, "row_sums", Role::sums, Use::written, &r.sums}};
    if (const nc_status status = check_call(options, given, error, r))
        return status;
    return r.n == 0 ? NC_OK : quantize(r, error);
}
