// What the two binding units of quantization share.
#pragma once

#include "arrays.hpp"

namespace narrowcast::python {

// (dialect, format, bits, is_signed, qmin, qmax, symmetric, compute, layout, dynamic, scale_max) <-> the options, on
// one thread, with one box for all.
nc_quantize_options read_options(const py::tuple& opts);
py::tuple options_tuple(const nc_quantize_options& options);

} // namespace narrowcast::python
