// nc_pack, nc_unpack and nc_repack: check, choose, scan if asked to, split, run. How bits lie is the kernels' matter,
// and that of pack_layout and pack_read. Everything is checked before memory is touched, and nothing is written if
// anything is wrong.
#include <algorithm>
#include <atomic>
#include <limits>

#include "api/error.hpp"
#include "api/isa.hpp"
#include "api/memory.hpp"
#include "api/options.hpp"
#include "api/pack_layout.hpp"
#include "parallel/split.hpp"

namespace narrowcast {
namespace {

// Bytes that a call reads or writes, and what they are called in a refusal.
struct Memory {
    const char* name;
    unsigned char* data; // never written through for src
    size_t bytes;
};

Memory memory_of(const char* name, const void* data, size_t bytes) noexcept {
    return {name, static_cast<unsigned char*>(const_cast<void*>(data)), bytes};
}

struct PackRequest {
    Memory src, dst;
    size_t n;
    int32_t bits, threads;
    bool in_place;
};

nc_status read_options(const nc_pack_options* given, const char* name, nc_error* error,
                       nc_pack_options& options) noexcept {
    using O = nc_pack_options;
    options = {sizeof options, NC_LAYOUT_lsb, 0, 0, 1, nullptr, 0, 0};
    if (const nc_status status = copy_options(given, name, "nc_pack_options", error, options, &O::layout, &O::is_signed,
                                              &O::check, &O::threads, &O::isa, &O::along, &O::inner))
        return status;
    if (find_pack_layout(options.layout) == nullptr)
        return fail(error, NC_ERROR_ARGUMENT, "%s.layout is %d; it must be a code that nc_layout_at gives", name,
                    options.layout);
    if (options.is_signed != 0 && options.is_signed != 1)
        return fail(error, NC_ERROR_ARGUMENT, "%s.is_signed is %d; it must be 0 or 1", name, options.is_signed);
    if (options.check != 0 && options.check != 1)
        return fail(error, NC_ERROR_ARGUMENT, "%s.check is %d; it must be 0 or 1", name, options.check);
    if (options.threads < 0)
        return fail(error, NC_ERROR_ARGUMENT, "%s.threads is %d; it must be 1 or more, or 0 for one per core", name,
                    options.threads);
    return NC_OK;
}

// The packed side of a call, from its options, which are complete.
nc_status describe(const nc_pack_options& options, const char* name, size_t n, int32_t bits, const char* bytes_name,
                   size_t packed_bytes, nc_error* error, PackedArray& array) noexcept {
    const PackLayout& layout = *find_pack_layout(options.layout);
    if (!has_width(layout, bits))
        return fail(error, NC_ERROR_ARGUMENT, "bits is %d; layout %s has no codes of that many bits", bits,
                    layout.name);
    if (n > most_codes)
        return fail(error, NC_ERROR_ARGUMENT, "n is %zu; it must be at most %zu", n, most_codes);
    const size_t inner = options.inner != 0 ? options.inner : 1;
    if (n % inner != 0)
        return fail(error, NC_ERROR_ARGUMENT, "%s.inner is %zu; n, which is %zu, must be a multiple of it", name, inner,
                    n);
    const size_t along = options.along != 0 ? options.along : n / inner;
    if (n != 0 && n / inner % along != 0)
        return fail(error, NC_ERROR_ARGUMENT, "%s.along is %zu; n, which is %zu, must be a multiple of along * inner",
                    name, along, n);
    if (layout.order == PackOrder::tiles && (along % 16 != 0 || inner % 64 != 0))
        return fail(error, NC_ERROR_ARGUMENT,
                    "%s.along is %zu and inner %zu; layout %s needs multiples of 16 and of 64", name, along, inner,
                    layout.name);
    // No line takes more bytes than it has codes, unless they are so few that a word is not full.
    const size_t lines = n == 0 ? 0 : n / along, line_bytes = packed_line_bytes(layout, bits, along);
    if (lines != 0 && line_bytes > most_codes / lines)
        return fail(error, NC_ERROR_ARGUMENT, "n is %zu; no memory holds that many codes in layout %s", n, layout.name);
    if (packed_bytes != lines * line_bytes)
        return fail(error, NC_ERROR_ARGUMENT, "%s is %zu; it must be %zu, which %zu codes of %d bits take", bytes_name,
                    packed_bytes, lines * line_bytes, n, bits);
    if (n != 0)
        array = packed_array(layout, bits, options.is_signed != 0, n, along, inner);
    return NC_OK;
}

// What nc_pack and nc_unpack begin with.
nc_status open(const nc_pack_options* given, size_t n, int32_t bits, size_t packed_bytes, nc_error* error,
               nc_pack_options& options, PackedArray& array) noexcept {
    if (!ready(error))
        return NC_ERROR_ARGUMENT;
    if (const nc_status status = read_options(given, "options", error, options))
        return status;
    return describe(options, "options", n, bits, "packed_bytes", packed_bytes, error, array);
}

nc_status check_memory(const Memory& memory, nc_error* error) noexcept {
    if (memory.data == nullptr)
        return fail(error, NC_ERROR_ARGUMENT, "%s is null; it must hold %zu bytes", memory.name, memory.bytes);
    if (std::numeric_limits<uintptr_t>::max() - reinterpret_cast<uintptr_t>(memory.data) < memory.bytes)
        return fail(error, NC_ERROR_ARGUMENT, "%s reaches past the end of the address space", memory.name);
    return NC_OK;
}

bool disjoint(const Memory& a, const Memory& b) noexcept {
    const auto a_at = reinterpret_cast<uintptr_t>(a.data), b_at = reinterpret_cast<uintptr_t>(b.data);
    return a_at + a.bytes <= b_at || b_at + b.bytes <= a_at;
}

// --- the work ------------------------------------------------------------------------------------------------------

struct Job {
    const PackRequest* request;
    const KernelTable* table;
    bool stream, is_signed;
    PackedArray array, source;  // what is packed; nc_repack: to and from
    std::atomic<unsigned> seen; // bits that no code may have beyond its width
};

constexpr size_t granule = 4096; // codes: a multiple of 8, so that parts begin on a byte, and of every vector

size_t stream_offset(size_t n, int32_t bits) noexcept { return n / 8 * static_cast<size_t>(bits); }

void pack_stream_part(void* context, size_t begin, size_t end) noexcept {
    const Job& job = *static_cast<const Job*>(context);
    const PackRequest& r = *job.request;
    job.table->pack[r.bits](r.src.data + begin, r.dst.data + stream_offset(begin, r.bits), end - begin, job.stream);
}

void unpack_stream_part(void* context, size_t begin, size_t end) noexcept {
    const Job& job = *static_cast<const Job*>(context);
    const PackRequest& r = *job.request;
    job.table->unpack[r.bits](r.src.data + stream_offset(begin, r.bits), r.dst.data + begin, end - begin, job.is_signed,
                              job.stream);
}

void pack_part(void* context, size_t begin, size_t end) noexcept {
    const Job& job = *static_cast<const Job*>(context);
    write_units(job.array, job.request->dst.data, begin, end, {job.request->src.data, nullptr});
}

void repack_part(void* context, size_t begin, size_t end) noexcept {
    const Job& job = *static_cast<const Job*>(context);
    write_units(job.array, job.request->dst.data, begin, end, {job.request->src.data, &job.source});
}

void unpack_part(void* context, size_t begin, size_t end) noexcept {
    const Job& job = *static_cast<const Job*>(context);
    read_codes(job.array, job.request->src.data, begin, end - begin, job.request->dst.data + begin);
}

void check_part(void* context, size_t begin, size_t end) noexcept {
    Job& job = *static_cast<Job*>(context);
    const CodeBits bits = job.table->code_bits(job.request->src.data + begin, end - begin);
    job.seen |= job.is_signed ? bits.folded : bits.set;
}

void run_codes(Job& job, PartFn part) noexcept {
    const PackRequest& r = *job.request;
    run_parts(r.n, {r.in_place ? 1 : r.threads, granule, least_part_bytes / 2}, part, &job);
}

void run_units(Job& job, PartFn part) noexcept {
    const size_t least = least_part_bytes / 2 / codes_per_unit(job.array) + 1;
    run_parts(pack_units(job.array), {job.request->threads, 1, least}, part, &job);
}

nc_status check_codes(Job& job, nc_error* error) noexcept {
    const PackRequest& r = *job.request;
    const bool is_signed = job.is_signed;
    run_codes(job, check_part);
    if (job.seen >> (r.bits - (is_signed ? 1 : 0)) == 0)
        return NC_OK;
    const unsigned char* const first = std::find_if(
        r.src.data, r.src.data + r.n, [&](unsigned char code) { return !code_fits(code, r.bits, is_signed); });
    const int value = is_signed && *first >= 128 ? *first - 256 : *first;
    const int least = is_signed ? -(1 << (r.bits - 1)) : 0;
    const auto index = static_cast<size_t>(first - r.src.data);
    const nc_status status = fail(error, NC_ERROR_OVERFLOW, "codes[%zu] is %d; %ssigned codes of %d bits are %d to %d",
                                  index, value, is_signed ? "" : "un", r.bits, least, least + (1 << r.bits) - 1);
    describe_element(error, NC_REASON_FINITE, index, value);
    return status;
}

// What is left to check before memory is touched, and the choice of kernels. why: what overlapping lacks.
nc_status start(const PackRequest& r, const nc_pack_options& options, const char* why, nc_error* error,
                Job& job) noexcept {
    job.request = &r;
    job.is_signed = options.is_signed != 0;
    job.stream = !r.in_place && exceeds_caches(r.src.bytes + r.dst.bytes);
    if (const nc_status status = choose_table(options.isa, error, job.table); status != NC_OK || r.n == 0)
        return status;
    job.array.table = job.source.table = job.table;
    if (const nc_status status = check_memory(r.src, error))
        return status;
    if (const nc_status status = check_memory(r.dst, error))
        return status;
    if (!r.in_place && !disjoint(r.src, r.dst))
        return fail(error, NC_ERROR_OVERLAP, "%s overlaps %s; %s", r.dst.name, r.src.name, why);
    return NC_OK;
}

} // namespace
} // namespace narrowcast

using namespace narrowcast;

nc_status nc_pack(const void* codes, size_t n, int32_t bits, void* packed, size_t packed_bytes,
                  const nc_pack_options* given, nc_error* error) noexcept {
    nc_pack_options options;
    Job job{};
    if (const nc_status status = open(given, n, bits, packed_bytes, error, options, job.array))
        return status;
    const bool stream = is_stream(job.array);
    const PackRequest r{
        memory_of("codes", codes, n), memory_of("packed", packed, packed_bytes), n, bits, options.threads,
        codes == packed && stream};
    const char* const why =
        stream ? "it may do so only if both begin at one address" : "this layout needs memory of its own";
    if (const nc_status status = start(r, options, why, error, job); status != NC_OK || n == 0)
        return status;
    if (options.check != 0)
        if (const nc_status status = check_codes(job, error))
            return status;
    if (stream)
        run_codes(job, pack_stream_part);
    else
        run_units(job, pack_part);
    return NC_OK;
}

nc_status nc_unpack(const void* packed, size_t packed_bytes, int32_t bits, void* codes, size_t n,
                    const nc_pack_options* given, nc_error* error) noexcept {
    nc_pack_options options;
    Job job{};
    if (const nc_status status = open(given, n, bits, packed_bytes, error, options, job.array))
        return status;
    const PackRequest r{
        memory_of("packed", packed, packed_bytes), memory_of("codes", codes, n), n, bits, options.threads, false};
    if (const nc_status status = start(r, options, "unpacking needs memory of its own", error, job);
        status != NC_OK || n == 0)
        return status;
    run_codes(job, is_stream(job.array) ? unpack_stream_part : unpack_part);
    return NC_OK;
}

nc_status nc_repack(const void* packed, size_t packed_bytes, size_t n, int32_t bits, void* out, size_t out_bytes,
                    const nc_pack_options* from, const nc_pack_options* to, nc_error* error) noexcept {
    if (!ready(error))
        return NC_ERROR_ARGUMENT;
    nc_pack_options from_options, to_options;
    Job job{};
    if (const nc_status status = read_options(from, "from", error, from_options))
        return status;
    if (const nc_status status = read_options(to, "to", error, to_options))
        return status;
    if (const nc_status status =
            describe(from_options, "from", n, bits, "packed_bytes", packed_bytes, error, job.source))
        return status;
    if (const nc_status status = describe(to_options, "to", n, bits, "out_bytes", out_bytes, error, job.array))
        return status;
    const PackRequest r{memory_of("packed", packed, packed_bytes),
                        memory_of("out", out, out_bytes),
                        n,
                        bits,
                        to_options.threads,
                        false};
    if (const nc_status status = start(r, to_options, "repacking needs memory of its own", error, job);
        status != NC_OK || n == 0)
        return status;
    run_units(job, repack_part);
    return NC_OK;
}
