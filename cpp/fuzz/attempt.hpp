// Arrays of a fuzzed call, each in a heap block of exactly the bytes that its strides reach, and the call itself on
// every instruction set: what must hold of any function of the core, whatever it does.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "decode.hpp"

namespace narrowcast::test {

struct Array {
    std::vector<int64_t> shape;
    View view;
    std::vector<unsigned char> block;
    std::vector<int64_t> at; // of the elements, in the block
    nc_array array{};
    bool spoiled = false;         // the call must not go well
    bool overlaps_itself = false; // nor must it if this one is written

    Array() = default;
    Array(const Array&) = delete; // array points into it
    Array& operator=(const Array&) = delete;

    void make(Bytes& bytes, const std::vector<int64_t>& extents, int32_t format, bool dense_last = false) {
        shape = extents;
        view.format = format;
        view.bytes = static_cast<int64_t>(item_bytes(format));
        view.swapped = bytes.one_in(4);
        choose_strides(bytes, view, shape);
        if (dense_last && !shape.empty())
            view.strides.back() = 1;
        const Range range = range_of(view, shape);
        view.offset = -range.low;
        size_t count = 1;
        for (const int64_t extent : shape)
            count *= static_cast<size_t>(extent);
        at = element_offsets(view, shape, count);
        block = random_block(range.high - range.low, bytes.take(1) + static_cast<uint64_t>(format) * 1000);
        std::vector<bool> touched(block.size());
        for (const int64_t place : at)
            for (int64_t byte = place; byte < place + view.bytes; ++byte) {
                overlaps_itself = overlaps_itself || touched[static_cast<size_t>(byte)];
                touched[static_cast<size_t>(byte)] = true;
            }
        const bool plain = bytes.one_in(2) && is_contiguous(view, shape);
        array = {block.data() + view.offset,
                 shape.empty() ? nullptr : shape.data(),
                 plain ? nullptr : view.strides.data(),
                 static_cast<int32_t>(shape.size()),
                 format,
                 view.swapped ? uint32_t{NC_ARRAY_BYTE_SWAPPED} : 0u,
                 0};
    }
    uint64_t get(size_t i) const { return load(block, at[i], view); }
    void put(size_t i, uint64_t code) { store(block, at[i], view, code); }

    // The array of one element alone, in native order.
    nc_array one(uint64_t& code, const int64_t* ones, size_t ndim) const {
        return {&code, ones, nullptr, static_cast<int32_t>(ndim), view.format, 0, 0};
    }
};

// Calls `call(isa)`, which takes a null pointer for the default set, and checks what must hold whatever is called.
// Returns the status, which is the same for all, as is what was written.
template <class Function>
nc_status attempt(std::initializer_list<Array*> read, std::initializer_list<Array*> written, bool must_fail,
                  const Function& call) {
    static const std::vector<std::string> isas = supported_isas();
    std::vector<std::vector<unsigned char>> read_before, written_before, found;
    for (const Array* array : read) {
        read_before.push_back(array->block);
        must_fail = must_fail || array->spoiled;
    }
    bool overlaps = false, doubtful = false;
    for (const Array* array : written) {
        written_before.push_back(array->block);
        must_fail = must_fail || array->spoiled;
        overlaps = overlaps || array->overlaps_itself;
        doubtful = doubtful || !is_nested(array->view, array->shape);
    }
    nc_status first = NC_OK;
    for (size_t which = 0; which <= isas.size(); ++which) { // the last time with the default set
        size_t i = 0;
        for (Array* array : written)
            std::copy(written_before[i].begin(), written_before[i].end(), array->block.begin()), ++i;
        nc_error error;
        memset(&error, 0xa5, sizeof error);
        error.size = sizeof error;
        const nc_status status = call(which < isas.size() ? isas[which].c_str() : nullptr, &error);
        REQUIRE(status >= NC_OK && status <= NC_ERROR_ISA);
        REQUIRE(error.status == status);
        REQUIRE(memchr(error.message, 0, sizeof error.message) != nullptr);
        REQUIRE((error.message[0] != 0) == (status != NC_OK));
        REQUIRE(!(must_fail && status == NC_OK));
        REQUIRE(!(overlaps && status == NC_OK));
        REQUIRE(status != NC_ERROR_OVERLAP || doubtful);
        if (which == 0)
            first = status;
        REQUIRE(status == first);
        i = 0;
        for (const Array* array : read)
            REQUIRE(array->block == read_before[i++]);
        i = 0;
        for (const Array* array : written) {
            if (status != NC_OK)
                REQUIRE(array->block == written_before[i]);
            else if (which == 0)
                found.push_back(array->block);
            else
                REQUIRE(array->block == found[i]);
            ++i;
        }
    }
    if (first == NC_OK) { // nothing between the elements
        size_t i = 0;
        for (const Array* array : written) {
            std::vector<unsigned char> expected = written_before[i++];
            for (const int64_t place : array->at)
                std::copy_n(array->block.begin() + place, array->view.bytes, expected.begin() + place);
            REQUIRE(array->block == expected);
        }
    }
    return first;
}

} // namespace narrowcast::test
