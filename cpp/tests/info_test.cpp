// The questions of the C interface (formats, instruction sets, CPU, NARROWCAST_ISA) and the rooms under nc_cast that
// can be asked alone: splitting over threads, lists of CPU features, overlap of strides. Casts are in api_test.cpp.
#include "api/layout.hpp"
#include "dispatch/cpu_features.hpp"
#include "parallel/split.hpp"
#include "support.hpp"

#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace narrowcast::test {
namespace {

void facts(Tally& tally) {
    int32_t count = 0;
    for (; nc_format_at(count) != NC_FORMAT_INVALID; ++count) {
        const nc_format_info found = info(nc_format_at(count));
        tally.check(found.format == nc_format_at(count) && nc_format_from_name(found.name) == found.format &&
                        nc_format_from_name(found.id) == found.format,
                    "format %d does not find itself", nc_format_at(count));
    }
    tally.check(count >= 29 && nc_format_at(-1) == 0 && nc_format_from_name("float9") == 0 &&
                    nc_format_from_name(nullptr) == 0,
                "format list");
    const nc_format_info i8 = info(NC_FORMAT_i8), tf32 = info(NC_FORMAT_tf32), e8m0 = info(NC_FORMAT_e8m0fnu);
    tally.check(i8.max_code == 0x7f && i8.min_code == 0x80 && i8.has_nan == 0, "int8");
    tally.check(tf32.max_code == 0x7f7fe000 && tf32.min_code == 0xff7fe000 && tf32.smallest_subnormal_code == 0x2000,
                "tfloat32");
    tally.check(e8m0.max_code == 0xfe && e8m0.min_code == 0 && e8m0.nan_code == 0xff && e8m0.has_zero == 0, "e8m0");
    tally.check(strcmp(nc_status_name(NC_ERROR_OVERLAP), "overlap") == 0 && strcmp(nc_status_name(77), "unknown") == 0,
                "status names");
    tally.check(nc_version() != nullptr && strchr(nc_version(), '.') != nullptr, "version");

    nc_format_info cut_info;
    memset(&cut_info, 0x55, sizeof cut_info);
    cut_info.size = offsetof(nc_format_info, bits);
    tally.check(nc_format_get_info(NC_FORMAT_bf16, &cut_info) == NC_OK && cut_info.storage_bytes == 2 &&
                    cut_info.bits == 0x55555555 && cut_info.size == offsetof(nc_format_info, bits),
                "an older caller's nc_format_info");
    tally.check(nc_format_get_info(0, &cut_info) == NC_ERROR_ARGUMENT &&
                    nc_format_get_info(NC_FORMAT_f32, nullptr) == NC_ERROR_ARGUMENT,
                "no such format, no struct");

    char whole[200], cut[6];
    const size_t length = nc_cpu_features(whole, sizeof whole);
    tally.check(length == strlen(whole) && nc_cpu_features(cut, sizeof cut) == length &&
                    nc_cpu_features(nullptr, 0) == length && strncmp(cut, whole, 5) == 0 && strlen(cut) <= 5,
                "CPU features \"%s\", cut \"%s\"", whole, cut);
    tally.check(nc_isa_name(-1) == nullptr && nc_isa_supported(nullptr) == 0 && nc_isa_supported("sse9") == 0 &&
                    nc_isa_supported("scalar") == 1,
                "instruction sets");
}

#if !defined(_WIN32)
// NARROWCAST_ISA is read once per process, so each case asks in a child that has not asked yet.
std::string default_of(const char* value) {
    int ends[2];
    if (pipe(ends) != 0)
        return "no pipe";
    const pid_t child = fork();
    if (child == 0) {
        if (value == nullptr)
            unsetenv("NARROWCAST_ISA");
        else
            setenv("NARROWCAST_ISA", value, 1);
        const char* name = nullptr;
        nc_error error{};
        error.size = sizeof error;
        const nc_status asked = nc_isa_default(&name, &error);
        const float x = 1;
        uint16_t out = 0;
        const nc_status used =
            cast(NC_FORMAT_f32, &x, NC_FORMAT_f16, &out, 1, cast_options(NC_NEAREST_EVEN, NC_OVERFLOW_IEEE, nullptr));
        char text[400];
        const int length = snprintf(text, sizeof text, "%d %s cast %d %04x %s", asked, name == nullptr ? "-" : name,
                                    used, out, error.message);
        _exit(write(ends[1], text, static_cast<size_t>(length)) == length ? 0 : 1);
    }
    close(ends[1]);
    std::string answer;
    char part[400];
    for (ssize_t got; (got = read(ends[0], part, sizeof part)) > 0;)
        answer.append(part, static_cast<size_t>(got));
    close(ends[0]);
    waitpid(child, nullptr, 0);
    return answer;
}

void environment_variable(Tally& tally) {
    const auto expect = [&](const char* value, const std::string& words) {
        const std::string answer = default_of(value);
        tally.check(answer.find(words) != answer.npos, "NARROWCAST_ISA=%s: expected \"%s\" in \"%s\"",
                    value == nullptr ? "(unset)" : value, words.c_str(), answer.c_str());
    };
    std::string best;
    for (int32_t i = 0; nc_isa_name(i) != nullptr; ++i) {
        const std::string isa = nc_isa_name(i);
        if (nc_isa_supported(isa.c_str()) == 0) {
            expect(isa.c_str(), "5 - cast 5 0000 NARROWCAST_ISA is \"" + isa + "\", which this CPU lacks");
            continue;
        }
        if (best.empty())
            best = isa;
        expect(isa.c_str(), "0 " + isa + " cast 0 3c00");
    }
    expect(nullptr, "0 " + best + " cast 0 3c00");
    expect("", "0 " + best + " cast 0 3c00");
    expect("sse9", "5 - cast 5 0000 NARROWCAST_ISA is \"sse9\", which is no instruction set of this library; this "
                   "CPU can run: " +
                       best);
}
#endif

constexpr FeatureSet two_features() {
    FeatureSet set;
    set.add(CpuFeature::avx2);
    set.add(CpuFeature::f16c);
    return set;
}
static_assert(two_features().has_all("") && two_features().has_all("avx2") && two_features().has_all("f16c;avx2"));
static_assert(!two_features().has_all("avx2;fma") && !two_features().has_all("avx") && !two_features().has_all(";"));

// Parts cover the range once, begin at granules, and are not too small.
void splitting(Tally& tally) {
    struct Seen {
        std::atomic<int> parts{0};
        std::atomic<size_t> shortest{SIZE_MAX};
        std::atomic<bool> aligned{true};
        std::vector<std::atomic<int>> hits;
        size_t granule;
    };
    const auto visit = [](void* context, size_t begin, size_t end) noexcept {
        auto& seen = *static_cast<Seen*>(context);
        ++seen.parts;
        if (begin % seen.granule != 0)
            seen.aligned = false;
        for (size_t before = seen.shortest; end - begin < before;)
            seen.shortest.compare_exchange_weak(before, end - begin);
        for (size_t i = begin; i < end; ++i)
            ++seen.hits[i];
    };
    for (const size_t n : {0u, 1u, 63u, 64u, 1000u, 4096u, 70001u})
        for (const int32_t threads : {0, 1, 2, 7, 64, 100000})
            for (const size_t granule : {1u, 64u, 512u})
                for (const size_t least : {1u, 100u, 5000u}) {
                    Seen seen;
                    seen.hits = std::vector<std::atomic<int>>(n);
                    seen.granule = granule;
                    const SplitRule rule{threads, granule, least};
                    run_parts(n, rule, visit, &seen);
                    const auto parts = static_cast<size_t>(seen.parts.load());
                    bool once = true;
                    for (const std::atomic<int>& hit : seen.hits)
                        once = once && hit == 1;
                    const bool sized = parts == 1 || seen.shortest + granule > least;
                    tally.check(once && seen.aligned && sized && parts == part_count(n, rule) &&
                                    (threads == 0 || parts <= static_cast<size_t>(threads)),
                                "%zu items, %d threads, granule %zu, at least %zu: %zu parts, the shortest %zu", n,
                                threads, granule, least, parts, seen.shortest.load());
                }
}

// may_collide against counting bytes: it must see every collision, and accept what slicing and transposing make.
void collisions(Tally& tally) {
    unsigned collided = 0;
    for (uint64_t i = 0; i < 20000; ++i) {
        Request request{};
        int64_t shape[3], strides[3];
        request.n = 1;
        request.ndim = 3;
        request.shape = shape;
        request.x.item = request.out.item = 2;
        for (size_t d = 0; d < 3; ++d) {
            shape[d] = static_cast<int64_t>(mix(i * 8 + d) % 4 + 1);
            strides[d] = static_cast<int64_t>(mix(i * 8 + d + 4) % 41) - 20;
            request.n *= static_cast<size_t>(shape[d]);
        }
        std::vector<unsigned char> used(400); // three axes reach 180 bytes either way
        request.x.data = request.out.data = used.data() + 200;
        request.x.strides = request.out.strides = strides;
        bool shared = false;
        for (int64_t a = 0; a < shape[0]; ++a)
            for (int64_t b = 0; b < shape[1]; ++b)
                for (int64_t c = 0; c < shape[2]; ++c)
                    for (int64_t byte = 0; byte < 2; ++byte)
                        shared |=
                            used[static_cast<size_t>(200 + a * strides[0] + b * strides[1] + c * strides[2] + byte)]++;
        Layout layout;
        c_order(request, layout);
        memory_order(layout, false);
        tally.check(!shared || may_collide(layout, 2), "shape (%d, %d, %d), strides (%d, %d, %d) share bytes",
                    static_cast<int>(shape[0]), static_cast<int>(shape[1]), static_cast<int>(shape[2]),
                    static_cast<int>(strides[0]), static_cast<int>(strides[1]), static_cast<int>(strides[2]));
        collided += shared ? 1 : 0;
    }
    tally.check(collided > 1000 && collided < 19000, "the layouts tried are one-sided: %u of 20000 collide", collided);
}

} // namespace
} // namespace narrowcast::test

int main() {
    using namespace narrowcast::test;
    Tally tally;
#if !defined(_WIN32)
    environment_variable(tally); // first: it forks, and nothing may have asked for the default before
#endif
    supported_isas();
    facts(tally);
    splitting(tally);
    collisions(tally);
    return tally.finish();
}
