// The hot entry of dequantize, called straight through METH_FASTCALL, as the function and as QuantizedArray's method:
// ndarrays in native byte order, a prepared QuantSpec, one scale per box or one for all, zero points where the spec has
// them, and an ndarray as out=. It decides nothing: any call that is not exactly this, and any call the core refuses,
// goes on unchanged to the Python functions, which check, explain and raise.
#include <array>
#include <atomic>
#include <optional>
#include <utility>

#include "entry.hpp"
#include "plan.hpp"

namespace narrowcast::python {
namespace {

struct Request {
    PyObject* codes = nullptr;
    PyObject* scale = nullptr;
    PyObject* zero_point = nullptr;
    PyObject* dtype = nullptr; // null: float32
    PyObject* spec = nullptr;
    PyObject* shape = nullptr;
    PyObject* out = nullptr;
    PyObject* threads = nullptr;
};

// What Python handed over at import. Made once and never freed: a call may still run while the interpreter ends.
struct Entry {
    PyMethodDef method{};
    PyObject* slow = nullptr; // dequantize in Python
    PyObject* spec_type = nullptr;
    PyObject* isa = nullptr; // ContextVar of use_isa
    Sources sources;         // of scales and of zero points
    Targets targets;
    PyObject* key_plan = PyUnicode_InternFromString("_plan");
    PyObject* key_shape = PyUnicode_InternFromString("shape");
    std::array<Place<Request>, 8> places{{{PyUnicode_InternFromString("out"), &Request::out},
                                          {PyUnicode_InternFromString("dtype"), &Request::dtype},
                                          {PyUnicode_InternFromString("spec"), &Request::spec},
                                          {key_shape, &Request::shape},
                                          {PyUnicode_InternFromString("zero_point"), &Request::zero_point},
                                          {PyUnicode_InternFromString("scale"), &Request::scale},
                                          {PyUnicode_InternFromString("codes"), &Request::codes},
                                          {PyUnicode_InternFromString("threads"), &Request::threads}}};
};

// The same for the method.
struct MethodEntry {
    PyMethodDef method{};
    PyObject* slow = nullptr;       // QuantizedArray.dequantize in Python
    PyObject* array_type = nullptr; // QuantizedArray
};

constinit std::atomic<const Entry*> current_entry{nullptr};
constinit std::atomic<const MethodEntry*> current_method{nullptr};

// The values' shape: what was asked for or, without that, what the codes fill; and all that follows from it.
bool find_shapes(const Plan& plan, const Request& request, PyArrayObject* codes, Shapes& shapes) noexcept {
    if (shapes.ndim == 0) {
        return false;
    }
    if (request.shape != nullptr) {
        if (!read_shape(request.shape, shapes.x, shapes.ndim)) {
            return false;
        }
    } else if (plan.packed_bits != 0) {
        std::int64_t& last = shapes.x[static_cast<std::size_t>(shapes.ndim - 1)];
        if (last > NPY_MAX_INT64 / 8 || last * 8 % plan.packed_bits != 0) {
            return false;
        }
        last = last * 8 / plan.packed_bits;
    }
    return shapes.find(plan) && has_shape(codes, shapes.codes, shapes.ndim);
}

bool reads_codes(const Plan& plan, PyArrayObject* codes) noexcept {
    const int type = PyArray_TYPE(codes);
    const int own_type = reinterpret_cast<const PyArray_Descr*>(plan.code_dtype.ptr())->type_num;
    return (type == own_type || type == plan.carrier_type) && PyArray_ISNOTSWAPPED(codes);
}

// The formats that given scales and zero points keep; NC_FORMAT_INVALID for those that Python has to convert or refuse.
std::int32_t scale_format(const Entry& entry, const Plan& plan, PyArrayObject* scale) noexcept {
    const std::int32_t format = entry.sources.find(scale);
    const bool kept = plan.asked_scale != NC_FORMAT_INVALID
                          ? format == plan.asked_scale
                          : format == NC_FORMAT_f32 || format == NC_FORMAT_f16 || format == NC_FORMAT_bf16 ||
                                format == NC_FORMAT_e8m0fnu;
    return kept ? format : NC_FORMAT_INVALID;
}

std::int32_t zero_format(const Entry& entry, const Plan& plan, PyArrayObject* zero) noexcept {
    if (!plan.takes_zeros) {
        return NC_FORMAT_INVALID;
    }
    const std::int32_t format = entry.sources.find(zero);
    const bool kept =
        format == NC_FORMAT_i32 || (plan.takes_float_zeros && (format == NC_FORMAT_f32 || format == NC_FORMAT_f16));
    return kept ? format : NC_FORMAT_INVALID;
}

// Makes the view one of numbers in the shape of the boxes; they may come in that shape without its ones, or as one
// number for all.
bool spread(ArrayView& view, PyArrayObject* numbers, const Shapes& shapes) noexcept {
    if (has_shape(numbers, shapes.boxes, shapes.ndim)) {
        return true;
    }
    int axes = PyArray_NDIM(numbers); // those not met yet, from the last one on: never behind those of the boxes
    const bool one = PyArray_SIZE(numbers) == 1;
    for (int axis = shapes.ndim; axis-- > 0;) {
        const auto to = static_cast<std::size_t>(axis);
        std::int64_t stride = 0;
        if (!one && shapes.boxes[to] != 1) {
            if (axes == 0 || view.shape[static_cast<std::size_t>(axes - 1)] != shapes.boxes[to]) {
                return false;
            }
            stride = view.strides[static_cast<std::size_t>(--axes)];
        }
        view.shape[to] = shapes.boxes[to];
        view.strides[to] = stride;
    }
    view.array.ndim = shapes.ndim;
    return one || axes == 0;
}

// nc_dequantize, without the GIL if there is enough to do; false if something does not fit or the core refuses.
bool run(const Entry& entry, const Plan& plan, const Request& request, const Shapes& shapes, PyArrayObject* out,
         std::int32_t out_format, std::int32_t threads) noexcept {
    auto* const given_scale = reinterpret_cast<PyArrayObject*>(request.scale);
    auto* const given_zero = reinterpret_cast<PyArrayObject*>(request.zero_point);
    const ArrayView codes(reinterpret_cast<PyArrayObject*>(request.codes), plan.code_format), values(out, out_format);
    ArrayView scale(given_scale, scale_format(entry, plan, given_scale));
    if (scale.array.format == NC_FORMAT_INVALID || !spread(scale, given_scale, shapes)) {
        return false;
    }
    std::optional<ArrayView> zero;
    if (given_zero != nullptr) {
        zero.emplace(given_zero, zero_format(entry, plan, given_zero));
        if (zero->array.format == NC_FORMAT_INVALID || !spread(*zero, given_zero, shapes)) {
            return false;
        }
    }
    const ChosenIsa isa(entry.isa);
    if (!isa.known()) {
        return false;
    }
    nc_quantize_options options = plan.given;
    options.threads = threads;
    options.isa = isa.name();
    options.block = shapes.block.data();
    const nc_array* const zeros = zero ? &zero->array : nullptr;
    return run_core(PyArray_SIZE(out), [&] {
               return nc_dequantize(&codes.array, &scale.array, zeros, &values.array, &options, nullptr);
           }) == NC_OK;
}

// The new reference that dequantize returns; null without an exception set if `slow` has to look at the call.
PyObject* convert(const Entry& entry, Request request) noexcept {
    for (PyObject* Request::* place : {&Request::zero_point, &Request::shape, &Request::out}) {
        request.*place = request.*place == Py_None ? nullptr : request.*place;
    }
    const auto is_array = [](PyObject* object) { return object != nullptr && PyArray_CheckExact(object); };
    if (!is_array(request.codes) || !is_array(request.scale) ||
        (request.zero_point != nullptr && !is_array(request.zero_point)) || request.spec == nullptr ||
        reinterpret_cast<PyObject*>(Py_TYPE(request.spec)) != entry.spec_type) {
        return nullptr;
    }
    py::object owner;
    const Plan* const plan = find_plan(request.spec, entry.key_plan, owner);
    const std::int32_t format = request.dtype == nullptr ? NC_FORMAT_f32 : entry.targets.find(request.dtype);
    if (plan == nullptr || format == NC_FORMAT_INVALID || (plan->needs_zeros && request.zero_point == nullptr)) {
        return nullptr;
    }
    std::int32_t threads = plan->threads >= 0 ? plan->threads : default_thread_count();
    auto* const codes = reinterpret_cast<PyArrayObject*>(request.codes);
    Shapes shapes(codes);
    if (!read_threads(request.threads, threads) || threads < 0 || !reads_codes(*plan, codes) ||
        !find_shapes(*plan, request, codes, shapes)) {
        return nullptr;
    }
    PyArray_Descr* const dtype = entry.targets.dtype(format);
    py::object result;
    if (request.out == nullptr) {
        result = py::reinterpret_steal<py::object>(new_array(shapes.x, shapes.ndim, dtype));
    } else if (usable(request.out, dtype, shapes.x, shapes.ndim, true) != nullptr) {
        result = py::reinterpret_borrow<py::object>(request.out);
    }
    const bool done =
        result && run(entry, *plan, request, shapes, reinterpret_cast<PyArrayObject*>(result.ptr()), format, threads);
    return done ? result.release().ptr() : nullptr;
}

PyObject* dequantize(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) noexcept {
    const Entry& entry = *current_entry.load(std::memory_order_acquire);
    Request request;
    request.codes = nargs > 0 ? args[0] : nullptr;
    request.scale = nargs > 1 ? args[1] : nullptr;
    request.zero_point = nargs > 2 ? args[2] : nullptr;
    if (nargs <= 3 && read_keywords(entry.places, kwnames, args + nargs, request)) {
        PyObject* const result = convert(entry, request);
        if (result != nullptr || PyErr_Occurred() != nullptr) {
            return result;
        }
    }
    return PyObject_Vectorcall(entry.slow, args, static_cast<std::size_t>(nargs), kwnames);
}

// The parts of a QuantizedArray come from itself; everything else is as above.
PyObject* dequantize_method(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) noexcept {
    const MethodEntry& own = *current_method.load(std::memory_order_acquire);
    const Entry& entry = *current_entry.load(std::memory_order_acquire);
    Request request;
    request.dtype = nargs > 0 ? args[0] : nullptr;
    const bool plain = reinterpret_cast<PyObject*>(Py_TYPE(self)) == own.array_type && PyTuple_GET_SIZE(self) == 4;
    if (plain && nargs <= 1 && read_keywords(entry.places, kwnames, args + nargs, request) &&
        request.codes == nullptr && request.scale == nullptr && request.zero_point == nullptr &&
        request.spec == nullptr && request.shape == nullptr) {
        const auto shape = py::reinterpret_steal<py::object>(PyObject_GetAttr(self, entry.key_shape));
        request.codes = PyTuple_GET_ITEM(self, 0);
        request.scale = PyTuple_GET_ITEM(self, 1);
        request.zero_point = PyTuple_GET_ITEM(self, 2);
        request.spec = PyTuple_GET_ITEM(self, 3);
        request.shape = shape.ptr();
        PyObject* const result = shape ? convert(entry, request) : nullptr;
        if (result != nullptr || PyErr_Occurred() != nullptr) {
            return result;
        }
    }
    const auto bound = py::reinterpret_steal<py::object>(PyMethod_New(own.slow, self));
    return bound ? PyObject_Vectorcall(bound.ptr(), args, static_cast<std::size_t>(nargs), kwnames) : nullptr;
}

py::object make_dequantize(const py::str& text, const py::object& slow, const py::object& spec_type,
                           const py::dict& targets, const py::dict& results, const py::sequence& sources,
                           const py::object& isa) {
    auto* const entry = new Entry;
    entry->slow = slow.inc_ref().ptr();
    entry->spec_type = spec_type.inc_ref().ptr();
    entry->isa = isa.inc_ref().ptr();
    entry->sources.read(sources);
    entry->targets.read(targets, results);
    current_entry.store(entry, std::memory_order_release);
    return make_function(entry->method, "dequantize", &dequantize, text);
}

py::object make_dequantize_method(const py::str& text, const py::object& slow, const py::object& array_type) {
    auto* const own = new MethodEntry;
    own->slow = slow.inc_ref().ptr();
    own->array_type = array_type.inc_ref().ptr();
    current_method.store(own, std::memory_order_release);
    return py::reinterpret_steal<py::object>(
        PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(array_type.ptr()),
                          &define(own->method, "dequantize", &dequantize_method, text)));
}

} // namespace

void bind_dequantize_entry(py::module_& module) {
    module.def("make_dequantize", &make_dequantize);
    module.def("make_dequantize_method", &make_dequantize_method);
}

} // namespace narrowcast::python
