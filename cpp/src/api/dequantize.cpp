// nc_dequantize and nc_fake_quantize: check, arrange, split, and chunk by chunk from codes to real numbers; the codes
// of the second one exist only in a tile.
#include <algorithm>

#include "api/boxes.hpp"
#include "api/code_maker.hpp"
#include "api/error.hpp"
#include "api/fp_guard.hpp"
#include "api/memory.hpp"
#include "api/params.hpp"
#include "api/quant_check.hpp"
#include "api/tiles.hpp"
#include "api/value_maker.hpp"
#include "parallel/split.hpp"

namespace narrowcast {
namespace {

struct Job {
    const QuantRequest* request;
    const Operand* out;
    Arithmetic arithmetic;
    Nest nest;
    bool stream;
};

void dequantize_part(void* context, size_t begin, size_t end) noexcept {
    const Job& job = *static_cast<const Job*>(context);
    const QuantRequest& r = *job.request;
    const FpGuard guard(NC_NEAREST_EVEN);
    BoxNumbers numbers(r, job.arithmetic);
    const Codes items(r);
    const bool nibbles = items.as_nibbles() && job.nest.along == along_rows && job.nest.box() % 2 == 0;
    Tiles tiles;
    ValueMaker maker(*r.table, *job.out, nibbles ? items.nibble_kind() : items.kind(), job.arithmetic, job.nest.along,
                     tiles.raw, tiles.number_bytes());
    for_each_batch(job.nest, begin, end, false, quant_tile, [&](const Batch& batch) {
        numbers.load(batch);
        const DequantizeParams params = numbers.dequantize_params();
        const bool direct = (nibbles || items.direct_read(batch.col.codes)) && maker.direct(batch.col.x);
        for_each_chunk(job.nest.along, batch, direct ? batch.rows * batch.cols : quant_tile, [&](const Chunk& chunk) {
            const View from = items.view(r.codes.data, batch, chunk);
            const Rows codes = nibbles ? Rows{from.data, static_cast<ptrdiff_t>(from.row / 8)}
                                       : items.read(from, tiles.codes, tiles.number_bytes());
            maker.make(batch, chunk, codes, params, view_as_x(r.x.data, batch, chunk), job.stream);
        });
    });
}

void fake_quantize_part(void* context, size_t begin, size_t end) noexcept {
    const Job& job = *static_cast<const Job*>(context);
    const QuantRequest& r = *job.request;
    const FpGuard guard(NC_NEAREST_EVEN);
    BoxNumbers quantizing(r, job.arithmetic), dequantizing(r, job.arithmetic);
    const Reals x(*r.table, r.x, job.arithmetic.hub);
    Tiles tiles;
    CodeMaker codes(r, job.arithmetic, job.nest.along, tiles);
    ValueMaker values(*r.table, *job.out, codes.items().kind(), job.arithmetic, job.nest.along, tiles.raw,
                      tiles.number_bytes());
    for_each_batch(job.nest, begin, end, false, quant_tile, [&](const Batch& batch) {
        quantizing.load(batch);
        dequantizing.load(batch);
        const QuantizeParams params = quantizing.quantize_params();
        const DequantizeParams back = dequantizing.dequantize_params();
        for_each_chunk(job.nest.along, batch, quant_tile, [&](const Chunk& chunk) {
            const Rows real = x.read(view_as_x(r.x.data, batch, chunk), tiles.raw, tiles.numbers);
            const Rows made = codes.make(batch, chunk, real, params, false);
            const Rows normal =
                codes.items().normal(made.data, chunk.rows * chunk.cols, chunk.cols, tiles.number_bytes());
            values.make(batch, chunk, normal, back, view_as_codes(job.out->data, batch, chunk), job.stream);
        });
    });
}

// `geometry` is the request but for what lies beside x in the nest.
nc_status run(const QuantRequest& r, const QuantRequest& geometry, const Operand& out, PartFn part, nc_error* error) {
    Job job; // not cleared: a nest is long, and calls are short
    job.request = &r;
    job.out = &out;
    job.arithmetic = make_arithmetic(r);
    if (const nc_status status = make_nest(geometry, r.scale, r.zero, {r.packed, false}, error, job.nest))
        return status;
    const size_t bytes = geometry.x.item + geometry.codes.item;
    job.stream = exceeds_caches(r.n * bytes);
    if (r.options.threads == 1) {
        part(&job, 0, r.n);
        return NC_OK;
    }
    const size_t granule = job.nest.along == along_columns ? static_cast<size_t>(job.nest.line()) : quant_tile;
    run_parts(r.n, {r.options.threads, granule, least_part_bytes / bytes}, part, &job);
    return NC_OK;
}

} // namespace
} // namespace narrowcast

using namespace narrowcast;

nc_status nc_dequantize(const nc_array* codes, const nc_array* scale, const nc_array* zero_point, const nc_array* out,
                        const nc_quantize_options* options, nc_error* error) noexcept {
    QuantRequest r;
    Given given[] = {{codes, "codes", Role::codes, Use::read, &r.codes},
                     {scale, "scale", Role::scale, Use::read, &r.scale},
                     {zero_point, "zero_point", Role::zero, Use::read, &r.zero},
                     {out, "out", Role::made, Use::written, &r.x}};
    if (const nc_status status = check_call(options, given, error, r))
        return status;
    return r.n == 0 ? NC_OK : run(r, r, r.x, dequantize_part, error);
}

nc_status nc_fake_quantize(const nc_array* x, const nc_array* scale, const nc_array* zero_point, const nc_array* out,
                           const nc_quantize_options* options, nc_error* error) noexcept {
    QuantRequest r;
    Operand made{};
    Given given[] = {{x, "x", Role::real, Use::read, &r.x},
                     {scale, "scale", Role::scale, Use::read, &r.scale},
                     {zero_point, "zero_point", Role::zero, Use::read, &r.zero},
                     {out, "out", Role::made, Use::written, &made}};
    if (const nc_status status = check_call(options, given, error, r); status != NC_OK || r.n == 0)
        return status;
    QuantRequest geometry = r;
    geometry.codes = made;
    return run(r, geometry, made, fake_quantize_part, error);
}
