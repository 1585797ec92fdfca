// nc_range and nc_choose_qparams: the two halves of what nc_quantize does with options.dynamic, for boxes of any kind.
// A box that several batches reach is put together in the arrays themselves, under a lock if there are threads.
#include "api/range.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <limits>

#include "api/bytes.hpp"
#include "api/error.hpp"
#include "api/fp_guard.hpp"
#include "api/isa.hpp"
#include "api/memory.hpp"
#include "api/params.hpp"
#include "api/quant_check.hpp"
#include "parallel/split.hpp"

namespace narrowcast {
namespace {

constexpr float infinite = std::numeric_limits<float>::infinity();

float load_float(const unsigned char* from, bool swapped) noexcept {
    return std::bit_cast<float>(load_item<uint32_t>(from, swapped));
}

void store_float(unsigned char* to, float value, bool swapped) noexcept {
    store_item(to, std::bit_cast<uint32_t>(value), swapped);
}

struct Job {
    const QuantRequest* request; // scale is low, zero is high
    Nest nest;
    bool whole_boxes; // each is all in one batch
    std::atomic_flag busy = ATOMIC_FLAG_INIT;
};

// Calls change(low, high) for the range of every box.
template <class Change> void for_each_range(const QuantRequest& r, const Change& change) noexcept {
    int64_t low_strides[NC_MAX_NDIM], high_strides[NC_MAX_NDIM], index[NC_MAX_NDIM] = {};
    strides_of(r.scale, r.box_shape, r.ndim, low_strides);
    strides_of(r.zero, r.box_shape, r.ndim, high_strides);
    unsigned char *low = r.scale.data, *high = r.zero.data;
    for (size_t left = r.boxes; left != 0; --left) {
        change(low, high);
        for (int32_t i = r.ndim - 1; i >= 0 && left != 1; --i) {
            if (++index[i] < r.box_shape[i]) {
                low += low_strides[i];
                high += high_strides[i];
                break;
            }
            low -= (index[i] - 1) * low_strides[i];
            high -= (index[i] - 1) * high_strides[i];
            index[i] = 0;
        }
    }
}

void range_part(void* context, size_t begin, size_t end) noexcept {
    Job& job = *static_cast<Job*>(context);
    const QuantRequest& r = *job.request;
    const FpGuard guard(NC_NEAREST_EVEN);
    const Reals x(*r.table, r.x, hub_f32);
    alignas(64) unsigned char raw[quant_tile * 4];
    alignas(64) float tile[quant_tile], low[most_boxes], high[most_boxes];
    for_each_batch(job.nest, begin, end, job.whole_boxes, quant_tile, [&](const Batch& batch) {
        Rows rows{};
        find_ranges(*r.table, job.nest.along, x, r.x.data, batch, {raw, tile}, rows, low, high);
        if (!job.whole_boxes)
            while (job.busy.test_and_set(std::memory_order_acquire)) {
            }
        for (size_t i = 0; i < batch.boxes; ++i) {
            const auto box = static_cast<int64_t>(i);
            unsigned char* const low_at = r.scale.data + batch.at.first + box * batch.row.first;
            unsigned char* const high_at = r.zero.data + batch.at.second + box * batch.row.second;
            if (job.whole_boxes) {
                const bool none = low[i] > high[i];
                store_float(low_at, none ? 0 : low[i], r.scale.swapped);
                store_float(high_at, none ? 0 : high[i], r.zero.swapped);
                continue;
            }
            store_float(low_at, std::min(low[i], load_float(low_at, r.scale.swapped)), r.scale.swapped);
            store_float(high_at, std::max(high[i], load_float(high_at, r.zero.swapped)), r.zero.swapped);
        }
        if (!job.whole_boxes)
            job.busy.clear(std::memory_order_release);
    });
}

// Whether the innermost loop leaps over neighbours that another one visits.
bool crosses_memory(const Nest& nest, size_t item) noexcept {
    const auto is_dense = [item](const Axis& axis) { return axis.step.x == static_cast<int64_t>(item); };
    const Axis* const inner = nest.axes + nest.count - 1;
    return !is_dense(*inner) && std::any_of(nest.axes, inner, is_dense);
}

nc_status find_range(const QuantRequest& r, nc_error* error) noexcept {
    Job job; // not cleared: a nest is long, and calls are short
    job.request = &r;
    const size_t parts = part_count(r.n, {r.options.threads, quant_tile, least_part_bytes / r.x.item});
    job.whole_boxes = make_nest(r, r.scale, r.zero, {false, true}, nullptr, job.nest) == NC_OK &&
                      r.boxes >= 8 * (parts - 1) && !crosses_memory(job.nest, r.x.item);
    if (!job.whole_boxes) {
        if (const nc_status status = make_nest(r, r.scale, r.zero, {false, false}, error, job.nest))
            return status;
        for_each_range(r, [&](unsigned char* low, unsigned char* high) {
            store_float(low, infinite, r.scale.swapped);
            store_float(high, -infinite, r.zero.swapped);
        });
    }
    const auto line = static_cast<size_t>(job.nest.line()), box = static_cast<size_t>(job.nest.box());
    const size_t whole = line % box == 0 ? box : line;
    const size_t granule = job.nest.along == along_columns ? line : job.whole_boxes ? whole : quant_tile;
    run_parts(r.n, {r.options.threads, granule, least_part_bytes / r.x.item}, range_part, &job);
    if (!job.whole_boxes)
        for_each_range(r, [&](unsigned char* low, unsigned char* high) {
            if (load_float(low, r.scale.swapped) > load_float(high, r.zero.swapped)) {
                store_float(low, 0, r.scale.swapped);
                store_float(high, 0, r.zero.swapped);
            }
        });
    return NC_OK;
}

// Calls visit(values, rectangle, its first box) for the values of a batch. They are in `rows` afterwards if all of them
// fit into the tile: then true.
template <class Visit>
bool for_each_rectangle(Along along, const Reals& x, unsigned char* data, const Batch& batch, const ReadRoom& room,
                        Rows& rows, const Visit& visit) noexcept {
    const bool direct = x.direct_f32(batch.col.x);
    size_t chunks = 0;
    for_each_chunk(along, batch, direct ? batch.rows * batch.cols : quant_tile, [&](const Chunk& chunk) {
        rows = x.read(view_as_x(data, batch, chunk), room.raw, room.tile);
        ++chunks;
        for_each_span(along, batch, chunk, [&](const Span& span) {
            const auto step = span.own_rows ? rows.step : static_cast<ptrdiff_t>(span.cols * sizeof(float));
            visit(rows.data + span.at * sizeof(float), Rectangle{span.rows, span.cols, step, 0}, span.param);
        });
    });
    return chunks == 1 && !direct;
}

// Ranges stand where x and codes usually do: an element is a box of its own.
nc_status choose(const QuantRequest& r, nc_error* error) noexcept {
    Nest nest;
    QuantRequest geometry = r;
    geometry.x.item = sizeof(float);
    if (const nc_status status = make_nest(geometry, r.scale, r.zero, {false, true}, error, nest))
        return status;
    const FpGuard guard(NC_NEAREST_EVEN);
    const Arithmetic arithmetic = make_arithmetic(r);
    BoxNumbers numbers(r, arithmetic);
    for_each_batch(nest, 0, nest.n, true, most_boxes, [&](const Batch& batch) {
        float low[most_boxes], high[most_boxes];
        const Place& step = batch.rows > 1 ? batch.row : batch.col;
        for (size_t i = 0; i < batch.boxes; ++i) {
            const auto box = static_cast<int64_t>(i);
            low[i] = load_float(r.x.data + batch.at.x + box * step.x, r.x.swapped);
            high[i] = load_float(r.codes.data + batch.at.codes + box * step.codes, r.codes.swapped);
        }
        numbers.choose(batch, low, high, false);
    });
    return NC_OK;
}

} // namespace

bool find_ranges(const KernelTable& table, Along along, const Reals& x, unsigned char* data, const Batch& batch,
                 const ReadRoom& room, Rows& rows, float* low, float* high) noexcept {
    std::fill_n(low, batch.boxes, infinite);
    std::fill_n(high, batch.boxes, -infinite);
    return for_each_rectangle(along, x, data, batch, room, rows, [&](const void* from, const Rectangle& r, size_t box) {
        table.range[along](from, r, low + box, high + box);
    });
}

bool find_spans(const KernelTable& table, const Reals& x, unsigned char* data, const Batch& batch, const ReadRoom& room,
                Rows& rows, float* low, float* high, bool& finite) noexcept {
    std::fill_n(low, batch.boxes, 0.0f);
    std::fill_n(high, batch.boxes, 0.0f);
    finite = true;
    const bool holds = for_each_rectangle(along_rows, x, data, batch, room, rows,
                                          [&](const void* from, const Rectangle& r, size_t box) {
                                              finite = table.span(from, r, low + box, high + box) && finite;
                                          });
    if (finite)
        return holds;
    find_ranges(table, along_rows, x, data, batch, room, rows, low, high);
    return holds;
}

} // namespace narrowcast

using namespace narrowcast;

nc_status nc_range(const nc_array* x, const nc_array* low, const nc_array* high, const nc_quantize_options* options,
                   nc_error* error) noexcept {
    QuantRequest r;
    Given given[] = {{x, "x", Role::real, Use::read, &r.x},
                     {low, "low", Role::range, Use::written, &r.scale},
                     {high, "high", Role::range, Use::written, &r.zero}};
    if (const nc_status status = check_call(options, given, error, r))
        return status;
    return r.n == 0 ? NC_OK : find_range(r, error);
}

nc_status nc_choose_qparams(const nc_array* low, const nc_array* high, int32_t x_format, const nc_array* scale,
                            const nc_array* zero_point, const nc_quantize_options* options, nc_error* error) noexcept {
    QuantRequest r;
    if (const nc_status status = read_options(options, error, r))
        return status;
    if (!is_real_format(x_format))
        return fail(error, NC_ERROR_FORMAT, "x_format is %d; it must be a float format other than tfloat32", x_format);
    static constexpr auto ones = [] {
        std::array<int64_t, NC_MAX_NDIM> all{};
        all.fill(1);
        return all;
    }();
    r.options.block = ones.data();
    Given given[] = {{low, "low", Role::range, Use::read, &r.x},
                     {high, "high", Role::range, Use::read, &r.codes},
                     {scale, "scale", Role::scale, Use::written, &r.scale},
                     {zero_point, "zero_point", Role::zero, Use::written, &r.zero}};
    if (const nc_status status = check_arrays(given, error, r))
        return status;
    if (const nc_status status = check_computed(r, error))
        return status;
    if (const nc_status status = choose_table(r.options.isa, error, r.table))
        return status;
    r.x.format = x_format;
    return r.n == 0 ? NC_OK : choose(r, error);
}
