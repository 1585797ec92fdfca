// What the hot entries of quantize and dequantize share: what they know of a QuantSpec, the shapes that go with an
// array, and the arrays that results go into.
#pragma once

#include <array>
#include <optional>

#include "arrays.hpp"
#include "quantize.hpp"

namespace narrowcast::python {

enum class Granularity : std::int8_t { tensor, row, group, channel, block };

// What quantize needs beyond the rest.
struct Making {
    std::optional<nc_quantize_options> computed;
    py::object scale_dtype, zero_dtype; // zero_dtype None: there is none
    std::int32_t scale_format = 0, zero_format = 0;
    py::object held_scale, held_zero; // arrays of one number that the spec has, for calls without; else null
};

// What is always the same for a QuantSpec. It stands in the spec's slot `_plan`, in a capsule that frees it.
struct Plan {
    nc_quantize_options given{};
    Granularity granularity = Granularity::tensor;
    std::array<std::int64_t, NC_MAX_NDIM>
        extents{}; // group: its size and its axis; channel: its axes; block: its sides
    std::size_t extent_count = 0;
    std::int32_t threads = -1;
    py::object code_dtype;
    int carrier_type = 0; // numpy's number of the builtin dtype that may stand for code_dtype
    std::int32_t code_format = 0;
    std::int32_t packed_bits = 0;                 // 0: not packed
    std::int32_t asked_scale = NC_FORMAT_INVALID; // the only format that given scales keep, if there is one
    bool needs_zeros = false, takes_zeros = false, takes_float_zeros = false; // as dequantize reads given numbers
    std::optional<Making> making;                                             // none: quantize is for Python
};

// The plan of a spec, held by `owner`; null, without an exception, if it has none.
const Plan* find_plan(PyObject* spec, PyObject* key, py::object& owner) noexcept;

// The shapes that go with values: their boxes, the scales of these, their codes.
struct Shapes {
    using Extents = std::array<std::int64_t, NC_MAX_NDIM>;
    int ndim = 0;
    Extents x, block, boxes, codes;

    // Those of values like this array; what belongs to them is found next.
    explicit Shapes(PyArrayObject* array) noexcept;
    // Finds the rest; false where there is nothing to do, or something that Python has to look at.
    bool find(const Plan& plan) noexcept;
};

bool has_shape(PyArrayObject* array, const Shapes::Extents& shape, int ndim) noexcept;

// shape=, if it is a tuple of this many plain ints from 0.
bool read_shape(PyObject* given, Shapes::Extents& shape, int ndim) noexcept;

// A writable native array of this shape and dtype, or, where `or_bits`, of unsigned integers of its width; null if it
// is anything else.
PyArrayObject* usable(PyObject* object, const PyArray_Descr* dtype, const Shapes::Extents& shape, int ndim,
                      bool or_bits) noexcept;

PyObject* new_array(const Shapes::Extents& shape, int ndim, PyArray_Descr* dtype) noexcept;

} // namespace narrowcast::python
