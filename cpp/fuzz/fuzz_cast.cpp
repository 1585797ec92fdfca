// Fuzzes nc_cast: every argument is decoded from the input bytes: formats, shapes, strides, byte orders, overlaps,
// options, and one deliberate mistake at times. Each array lies in a heap block of exactly its size, so that
// AddressSanitizer sees every byte too many.
//
// What must hold, on every instruction set: a refused call names a reason and writes nothing; a call that must be
// refused is; an accepted one gives element by element what the scalar codec gives, and touches no byte between the
// elements. Build it with -fsanitize=fuzzer; cpp/tests/fuzz_corpus_test.cpp replays the kept corpus without libFuzzer.
#include <algorithm>

#include "codec/reference.hpp"
#include "decode.hpp"

namespace narrowcast::test {
namespace {

struct Call {
    nc_array x{}, out{};
    nc_cast_options options{};
};

// One mistake that nc_cast has to notice, whatever else is in the call. x_shape and out_shape are copies of the shape
// for it to spoil. Returns whether it made one.
bool make_mistake(Bytes& bytes, Call& call, std::vector<int64_t>& x_shape, std::vector<int64_t>& out_shape,
                  size_t count) {
    const bool on_x = bytes.one_in(2);
    nc_array& array = on_x ? call.x : call.out;
    std::vector<int64_t>& shape = on_x ? x_shape : out_shape;
    const auto outside = [&](int32_t limit) {
        const auto value = static_cast<int32_t>(static_cast<uint32_t>(bytes.take(4)));
        return value >= 0 && value < limit ? value + limit : value;
    };
    switch (bytes.below(16)) {
    case 0: array.format = outside(NC_FORMAT_LIMIT); return true;
    case 1: array.ndim = outside(NC_MAX_NDIM + 1); return true;
    case 2: array.flags |= 2u << bytes.below(31); return true;
    case 3: array.reserved = 1 + static_cast<uint32_t>(bytes.take(3)); return true;
    case 4: call.options.rounding = outside(NC_STOCHASTIC + 1); return true;
    case 5: call.options.overflow = outside(NC_OVERFLOW_RAISE + 1); return true;
    case 6: call.options.threads = -1 - static_cast<int32_t>(bytes.take(3)); return true;
    case 7: call.options.isa = bytes.one_in(2) ? "" : "avx2 "; return true;
    case 8: call.options.size = bytes.below(8); return true;
    case 9: call.options.size = sizeof(nc_cast_options) + 1 + bytes.take(8) % 1000; return true;
    case 10: call.options.reserved = 1 + static_cast<int32_t>(bytes.take(3)); return true;
    case 11: array.data = nullptr; return count != 0;
    case 12: array.shape = nullptr; return array.ndim != 0;
    case 13: // an extent that is negative, or not the other array's
        if (shape.empty())
            return false;
        shape[bytes.below(shape.size())] = bytes.one_in(2) ? -1 - static_cast<int64_t>(bytes.take(7)) : 1 << 20;
        return true;
    case 14: // more elements than can be addressed
        if (shape.empty() || count == 0)
            return false;
        x_shape[0] = out_shape[0] = INT64_MAX - static_cast<int64_t>(bytes.take(7));
        call.out.strides = nullptr;
        return true;
    default:
        call.options.rounding = NC_STOCHASTIC;
        call.options.overflow = NC_OVERFLOW_RAISE;
        return true;
    }
}

void fuzz(Bytes bytes) {
    static const std::vector<int32_t> formats = all_formats();
    static const std::vector<std::string> isas = supported_isas();

    // The arrays: one shape, two views.
    std::vector<int64_t> shape(bytes.below(5));
    size_t count = 1;
    for (int64_t& extent : shape) {
        extent = static_cast<int64_t>(bytes.below(bytes.one_in(4) ? 1300 : 12));
        extent = std::min(extent, static_cast<int64_t>(1200 / std::max<size_t>(count, 1)));
        count *= static_cast<size_t>(extent);
    }
    View x, out;
    for (View* view : {&x, &out}) {
        view->format = formats[bytes.below(formats.size())];
        view->bytes = static_cast<int64_t>(item_bytes(view->format));
        view->swapped = bytes.one_in(4);
        choose_strides(bytes, *view, shape);
    }
    if (bytes.one_in(8)) { // as for casts in place
        out.strides = x.strides;
        for (int64_t& stride : out.strides)
            stride = stride / x.bytes * out.bytes;
    }
    x.contiguous = is_contiguous(x, shape);
    out.contiguous = is_contiguous(out, shape);

    // The memory: a block each, or one block for both.
    const Range x_range = range_of(x, shape), out_range = range_of(out, shape);
    const bool shared = bytes.one_in(3);
    x.offset = -x_range.low;
    out.offset = -out_range.low;
    if (shared) {
        const int64_t apart = bytes.one_in(2) ? 0 : static_cast<int64_t>(bytes.below(512)) - 256;
        const int64_t x_first = std::max<int64_t>(0, -apart), out_first = std::max<int64_t>(0, apart);
        x.offset = bytes.one_in(2) ? x_first - x_range.low : std::max(-x_range.low, -out_range.low) + x_first;
        out.offset = x.offset + x_range.low - x_first + out_first - out_range.low;
        if (bytes.one_in(2)) { // the first elements at one address
            x.offset = std::max(-x_range.low, -out_range.low);
            out.offset = x.offset;
        }
    }
    const int64_t x_end = x.offset + x_range.high, out_end = out.offset + out_range.high;
    std::vector<unsigned char> x_block = random_block(shared ? std::max(x_end, out_end) : x_end, bytes.take(2));
    std::vector<unsigned char> out_block = shared ? std::vector<unsigned char>{} : random_block(out_end, 1u << 20);
    std::vector<unsigned char>& target = shared ? x_block : out_block;
    const std::vector<int64_t> x_at = element_offsets(x, shape, count), out_at = element_offsets(out, shape, count);
    // The call.
    Call call;
    std::vector<int64_t> x_shape = shape, out_shape = shape;
    const auto describe = [&](View& view, std::vector<unsigned char>& block, std::vector<int64_t>& extents,
                              bool plain) {
        return nc_array{block.data() + view.offset,
                        extents.empty() ? nullptr : extents.data(),
                        plain && view.contiguous ? nullptr : view.strides.data(),
                        static_cast<int32_t>(shape.size()),
                        view.format,
                        view.swapped ? uint32_t{NC_ARRAY_BYTE_SWAPPED} : 0u,
                        0};
    };
    call.x = describe(x, x_block, x_shape, bytes.one_in(2));
    call.out = describe(out, target, out_shape, bytes.one_in(2));
    call.options = cast_options(static_cast<int32_t>(bytes.below(6)), NC_OVERFLOW_IEEE, nullptr);
    call.options.overflow = static_cast<int32_t>(bytes.below(3));
    if (call.options.rounding == NC_STOCHASTIC) {
        call.options.seed = bytes.take(8);
        call.options.offset = bytes.take(8);
        if (call.options.overflow == NC_OVERFLOW_RAISE)
            call.options.overflow = NC_OVERFLOW_IEEE;
    }
    call.options.threads = bytes.one_in(16) ? static_cast<int32_t>(bytes.below(4)) : 1;
    const bool mistake = bytes.one_in(8) && make_mistake(bytes, call, x_shape, out_shape, count);

    // The bytes that are left are values.
    for (size_t i = 0; i < std::min<size_t>(count, 64); ++i)
        if (const uint64_t code = bytes.take(static_cast<size_t>(x.bytes)); code != 0)
            store(x_block, x_at[i], x, code);

    // What must come of it.
    const std::vector<unsigned char> before = x_block, out_before = out_block;
    std::vector<unsigned char> expected = target;
    std::vector<bool> touched(target.size());
    bool out_overlaps_itself = false;
    for (const int64_t at : out_at)
        for (auto byte = static_cast<size_t>(at); byte < static_cast<size_t>(at + out.bytes); ++byte) {
            out_overlaps_itself = out_overlaps_itself || touched[byte];
            touched[byte] = true;
        }
    const bool ranges_meet =
        shared && count != 0 && x.offset + x_range.low < out_end && out.offset + out_range.low < x_end;
    const bool in_place =
        x.offset == out.offset && x.contiguous && out.contiguous && out.bytes <= x.bytes && !out_overlaps_itself;
    const bool castable = convertible(x.format, out.format);
    size_t refused = count;
    nc_reason reason = NC_REASON_NONE;
    if (castable && !mistake) {
        for (size_t i = 0; i < count; ++i) {
            const uint64_t code = load(before, x_at[i], x);
            if (call.options.overflow == NC_OVERFLOW_RAISE && refused == count) {
                reason = refuse_code(x.format, code, out.format, call.options.rounding);
                refused = reason != NC_REASON_NONE ? i : count;
            }
            const uint64_t index = call.options.offset + i;
            const uint32_t word =
                call.options.rounding == NC_STOCHASTIC ? philox_block(call.options.seed, index / 4)[index % 4] : 0;
            const int32_t overflow =
                call.options.overflow == NC_OVERFLOW_SATURATE ? NC_OVERFLOW_SATURATE : NC_OVERFLOW_IEEE;
            store(expected, out_at[i], out,
                  convert_code(x.format, code, out.format, call.options.rounding, overflow, word));
        }
    }

    for (size_t which = 0; which <= isas.size(); ++which) { // the last time with the default set
        Call now = call;
        if (now.options.isa == nullptr && which < isas.size())
            now.options.isa = isas[which].c_str();
        std::copy(before.begin(), before.end(), x_block.begin()); // the addresses stay
        if (!shared)
            std::copy(out_before.begin(), out_before.end(), out_block.begin());
        const std::vector<unsigned char> untouched = target;
        nc_error error;
        memset(&error, 0xa5, sizeof error);
        error.size = sizeof error;
        const nc_status status = nc_cast(&now.x, &now.out, &now.options, &error);

        REQUIRE(status >= NC_OK && status <= NC_ERROR_ISA);
        REQUIRE(error.status == status);
        REQUIRE(memchr(error.message, 0, sizeof error.message) != nullptr);
        REQUIRE((error.message[0] != 0) == (status != NC_OK));
        REQUIRE(!(mistake && status == NC_OK));
        if (status != NC_OK) {
            REQUIRE(target == untouched);
            REQUIRE(shared || x_block == before);
        }
        if (mistake)
            continue;
        if (!castable)
            REQUIRE(status == NC_ERROR_FORMAT);
        else if (count != 0 && out_overlaps_itself)
            REQUIRE(status == NC_ERROR_OVERLAP);
        else if (ranges_meet && !in_place && status == NC_OK) // more than the contract asks for; never wrong, though
            REQUIRE(target == expected && refused == count);
        else if (ranges_meet && !in_place)
            REQUIRE(status == NC_ERROR_OVERLAP || (status == NC_ERROR_OVERFLOW && refused != count));
        else if (status == NC_ERROR_OVERLAP)
            REQUIRE(count != 0 && !is_nested(out, shape));
        else if (refused != count)
            REQUIRE(status == NC_ERROR_OVERFLOW && error.index == refused && error.reason == reason);
        else
            REQUIRE(status == NC_OK && target == expected && (shared || x_block == before));
    }
}

} // namespace
} // namespace narrowcast::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    narrowcast::test::fuzz({data, size});
    return 0;
}
