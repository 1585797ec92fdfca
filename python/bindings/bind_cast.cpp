// The general cast, and what it lost: two ndarrays of any layout and the formats their bits are to be read as. Python
// has checked everything that has a sentence of its own; what is checked here only keeps the core inside the arrays.
#include <optional>

#include "arrays.hpp"

namespace narrowcast::python {
namespace {

// What nc_error says of a cast that was refused.
py::tuple refusal(nc_status status, const nc_error& error) {
    return py::make_tuple(static_cast<int>(status), error.reason, error.index, error.value, error.message);
}

py::tuple numbers(const nc_error_sums& sums) {
    return py::make_tuple(sums.count, sums.finite, sums.sum_x2, sums.sum_error2, sums.sum_error, sums.max_error,
                          sums.overflowed, sums.became_zero, sums.became_nan);
}

nc_status run(py::handle x, std::int32_t x_format, py::handle out, std::int32_t out_format,
              const nc_cast_options& options, nc_error& error) {
    PyArrayObject* const source = as_array(x, x_format);
    PyArrayObject* const target = as_array(out, out_format);
    if (!PyArray_ISWRITEABLE(target)) {
        throw py::value_error("_core.cast: out is read-only");
    }
    const ArrayView source_view(source, x_format);
    const ArrayView target_view(target, out_format);
    error.size = sizeof error;
    return cast(source_view.array, target_view.array, options, &error, PyArray_SIZE(source));
}

py::object general_cast(py::handle x, std::int32_t x_format, py::handle out, std::int32_t out_format,
                        std::int32_t rounding, std::int32_t overflow, std::uint64_t seed, std::uint64_t offset,
                        std::int32_t threads, const char* isa) {
    const nc_cast_options options{sizeof options, rounding, overflow, seed, offset, threads, 0, isa, nullptr};
    nc_error error{};
    const nc_status status = run(x, x_format, out, out_format, options, error);
    if (status == NC_OK) {
        return py::none();
    }
    return refusal(status, error);
}

// On one thread. A pair: what general_cast returns, and what the cast lost (not the magnitudes of errors).
py::tuple compared_cast(py::handle x, std::int32_t x_format, py::handle out, std::int32_t out_format,
                        std::int32_t rounding, std::int32_t overflow, std::uint64_t seed, std::uint64_t offset,
                        const char* isa) {
    nc_error_sums sums{};
    sums.size = sizeof sums;
    sums.squares_only = 1;
    const nc_cast_options options{sizeof options, rounding, overflow, seed, offset, 1, 0, isa, &sums};
    nc_error error{};
    const nc_status status = run(x, x_format, out, out_format, options, error);
    return py::make_tuple(status == NC_OK ? py::object(py::none()) : py::object(refusal(status, error)), numbers(sums));
}

// Adding up pieces is Python's.
py::tuple cast_error(py::handle x, std::int32_t x_format, py::handle out, std::int32_t out_format,
                     std::int32_t rounding, const char* isa) {
    PyArrayObject* const source = as_array(x, x_format);
    PyArrayObject* const target = as_array(out, out_format);
    const ArrayView source_view(source, x_format);
    const ArrayView target_view(target, out_format);
    nc_cast_options options{};
    options.size = sizeof options;
    options.rounding = rounding;
    options.threads = 1;
    options.isa = isa;
    nc_error_sums sums{};
    sums.size = sizeof sums;
    nc_error error{};
    error.size = sizeof error;
    nc_status status = NC_OK;
    {
        std::optional<py::gil_scoped_release> released;
        if (PyArray_SIZE(source) > release_gil_above) {
            released.emplace();
        }
        status = nc_cast_error(&source_view.array, &target_view.array, &options, &sums, &error);
    }
    if (status != NC_OK) {
        throw py::value_error(error.message);
    }
    return numbers(sums);
}

} // namespace

void bind_cast(py::module_& module) {
    module.def("cast", &general_cast);
    module.def("compared_cast", &compared_cast);
    module.def("cast_error", &cast_error);
}

} // namespace narrowcast::python
