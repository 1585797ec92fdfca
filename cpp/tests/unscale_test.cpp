// nc_unscale: every instruction set's kernel against the scalar one at every length around its blocks, between guard
// pages, in place and apart, with payloads and extreme products; every float32 exponent's products against doubles;
// lists, layouts and threads against one plain call; and all that it refuses.
#include <bit>
#include <cmath>
#include <limits>
#include <thread>

#include "api/fp_guard.hpp"
#include "dispatch/registry.hpp"
#include "guarded_pages.hpp"
#include "support.hpp"

namespace narrowcast::test {
namespace {

constexpr int32_t formats[] = {NC_FORMAT_f64, NC_FORMAT_f32, NC_FORMAT_f16, NC_FORMAT_bf16};
constexpr float factors[] = {1.0f, 0.5f, 0x1p-16f, 1.0f / 3.0f, -3.0f, 65536.0f, 0x1.fffffep127f, 0x1p-149f};
constexpr size_t longest = 300; // four blocks of the widest set and more

uint64_t exponent_mask(int32_t format) { return info(format).inf_code; }

// Any bits; every sixteenth element has the largest exponent, if specials are wanted, else none has.
uint64_t code_at(int32_t format, uint64_t i, bool specials) {
    const uint64_t random = mix(i), inf = exponent_mask(format);
    const uint64_t code = item_bytes(format) == 8 ? random : random & ((uint64_t{1} << 8 * item_bytes(format)) - 1);
    if (specials && (random >> 40) % 16 == 0)
        return code | inf;
    return (code & inf) == inf ? code ^ (inf & (0 - inf)) : code;
}

void fill(int32_t format, unsigned char* to, size_t n, uint64_t seed, bool specials) {
    for (size_t i = 0; i < n; ++i)
        store_code(to, i, item_bytes(format), code_at(format, seed * 1000 + i, specials));
}

void check_kernel(Tally& tally, const KernelTable& table, const KernelTable& scalar, int32_t format) {
    const size_t item = item_bytes(format);
    const GuardedPages source(longest * item), target(longest * item);
    std::vector<unsigned char> expected(longest * item);
    const FpGuard guard(NC_NEAREST_EVEN);
    for (size_t n = 0; n <= longest; n += n < 150 ? 1 : 29) {
        for (const float factor : factors) {
            for (const unsigned way : {0u, 1u, 2u, 3u}) {
                const bool at_end = way % 2 != 0, specials = way / 2 != 0;
                unsigned char* x = source.place(n * item, at_end);
                unsigned char* out = target.place(n * item, at_end);
                fill(format, x, n, n + way, specials);
                const bool found = scalar.unscale[format](x, expected.data(), n, factor, false);
                const auto equal = [&](const unsigned char* got) {
                    return n == 0 || memcmp(got, expected.data(), n * item) == 0;
                };
                for (const bool stream : {false, true}) {
                    target.place(0, false);
                    memset(out, 0, n * item);
                    tally.check(table.unscale[format](x, out, n, factor, stream) == found && equal(out),
                                "%s %s n=%zu factor %g way %u stream %d", table.name, info(format).name, n,
                                static_cast<double>(factor), way, stream);
                }
                tally.check(table.unscale[format](x, x, n, factor, false) == found && equal(x),
                            "%s %s n=%zu factor %g way %u in place", table.name, info(format).name, n,
                            static_cast<double>(factor), way);
            }
        }
    }
}

// What is found at each place of a block, and nowhere else.
void check_finding(Tally& tally, const KernelTable& table, int32_t format) {
    const size_t item = item_bytes(format);
    const uint64_t inf = exponent_mask(format), sign = uint64_t{1} << (8 * item - 1);
    const FpGuard guard(NC_NEAREST_EVEN);
    for (size_t at = 0; at < longest; ++at) {
        for (const uint64_t code : {inf, inf | sign, inf | 1, inf - 1, (inf - 1) | sign}) {
            std::vector<unsigned char> x(longest * item), out(longest * item);
            store_code(x.data(), at, item, code);
            const bool expected = (code & inf) == inf;
            for (const float factor : {1.0f, 0.25f})
                tally.check(table.unscale[format](x.data(), out.data(), longest, factor, false) == expected,
                            "%s %s: %llx at %zu", table.name, info(format).name, static_cast<unsigned long long>(code),
                            at);
        }
    }
}

// The scalar kernel's numbers against the language's doubles: exact products, rounded once by nc_cast.
void check_scalar_products(Tally& tally, const KernelTable& scalar) {
    const FpGuard guard(NC_NEAREST_EVEN);
    for (const int32_t format : {NC_FORMAT_f32, NC_FORMAT_f16, NC_FORMAT_bf16}) {
        const size_t item = item_bytes(format), n = 4096;
        std::vector<unsigned char> x(n * item), out(n * item), expected(n * item);
        std::vector<double> values(n);
        std::vector<float> products(n);
        fill(format, x.data(), n, 7, false);
        for (const float factor : factors) {
            scalar.unscale[format](x.data(), out.data(), n, factor, false);
            cast(format, x.data(), NC_FORMAT_f64, values.data(), n, cast_options(0, 0, "scalar"));
            for (size_t i = 0; i < n; ++i)
                values[i] *= static_cast<double>(factor); // 48 bits: exact
            cast(NC_FORMAT_f64, values.data(), NC_FORMAT_f32, products.data(), n, cast_options(0, 0, "scalar"));
            cast(NC_FORMAT_f32, products.data(), format, expected.data(), n, cast_options(0, 0, "scalar"));
            tally.check(out == expected, "%s times %g", info(format).name, static_cast<double>(factor));
        }
    }
}

// --- the whole function ---------------------------------------------------------------------------------------------

nc_status unscale(const std::vector<nc_array>& x, const nc_array* out, float factor, int32_t threads, int32_t& found,
                  nc_error* error = nullptr, const char* isa = nullptr) {
    nc_cast_options options = cast_options(0, 0, isa);
    options.threads = threads;
    return nc_unscale(x.data(), out, x.size(), factor, &options, &found, error);
}

void check_layouts(Tally& tally) {
    constexpr size_t n = 3 * 700 * 5;
    for (const int32_t format : formats) {
        const size_t item = item_bytes(format);
        std::vector<unsigned char> x(n * item), plain(n * item);
        fill(format, x.data(), n, 3, true);
        const int64_t all = n, shape[] = {3, 700, 5};
        const auto i = static_cast<int64_t>(item);
        int32_t found = 0;
        const nc_array flat{x.data(), &all, nullptr, 1, format, 0, 0}, to{plain.data(), &all, nullptr, 1, format, 0, 0};
        tally.check(unscale({flat}, &to, 0.37f, 1, found) == NC_OK && found == 1, "a plain call");
        const int64_t orders[][3] = {{3500 * i, 5 * i, i}, {3500 * i, i, 700 * i}, {i, 15 * i, 3 * i}};
        for (const auto& strides : orders) {
            for (const int32_t threads : {1, 3}) {
                std::vector<unsigned char> copy = x; // in place
                const nc_array array{copy.data(), shape, strides, 3, format, 0, 0};
                found = 0;
                tally.check(unscale({array}, nullptr, 0.37f, threads, found) == NC_OK && found == 1 && copy == plain,
                            "%s in place, strides %lld %lld", info(format).name, static_cast<long long>(strides[0]),
                            static_cast<long long>(strides[1]));
            }
        }
        // Backwards, and every other element: those between stay.
        std::vector<unsigned char> copy = x;
        const int64_t half = n / 2, step = -2 * i;
        const nc_array array{copy.data() + (n - 2) * item, &half, &step, 1, format, 0, 0};
        tally.check(unscale({array}, nullptr, 0.37f, 1, found) == NC_OK, "every other element");
        bool ok = true;
        for (size_t k = 0; k < n; ++k)
            ok = ok && load_code(copy.data(), k, item) == load_code((k % 2 == 0 ? plain : x).data(), k, item);
        tally.check(ok, "%s: every other element", info(format).name);
    }
}

void check_lists_and_threads(Tally& tally) {
    constexpr size_t n = 1 << 20; // enough for threads and, apart, for stores past the caches in some part
    std::vector<float> a(n), b(3, 2.0f), expected(n);
    for (size_t i = 0; i < n; ++i)
        a[i] = static_cast<float>(mix(i) % 100000) - 5e4f;
    for (size_t i = 0; i < n; ++i)
        expected[i] = a[i] * 0.1f;
    const int64_t many = n, three = 3, none = 0;
    std::vector<float> out(n);
    const nc_array big{a.data(), &many, nullptr, 1, NC_FORMAT_f32, 0, 0};
    const nc_array small{b.data(), &three, nullptr, 1, NC_FORMAT_f32, 0, 0};
    const nc_array empty{nullptr, &none, nullptr, 1, NC_FORMAT_f16, 0, 0};
    const nc_array apart[] = {{out.data(), &many, nullptr, 1, NC_FORMAT_f32, 0, 0}, small, empty};
    for (const int32_t threads : {1, 2, 0}) {
        int32_t found = 0;
        b.assign(3, 2.0f);
        tally.check(unscale({big, small, empty}, apart, 0.1f, threads, found) == NC_OK && found == 0 &&
                        out == expected && b[2] == 2.0f * 0.1f,
                    "a list, %d threads", threads);
        a[n - 1] = std::numeric_limits<float>::infinity();
        tally.check(unscale({big, small, empty}, apart, 0.1f, threads, found) == NC_OK && found == 1, "the last");
        a[n - 1] = expected[n - 1] / 0.1f;
        out[n - 1] = expected[n - 1];
        a[n - 1] = static_cast<float>(mix(n - 1) % 100000) - 5e4f;
        tally.check(unscale({big}, apart, 0.1f, threads, found) == NC_OK && found == 1, "found_inf is never reset");
    }
    int32_t found = 0;
    tally.check(unscale({}, nullptr, 0.1f, 1, found) == NC_OK && found == 0, "no arrays");
}

void check_refusals(Tally& tally) {
    std::vector<float> memory(64, 1.0f);
    const std::vector<float> before = memory;
    const int64_t n = 16, same = 0, gap = 8;
    const auto array = [&](size_t at, int32_t format, const int64_t* strides = nullptr) {
        return nc_array{memory.data() + at, &n, strides, 1, format, 0, 0};
    };
    const nc_array good = array(0, NC_FORMAT_f32);
    nc_error error{};
    error.size = sizeof error;
    int32_t found = 0;
    const auto refuses = [&](nc_status expected, const char* word, const std::vector<nc_array>& x, const nc_array* out,
                             float factor = 0.5f, const char* isa = nullptr) {
        const nc_status status = unscale(x, out, factor, 1, found, &error, isa);
        tally.check(status == expected && strstr(error.message, word) != nullptr && memory == before && found == 0,
                    "%s: status %d, %s", word, status, error.message);
    };
    refuses(NC_ERROR_ARGUMENT, "inv_scale", {good}, nullptr, 0.0f);
    refuses(NC_ERROR_ARGUMENT, "inv_scale", {good}, nullptr, std::numeric_limits<float>::infinity());
    refuses(NC_ERROR_ARGUMENT, "inv_scale", {good}, nullptr, std::numeric_limits<float>::quiet_NaN());
    refuses(NC_ERROR_FORMAT, "int32", {good, array(16, NC_FORMAT_i32)}, nullptr);
    refuses(NC_ERROR_FORMAT, "float8_e5m2", {good, array(16, NC_FORMAT_e5m2)}, nullptr);
    refuses(NC_ERROR_ARGUMENT, "x.format", {array(0, 63)}, nullptr);
    refuses(NC_ERROR_OVERLAP, "itself", {good, array(16, NC_FORMAT_f32, &same)}, nullptr);
    const nc_array shifted = array(8, NC_FORMAT_f32), spread = array(0, NC_FORMAT_f32, &gap);
    refuses(NC_ERROR_OVERLAP, "overlaps x", {good}, &shifted);
    refuses(NC_ERROR_OVERLAP, "overlaps x", {good}, &spread);
    const nc_array half = array(32, NC_FORMAT_f16);
    refuses(NC_ERROR_FORMAT, "out.format is float16", {good}, &half);
    refuses(NC_ERROR_ISA, "nonesuch", {good}, nullptr, 0.5f, "nonesuch");
    nc_array null = good;
    null.data = nullptr;
    refuses(NC_ERROR_ARGUMENT, "x.data", {good, null}, nullptr);
    tally.check(nc_unscale(&good, nullptr, 1, 0.5f, nullptr, nullptr, &error) == NC_ERROR_ARGUMENT, "found_inf null");
    tally.check(nc_unscale(nullptr, nullptr, 1, 0.5f, nullptr, &found, &error) == NC_ERROR_ARGUMENT, "x null");
    tally.check(memory == before && found == 0, "nothing was written");
}

} // namespace
} // namespace narrowcast::test

int main() {
    using namespace narrowcast::test;
    Tally tally;
    const narrowcast::KernelTable& scalar = *narrowcast::find_isa("scalar");
    check_scalar_products(tally, scalar);
    for (const std::string& isa : supported_isas()) {
        const narrowcast::KernelTable& table = *narrowcast::find_isa(isa.c_str());
        for (const int32_t format : formats) {
            check_kernel(tally, table, scalar, format);
            check_finding(tally, table, format);
        }
    }
    check_layouts(tally);
    check_lists_and_threads(tally);
    check_refusals(tally);
    return tally.finish();
}
