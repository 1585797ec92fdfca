// The module narrowcast._core: imports numpy's C interface and calls the bind_ functions. Nothing else belongs here.
#define NARROWCAST_IMPORTS_NUMPY
#include "arrays.hpp"

namespace python = narrowcast::python;
namespace py = pybind11;

PYBIND11_MODULE(_core, module, py::mod_gil_not_used()) {
    if (PyArray_ImportNumPyAPI() < 0) {
        throw py::error_already_set();
    }
    module.doc() = "The compiled part of narrowcast. Private: use the package.";
    python::bind_info(module);
    python::bind_cast(module);
    python::bind_astype(module);
    python::bind_pack(module);
    python::bind_pack_entry(module);
    python::bind_unscale(module);
    python::bind_quantize(module);
    python::bind_quantize_plan(module);
    python::bind_quantize_entry(module);
    python::bind_dequantize_entry(module);
}
