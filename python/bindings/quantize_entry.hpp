// What the units of quantize's hot entry share: what Python handed over, one call, and its arrays.
#pragma once

#include "arrays.hpp"
#include "entry.hpp"
#include "plan.hpp"

namespace narrowcast::python {

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

struct Arrays {
    PyArrayObject *codes = nullptr, *scale = nullptr, *zero = nullptr;
};

// The arrays of out=, if they are what a new result would have. Borrowed. As below, the plan is of a spec that quantize
// can do.
bool read_out(const Entry& entry, const Plan& plan, const Request& request, const Shapes& shapes,
              Arrays& arrays) noexcept;

// A new QuantizedArray; null with an exception if there is none.
PyObject* new_result(const Entry& entry, const Plan& plan, const Request& request, const Shapes& shapes,
                     Arrays& arrays) noexcept;

// The core is shown given numbers in place of those of out=, so it does not see whether there is room for them.
bool has_room(const Request& request, const Arrays& arrays) noexcept;

} // namespace narrowcast::python
