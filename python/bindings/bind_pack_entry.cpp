// The hot entries of pack and unpack, called straight through METH_FASTCALL: contiguous ndarrays, the layout lsb along
// the last axis, axes that divide or a shape that says how they end, and a contiguous ndarray as out=. They decide
// nothing: any call that is not exactly this, and any call the core refuses, goes on unchanged to the Python functions,
// which check, explain and raise.
#include <algorithm>
#include <array>
#include <atomic>
#include <utility>

#include "entry.hpp"
#include "plan.hpp"

namespace narrowcast::python {
namespace {

struct Request {
    PyObject* array = nullptr; // codes or, for unpack, packed
    PyObject* dtype = nullptr;
    PyObject* shape = nullptr; // unpack only
    PyObject* layout = nullptr;
    PyObject* axis = nullptr;
    PyObject* pad = nullptr;   // pack only
    PyObject* check = nullptr; // pack only
    PyObject* out = nullptr;
    PyObject* threads = nullptr;
};

// A kind of code, known by its number in Python's table.
struct Kind {
    std::int32_t bits = 0;
    bool is_signed = false;
};

// What Python handed over at import, for one of the two functions. Made once and never freed: a call may still run
// while the interpreter ends.
struct Entry {
    PyMethodDef method{};
    PyObject* slow = nullptr; // the function in Python
    PyObject* isa = nullptr;  // ContextVar of use_isa
    Targets kinds_by_name;
    Sources kinds_by_array;
    std::array<Kind, NC_FORMAT_LIMIT> kinds{};
    PyArray_Descr* bytes = PyArray_DescrFromType(NPY_UBYTE);
    PyObject* lsb = PyUnicode_InternFromString("lsb");
    std::array<Place<Request>, 8> places{}; // unpack has one less
};

constinit std::atomic<const Entry*> current_pack{nullptr};
constinit std::atomic<const Entry*> current_unpack{nullptr};

// A plain call: what both functions ask of an array, and where its result goes.
struct Call {
    PyArrayObject* array = nullptr;
    int ndim = 0;
    Shapes::Extents shape; // of the result
    nc_pack_options options NC_PACK_OPTIONS_INIT;

    std::int64_t& last() noexcept { return shape[static_cast<std::size_t>(ndim - 1)]; }
};

bool is_none(PyObject* object) noexcept { return object == nullptr || object == Py_None; }

// Whether axis= names the last axis, which is also that of lsb.
bool is_last(PyObject* axis, int ndim) noexcept {
    if (is_none(axis)) {
        return true;
    }
    if (!PyLong_CheckExact(axis)) {
        return false;
    }
    int overflow = 0;
    const long given = PyLong_AsLongAndOverflow(axis, &overflow);
    return overflow == 0 && (given == -1 || given == ndim - 1);
}

// Fills in all that does not depend on the kind of code; the result's shape is so far that of the array.
bool read_call(const Entry& entry, const Request& request, Call& call) noexcept {
    if (request.array == nullptr || !PyArray_CheckExact(request.array)) {
        return false;
    }
    call.array = reinterpret_cast<PyArrayObject*>(request.array);
    call.ndim = PyArray_NDIM(call.array);
    const bool plain = call.ndim > 0 && PyArray_IS_C_CONTIGUOUS(call.array) &&
                       (request.layout == nullptr || request.layout == entry.lsb) &&
                       (request.pad == nullptr || request.pad == Py_False) && is_last(request.axis, call.ndim);
    if (!plain) {
        return false;
    }
    for (int axis = 0; axis < call.ndim; ++axis) {
        call.shape[static_cast<std::size_t>(axis)] = PyArray_DIM(call.array, axis);
    }
    call.options.layout = NC_LAYOUT_lsb;
    call.options.threads = default_thread_count();
    return read_threads(request.threads, call.options.threads) && call.options.threads >= 0;
}

bool is_byte(int type) noexcept { return type == NPY_UBYTE || type == NPY_BYTE; }

// out=, if it is contiguous memory of the result's shape, of its dtype or of bytes; without it, a new array. Null, with
// an exception only if there is no memory, if it is anything else.
py::object find_result(PyObject* out, const Call& call, PyArray_Descr* dtype) noexcept {
    if (is_none(out)) {
        return py::reinterpret_steal<py::object>(new_array(call.shape, call.ndim, dtype));
    }
    if (!PyArray_CheckExact(out)) {
        return {};
    }
    auto* const array = reinterpret_cast<PyArrayObject*>(out);
    const int type = PyArray_TYPE(array);
    const bool fits = (type == dtype->type_num || is_byte(type)) && PyArray_IS_C_CONTIGUOUS(array) &&
                      PyArray_ISWRITEABLE(array) && has_shape(array, call.shape, call.ndim);
    return fits ? py::reinterpret_borrow<py::object>(out) : py::object();
}

// Makes the result and has `work` of the core fill it; null if something does not fit or the core refuses.
template <class Work>
PyObject* finish(const Entry& entry, const Request& request, Call& call, PyArray_Descr* dtype,
                 const Work& work) noexcept {
    py::object result = find_result(request.out, call, dtype);
    if (!result) {
        return nullptr;
    }
    const ChosenIsa isa(entry.isa);
    if (!isa.known()) {
        return nullptr;
    }
    call.options.isa = isa.name();
    auto* const array = reinterpret_cast<PyArrayObject*>(result.ptr());
    const std::int64_t codes = std::max(PyArray_SIZE(call.array), PyArray_SIZE(array)); // never fewer than bytes
    const nc_status status = run_core(codes, [&] { return work(array); });
    return status == NC_OK ? result.release().ptr() : nullptr;
}

std::size_t size_of(PyArrayObject* array) noexcept { return static_cast<std::size_t>(PyArray_SIZE(array)); }

// The bytes that a line of codes takes.
std::int64_t line_bytes(std::int64_t codes, std::int32_t bits) noexcept {
    return codes / 8 * bits + (codes % 8 * bits + 7) / 8;
}

// The new reference that pack returns; null without an exception set if `slow` has to look at the call. So below.
PyObject* pack_codes(const Entry& entry, const Request& request) noexcept {
    Call call;
    if (!read_call(entry, request, call)) {
        return nullptr;
    }
    const std::int32_t number =
        is_none(request.dtype) ? entry.kinds_by_array.find(call.array) : entry.kinds_by_name.find(request.dtype);
    const bool checked = request.check == nullptr || request.check == Py_True;
    if (number == NC_FORMAT_INVALID || (!checked && request.check != Py_False)) {
        return nullptr;
    }
    const Kind kind = entry.kinds[static_cast<std::size_t>(number)];
    const int type = PyArray_TYPE(call.array);
    const bool is_own = PyTypeNum_ISUSERDEF(type) && type == entry.kinds_by_name.dtype(number)->type_num;
    const std::int64_t codes = call.last();
    if (!(is_own || type == (kind.is_signed ? NPY_BYTE : NPY_UBYTE)) || codes % 8 * kind.bits % 8 != 0) {
        return nullptr;
    }
    call.options.is_signed = kind.is_signed ? 1 : 0;
    call.options.check = checked && !is_own && kind.bits < 8 ? 1 : 0; // above a code of its own dtype nothing counts
    call.last() = line_bytes(codes, kind.bits); // whole bytes: all lines are one, and `along` stays 0
    return finish(entry, request, call, entry.bytes, [&](PyArrayObject* packed) {
        return nc_pack(PyArray_DATA(call.array), size_of(call.array), kind.bits, PyArray_DATA(packed), size_of(packed),
                       &call.options, nullptr);
    });
}

// The codes' shape: what was asked for or, without that, what the array fills.
bool find_shape(PyObject* given, std::int32_t bits, Call& call) noexcept {
    const std::int64_t bytes = call.last();
    if (is_none(given)) {
        call.last() = bytes / bits * 8 + bytes % bits * 8 / bits;
        return bytes % bits * 8 % bits == 0;
    }
    if (PyLong_CheckExact(given)) {
        int overflow = 0;
        call.last() = PyLong_AsLongLongAndOverflow(given, &overflow);
        return call.ndim == 1 && overflow == 0 && call.last() >= 0 && line_bytes(call.last(), bits) == bytes;
    }
    return read_shape(given, call.shape, call.ndim) && line_bytes(call.last(), bits) == bytes &&
           std::equal(call.shape.begin(), call.shape.begin() + call.ndim - 1, PyArray_DIMS(call.array));
}

PyObject* unpack_codes(const Entry& entry, const Request& request) noexcept {
    Call call;
    if (request.dtype == nullptr || !read_call(entry, request, call) || !is_byte(PyArray_TYPE(call.array))) {
        return nullptr;
    }
    const std::int32_t number = entry.kinds_by_name.find(request.dtype);
    const Kind kind = entry.kinds[static_cast<std::size_t>(number)];
    if (number == NC_FORMAT_INVALID || !find_shape(request.shape, kind.bits, call)) {
        return nullptr;
    }
    call.options.is_signed = kind.is_signed ? 1 : 0;
    call.options.along = static_cast<std::size_t>(call.last());
    return finish(entry, request, call, entry.kinds_by_name.dtype(number), [&](PyArrayObject* codes) {
        return nc_unpack(PyArray_DATA(call.array), size_of(call.array), kind.bits, PyArray_DATA(codes), size_of(codes),
                         &call.options, nullptr);
    });
}

using Convert = PyObject* (*)(const Entry&, const Request&) noexcept;

template <const std::atomic<const Entry*>& current, Convert convert>
PyObject* call_entry(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) noexcept {
    const Entry& entry = *current.load(std::memory_order_acquire);
    Request request;
    request.array = nargs > 0 ? args[0] : nullptr;
    request.dtype = nargs > 1 ? args[1] : nullptr;
    if (nargs <= 2 && read_keywords(entry.places, kwnames, args + nargs, request)) {
        PyObject* const result = convert(entry, request);
        if (result != nullptr || PyErr_Occurred() != nullptr) {
            return result;
        }
    }
    return PyObject_Vectorcall(entry.slow, args, static_cast<std::size_t>(nargs), kwnames);
}

Entry* new_entry(const py::object& slow, const py::dict& names, const py::dict& dtypes, const py::sequence& sources,
                 const py::dict& kinds, const py::object& isa) {
    auto* const entry = new Entry;
    entry->slow = slow.inc_ref().ptr();
    entry->isa = isa.inc_ref().ptr();
    entry->kinds_by_name.read(names, dtypes);
    entry->kinds_by_array.read(sources);
    for (const auto& [number, kind] : kinds) {
        const auto [bits, is_signed] = kind.cast<std::pair<std::int32_t, bool>>();
        entry->kinds.at(number.cast<std::size_t>()) = {bits, is_signed};
    }
    return entry;
}

Place<Request> place(const char* name, PyObject* Request::* member) {
    return {PyUnicode_InternFromString(name), member};
}

py::object make_pack(const py::str& text, const py::object& slow, const py::dict& names, const py::dict& dtypes,
                     const py::sequence& sources, const py::dict& kinds, const py::object& isa) {
    Entry* const entry = new_entry(slow, names, dtypes, sources, kinds, isa);
    entry->places = {place("out", &Request::out),       place("check", &Request::check),
                     place("layout", &Request::layout), place("axis", &Request::axis),
                     place("dtype", &Request::dtype),   place("pad", &Request::pad),
                     place("codes", &Request::array),   place("threads", &Request::threads)};
    current_pack.store(entry, std::memory_order_release);
    return make_function(entry->method, "pack", &call_entry<current_pack, pack_codes>, text);
}

py::object make_unpack(const py::str& text, const py::object& slow, const py::dict& names, const py::dict& dtypes,
                       const py::dict& kinds, const py::object& isa) {
    Entry* const entry = new_entry(slow, names, dtypes, py::list(), kinds, isa);
    entry->places = {place("out", &Request::out),        place("shape", &Request::shape),
                     place("layout", &Request::layout),  place("axis", &Request::axis),
                     place("dtype", &Request::dtype),    place("packed", &Request::array),
                     place("threads", &Request::threads)};
    current_unpack.store(entry, std::memory_order_release);
    return make_function(entry->method, "unpack", &call_entry<current_unpack, unpack_codes>, text);
}

} // namespace

void bind_pack_entry(py::module_& module) {
    module.def("make_pack", &make_pack);
    module.def("make_unpack", &make_unpack);
}

} // namespace narrowcast::python
