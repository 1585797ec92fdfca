// The hot entry of astype, called straight through METH_FASTCALL: an ndarray in native byte order, a target that stands
// in Python's table, the deterministic roundings, and an ndarray as out=. It decides nothing: any call
// that is not exactly this, and any call the core refuses, goes on unchanged to the Python function `slow`, which
// checks, explains and raises.
#include <atomic>

#include "arrays.hpp"
#include "entry.hpp"

namespace narrowcast::python {
namespace {

// What Python handed over at import. Made once and never freed: a call may still run while the interpreter ends.
struct Entry {
    PyMethodDef method{};
    PyObject* slow = nullptr; // astype in Python
    PyObject* isa = nullptr;  // ContextVar of use_isa
    PyObject* roundings = nullptr;
    PyObject* overflows = nullptr; // tuples of interned names, by code
    Sources sources;
    Targets targets;
    PyObject* key_dtype = PyUnicode_InternFromString("dtype");
    PyObject* key_out = PyUnicode_InternFromString("out");
    PyObject* key_rounding = PyUnicode_InternFromString("rounding");
    PyObject* key_overflow = PyUnicode_InternFromString("overflow");
    PyObject* key_threads = PyUnicode_InternFromString("threads");
};

constinit std::atomic<const Entry*> current_entry{nullptr};
constinit std::atomic<std::int32_t> default_threads{-1}; // -1: Python has not read the environment yet

struct Request {
    PyArrayObject* x;
    PyObject* dtype;
    PyObject* out;
    nc_cast_options options;
};

// The position of an interned name in a tuple of interned names; -1 if it is not there as the same object.
std::int32_t position_of(PyObject* name, PyObject* names) noexcept {
    const Py_ssize_t count = PyTuple_GET_SIZE(names);
    for (Py_ssize_t i = 0; i < count; ++i) {
        if (PyTuple_GET_ITEM(names, i) == name) {
            return static_cast<std::int32_t>(i);
        }
    }
    return -1;
}

bool read_keyword(const Entry& entry, PyObject* name, PyObject* value, Request& request) noexcept {
    if (name == entry.key_out) {
        request.out = value == Py_None ? nullptr : value;
        return true;
    }
    if (name == entry.key_overflow) {
        request.options.overflow = position_of(value, entry.overflows);
        return request.options.overflow >= 0;
    }
    if (name == entry.key_rounding) {
        request.options.rounding = position_of(value, entry.roundings);
        return request.options.rounding >= 0;
    }
    if (name == entry.key_threads) {
        return read_threads(value, request.options.threads);
    }
    if (name == entry.key_dtype && request.dtype == nullptr) {
        request.dtype = value;
        return true;
    }
    return false;
}

bool read_arguments(const Entry& entry, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames,
                    Request& request) noexcept {
    if (nargs < 1 || nargs > 2 || !PyArray_CheckExact(args[0])) {
        return false;
    }
    request.x = reinterpret_cast<PyArrayObject*>(args[0]);
    request.dtype = nargs == 2 ? args[1] : nullptr;
    request.options.size = sizeof request.options;
    request.options.threads = default_threads.load(std::memory_order_relaxed);
    const Py_ssize_t keywords = kwnames == nullptr ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < keywords; ++i) {
        if (!read_keyword(entry, PyTuple_GET_ITEM(kwnames, i), args[nargs + i], request)) {
            return false;
        }
    }
    return request.dtype != nullptr && request.options.threads >= 0;
}

// out, if it is an array of x's shape that holds the result's dtype or its bits as unsigned integers.
PyArrayObject* usable_out(PyObject* out, PyArrayObject* x, const PyArray_Descr* result) noexcept {
    if (!PyArray_CheckExact(out)) {
        return nullptr;
    }
    auto* const array = reinterpret_cast<PyArrayObject*>(out);
    const bool same_type = PyArray_TYPE(array) == result->type_num ||
                           (PyArray_ISUNSIGNED(array) && PyArray_ITEMSIZE(array) == PyDataType_ELSIZE(result));
    const bool fits =
        same_type && PyArray_ISNOTSWAPPED(array) && PyArray_ISWRITEABLE(array) && PyArray_SAMESHAPE(array, x);
    return fits ? array : nullptr;
}

// A new array for the result, in x's order of memory as numpy's "K" has it; null with an exception if there is none.
PyArrayObject* new_out(PyArrayObject* x, PyArray_Descr* descr, int layout) noexcept {
    Py_INCREF(descr); // stolen by the next call
    if (layout == 0) {
        return reinterpret_cast<PyArrayObject*>(PyArray_NewLikeArray(x, NPY_KEEPORDER, descr, 0));
    }
    const int fortran = (layout & NPY_ARRAY_C_CONTIGUOUS) != 0 ? 0 : NPY_ARRAY_F_CONTIGUOUS;
    return reinterpret_cast<PyArrayObject*>(PyArray_NewFromDescr(&PyArray_Type, descr, PyArray_NDIM(x), PyArray_DIMS(x),
                                                                 nullptr, nullptr, fortran, nullptr));
}

nc_status cast_contiguous(PyArrayObject* x, std::int32_t source, PyArrayObject* out, std::int32_t target,
                          const nc_cast_options& options) noexcept {
    // One row of items: with equal layouts the order of elements is the order in memory.
    const std::int64_t items = PyArray_SIZE(x);
    nc_array from{};
    from.data = PyArray_DATA(x);
    from.shape = &items;
    from.ndim = 1;
    from.format = source;
    nc_array to{from};
    to.data = PyArray_DATA(out);
    to.format = target;
    return cast(from, to, options, nullptr, items);
}

nc_status cast_strided(PyArrayObject* x, std::int32_t source, PyArrayObject* out, std::int32_t target,
                       const nc_cast_options& options) noexcept {
    const ArrayView from(x, source), to(out, target);
    return cast(from.array, to.array, options, nullptr, PyArray_SIZE(x));
}

// The new reference that astype returns; null without an exception set if `slow` has to look at the call.
PyObject* convert(const Entry& entry, Request& request) noexcept {
    PyArrayObject* const x = request.x;
    const std::int32_t source = entry.sources.find(x);
    if (source == NC_FORMAT_INVALID) {
        return nullptr;
    }
    const std::int32_t target = entry.targets.find(request.dtype);
    if (target == NC_FORMAT_INVALID) {
        return nullptr;
    }
    PyArray_Descr* const descr = entry.targets.dtype(target);
    const int layout = PyArray_FLAGS(x) & (NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_F_CONTIGUOUS);
    PyArrayObject* out = nullptr;
    if (request.out != nullptr) {
        out = usable_out(request.out, x, descr);
        Py_XINCREF(out);
    } else {
        out = new_out(x, descr, layout);
    }
    if (out == nullptr) {
        return nullptr;
    }
    const ChosenIsa isa(entry.isa);
    if (!isa.known()) {
        Py_DECREF(out);
        return nullptr;
    }
    request.options.isa = isa.name();
    const bool same_layout = (PyArray_FLAGS(out) & layout) != 0;
    const nc_status status = same_layout ? cast_contiguous(x, source, out, target, request.options)
                                         : cast_strided(x, source, out, target, request.options);
    if (status != NC_OK) {
        Py_DECREF(out);
        return nullptr;
    }
    return reinterpret_cast<PyObject*>(out);
}

PyObject* astype(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) noexcept {
    const Entry& entry = *current_entry.load(std::memory_order_acquire);
    Request request{};
    if (read_arguments(entry, args, nargs, kwnames, request)) {
        PyObject* const result = convert(entry, request);
        if (result != nullptr || PyErr_Occurred() != nullptr) {
            return result;
        }
    }
    return PyObject_Vectorcall(entry.slow, args, static_cast<std::size_t>(nargs), kwnames);
}

PyObject* interned(const py::sequence& names) {
    py::tuple result(names.size());
    for (std::size_t i = 0; i < names.size(); ++i) {
        PyObject* name = py::object(names[i]).release().ptr();
        PyUnicode_InternInPlace(&name);
        result[i] = py::reinterpret_steal<py::object>(name);
    }
    return result.release().ptr();
}

py::object make_astype(const py::str& text, const py::object& slow, const py::dict& targets, const py::dict& results,
                       const py::sequence& sources, const py::sequence& roundings, const py::sequence& overflows,
                       const py::object& isa) {
    auto* const entry = new Entry;
    entry->slow = slow.inc_ref().ptr();
    entry->isa = isa.inc_ref().ptr();
    entry->roundings = interned(roundings);
    entry->overflows = interned(overflows);
    entry->sources.read(sources);
    entry->targets.read(targets, results);
    current_entry.store(entry, std::memory_order_release);
    return make_function(entry->method, "astype", &astype, text);
}

} // namespace

std::int32_t default_thread_count() noexcept { return default_threads.load(std::memory_order_relaxed); }

void bind_astype(py::module_& module) {
    module.def("make_astype", &make_astype);
    module.def("get_threads", &default_thread_count);
    module.def("set_threads", [](std::int32_t threads) { default_threads.store(threads, std::memory_order_relaxed); });
}

} // namespace narrowcast::python
