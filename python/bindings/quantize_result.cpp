// The results of quantize's hot entry: the arrays of out=, or new ones. Which calls get here is
// bind_quantize_entry.cpp's.
#include <utility>

#include "quantize_entry.hpp"

namespace narrowcast::python {
namespace {

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

PyArray_Descr* descr(const py::object& dtype) noexcept { return reinterpret_cast<PyArray_Descr*>(dtype.ptr()); }

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

} // namespace

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
    const auto part = [&](Py_ssize_t i, const py::object& dtype, const Shapes::Extents& shape) {
        return usable(PyTuple_GET_ITEM(out, i), descr(dtype), shape, shapes.ndim, false);
    };
    arrays.codes = part(0, plan.code_dtype, shapes.codes);
    arrays.scale = part(1, plan.making->scale_dtype, shapes.boxes);
    if (arrays.codes == nullptr || arrays.scale == nullptr) {
        return false;
    }
    if (plan.making->zero_dtype.is_none()) {
        return PyTuple_GET_ITEM(out, 2) == Py_None;
    }
    arrays.zero = part(2, plan.making->zero_dtype, shapes.boxes);
    return arrays.zero != nullptr;
}

PyObject* new_result(const Entry& entry, const Plan& plan, const Request& request, const Shapes& shapes,
                     Arrays& arrays) noexcept {
    py::object codes, scale, zero = py::none(), shape, result;
    const auto steal = [](PyObject* object) { return py::reinterpret_steal<py::object>(object); };
    const Making& making = *plan.making;
    codes = steal(new_array(shapes.codes, shapes.ndim, descr(plan.code_dtype)));
    scale = steal(new_array(shapes.boxes, shapes.ndim, descr(making.scale_dtype)));
    if (!making.zero_dtype.is_none()) {
        zero = steal(new_array(shapes.boxes, shapes.ndim, descr(making.zero_dtype)));
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

bool has_room(const Request& request, const Arrays& arrays) noexcept {
    const auto alone = [&](PyArrayObject* array) {
        return array == nullptr || (lie_apart(array, request.x) && lie_apart(array, arrays.codes));
    };
    // Scales are taken first: they must not go where the given zero points are.
    return alone(arrays.scale) && alone(arrays.zero) &&
           (arrays.zero == nullptr || (lie_apart(arrays.scale, arrays.zero) &&
                                       lie_apart(arrays.scale, reinterpret_cast<PyArrayObject*>(request.zero_point))));
}

} // namespace narrowcast::python
