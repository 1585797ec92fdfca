// The hot entry of quantize, called straight through METH_FASTCALL: an ndarray in native byte order, a prepared
// QuantSpec, scales that are computed per row, per group of the last axis or for all of it, or given as float32;
// ndarrays as out=. It decides nothing: any call that is not exactly this, and any call the core refuses, goes on
// unchanged to the Python function `slow`, which checks, explains and raises.
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "quantize_entry.hpp"

namespace narrowcast::python {
namespace {

constexpr const char* capsule_name = "narrowcast._core.QuantPlan";

constinit std::atomic<const Entry*> current_entry{nullptr};

bool read_keyword(const Entry& entry, PyObject* name, PyObject* value, Request& request) noexcept {
    if (name == entry.key_threads) {
        if (value == Py_None) {
            return true;
        }
        int overflow = 0;
        const long count = PyLong_CheckExact(value) ? PyLong_AsLongAndOverflow(value, &overflow) : -1;
        request.threads = overflow == 0 && count <= NPY_MAX_INT16 ? static_cast<std::int32_t>(count) : -1;
        return request.threads >= 0;
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
    ArrayView scale(arrays.scale, plan.scale_format);
    std::optional<ArrayView> zero;
    if (arrays.zero != nullptr) {
        zero.emplace(arrays.zero, plan.zero_format);
    }
    nc_array* const zeros = zero ? &zero->array : nullptr;
    if (request.scale != nullptr) { // in place of those of out=, which get them afterwards
        scale.array.data = PyArray_DATA(reinterpret_cast<PyArrayObject*>(request.scale));
        if (zeros != nullptr) {
            zeros->data = PyArray_DATA(reinterpret_cast<PyArrayObject*>(request.zero_point));
        }
    }
    if (PyArray_SIZE(request.x) <= release_gil_above) {
        return nc_quantize(&x.array, &codes.array, &scale.array, zeros, nullptr, &options, nullptr);
    }
    PyThreadState* const thread = PyEval_SaveThread();
    const nc_status status = nc_quantize(&x.array, &codes.array, &scale.array, zeros, nullptr, &options, nullptr);
    PyEval_RestoreThread(thread);
    return status;
}

// The new reference that quantize returns; null without an exception set if `slow` has to look at the call.
PyObject* convert(const Entry& entry, Request request, const Plan& plan) noexcept {
    if (plan.held_scale) {
        if (request.scale != nullptr || request.zero_point != nullptr) {
            return nullptr; // which contradict each other
        }
        request.scale = plan.held_scale.ptr();
        request.zero_point = plan.held_zero.ptr();
    }
    const std::int32_t source = entry.sources.find(request.x);
    const std::int32_t threads = request.threads >= 0 ? request.threads
                                 : plan.threads >= 0  ? plan.threads
                                                      : default_thread_count();
    const bool given = request.scale != nullptr;
    if (source == NC_FORMAT_INVALID || threads < 0 || (!given && !plan.computed) || (given && request.out == nullptr) ||
        (request.zero_point != nullptr) != (given && !plan.zero_dtype.is_none())) {
        return nullptr;
    }
    Shapes shapes;
    Arrays arrays;
    if (!find_shapes(plan, request.x, shapes)) {
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
    PyObject* isa = nullptr;
    bool taken = PyContextVar_Get(entry.isa, nullptr, &isa) == 0;
    if (taken && given) {
        taken = are_numbers<float>(request.scale, NPY_FLOAT32, arrays.scale,
                                   [](float scale) { return scale > 0 && std::isfinite(scale); }) &&
                (arrays.zero == nullptr || are_numbers<std::int32_t>(request.zero_point, NPY_INT32, arrays.zero,
                                                                     [](std::int32_t) { return true; })) &&
                has_room(request, arrays);
    }
    const char* const name = isa != nullptr && isa != Py_None ? PyUnicode_AsUTF8(isa) : nullptr;
    taken = taken &&
            run(plan, given ? plan.given : *plan.computed, request, source, shapes, arrays, threads, name) == NC_OK;
    Py_XDECREF(isa);
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
        PyObject* const capsule = PyObject_GetAttr(request.spec, entry.key_plan);
        PyObject* result = nullptr;
        if (capsule != nullptr && PyCapsule_IsValid(capsule, capsule_name) != 0) {
            result = convert(entry, request, *static_cast<const Plan*>(PyCapsule_GetPointer(capsule, capsule_name)));
        }
        Py_XDECREF(capsule);
        if (result != nullptr || PyErr_Occurred() != nullptr) {
            return result;
        }
    }
    return PyObject_Vectorcall(entry.slow, args, static_cast<std::size_t>(nargs), kwnames);
}

py::object make_plan(const py::object& computed, const py::tuple& given, int granularity, std::int64_t group_size,
                     std::int32_t threads, const py::object& code_dtype, std::int32_t code_format,
                     const py::object& scale_dtype, std::int32_t scale_format, const py::object& zero_dtype,
                     std::int32_t zero_format, const py::object& held_scale, const py::object& held_zero) {
    if (granularity < 0 || granularity > 2 || (granularity == 2 && group_size < 1)) {
        throw py::value_error("_core.QuantPlan: no such granularity");
    }
    auto* const plan = new Plan;
    // Owned by the capsule from here on, whatever is thrown below.
    py::object capsule = py::reinterpret_steal<py::object>(PyCapsule_New(plan, capsule_name, [](PyObject* held) {
        delete static_cast<Plan*>(PyCapsule_GetPointer(held, capsule_name));
    }));
    if (!capsule) {
        delete plan;
        throw py::error_already_set();
    }
    if (!computed.is_none()) {
        plan->computed = read_options(computed.cast<py::tuple>());
    }
    plan->given = read_options(given);
    plan->granularity = static_cast<Granularity>(granularity);
    plan->group_size = group_size;
    plan->threads = threads;
    plan->code_dtype = code_dtype;
    plan->scale_dtype = scale_dtype;
    plan->zero_dtype = zero_dtype;
    plan->code_format = code_format;
    plan->scale_format = scale_format;
    plan->zero_format = zero_format;
    if (!held_scale.is_none()) {
        plan->held_scale = held_scale;
        plan->held_zero = held_zero.is_none() ? py::object() : held_zero;
    }
    if (plan->given.layout != NC_LAYOUT_INVALID) {
        nc_format_info info{};
        info.size = sizeof info;
        const bool is_float = nc_format_get_info(plan->given.format, &info) == NC_OK;
        plan->packed_bits = is_float ? info.bits : plan->given.bits;
    }
    return capsule;
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

void bind_quantize_entry(py::module_& module) {
    module.def("QuantPlan", &make_plan);
    module.def("make_quantize", &make_quantize);
}

} // namespace narrowcast::python
