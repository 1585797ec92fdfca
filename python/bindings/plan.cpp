// Plans of specs, made once by Python, and the shapes that follow from them. What is done by a plan is in the units of
// the entries.
#include <algorithm>

#include "plan.hpp"

namespace narrowcast::python {
namespace {

constexpr const char* capsule_name = "narrowcast._core.QuantPlan";

Making read_making(const py::tuple& fields) {
    if (fields.size() != 7) {
        throw py::value_error("_core.QuantPlan: making has 7 fields");
    }
    Making making;
    if (!fields[0].is_none()) {
        making.computed = read_options(fields[0].cast<py::tuple>());
    }
    making.scale_dtype = fields[1];
    making.scale_format = fields[2].cast<std::int32_t>();
    making.zero_dtype = fields[3];
    making.zero_format = fields[4].cast<std::int32_t>();
    if (!fields[5].is_none()) {
        making.held_scale = fields[5];
        making.held_zero = fields[6].is_none() ? py::object() : py::object(fields[6]);
    }
    return making;
}

void read_boxes(Plan& plan, int granularity, const py::tuple& extents) {
    if (granularity < 0 || granularity > static_cast<int>(Granularity::block) || extents.size() > NC_MAX_NDIM) {
        throw py::value_error("_core.QuantPlan: no such granularity");
    }
    plan.granularity = static_cast<Granularity>(granularity);
    plan.extent_count = extents.size();
    for (std::size_t i = 0; i < extents.size(); ++i) {
        plan.extents[i] = extents[i].cast<std::int64_t>();
    }
    const bool group = plan.granularity == Granularity::group, block = plan.granularity == Granularity::block;
    if ((group || block) && (plan.extent_count != 2 || plan.extents[0] < 1 || (block && plan.extents[1] < 1))) {
        throw py::value_error("_core.QuantPlan: no such group or block");
    }
}

py::object make_plan(const py::tuple& given, int granularity, const py::tuple& extents, std::int32_t threads,
                     const py::object& code_dtype, const py::object& carrier, std::int32_t code_format,
                     std::int32_t asked_scale, bool needs_zeros, bool takes_zeros, bool takes_float_zeros,
                     const py::object& making) {
    auto* const plan = new Plan;
    // Owned by the capsule from here on, whatever is thrown below.
    py::object capsule = py::reinterpret_steal<py::object>(PyCapsule_New(plan, capsule_name, [](PyObject* held) {
        delete static_cast<Plan*>(PyCapsule_GetPointer(held, capsule_name));
    }));
    if (!capsule) {
        delete plan;
        throw py::error_already_set();
    }
    plan->given = read_options(given);
    read_boxes(*plan, granularity, extents);
    plan->threads = threads;
    plan->code_dtype = code_dtype;
    plan->carrier_type = reinterpret_cast<PyArray_Descr*>(carrier.ptr())->type_num;
    plan->code_format = code_format;
    plan->asked_scale = asked_scale;
    plan->needs_zeros = needs_zeros;
    plan->takes_zeros = takes_zeros;
    plan->takes_float_zeros = takes_float_zeros;
    if (!making.is_none()) {
        plan->making = read_making(making.cast<py::tuple>());
    }
    if (plan->given.layout != NC_LAYOUT_INVALID) {
        nc_format_info info{};
        info.size = sizeof info;
        const bool is_float = nc_format_get_info(plan->given.format, &info) == NC_OK;
        plan->packed_bits = is_float ? info.bits : plan->given.bits;
    }
    return capsule;
}

// The axis counted from the front; -1 if there is none.
int find_axis(std::int64_t axis, int ndim) noexcept {
    const std::int64_t found = axis < 0 ? axis + ndim : axis;
    return found >= 0 && found < ndim ? static_cast<int>(found) : -1;
}

bool find_block(const Plan& plan, Shapes& shapes) noexcept {
    const bool whole = plan.granularity == Granularity::tensor || plan.granularity == Granularity::channel;
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(shapes.ndim); ++axis) {
        shapes.block[axis] = whole ? shapes.x[axis] : 1;
    }
    const auto last = static_cast<std::size_t>(shapes.ndim - 1);
    switch (plan.granularity) {
    case Granularity::tensor: return true;
    case Granularity::row: shapes.block[last] = shapes.x[last]; return true;
    case Granularity::group: {
        const int axis = find_axis(plan.extents[1], shapes.ndim);
        if (axis >= 0) {
            const auto at = static_cast<std::size_t>(axis);
            shapes.block[at] = std::min(plan.extents[0], shapes.x[at]);
        }
        return axis >= 0;
    }
    case Granularity::channel: {
        std::array<bool, NC_MAX_NDIM> kept{};
        for (std::size_t i = 0; i < plan.extent_count; ++i) {
            const int axis = find_axis(plan.extents[i], shapes.ndim);
            if (axis < 0 || kept[static_cast<std::size_t>(axis)]) { // twice the same
                return false;
            }
            kept[static_cast<std::size_t>(axis)] = true;
            shapes.block[static_cast<std::size_t>(axis)] = 1;
        }
        return true;
    }
    case Granularity::block:
        if (last == 0) {
            return false;
        }
        shapes.block[last - 1] = std::min(plan.extents[0], shapes.x[last - 1]);
        shapes.block[last] = std::min(plan.extents[1], shapes.x[last]);
        return true;
    }
    return false;
}

} // namespace

const Plan* find_plan(PyObject* spec, PyObject* key, py::object& owner) noexcept {
    owner = py::reinterpret_steal<py::object>(PyObject_GetAttr(spec, key));
    if (!owner) {
        PyErr_Clear();
        return nullptr;
    }
    if (PyCapsule_IsValid(owner.ptr(), capsule_name) == 0) {
        return nullptr;
    }
    return static_cast<const Plan*>(PyCapsule_GetPointer(owner.ptr(), capsule_name));
}

Shapes::Shapes(PyArrayObject* array) noexcept : ndim(PyArray_NDIM(array)) {
    for (int axis = 0; axis < ndim; ++axis) {
        x[static_cast<std::size_t>(axis)] = PyArray_DIM(array, axis);
    }
}

bool Shapes::find(const Plan& plan) noexcept {
    const auto count = static_cast<std::size_t>(ndim);
    for (std::size_t axis = 0; axis < count; ++axis) {
        codes[axis] = x[axis];
        if (x[axis] == 0) {
            return false;
        }
    }
    if (count == 0 || !find_block(plan, *this)) {
        return false;
    }
    for (std::size_t axis = 0; axis < count; ++axis) {
        const std::int64_t extent = x[axis], size = block[axis]; // mostly nothing to divide, which takes long
        boxes[axis] = size == 1 ? extent : size == extent ? 1 : (extent - 1) / size + 1;
    }
    if (plan.packed_bits != 0) {
        const std::int64_t extent = x[count - 1], bits = extent % 8 * plan.packed_bits;
        codes[count - 1] = extent / 8 * plan.packed_bits + bits / 8;
        return bits % 8 == 0;
    }
    return true;
}

bool has_shape(PyArrayObject* array, const Shapes::Extents& shape, int ndim) noexcept {
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

bool read_shape(PyObject* given, Shapes::Extents& shape, int ndim) noexcept {
    if (!PyTuple_CheckExact(given) || PyTuple_GET_SIZE(given) != ndim) {
        return false;
    }
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(ndim); ++axis) {
        PyObject* const extent = PyTuple_GET_ITEM(given, static_cast<Py_ssize_t>(axis));
        int overflow = 0;
        const long long number = PyLong_CheckExact(extent) ? PyLong_AsLongLongAndOverflow(extent, &overflow) : -1;
        if (number < 0 || overflow != 0) {
            return false;
        }
        shape[axis] = number;
    }
    return true;
}

PyArrayObject* usable(PyObject* object, const PyArray_Descr* dtype, const Shapes::Extents& shape, int ndim,
                      bool or_bits) noexcept {
    if (!PyArray_CheckExact(object)) {
        return nullptr;
    }
    auto* const array = reinterpret_cast<PyArrayObject*>(object);
    const bool same_type =
        PyArray_TYPE(array) == dtype->type_num ||
        (or_bits && PyArray_ISUNSIGNED(array) && PyArray_ITEMSIZE(array) == PyDataType_ELSIZE(dtype));
    const bool fits =
        same_type && PyArray_ISNOTSWAPPED(array) && PyArray_ISWRITEABLE(array) && has_shape(array, shape, ndim);
    return fits ? array : nullptr;
}

PyObject* new_array(const Shapes::Extents& shape, int ndim, PyArray_Descr* dtype) noexcept {
    std::array<npy_intp, NC_MAX_NDIM> extents;
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(ndim); ++axis) {
        extents[axis] = static_cast<npy_intp>(shape[axis]);
    }
    Py_INCREF(dtype); // stolen by the next call
    return PyArray_Empty(ndim, extents.data(), dtype, 0);
}

void bind_quantize_plan(py::module_& module) { module.def("QuantPlan", &make_plan); }

} // namespace narrowcast::python
