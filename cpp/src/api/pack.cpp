// nc_pack and nc_unpack: check, choose, scan if asked to, split, run; and the facts of layouts. How bits lie is the
// kernels' matter. Everything is checked before memory is touched, and nothing is written if anything is wrong.
#include <string.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <limits>

#include "api/error.hpp"
#include "api/isa.hpp"
#include "api/memory.hpp"
#include "codec/packing.hpp"
#include "parallel/split.hpp"

namespace narrowcast {
namespace {

constexpr nc_layout_info layouts[] = {
#define NC_LAYOUT(number, id, least, most) {sizeof(nc_layout_info), #id, number, least, most, 0},
#include "narrowcast/layouts.def"
};

const nc_layout_info* find_layout(int32_t layout) noexcept {
    for (const nc_layout_info& row : layouts)
        if (row.layout == layout)
            return &row;
    return nullptr;
}

bool has_width(const nc_layout_info& layout, int32_t bits) noexcept {
    return bits >= layout.least_bits && bits <= layout.most_bits;
}

// No array is longer; below it the arithmetic on sizes cannot overflow.
constexpr size_t most_codes = std::numeric_limits<ptrdiff_t>::max();

size_t stream_bytes(size_t n, int32_t bits) noexcept {
    const auto width = static_cast<size_t>(bits);
    return n / 8 * width + (n % 8 * width + 7) / 8;
}

struct Request {
    const unsigned char* src;
    unsigned char* dst;
    size_t n, src_bytes, dst_bytes;
    int32_t bits;
    nc_pack_options options; // complete, whatever the caller's size
    bool in_place;
};

nc_status read_options(const nc_pack_options* given, nc_error* error, nc_pack_options& options) noexcept {
    options = {sizeof options, NC_LAYOUT_lsb, 0, 0, 1, nullptr};
    if (given == nullptr)
        return NC_OK;
    if (given->size < sizeof given->size || given->size > sizeof options)
        return fail(error, NC_ERROR_ARGUMENT,
                    "options.size is %zu; it must be sizeof(nc_pack_options), which is %zu in this library",
                    given->size, sizeof options);
    // An older caller's struct ends early: whole fields that it has are read, the rest keep their defaults.
#define NC_READ(field)                                                                                                 \
    if (given->size >= offsetof(nc_pack_options, field) + sizeof given->field)                                         \
    options.field = given->field
    NC_READ(layout);
    NC_READ(is_signed);
    NC_READ(check);
    NC_READ(threads);
    NC_READ(isa);
#undef NC_READ
    if (find_layout(options.layout) == nullptr)
        return fail(error, NC_ERROR_ARGUMENT, "options.layout is %d; it must be a code that nc_layout_at gives",
                    options.layout);
    if (options.is_signed != 0 && options.is_signed != 1)
        return fail(error, NC_ERROR_ARGUMENT, "options.is_signed is %d; it must be 0 or 1", options.is_signed);
    if (options.check != 0 && options.check != 1)
        return fail(error, NC_ERROR_ARGUMENT, "options.check is %d; it must be 0 or 1", options.check);
    if (options.threads < 0)
        return fail(error, NC_ERROR_ARGUMENT, "options.threads is %d; it must be 1 or more, or 0 for one per core",
                    options.threads);
    return NC_OK;
}

nc_status check_sizes(const Request& r, size_t packed_bytes, nc_error* error) noexcept {
    const nc_layout_info& layout = *find_layout(r.options.layout);
    if (!has_width(layout, r.bits))
        return fail(error, NC_ERROR_ARGUMENT, "bits is %d; layout %s has codes of %d to %d bits", r.bits, layout.name,
                    layout.least_bits, layout.most_bits);
    if (r.n > most_codes)
        return fail(error, NC_ERROR_ARGUMENT, "n is %zu; it must be at most %zu", r.n, most_codes);
    if (packed_bytes != stream_bytes(r.n, r.bits))
        return fail(error, NC_ERROR_ARGUMENT, "packed_bytes is %zu; it must be %zu, which %zu codes of %d bits take",
                    packed_bytes, stream_bytes(r.n, r.bits), r.n, r.bits);
    return NC_OK;
}

nc_status check_memory(const char* name, const void* data, size_t bytes, nc_error* error) noexcept {
    if (data == nullptr)
        return fail(error, NC_ERROR_ARGUMENT, "%s is null; it must hold %zu bytes", name, bytes);
    if (std::numeric_limits<uintptr_t>::max() - reinterpret_cast<uintptr_t>(data) < bytes)
        return fail(error, NC_ERROR_ARGUMENT, "%s reaches past the end of the address space", name);
    return NC_OK;
}

bool disjoint(const Request& r) noexcept {
    const auto src = reinterpret_cast<uintptr_t>(r.src), dst = reinterpret_cast<uintptr_t>(r.dst);
    return src + r.src_bytes <= dst || dst + r.dst_bytes <= src;
}

// --- the work ------------------------------------------------------------------------------------------------------

struct Job {
    const Request* request;
    const KernelTable* table;
    bool stream;
    std::atomic<unsigned> seen; // bits that no code may have beyond its width
};

constexpr size_t granule = 4096; // codes: a multiple of 8, so that parts begin on a byte, and of every vector

void pack_part(void* context, size_t begin, size_t end) noexcept {
    const auto& [r, table, stream, seen] = *static_cast<const Job*>(context);
    table->pack[r->bits](r->src + begin, r->dst + stream_bytes(begin, r->bits), end - begin, stream);
}

void unpack_part(void* context, size_t begin, size_t end) noexcept {
    const auto& [r, table, stream, seen] = *static_cast<const Job*>(context);
    table->unpack[r->bits](r->src + stream_bytes(begin, r->bits), r->dst + begin, end - begin,
                           r->options.is_signed != 0, stream);
}

void check_part(void* context, size_t begin, size_t end) noexcept {
    Job& job = *static_cast<Job*>(context);
    const CodeBits bits = job.table->code_bits(job.request->src + begin, end - begin);
    job.seen |= job.request->options.is_signed != 0 ? bits.folded : bits.set;
}

void run(Job& job, PartFn part) noexcept {
    const Request& r = *job.request;
    run_parts(r.n, {r.in_place ? 1 : r.options.threads, granule, least_part_bytes / 2}, part, &job);
}

nc_status check_codes(Job& job, nc_error* error) noexcept {
    const Request& r = *job.request;
    const bool is_signed = r.options.is_signed != 0;
    run(job, check_part);
    if (job.seen >> (r.bits - (is_signed ? 1 : 0)) == 0)
        return NC_OK;
    const unsigned char* const first =
        std::find_if(r.src, r.src + r.n, [&](unsigned char code) { return !code_fits(code, r.bits, is_signed); });
    const int value = is_signed && *first >= 128 ? *first - 256 : *first;
    const int least = is_signed ? -(1 << (r.bits - 1)) : 0;
    const auto index = static_cast<size_t>(first - r.src);
    const nc_status status = fail(error, NC_ERROR_OVERFLOW, "codes[%zu] is %d; %ssigned codes of %d bits are %d to %d",
                                  index, value, is_signed ? "" : "un", r.bits, least, least + (1 << r.bits) - 1);
    describe_element(error, NC_REASON_FINITE, index, value);
    return status;
}

nc_status start(const Request& request, nc_error* error, Job& job) noexcept {
    job.request = &request;
    job.stream = !request.in_place && exceeds_caches(request.src_bytes + request.dst_bytes);
    return choose_table(request.options.isa, error, job.table);
}

} // namespace
} // namespace narrowcast

using namespace narrowcast;

nc_status nc_packed_bytes(size_t n, int32_t bits, int32_t layout, size_t* bytes) noexcept {
    const nc_layout_info* const row = find_layout(layout);
    if (bytes == nullptr || row == nullptr || !has_width(*row, bits) || n > most_codes)
        return NC_ERROR_ARGUMENT;
    *bytes = stream_bytes(n, bits);
    return NC_OK;
}

nc_status nc_pack(const void* codes, size_t n, int32_t bits, void* packed, size_t packed_bytes,
                  const nc_pack_options* options, nc_error* error) noexcept {
    if (!usable(error))
        return NC_ERROR_ARGUMENT;
    clear(error);
    Request r{static_cast<const unsigned char*>(codes),
              static_cast<unsigned char*>(packed),
              n,
              n,
              packed_bytes,
              bits,
              {},
              codes == packed};
    if (const nc_status status = read_options(options, error, r.options))
        return status;
    if (const nc_status status = check_sizes(r, packed_bytes, error))
        return status;
    Job job{};
    if (const nc_status status = start(r, error, job); status != NC_OK || n == 0)
        return status;
    if (const nc_status status = check_memory("codes", codes, n, error))
        return status;
    if (const nc_status status = check_memory("packed", packed, packed_bytes, error))
        return status;
    if (!r.in_place && !disjoint(r))
        return fail(error, NC_ERROR_OVERLAP, "packed overlaps codes; it may do so only if both begin at one address");
    if (r.options.check != 0)
        if (const nc_status status = check_codes(job, error))
            return status;
    run(job, pack_part);
    return NC_OK;
}

nc_status nc_unpack(const void* packed, size_t packed_bytes, int32_t bits, void* codes, size_t n,
                    const nc_pack_options* options, nc_error* error) noexcept {
    if (!usable(error))
        return NC_ERROR_ARGUMENT;
    clear(error);
    Request r{static_cast<const unsigned char*>(packed),
              static_cast<unsigned char*>(codes),
              n,
              packed_bytes,
              n,
              bits,
              {},
              false};
    if (const nc_status status = read_options(options, error, r.options))
        return status;
    if (const nc_status status = check_sizes(r, packed_bytes, error))
        return status;
    Job job{};
    if (const nc_status status = start(r, error, job); status != NC_OK || n == 0)
        return status;
    if (const nc_status status = check_memory("packed", packed, packed_bytes, error))
        return status;
    if (const nc_status status = check_memory("codes", codes, n, error))
        return status;
    if (!disjoint(r))
        return fail(error, NC_ERROR_OVERLAP, "codes overlaps packed; unpacking needs memory of its own");
    run(job, unpack_part);
    return NC_OK;
}

int32_t nc_layout_at(int32_t position) noexcept {
    constexpr auto count = static_cast<int32_t>(std::size(layouts));
    return position >= 0 && position < count ? layouts[position].layout : int32_t{NC_LAYOUT_INVALID};
}

nc_status nc_layout_get_info(int32_t layout, nc_layout_info* info) noexcept {
    const nc_layout_info* const row = find_layout(layout);
    if (info == nullptr || info->size < sizeof info->size || row == nullptr)
        return NC_ERROR_ARGUMENT;
    // An older caller's struct ends early, a newer one's late; what both know is filled in, the size stays theirs.
    const size_t size = info->size;
    memcpy(info, row, std::min(size, sizeof *row));
    info->size = size;
    return NC_OK;
}

int32_t nc_layout_from_name(const char* name) noexcept {
    if (name != nullptr)
        for (const nc_layout_info& row : layouts)
            if (strcmp(name, row.name) == 0)
                return row.layout;
    return NC_LAYOUT_INVALID;
}
