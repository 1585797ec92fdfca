// The general cast: two ndarrays of any layout and the formats their bits are to be read as. Python has checked
// everything that has a sentence of its own; what is checked here only keeps the core inside the arrays.
#include "arrays.hpp"

namespace narrowcast::python {
namespace {

PyArrayObject* as_array(py::handle object, std::int32_t format) {
    if (!PyArray_Check(object.ptr())) {
        throw py::type_error("_core.cast takes ndarrays");
    }
    auto* const array = reinterpret_cast<PyArrayObject*>(object.ptr());
    nc_format_info info{};
    info.size = sizeof info;
    if (nc_format_get_info(format, &info) != NC_OK || PyArray_ITEMSIZE(array) != info.storage_bytes) {
        throw py::value_error("_core.cast: the item size does not fit the format");
    }
    return array;
}

py::object general_cast(py::handle x, std::int32_t x_format, py::handle out, std::int32_t out_format,
                        std::int32_t rounding, std::int32_t overflow, std::uint64_t seed, std::uint64_t offset,
                        std::int32_t threads, const char* isa) {
    PyArrayObject* const source = as_array(x, x_format);
    PyArrayObject* const target = as_array(out, out_format);
    if (!PyArray_ISWRITEABLE(target)) {
        throw py::value_error("_core.cast: out is read-only");
    }
    const ArrayView source_view(source, x_format);
    const ArrayView target_view(target, out_format);
    nc_cast_options options{};
    options.size = sizeof options;
    options.rounding = rounding;
    options.overflow = overflow;
    options.seed = seed;
    options.offset = offset;
    options.threads = threads;
    options.isa = isa;
    nc_error error{};
    error.size = sizeof error;
    const nc_status status = cast(source_view.array, target_view.array, options, &error, PyArray_SIZE(source));
    if (status == NC_OK) {
        return py::none();
    }
    return py::make_tuple(static_cast<int>(status), error.reason, error.index, error.value, error.message);
}

} // namespace

void bind_cast(py::module_& module) { module.def("cast", &general_cast); }

} // namespace narrowcast::python
