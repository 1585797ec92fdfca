// The first pass asks only whether there is anything to refuse, in whatever order x lies in memory, with threads. Only
// if there is does a second pass go through C order for the first such element. Both count with the census kernel,
// tile by tile, and ask the codec about the elements of a tile that the census suspects.
#include "api/raise.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <limits>

#include "api/bytes.hpp"
#include "api/error.hpp"
#include "api/format_table.hpp"
#include "api/fp_guard.hpp"
#include "api/memory.hpp"
#include "api/walk.hpp"
#include "codec/reference.hpp"
#include "parallel/split.hpp"

namespace narrowcast {
namespace {

constexpr size_t none = std::numeric_limits<size_t>::max();

struct Scan {
    const Request& request;
    ConvertFn widen; // null: x is float32
    CensusFn census;
    CensusRule rule;
    const Facts& target;
    bool target_signed;

    bool suspicious(const Census& found) const noexcept {
        return found.overflow != 0 || (found.infinite != 0 && !target.has_inf) || (found.nan != 0 && !target.has_nan) ||
               (found.zero != 0 && !target.has_zero) || (found.negative != 0 && !target_signed);
    }
};

uint64_t load_code(const void* elements, size_t i, size_t item) noexcept {
    const auto* from = static_cast<const unsigned char*>(elements) + i * item;
    switch (item) {
    case 1: return load_item<uint8_t>(from, false);
    case 2: return load_item<uint16_t>(from, false);
    case 4: return load_item<uint32_t>(from, false);
    default: return load_item<uint64_t>(from, false);
    }
}

struct Refused {
    size_t position; // in the layout's order; none
    uint64_t code;
    nc_reason reason;
};

// The first refused element of [begin, end) in the layout's order. stop: another part found one.
Refused first_refused(const Scan& scan, const Layout& layout, size_t begin, size_t end,
                      const std::atomic<bool>* stop) noexcept {
    const Operand& x = scan.request.x;
    alignas(64) uint32_t tile[tile_items];
    Reader reader(layout, x.item, x.swapped, begin);
    for (size_t at = begin; at < end;) {
        if (stop != nullptr && stop->load(std::memory_order_relaxed))
            break;
        const size_t n = std::min<size_t>(tile_items, end - at);
        const void* elements = reader.next(n);
        const auto* values = static_cast<const uint32_t*>(elements);
        if (scan.widen != nullptr) {
            scan.widen(elements, tile, n, false);
            values = tile;
        }
        Census found{};
        scan.census(values, n, scan.rule, found);
        if (scan.suspicious(found)) {
            for (size_t i = 0; i < n; ++i) {
                const uint64_t code = load_code(elements, i, x.item);
                const nc_reason reason =
                    refuse_code(x.format, code, scan.request.out.format, scan.request.options.rounding);
                if (reason != NC_REASON_NONE)
                    return {at + i, code, reason};
            }
        }
        at += n;
    }
    return {none, 0, NC_REASON_NONE};
}

struct Search {
    const Scan& scan;
    const Layout& layout;
    std::atomic<bool> found;
};

void search_part(void* context, size_t begin, size_t end) noexcept {
    auto& search = *static_cast<Search*>(context);
    const FpGuard guard(NC_NEAREST_EVEN);
    if (first_refused(search.scan, search.layout, begin, end, &search.found).position != none)
        search.found.store(true, std::memory_order_relaxed);
}

// x alone, in the order of its memory, each element that is broadcast once.
void source_order(const Request& request, Layout& layout) noexcept {
    c_order(request, layout);
    int32_t kept = 0;
    for (int32_t i = 0; i < layout.count; ++i) {
        Dim dim = layout.dims[i];
        if (dim.x == 0) {
            layout.n /= static_cast<size_t>(dim.extent);
            continue;
        }
        dim.out = dim.x;
        layout.dims[kept++] = dim;
    }
    if (kept == 0)
        layout.dims[kept++] = {1, 0, 0, 0};
    layout.count = kept;
    layout.out = request.x.data; // moves along with x, never written
    memory_order(layout, false);
}

// A value as the shortest text that reads back to it: as float32 if that is all its format holds. No locale.
struct Number {
    char text[32];
    Number(double value, const Format& format) noexcept {
        char* const last = text + sizeof text - 1;
        *(format.wide ? std::to_chars(text, last, value) : std::to_chars(text, last, static_cast<float>(value))).ptr =
            0;
    }
};

nc_status report(const Request& request, const Refused& refused, nc_error* error) noexcept {
    const Format& target = format_of(request.out.format);
    const double value = value_of(request.x.format, refused.code);
    const Number came(value, format_of(request.x.format));
    const auto index = static_cast<unsigned long long>(refused.position);
    describe_element(error, refused.reason, refused.position, value);
    const char* lacks = "";
    switch (refused.reason) {
    case NC_REASON_FINITE: {
        const int32_t format = target.row.format == NC_FORMAT_tf32 ? int32_t{NC_FORMAT_f32} : target.row.format;
        const double largest = value_of(format, target.facts.max << target.facts.container_shift);
        return fail(error, NC_ERROR_OVERFLOW, "element %llu (value %s) overflows %s, whose largest value is %s", index,
                    came.text, target.name, Number(largest, target).text);
    }
    case NC_REASON_INFINITE: lacks = "infinity"; break;
    case NC_REASON_NAN: lacks = "NaN"; break;
    case NC_REASON_ZERO: lacks = "zero"; break;
    default: lacks = "sign";
    }
    return fail(error, NC_ERROR_OVERFLOW, "element %llu (value %s) does not fit into %s, which has no %s", index,
                came.text, target.name, lacks);
}

} // namespace

nc_status scan_for_overflow(const KernelTable& table, const Request& request, nc_error* error) noexcept {
    const int32_t src = request.x.format, dst = request.out.format;
    const Format& target = format_of(dst);
    if (src == dst || dst == NC_FORMAT_f64 || (dst == NC_FORMAT_f32 && src != NC_FORMAT_f64))
        return NC_OK;
    // A float64 beyond float32 becomes the largest float32 when rounded to odd, whatever the target: that value is
    // always suspect, and the codec tells those that overflow from those that do not.
    constexpr uint32_t largest_f32 = 0x7f7fffff;
    CensusRule rule{largest_f32, largest_f32, 0};
    if (dst != NC_FORMAT_f32) {
        rule = census_rule(dst, request.options.rounding);
        rule.overflow_positive = std::min(rule.overflow_positive, largest_f32);
        rule.overflow_negative = std::min(rule.overflow_negative, largest_f32);
    }
    const Scan scan{request, table.widen[src], table.census, rule, target.facts, target.row.sign_bits != 0};

    Layout layout;
    source_order(request, layout);
    const SplitRule split{request.options.threads, tile_items, least_part_bytes / request.x.item};
    Search search{scan, layout, false};
    run_parts(layout.n, split, search_part, &search);
    if (!search.found.load(std::memory_order_relaxed))
        return NC_OK;

    c_order(request, layout);
    merge(layout);
    const FpGuard guard(NC_NEAREST_EVEN);
    return report(request, first_refused(scan, layout, 0, layout.n, nullptr), error);
}

} // namespace narrowcast
