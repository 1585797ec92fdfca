// The results of quantize's hot entry: the arrays of out=, or new ones. Which calls get here is
// bind_quantize_entry.cpp's.
#include <utility>

#include "quantize_entry.hpp"

namespace narrowcast::python {
namespace {

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

PyObject* new_array(const Shapes& shapes, const std::array<std::int64_t, NC_MAX_NDIM>& shape,
                    const py::object& dtype) noexcept {
    std::array<npy_intp, NC_MAX_NDIM> extents;
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(shapes.ndim); ++axis) {
        extents[axis] = static_cast<npy_intp>(shape[axis]);
    }
    Py_INCREF(dtype.ptr()); // stolen by the next call
    return PyArray_Empty(shapes.ndim, extents.data(), reinterpret_cast<PyArray_Descr*>(dtype.ptr()), 0);
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

} // namespace

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
