// Unscaling: (x, out, format) triples of ndarrays of any layout, out being x for work in place. Python has checked
// everything that has a sentence of its own; what is checked here only keeps the core inside the arrays.
#include <deque>
#include <optional>
#include <vector>

#include "arrays.hpp"

namespace narrowcast::python {
namespace {

bool unscale(const py::sequence& arrays, float inv_scale, std::int32_t threads, const char* isa) {
    std::deque<ArrayView> views; // does not move what it holds
    std::vector<nc_array> x;
    std::vector<nc_array> out;
    std::int64_t items = 0;
    for (const py::handle triple : arrays) {
        const auto [source, target, format] = triple.cast<std::tuple<py::object, py::object, std::int32_t>>();
        PyArrayObject* const to = as_array(target, format);
        if (!PyArray_ISWRITEABLE(to)) {
            throw py::value_error("_core.unscale: out is read-only");
        }
        PyArrayObject* const from = as_array(source, format);
        x.push_back(views.emplace_back(from, format).array);
        out.push_back(views.emplace_back(to, format).array);
        items += PyArray_SIZE(from);
    }
    nc_cast_options options = NC_CAST_OPTIONS_INIT;
    options.threads = threads;
    options.isa = isa;
    nc_error error{};
    error.size = sizeof error;
    std::int32_t found = 0;
    nc_status status = NC_OK;
    {
        std::optional<py::gil_scoped_release> released;
        if (items > release_gil_above) {
            released.emplace();
        }
        status = nc_unscale(x.data(), out.data(), x.size(), inv_scale, &options, &found, &error);
    }
    if (status != NC_OK) {
        throw py::value_error(error.message);
    }
    return found != 0;
}

} // namespace

void bind_unscale(py::module_& module) {
    module.def("unscale", &unscale, py::arg("arrays"), py::arg("inv_scale"), py::arg("threads"), py::arg("isa"));
}

} // namespace narrowcast::python
