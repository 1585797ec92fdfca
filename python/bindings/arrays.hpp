// numpy's C interface, set up once for all binding units, and the step from an ndarray to the core's nc_array.
// Here are no choices, and no checks but that of as_array: what an array may be is decided in Python, what is converted
// in the core.
#pragma once

#include <pybind11/pybind11.h>

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL narrowcast_numpy
#ifndef NARROWCAST_IMPORTS_NUMPY // module.cpp alone holds numpy's table of functions
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include <array>
#include <cstdint>

#include "narrowcast/narrowcast.h"

namespace narrowcast::python {

namespace py = pybind11;

// Below this many items a cast is shorter than handing the GIL over and back.
inline constexpr std::int64_t release_gil_above = 500;

// An nc_array of any layout together with the extents it points to.
struct ArrayView {
    std::array<std::int64_t, NC_MAX_NDIM> shape;
    std::array<std::int64_t, NC_MAX_NDIM> strides;
    nc_array array;

    ArrayView(PyArrayObject* source, std::int32_t format) noexcept : array{} {
        const int ndim = PyArray_NDIM(source);
        for (int axis = 0; axis < ndim; ++axis) {
            shape[static_cast<std::size_t>(axis)] = PyArray_DIM(source, axis);
            strides[static_cast<std::size_t>(axis)] = PyArray_STRIDE(source, axis);
        }
        array.data = PyArray_DATA(source);
        array.shape = shape.data();
        array.strides = strides.data();
        array.ndim = ndim;
        array.format = format;
        array.flags = PyArray_ISBYTESWAPPED(source) ? std::uint32_t{NC_ARRAY_BYTE_SWAPPED} : 0U;
    }
    ArrayView(const ArrayView&) = delete;
    ArrayView& operator=(const ArrayView&) = delete;
};

// The ndarray of a call that Python has checked. What is looked at only keeps the core inside of its memory.
inline PyArrayObject* as_array(py::handle object, std::int32_t format) {
    if (!PyArray_Check(object.ptr())) {
        throw py::type_error("_core takes ndarrays here");
    }
    auto* const array = reinterpret_cast<PyArrayObject*>(object.ptr());
    nc_format_info info{};
    info.size = sizeof info;
    if (nc_format_get_info(format, &info) != NC_OK || PyArray_ITEMSIZE(array) != info.storage_bytes) {
        throw py::value_error("_core: the item size does not fit the format");
    }
    return array;
}

// One call of the core, without the GIL if there is enough to do.
template <class Call> nc_status run_core(std::int64_t items, const Call& call) noexcept {
    if (items <= release_gil_above) {
        return call();
    }
    PyThreadState* const thread = PyEval_SaveThread();
    const nc_status status = call();
    PyEval_RestoreThread(thread);
    return status;
}

inline nc_status cast(const nc_array& x, const nc_array& out, const nc_cast_options& options, nc_error* error,
                      std::int64_t items) noexcept {
    return run_core(items, [&] { return nc_cast(&x, &out, &options, error); });
}

// The default number of threads; -1 while Python has not read the environment.
std::int32_t default_thread_count() noexcept;

void bind_info(py::module_& module);
void bind_cast(py::module_& module);
void bind_astype(py::module_& module);
void bind_pack(py::module_& module);
void bind_pack_entry(py::module_& module);
void bind_unscale(py::module_& module);
void bind_quantize(py::module_& module);
void bind_quantize_plan(py::module_& module);
void bind_quantize_entry(py::module_& module);
void bind_dequantize_entry(py::module_& module);

} // namespace narrowcast::python
