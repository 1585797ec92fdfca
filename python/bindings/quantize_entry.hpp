// What the units of quantize's hot entry share: what Python handed over, one call, and the arrays that go with it.
#pragma once

#include <array>
#include <optional>

#include "arrays.hpp"
#include "entry.hpp"
#include "quantize.hpp"

namespace narrowcast::python {

enum class Granularity : std::int8_t { tensor, row, group };

// What is always the same for a QuantSpec. It stands in the spec's slot `_plan`, in a capsule that frees it.
struct Plan {
    std::optional<nc_quantize_options> computed;
    nc_quantize_options given{};
    Granularity granularity = Granularity::tensor;
    std::int64_t group_size = 0;
    std::int32_t threads = -1;
    py::object code_dtype, scale_dtype, zero_dtype; // zero_dtype None: there is none
    std::int32_t code_format = 0, scale_format = 0, zero_format = 0;
    std::int32_t packed_bits = 0;     // 0: not packed
    py::object held_scale, held_zero; // arrays of one number that the spec has, for calls without; else null
};

// What Python handed over at import. Made once and never freed: a call may still run while the interpreter ends.
struct Entry {
    PyMethodDef method{};
    PyObject* slow = nullptr;
    PyObject* spec_type = nullptr;
    PyObject* array_type = nullptr; // QuantizedArray
    PyObject* isa = nullptr;        // ContextVar of use_isa
    Sources sources;
    PyObject* key_plan = PyUnicode_InternFromString("_plan");
    PyObject* key_spec = PyUnicode_InternFromString("spec");
    PyObject* key_out = PyUnicode_InternFromString("out");
    PyObject* key_threads = PyUnicode_InternFromString("threads");
    PyObject* key_scale = PyUnicode_InternFromString("scale");
    PyObject* key_zero_point = PyUnicode_InternFromString("zero_point");
    PyObject* key_shape = PyUnicode_InternFromString("shape");
    PyObject* key_dtype = PyUnicode_InternFromString("dtype");
};

struct Request {
    PyArrayObject* x = nullptr;
    PyObject* spec = nullptr;
    PyObject* out = nullptr;
    PyObject* scale = nullptr;
    PyObject* zero_point = nullptr;
    std::int32_t threads = -1; // -1: not given
};

// The shapes that go with x: its boxes, their scales, its codes.
struct Shapes {
    int ndim = 0;
    std::array<std::int64_t, NC_MAX_NDIM> x, block, boxes, codes;
};

struct Arrays {
    PyArrayObject *codes = nullptr, *scale = nullptr, *zero = nullptr;
};

// The shapes that go with x; false if there are none.
bool find_shapes(const Plan& plan, PyArrayObject* x, Shapes& shapes) noexcept;

// The arrays of out=, if they are what a new result would have. Borrowed.
bool read_out(const Entry& entry, const Plan& plan, const Request& request, const Shapes& shapes,
              Arrays& arrays) noexcept;

// A new QuantizedArray; null with an exception if there is none.
PyObject* new_result(const Entry& entry, const Plan& plan, const Request& request, const Shapes& shapes,
                     Arrays& arrays) noexcept;

// The core is shown given numbers in place of those of out=, so it does not see whether there is room for them.
bool has_room(const Request& request, const Arrays& arrays) noexcept;

} // namespace narrowcast::python
