// Compares the casts of every instruction set with the scalar codec, bit for bit, over as many inputs as asked for:
// all 2^32 float32 patterns with --stride 1. Whether the codec itself is right is the business of codec_test.cpp and
// of the Python oracle.
//
//   sweep [--sources a,b] [--targets a,b] [--isa x,y] [--rounding a,b] [--overflow a,b] [--stride N] [--threads N]
//         [--chunk N] [--record FILE | --against FILE] [--expect-default ISA]
//   sweep --quantize N [--isa x,y] [--threads N]      see quantize_sweep.hpp
//
// Lists default to everything; the formats "narrow" are all floats but float32 and float64. --stride N: one of every N
// patterns of 32-bit sources (default 4099); sources of 8 and 16 bits are always complete. --chunk N: items per cast
// (the default stays in L2; some million reach the stores that pass by the caches). "raise" checks that the first
// refused element of each chunk is the one reported. --record FILE keeps a digest of the codec's result for each chunk;
// --against FILE, with the same other options, compares with those instead of running the codec: what makes long sweeps
// under an emulator affordable, and shows that two architectures agree.
#include <chrono>
#include <fstream>
#include <thread>

#include "inputs.hpp"
#include "quantize_sweep.hpp"
#include "sweep_reference.hpp"

namespace narrowcast::test {
namespace {

struct Settings {
    std::vector<int32_t> sources, targets, roundings, overflows;
    std::vector<std::string> isas;
    uint64_t stride = 4099;
    unsigned threads = std::thread::hardware_concurrency();
    size_t chunk = size_t{1} << 15;
};

// One number for each chunk of the sweep, in a fixed order.
struct Digests {
    enum class Use { none, record, compare } use = Use::none;
    std::string path;
    std::vector<uint64_t> numbers;
    size_t next = 0; // the first one of the pair at hand
};

struct Buffers {
    explicit Buffers(size_t items) : x(items * 8), expected(items * 8), out(items * 8), words(items) {}
    std::vector<unsigned char> x, expected, out; // the largest item has 8 bytes
    std::vector<uint32_t> words;
};

uint64_t digest(const std::vector<unsigned char>& items, size_t bytes) {
    uint64_t sum = bytes;
    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t word = 0;
        memcpy(&word, items.data() + i, std::min<size_t>(8, bytes - i));
        sum = (sum ^ word) * 0x9e3779b97f4a7c15u; // odd, so that no word is lost
        sum ^= sum >> 32;
    }
    return sum;
}

size_t first_difference(const void* a, const void* b, size_t n, size_t bytes) {
    size_t i = 0;
    while (i < n && load_code(a, i, bytes) == load_code(b, i, bytes))
        ++i;
    return i;
}

void describe(Tally& tally, const Pair& pair, const std::string& isa, const char* what, uint64_t input,
              uint64_t expected, uint64_t got) {
    tally.check(false, "%s -> %s, %s, %s, %s, %s: input %llx, expected %llx, got %llx", info(pair.src).name,
                info(pair.dst).name, rounding_names[static_cast<size_t>(pair.rounding)],
                overflow_names[static_cast<size_t>(pair.overflow)], isa.c_str(), what,
                static_cast<unsigned long long>(input), static_cast<unsigned long long>(expected),
                static_cast<unsigned long long>(got));
}

// One chunk of one pair on every instruction set.
void sweep_chunk(const Settings& settings, const Pair& pair, const Inputs& inputs, uint64_t first, size_t n,
                 Buffers& buffers, Digests::Use use, uint64_t* number, Tally& tally) {
    const size_t src_bytes = item_bytes(pair.src), dst_bytes = item_bytes(pair.dst);
    inputs.fill(first, n, buffers.x.data());

    nc_cast_options options = cast_options(pair.rounding, pair.overflow, nullptr);
    EncodeMode mode{pair.rounding, pair.overflow == NC_OVERFLOW_SATURATE ? pair.overflow : NC_OVERFLOW_IEEE, nullptr};
    if (pair.rounding == NC_STOCHASTIC) {
        options.seed = mix(static_cast<uint64_t>(pair.dst) << 32 | static_cast<uint32_t>(pair.src));
        options.offset = first + 3; // in the middle of a Philox block
        philox_words(options.seed, options.offset, std::span(buffers.words).first(n));
        mode.random = buffers.words.data();
    }
    const auto run_codec = [&] {
        if (const Reference reference = fast_reference(pair))
            reference(reinterpret_cast<const uint32_t*>(buffers.x.data()), buffers.expected.data(), n, mode.random);
        else
            reference_cast(pair.src, pair.dst, buffers.x.data(), buffers.expected.data(), n, mode);
    };
    if (use != Digests::Use::compare)
        run_codec();
    if (use == Digests::Use::record)
        *number = digest(buffers.expected, n * dst_bytes);

    size_t refused = n; // index of the first element that "raise" must report
    nc_reason reason = NC_REASON_NONE;
    if (pair.overflow == NC_OVERFLOW_RAISE)
        for (size_t i = 0; i < n && refused == n; ++i) {
            reason = refuse_code(pair.src, load_code(buffers.x.data(), i, src_bytes), pair.dst, pair.rounding);
            refused = reason != NC_REASON_NONE ? i : n;
        }

    for (const std::string& isa : settings.isas) {
        options.isa = isa.c_str();
        nc_error error{};
        error.size = sizeof error;
        memset(buffers.out.data(), 0xa5, n * dst_bytes);
        const nc_status status = cast(pair.src, buffers.x.data(), pair.dst, buffers.out.data(), n, options, &error);
        const auto input = [&](size_t i) { return load_code(buffers.x.data(), i, src_bytes); };
        if (refused < n) {
            if (status == NC_ERROR_OVERFLOW && error.index == refused && error.reason == reason)
                tally.check(true, "raise");
            else
                describe(tally, pair, isa, "index of the refused element", input(refused), refused,
                         status == NC_ERROR_OVERFLOW ? error.index : n);
        } else if (status != NC_OK) {
            describe(tally, pair, isa, error.message, input(0), NC_OK, static_cast<uint64_t>(status));
        } else if (use == Digests::Use::compare
                       ? digest(buffers.out, n * dst_bytes) == *number
                       : memcmp(buffers.out.data(), buffers.expected.data(), n * dst_bytes) == 0) {
            tally.check(true, "cast");
        } else {
            run_codec();
            const size_t i = first_difference(buffers.out.data(), buffers.expected.data(), n, dst_bytes);
            if (i == n) // equal to the codec here, but not to the codec where the digests were made
                describe(tally, pair, isa, "a digest of the chunk that begins here", input(0), *number,
                         digest(buffers.out, n * dst_bytes));
            else
                describe(tally, pair, isa, "code", input(i), load_code(buffers.expected.data(), i, dst_bytes),
                         load_code(buffers.out.data(), i, dst_bytes));
        }
    }
}

[[noreturn]] void usage(const std::string& problem) {
    fprintf(stderr, "sweep: %s (see the head of sweep.cpp)\n", problem.c_str());
    exit(2);
}

// Every policy of one source and one target, spread over the threads.
void sweep_pair(const Settings& settings, int32_t src, int32_t dst, Digests& digests, Tally& tally) {
    std::vector<Pair> pairs;
    for (const int32_t rounding : settings.roundings)
        for (const int32_t overflow : settings.overflows)
            if (rounding != NC_STOCHASTIC || overflow != NC_OVERFLOW_RAISE)
                pairs.push_back({src, dst, rounding, overflow});
    const Inputs inputs(src, dst, settings.stride);
    const uint64_t chunks = (inputs.count() + settings.chunk - 1) / settings.chunk;
    const uint64_t tasks = chunks * pairs.size();
    if (digests.use == Digests::Use::record)
        digests.numbers.resize(digests.next + tasks);
    if (digests.use != Digests::Use::none && digests.next + tasks > digests.numbers.size())
        usage(digests.path + " was recorded with other options");
    std::atomic<uint64_t> next{0};
    const auto start = std::chrono::steady_clock::now();
    const auto work = [&] {
        Buffers buffers(settings.chunk);
        for (uint64_t task = next++; task < tasks; task = next++) {
            const uint64_t first = task % chunks * settings.chunk;
            const size_t n = static_cast<size_t>(std::min<uint64_t>(settings.chunk, inputs.count() - first));
            sweep_chunk(settings, pairs[task / chunks], inputs, first, n, buffers, digests.use,
                        digests.use == Digests::Use::none ? nullptr : &digests.numbers[digests.next + task], tally);
        }
    };
    std::vector<std::thread> threads;
    for (unsigned i = 1; i < settings.threads; ++i)
        threads.emplace_back(work);
    work();
    for (std::thread& thread : threads)
        thread.join();
    if (digests.use != Digests::Use::none)
        digests.next += tasks;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const uint64_t casts = inputs.count() * pairs.size();
    if (seconds >= 0.5) {
        printf("%s -> %s: %llu inputs x %zu policies x %zu sets in %.1f s, %.0f M inputs/s\n", info(src).name,
               info(dst).name, static_cast<unsigned long long>(inputs.count()), pairs.size(), settings.isas.size(),
               seconds, static_cast<double>(casts) / seconds / 1e6);
        fflush(stdout);
    }
}

template <class Names> std::vector<int32_t> positions(const Names& names, const std::string& list) {
    std::vector<int32_t> found;
    for (const std::string& name : split(list)) {
        const auto at = std::find(names.begin(), names.end(), name);
        if (at == names.end())
            usage("unknown name " + name);
        found.push_back(static_cast<int32_t>(at - names.begin()));
    }
    return found;
}

std::vector<int32_t> formats_named(const std::string& list) {
    std::vector<int32_t> formats;
    if (list == "narrow") {
        for (const int32_t format : all_formats())
            if (is_float(format) && format != NC_FORMAT_f32 && format != NC_FORMAT_f64)
                formats.push_back(format);
        return formats;
    }
    for (const std::string& name : split(list)) {
        formats.push_back(nc_format_from_name(name.c_str()));
        if (formats.back() == NC_FORMAT_INVALID)
            usage("unknown format " + name);
    }
    return formats;
}

uint64_t positive(const std::string& text) {
    char* end = nullptr;
    const uint64_t value = strtoull(text.c_str(), &end, 10);
    if (value == 0 || *end != '\0')
        usage("not a positive number: " + text);
    return value;
}

void write_digests(const Digests& digests) {
    std::ofstream file(digests.path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(digests.numbers.data()),
               static_cast<std::streamsize>(digests.numbers.size() * sizeof(uint64_t)));
    if (!file.flush())
        usage("cannot write " + digests.path);
}

void read_digests(Digests& digests) {
    std::ifstream file(digests.path, std::ios::binary | std::ios::ate);
    if (!file)
        usage("cannot read " + digests.path);
    digests.numbers.resize(static_cast<size_t>(file.tellg()) / sizeof(uint64_t));
    file.seekg(0);
    file.read(reinterpret_cast<char*>(digests.numbers.data()),
              static_cast<std::streamsize>(digests.numbers.size() * sizeof(uint64_t)));
}

int run(int argc, char** argv) {
    Settings settings;
    settings.sources = settings.targets = all_formats();
    settings.roundings = {0, 1, 2, 3, 4, 5};
    settings.overflows = {0, 1, 2};
    settings.isas = supported_isas();
    Tally tally;
    Digests digests;
    uint64_t quantize_stride = 0;
    for (int i = 1; i < argc; i += 2) {
        const std::string option = argv[i];
        if (i + 1 == argc)
            usage(option + " needs a value");
        const std::string value = argv[i + 1];
        if (option == "--sources")
            settings.sources = formats_named(value);
        else if (option == "--targets")
            settings.targets = formats_named(value);
        else if (option == "--isa")
            settings.isas = split(value);
        else if (option == "--rounding")
            settings.roundings = positions(rounding_names, value);
        else if (option == "--overflow")
            settings.overflows = positions(overflow_names, value);
        else if (option == "--stride")
            settings.stride = positive(value);
        else if (option == "--quantize")
            quantize_stride = positive(value);
        else if (option == "--threads")
            settings.threads = static_cast<unsigned>(positive(value));
        else if (option == "--chunk")
            settings.chunk = static_cast<size_t>(positive(value));
        else if (option == "--record" || option == "--against") {
            digests.use = option == "--record" ? Digests::Use::record : Digests::Use::compare;
            digests.path = value;
        } else if (option == "--expect-default") {
            const char* chosen = "";
            nc_isa_default(&chosen, nullptr);
            tally.check(value == chosen, "the default instruction set is %s, expected %s", chosen, value.c_str());
        } else
            usage("unknown option " + option);
    }
    if (digests.use == Digests::Use::compare)
        read_digests(digests);
    if (digests.use != Digests::Use::none &&
        std::count(settings.overflows.begin(), settings.overflows.end(), int32_t{NC_OVERFLOW_RAISE}) != 0)
        usage("digests are for --overflow ieee,saturate");
    for (const std::string& isa : settings.isas)
        if (nc_isa_supported(isa.c_str()) == 0)
            usage("not an instruction set of this CPU and library: " + isa);
    if (quantize_stride != 0) {
        sweep_quantize(quantize_stride, settings.threads, settings.isas, tally);
        return tally.finish();
    }
    for (const int32_t src : settings.sources)
        for (const int32_t dst : settings.targets)
            if (convertible(src, dst))
                sweep_pair(settings, src, dst, digests, tally);
    if (digests.use == Digests::Use::record)
        write_digests(digests);
    else if (digests.next != digests.numbers.size())
        usage(digests.path + " was recorded with other options");
    return tally.finish();
}

} // namespace
} // namespace narrowcast::test

int main(int argc, char** argv) { return narrowcast::test::run(argc, argv); }
