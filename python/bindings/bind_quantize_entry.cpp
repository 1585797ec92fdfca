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

#include "arrays.hpp"
#include "quantize.hpp"

namespace narrowcast::python {
namespace {

constexpr const char* capsule_name = "narrowcast._core.QuantPlan";

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
    std::int32_t packed_bits = 0; // 0: not packed
};

// What Python handed over at import. Made once and never freed: a call may still run while the interpreter ends.
struct Entry {
    static constexpr std::size_t type_numbers = 512; // numpy's own types, then up to 256 registered ones from 256 on

    PyMethodDef method{};
    PyObject* slow = nullptr;
    PyObject* spec_type = nullptr;
    PyObject* array_type = nullptr; // QuantizedArray
    PyObject* isa = nullptr;        // ContextVar of use_isa
    std::array<std::int8_t, type_numbers> sources{};
    PyObject* key_plan = PyUnicode_InternFromString("_plan");
    PyObject* key_spec = PyUnicode_InternFromString("spec");
    PyObject* key_out = PyUnicode_InternFromString("out");
    PyObject* key_threads = PyUnicode_InternFromString("threads");
    PyObject* key_scale = PyUnicode_InternFromString("scale");
    PyObject* key_zero_point = PyUnicode_InternFromString("zero_point");
    PyObject* key_shape = PyUnicode_InternFromString("shape");
    PyObject* key_dtype = PyUnicode_InternFromString("dtype");
};

constinit std::atomic<const Entry*> current_entry{nullptr};

struct Request {
    PyArrayObject* x = nullptr;
    PyObject* spec = nullptr;
    PyObject* out = nullptr;
    PyObject* scale = nullptr;
    PyObject* zero_point = nullptr;
    std::int32_t threads = -1; // -1: not given
};

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

// The shapes that go with x: its boxes, their scales, its codes.
struct Shapes {
    int ndim = 0;
    std::array<std::int64_t, NC_MAX_NDIM> x, block, boxes, codes;
};

bool find_shapes(const Plan& plan, PyArrayObject* x, Shapes& shapes) noexcept {
    shapes.ndim = PyArray_NDIM(x);
    if (shapes.ndim == 0 || PyArray_SIZE(x) == 0) {
        return false;
    }
    const auto last = static_cast<std::size_t>(shapes.ndim - 1);
    for (std::size_t axis = 0; axis <= last; ++axis) {
        const std::int64_t extent = PyArray_DIM(x, static_cast<int>(axis));
        shapes.x[axis] = shapes.codes[axis] = extent;
        shapes.block[axis] = plan.granularity == Granularity::tensor ? extent : 1;
        shapes.boxes[axis] = plan.granularity == Granularity::tensor ? 1 : extent;
    }
    if (plan.granularity != Granularity::tensor) {
        const std::int64_t extent = shapes.x[last];
        shapes.block[last] = plan.granularity == Granularity::row ? extent : plan.group_size;
        shapes.boxes[last] = (extent - 1) / shapes.block[last] + 1;
    }
    if (plan.packed_bits != 0) {
        const std::int64_t bits = shapes.x[last] % 8 * plan.packed_bits;
        if (bits % 8 != 0) {
            return false;
        }
        shapes.codes[last] = shapes.x[last] / 8 * plan.packed_bits + bits / 8;
    }
    return true;
}

bool has_shape(PyArrayObject* array, const std::array<std::int64_t, NC_MAX_NDIM>& shape, int ndim) noexcept {
    if (PyArray_NDIM(array) != ndim) {
        return false;
    }
    for (int axis = 0; axis < ndim; ++axis) {
        if (PyArray_DIM(array, axis) != shape[static_cast<std::size_t>(axis)]) {
            return false;
        }
    }
    return true;
}

// A writable native array of this dtype (or of its bits) and shape; null if it is anything else.
PyArrayObject* usable(PyObject* object, const py::object& dtype, const std::array<std::int64_t, NC_MAX_NDIM>& shape,
                      int ndim) noexcept {
    if (!PyArray_CheckExact(object)) {
        return nullptr;
    }
    auto* const array = reinterpret_cast<PyArrayObject*>(object);
    const auto* const wanted = reinterpret_cast<PyArray_Descr*>(dtype.ptr());
    const bool same_type = PyArray_TYPE(array) == wanted->type_num;
    const bool fits =
        same_type && PyArray_ISNOTSWAPPED(array) && PyArray_ISWRITEABLE(array) && has_shape(array, shape, ndim);
    return fits ? array : nullptr;
}

// Whether a QuantizedArray already says that it is of x; else Python has to tell it so.
bool says_so(const Entry& entry, PyObject* out, const Shapes& shapes, PyArrayObject* x) noexcept {
    PyObject* const dtype = PyObject_GetAttr(out, entry.key_dtype);
    PyObject* const shape = dtype != nullptr ? PyObject_GetAttr(out, entry.key_shape) : nullptr;
    bool same = shape != nullptr && dtype == reinterpret_cast<PyObject*>(PyArray_DESCR(x)) && PyTuple_Check(shape) &&
                PyTuple_GET_SIZE(shape) == shapes.ndim;
    for (int axis = 0; same && axis < shapes.ndim; ++axis) {
        PyObject* const extent = PyTuple_GET_ITEM(shape, axis);
        same = PyLong_CheckExact(extent) && PyLong_AsSsize_t(extent) == shapes.x[static_cast<std::size_t>(axis)];
    }
    PyErr_Clear();
    Py_XDECREF(dtype);
    Py_XDECREF(shape);
    return same;
}

struct Arrays {
    PyArrayObject *codes = nullptr, *scale = nullptr, *zero = nullptr;
};

// The arrays of out=, if they are what a new result would have. Borrowed.
bool read_out(const Entry& entry, const Plan& plan, const Request& request, const Shapes& shapes,
              Arrays& arrays) noexcept {
    PyObject* const out = request.out;
    const bool is_result = reinterpret_cast<PyObject*>(Py_TYPE(out)) == entry.array_type;
    if (!is_result && !PyTuple_CheckExact(out)) {
        return false;
    }
    if (PyTuple_GET_SIZE(out) < 3 || (is_result && !says_so(entry, out, shapes, request.x))) {
        return false;
    }
    if (PyTuple_GET_SIZE(out) > 3 && PyTuple_GET_ITEM(out, 3) != request.spec) {
        return false; // codes of one spec would be read as another's, unless Python finds them equal
    }
    arrays.codes = usable(PyTuple_GET_ITEM(out, 0), plan.code_dtype, shapes.codes, shapes.ndim);
    arrays.scale = usable(PyTuple_GET_ITEM(out, 1), plan.scale_dtype, shapes.boxes, shapes.ndim);
    PyObject* const zero = PyTuple_GET_ITEM(out, 2);
    if (arrays.codes == nullptr || arrays.scale == nullptr) {
        return false;
    }
    if (plan.zero_dtype.is_none()) {
        return zero == Py_None;
    }
    arrays.zero = usable(zero, plan.zero_dtype, shapes.boxes, shapes.ndim);
    return arrays.zero != nullptr;
}

PyObject* new_array(const Shapes& shapes, const std::array<std::int64_t, NC_MAX_NDIM>& shape,
                    const py::object& dtype) noexcept {
    std::array<npy_intp, NC_MAX_NDIM> extents;
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(shapes.ndim); ++axis) {
        extents[axis] = static_cast<npy_intp>(shape[axis]);
    }
    Py_INCREF(dtype.ptr()); // stolen by the next call
    return PyArray_Empty(shapes.ndim, extents.data(), reinterpret_cast<PyArray_Descr*>(dtype.ptr()), 0);
}

// A new QuantizedArray; null with an exception if there is none.
PyObject* new_result(const Entry& entry, const Plan& plan, const Request& request, const Shapes& shapes,
                     Arrays& arrays) noexcept {
    py::object codes, scale, zero = py::none(), shape, result;
    const auto steal = [](PyObject* object) { return py::reinterpret_steal<py::object>(object); };
    codes = steal(new_array(shapes, shapes.codes, plan.code_dtype));
    scale = steal(new_array(shapes, shapes.boxes, plan.scale_dtype));
    if (!plan.zero_dtype.is_none()) {
        zero = steal(new_array(shapes, shapes.boxes, plan.zero_dtype));
    }
    shape = steal(PyTuple_New(shapes.ndim));
    if (!codes || !scale || !zero || !shape) {
        return nullptr;
    }
    for (int axis = 0; axis < shapes.ndim; ++axis) {
        PyObject* const extent = PyLong_FromSsize_t(shapes.x[static_cast<std::size_t>(axis)]);
        if (extent == nullptr) {
            return nullptr;
        }
        PyTuple_SET_ITEM(shape.ptr(), axis, extent);
    }
    PyObject* const parts[] = {codes.ptr(), scale.ptr(), zero.ptr(), request.spec};
    result = steal(PyObject_Vectorcall(entry.array_type, parts, std::size(parts), nullptr));
    if (!result || PyObject_SetAttr(result.ptr(), entry.key_shape, shape.ptr()) < 0 ||
        PyObject_SetAttr(result.ptr(), entry.key_dtype, reinterpret_cast<PyObject*>(PyArray_DESCR(request.x))) < 0) {
        return nullptr;
    }
    arrays.codes = reinterpret_cast<PyArrayObject*>(codes.ptr());
    arrays.scale = reinterpret_cast<PyArrayObject*>(scale.ptr());
    arrays.zero = zero.is_none() ? nullptr : reinterpret_cast<PyArrayObject*>(zero.ptr());
    return result.release().ptr(); // which holds the arrays
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

// Whether two arrays lie apart; what is between elements counts as theirs.
bool lie_apart(PyArrayObject* a, PyArrayObject* b) noexcept {
    const auto ends = [](PyArrayObject* array) {
        auto low = reinterpret_cast<std::intptr_t>(PyArray_DATA(array)), high = low + PyArray_ITEMSIZE(array);
        for (int axis = 0; axis < PyArray_NDIM(array); ++axis) {
            const std::intptr_t reach = (PyArray_DIM(array, axis) - 1) * PyArray_STRIDE(array, axis);
            (reach < 0 ? low : high) += reach;
        }
        return std::pair{low, high};
    };
    const auto [a_low, a_high] = ends(a);
    const auto [b_low, b_high] = ends(b);
    return a_high <= b_low || b_high <= a_low;
}

// The core is shown given numbers in place of those of out=, so it does not see whether there is room for them.
bool has_room(const Request& request, const Arrays& arrays) noexcept {
    const auto alone = [&](PyArrayObject* array) {
        return array == nullptr || (lie_apart(array, request.x) && lie_apart(array, arrays.codes));
    };
    return alone(arrays.scale) && alone(arrays.zero) &&
           (arrays.zero == nullptr || lie_apart(arrays.scale, arrays.zero));
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
PyObject* convert(const Entry& entry, const Request& request, const Plan& plan) noexcept {
    const auto number = static_cast<std::size_t>(PyArray_TYPE(request.x));
    const std::int32_t threads = request.threads >= 0 ? request.threads
                                 : plan.threads >= 0  ? plan.threads
                                                      : default_thread_count();
    const bool given = request.scale != nullptr;
    if (number >= Entry::type_numbers || !PyArray_ISNOTSWAPPED(request.x) || entry.sources[number] == 0 ||
        threads < 0 || (!given && !plan.computed) || (given && request.out == nullptr) ||
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
    taken = taken && run(plan, given ? plan.given : *plan.computed, request, entry.sources[number], shapes, arrays,
                         threads, name) == NC_OK;
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
                     std::int32_t zero_format) {
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
    for (const py::handle pair : sources) {
        const auto [dtype, code] = pair.cast<std::pair<py::object, std::int8_t>>();
        const auto number = static_cast<std::size_t>(reinterpret_cast<PyArray_Descr*>(dtype.ptr())->type_num);
        if (number < Entry::type_numbers) { // others are found by slow
            entry->sources[number] = code;
        }
    }
    entry->method.ml_name = "quantize";
    entry->method.ml_meth = reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&quantize));
    entry->method.ml_flags = METH_FASTCALL | METH_KEYWORDS;
    entry->method.ml_doc = PyUnicode_AsUTF8(text.inc_ref().ptr());
    current_entry.store(entry, std::memory_order_release);
    const py::str module("narrowcast");
    return py::reinterpret_steal<py::object>(PyCFunction_NewEx(&entry->method, nullptr, module.ptr()));
}

} // namespace

void bind_quantize_entry(py::module_& module) {
    module.def("QuantPlan", &make_plan);
    module.def("make_quantize", &make_quantize);
}

} // namespace narrowcast::python
