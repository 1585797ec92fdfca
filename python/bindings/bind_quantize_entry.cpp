// The hot entry of quantize, called straight through METH_FASTCALL: an ndarray in native byte order, a prepared
// QuantSpec, scales that are computed per row, per group of the last axis or for all of it, or given as float32;
// ndarrays as out=. It decides nothing: any call that is not exactly this, and any call the core refuses, goes on
// unchanged to the Python function `slow`, which checks, explains and raises.
#include <atomic>
#include <bit>
#include <cstring>
#include <optional>

#include "quantize_entry.hpp"

namespace narrowcast::python {
namespace {

constinit std::atomic<const Entry*> current_entry{nullptr};

bool read_keyword(const Entry& entry, PyObject* name, PyObject* value, Request& request) noexcept {
    if (name == entry.key_threads) {
        return read_threads(value, request.threads);
    }
    PyObject** const place = name == entry.key_out          ? &request.out
                             : name == entry.key_scale      ? &request.scale
                             : name == entry.key_zero_point ? &request.zero_point
                             : name == entry.key_spec       ? &request.spec
                                                            : nullptr;
    if (place == nullptr || *place != nullptr) {
        return false;
    }
    *place = value == Py_None ? nullptr : value;
    return true;
}

bool read_arguments(const Entry& entry, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames,
                    Request& request) noexcept {
    if (nargs < 1 || nargs > 2 || !PyArray_CheckExact(args[0])) {
        return false;
    }
    request.x = reinterpret_cast<PyArrayObject*>(args[0]);
    request.spec = nargs == 2 ? args[1] : nullptr;
    const Py_ssize_t keywords = kwnames == nullptr ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < keywords; ++i) {
        if (!read_keyword(entry, PyTuple_GET_ITEM(kwnames, i), args[nargs + i], request)) {
            return false;
        }
    }
    return request.spec != nullptr && reinterpret_cast<PyObject*>(Py_TYPE(request.spec)) == entry.spec_type;
}

// Whether these are good numbers for boxes: as `to`, which will hold them, or one where there is one.
template <class Item, class Good>
bool are_numbers(PyObject* given, int type, PyArrayObject* to, const Good& good) noexcept {
    if (!PyArray_CheckExact(given) || PyArray_TYPE(to) != type || !PyArray_IS_C_CONTIGUOUS(to)) {
        return false;
    }
    auto* const from = reinterpret_cast<PyArrayObject*>(given);
    const npy_intp count = PyArray_SIZE(to);
    const bool one = count == 1 && PyArray_SIZE(from) == 1;
    if (PyArray_TYPE(from) != type || !PyArray_ISNOTSWAPPED(from) || !PyArray_IS_C_CONTIGUOUS(from) ||
        !(one || PyArray_SAMESHAPE(from, to))) {
        return false;
    }
    const auto* const bytes = static_cast<const unsigned char*>(PyArray_DATA(from));
    bool all_good = true;
    for (npy_intp i = 0; i < count; ++i) {
        Item item;
        std::memcpy(&item, bytes + static_cast<std::size_t>(i) * sizeof item, sizeof item);
        all_good = all_good && good(item);
    }
    return all_good;
}

void take_numbers(PyObject* given, PyArrayObject* to) noexcept {
    std::memmove(PyArray_DATA(to), PyArray_DATA(reinterpret_cast<PyArrayObject*>(given)),
                 static_cast<std::size_t>(PyArray_NBYTES(to)));
}

nc_status run(const Plan& plan, const nc_quantize_options& chosen, const Request& request, std::int32_t source,
              const Shapes& shapes, const Arrays& arrays, std::int32_t threads, const char* isa) noexcept {
    nc_quantize_options options = chosen;
    options.threads = threads;
    options.isa = isa;
    options.block = shapes.block.data();
    const ArrayView x(request.x, source), codes(arrays.codes, plan.code_format);
    ArrayView scale(arrays.scale, plan.making->scale_format);
    std::optional<ArrayView> zero;
    if (arrays.zero != nullptr) {
        zero.emplace(arrays.zero, plan.making->zero_format);
    }
    nc_array* const zeros = zero ? &zero->array : nullptr;
    if (request.scale != nullptr) { // in place of those of out=, which get them afterwards
        scale.array.data = PyArray_DATA(reinterpret_cast<PyArrayObject*>(request.scale));
        if (zeros != nullptr) {
            zeros->data = PyArray_DATA(reinterpret_cast<PyArrayObject*>(request.zero_point));
        }
    }
    return run_core(PyArray_SIZE(request.x), [&] {
        return nc_quantize(&x.array, &codes.array, &scale.array, zeros, nullptr, &options, nullptr);
    });
}

// The new reference that quantize returns; null without an exception set if `slow` has to look at the call.
PyObject* convert(const Entry& entry, Request request, const Plan& plan) noexcept {
    const Making& making = *plan.making;
    if (making.held_scale) {
        if (request.scale != nullptr || request.zero_point != nullptr) {
            return nullptr; // which contradict each other
        }
        request.scale = making.held_scale.ptr();
        request.zero_point = making.held_zero.ptr();
    }
    const std::int32_t source = entry.sources.find(request.x);
    const std::int32_t threads = request.threads >= 0 ? request.threads
                                 : plan.threads >= 0  ? plan.threads
                                                      : default_thread_count();
    const bool given = request.scale != nullptr;
    if (source == NC_FORMAT_INVALID || threads < 0 || (!given && !making.computed) ||
        (given && request.out == nullptr) ||
        (request.zero_point != nullptr) != (given && !making.zero_dtype.is_none())) {
        return nullptr;
    }
    Shapes shapes(request.x);
    Arrays arrays;
    if (!shapes.find(plan)) {
        return nullptr;
    }
    PyObject* result = nullptr;
    if (request.out == nullptr) {
        result = new_result(entry, plan, request, shapes, arrays);
    } else if (read_out(entry, plan, request, shapes, arrays)) {
        result = Py_NewRef(request.out);
    }
    if (result == nullptr) {
        return nullptr;
    }
    const ChosenIsa isa(entry.isa);
    bool taken = isa.known();
    if (taken && given) {
        taken = are_numbers<float>(request.scale, NPY_FLOAT32, arrays.scale,
                                   [](float scale) { // bits: a comparison may take a denormal for 0
                                       return std::bit_cast<std::uint32_t>(scale) - 1 < 0x7f7fffffu;
                                   }) &&
                (arrays.zero == nullptr || are_numbers<std::int32_t>(request.zero_point, NPY_INT32, arrays.zero,
                                                                     [](std::int32_t) { return true; })) &&
                has_room(request, arrays);
    }
    taken = taken && run(plan, given ? plan.given : *making.computed, request, source, shapes, arrays, threads,
                         isa.name()) == NC_OK;
    if (!taken) {
        Py_CLEAR(result);
    } else if (given) {
        take_numbers(request.scale, arrays.scale);
        if (arrays.zero != nullptr) {
            take_numbers(request.zero_point, arrays.zero);
        }
    }
    return result;
}

PyObject* quantize(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) noexcept {
    const Entry& entry = *current_entry.load(std::memory_order_acquire);
    Request request;
    if (read_arguments(entry, args, nargs, kwnames, request)) {
        py::object owner;
        const Plan* const plan = find_plan(request.spec, entry.key_plan, owner);
        PyObject* const result = plan != nullptr && plan->making ? convert(entry, request, *plan) : nullptr;
        if (result != nullptr || PyErr_Occurred() != nullptr) {
            return result;
        }
    }
    return PyObject_Vectorcall(entry.slow, args, static_cast<std::size_t>(nargs), kwnames);
}

py::object make_quantize(const py::str& text, const py::object& slow, const py::object& spec_type,
                         const py::object& array_type, const py::sequence& sources, const py::object& isa) {
    auto* const entry = new Entry;
    entry->slow = slow.inc_ref().ptr();
    entry->spec_type = spec_type.inc_ref().ptr();
    entry->array_type = array_type.inc_ref().ptr();
    entry->isa = isa.inc_ref().ptr();
    entry->sources.read(sources);
    current_entry.store(entry, std::memory_order_release);
    return make_function(entry->method, "quantize", &quantize, text);
}

} // namespace

void bind_quantize_entry(py::module_& module) { module.def("make_quantize", &make_quantize); }

} // namespace narrowcast::python
