// Threads: the first call of a process from many threads at once, callers that share one input and write side by side,
// and the threads option. Made for ThreadSanitizer, which sees a write or read outside a thread's own part; run
// natively it checks that bytes do not depend on the number of threads.
#include <latch>
#include <thread>

#include "support.hpp"

namespace narrowcast::test {
namespace {

// Before anything else has touched the library.
void first_use(Tally& tally) {
    constexpr int callers = 8;
    constexpr size_t n = 1000;
    std::latch start(callers);
    std::array<std::vector<uint16_t>, callers> results;
    std::array<const char*, callers> chosen{};
    const std::vector<float> x(n, 1.0f / 3.0f);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < callers; ++i)
        threads.emplace_back([&, i] {
            results[i].resize(n);
            start.arrive_and_wait();
            if (i % 2 != 0)
                nc_isa_default(&chosen[i], nullptr);
            const nc_cast_options options = cast_options(NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, nullptr);
            cast(NC_FORMAT_f32, x.data(), NC_FORMAT_f16, results[i].data(), n, options);
            nc_isa_default(&chosen[i], nullptr);
        });
    for (std::thread& thread : threads)
        thread.join();
    for (size_t i = 0; i < callers; ++i) {
        tally.check(chosen[i] != nullptr && strcmp(chosen[i], chosen[0]) == 0, "caller %zu chose another set", i);
        tally.check(results[i] == std::vector<uint16_t>(n, 0x3555), "caller %zu got a wrong result", i);
    }
}

std::vector<unsigned char> random_items(size_t bytes) {
    std::vector<unsigned char> items(bytes);
    for (size_t i = 0; i + 8 <= bytes; i += 8)
        store_code(items.data(), i / 8, 8, mix(i));
    return items;
}

// Callers write parts of odd lengths that touch each other.
void side_by_side(Tally& tally, const std::string& isa, int32_t dst) {
    constexpr size_t callers = 4, n = callers * 10007;
    const size_t bytes = item_bytes(dst);
    const std::vector<unsigned char> x = random_items(n * 4);
    std::vector<unsigned char> whole(n * bytes), parts(n * bytes);
    const nc_cast_options options = cast_options(NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, isa.c_str());
    cast(NC_FORMAT_f32, x.data(), dst, whole.data(), n, options);
    std::latch start(callers);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < callers; ++i)
        threads.emplace_back([&, i] {
            const size_t first = i * (n / callers);
            start.arrive_and_wait();
            for (int again = 0; again < 3; ++again)
                cast(NC_FORMAT_f32, x.data() + first * 4, dst, parts.data() + first * bytes, n / callers, options);
        });
    for (std::thread& thread : threads)
        thread.join();
    tally.check(whole == parts, "%s: parts of %s by several callers differ from the whole", isa.c_str(),
                info(dst).name);
}

// A view of n items, a matrix with its rows `gap` items apart or a plain array.
struct Case {
    const char* what;
    int32_t src, dst, rounding;
    int64_t rows, columns, gap;
};

nc_status cast_case(const Case& c, void* x, void* out, int32_t threads, const std::string& isa, nc_error* error,
                    int32_t overflow = NC_OVERFLOW_SATURATE) {
    const int64_t shape[] = {c.rows, c.columns};
    const auto bytes = static_cast<int64_t>(item_bytes(c.src));
    const int64_t strides[] = {(c.columns + c.gap) * bytes, bytes};
    const nc_array from{x, shape, c.gap != 0 ? strides : nullptr, 2, c.src, 0, 0};
    const nc_array to{out, shape, nullptr, 2, c.dst, 0, 0};
    nc_cast_options options = cast_options(c.rounding, overflow, isa.c_str());
    options.threads = threads;
    if (c.rounding == NC_STOCHASTIC) {
        options.seed = 42;
        options.offset = 5;
    }
    return nc_cast(&from, &to, &options, error);
}

void threads_option(Tally& tally, const std::string& isa) {
    constexpr Case cases[] = {
        {"narrowing", NC_FORMAT_f32, NC_FORMAT_e4m3fn, NC_NEAREST_EVEN, 1021, 1031, 0},
        {"widening", NC_FORMAT_e5m2, NC_FORMAT_f32, NC_NEAREST_EVEN, 1021, 1031, 0},
        {"strided rows", NC_FORMAT_f32, NC_FORMAT_bf16, NC_NEAREST_EVEN, 1021, 1031, 3},
        {"stochastic", NC_FORMAT_f32, NC_FORMAT_e2m1fn, NC_STOCHASTIC, 1021, 1031, 0},
        {"stochastic strided", NC_FORMAT_f64, NC_FORMAT_f16, NC_STOCHASTIC, 509, 1031, 1},
        {"wide source", NC_FORMAT_f64, NC_FORMAT_e3m4, NC_UP, 1021, 517, 0},
        {"empty", NC_FORMAT_f32, NC_FORMAT_f16, NC_NEAREST_EVEN, 1021, 0, 0},
        {"small", NC_FORMAT_f32, NC_FORMAT_f16, NC_NEAREST_EVEN, 1, 7, 0},
    };
    for (const Case& c : cases) {
        const auto n = static_cast<size_t>(c.rows * c.columns);
        std::vector<unsigned char> x =
            random_items(static_cast<size_t>(c.rows * (c.columns + c.gap)) * item_bytes(c.src) + 8);
        std::vector<unsigned char> one(n * item_bytes(c.dst));
        tally.check(cast_case(c, x.data(), one.data(), 1, isa, nullptr) == NC_OK, "%s refused", c.what);
        for (const int32_t threads : {2, 3, 4, 5, 6, 7, 8, 0, 1000}) {
            std::vector<unsigned char> several(one.size(), 0xa5);
            tally.check(cast_case(c, x.data(), several.data(), threads, isa, nullptr) == NC_OK, "%s refused", c.what);
            tally.check(one == several, "%s, %s: %d threads give other bytes than one", isa.c_str(), c.what, threads);
        }
    }

    // "raise" names the smallest index, whichever thread finds one first.
    const Case raise{"raise", NC_FORMAT_f32, NC_FORMAT_e4m3fn, NC_NEAREST_EVEN, 1021, 1031, 0};
    const auto n = static_cast<size_t>(raise.rows * raise.columns);
    std::vector<float> x(n, 1.5f);
    for (const size_t bad : {n - 1, n / 2 + 1, n / 3, size_t{12345}}) {
        x[bad] = 1e6f;
        for (const int32_t threads : {1, 2, 8}) {
            std::vector<unsigned char> out(n, 0xa5);
            nc_error error{};
            error.size = sizeof error;
            const nc_status status = cast_case(raise, x.data(), out.data(), threads, isa, &error, NC_OVERFLOW_RAISE);
            tally.check(status == NC_ERROR_OVERFLOW && error.index == bad && error.reason == NC_REASON_FINITE,
                        "%s: raise with %d threads reports index %llu, not %zu", isa.c_str(), threads,
                        static_cast<unsigned long long>(error.index), bad);
            tally.check(out == std::vector<unsigned char>(n, 0xa5), "%s: raise wrote something", isa.c_str());
        }
    }

    // In place, whatever the number of threads asked for.
    const std::vector<unsigned char> original = random_items(n * 4);
    std::vector<unsigned char> apart(n);
    const Case narrowing = cases[0];
    std::vector<unsigned char> source = original;
    cast_case(narrowing, source.data(), apart.data(), 1, isa, nullptr);
    cast_case(narrowing, source.data(), source.data(), 4, isa, nullptr);
    tally.check(std::equal(apart.begin(), apart.end(), source.begin()), "%s: in place with threads", isa.c_str());
}

int run() {
    Tally tally;
    first_use(tally);
    for (const std::string& isa : supported_isas()) {
        for (const int32_t dst : {NC_FORMAT_f16, NC_FORMAT_bf16, NC_FORMAT_e4m3fn, NC_FORMAT_e2m1fn})
            side_by_side(tally, isa, dst);
        threads_option(tally, isa);
    }
    return tally.finish();
}

} // namespace
} // namespace narrowcast::test

int main() { return narrowcast::test::run(); }
