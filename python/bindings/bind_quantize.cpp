// Quantization: ndarrays of any layout and the formats their bits are to be read as, handed to the core; a refusal of
// the core becomes an exception with its sentence. Options are one tuple in the order of nc_quantize_options, because
// Python makes it once per QuantSpec. The entry for hot calls is in bind_quantize_entry.cpp.
#include <array>
#include <optional>
#include <string>

#include "arrays.hpp"
#include "quantize.hpp"

namespace narrowcast::python {
namespace {

// An array or None.
class Argument {
public:
    Argument(py::handle object, std::int32_t format, const char* name, bool written) {
        if (object.is_none()) {
            return;
        }
        PyArrayObject* const array = as_array(object, format);
        if (written && !PyArray_ISWRITEABLE(array)) {
            throw py::value_error(std::string(name) + " is read-only");
        }
        view_.emplace(array, format);
        size_ = PyArray_SIZE(array);
    }
    [[nodiscard]] const nc_array* get() const noexcept { return view_ ? &view_->array : nullptr; }
    [[nodiscard]] std::int64_t size() const noexcept { return size_; }

private:
    std::optional<ArrayView> view_;
    std::int64_t size_ = 0;
};

// Block, options and instruction set of one call.
struct Settings {
    std::array<std::int64_t, NC_MAX_NDIM> block{};
    nc_quantize_options options{};

    Settings(const py::tuple& opts, const py::object& block_shape, std::int32_t ndim, std::int32_t threads,
             const char* isa) {
        options = read_options(opts);
        options.threads = threads;
        options.isa = isa;
        if (block_shape.is_none()) {
            return;
        }
        const auto extents = block_shape.cast<py::tuple>();
        if (extents.size() > block.size() || static_cast<std::int32_t>(extents.size()) != ndim) {
            throw py::value_error("block has " + std::to_string(extents.size()) + " extents; x has " +
                                  std::to_string(ndim) + " dimensions");
        }
        for (std::size_t i = 0; i < extents.size(); ++i) {
            block[i] = extents[i].cast<std::int64_t>();
        }
        options.block = block.data();
    }
};

// Runs one call, without the GIL if there is enough to do, and raises what it refuses.
template <class Call> void run(std::int64_t items, const Call& call) {
    nc_error error{};
    error.size = sizeof error;
    nc_status status = NC_OK;
    {
        std::optional<py::gil_scoped_release> released;
        if (items > release_gil_above) {
            released.emplace();
        }
        status = call(&error);
    }
    if (status == NC_ERROR_FORMAT) {
        throw py::type_error(error.message);
    }
    if (status != NC_OK) {
        throw py::value_error(error.message);
    }
}

std::int32_t dimensions(py::handle x) {
    return PyArray_Check(x.ptr()) ? PyArray_NDIM(reinterpret_cast<PyArrayObject*>(x.ptr())) : 0;
}

void quantize(py::handle x, std::int32_t x_format, py::handle codes, std::int32_t codes_format, py::handle scale,
              std::int32_t scale_format, py::handle zero_point, std::int32_t zero_format, py::handle row_sums,
              const py::object& block, const py::tuple& opts, std::int32_t threads, const char* isa) {
    const Settings settings(opts, block, dimensions(x), threads, isa);
    const bool dynamic = settings.options.dynamic != 0;
    const Argument from(x, x_format, "x", false), to(codes, codes_format, "codes", true),
        scales(scale, scale_format, "scale", dynamic), zeros(zero_point, zero_format, "zero_point", dynamic),
        sums(row_sums, NC_FORMAT_i32, "row_sums", true);
    run(from.size(), [&](nc_error* error) {
        return nc_quantize(from.get(), to.get(), scales.get(), zeros.get(), sums.get(), &settings.options, error);
    });
}

void dequantize(py::handle codes, std::int32_t codes_format, py::handle scale, std::int32_t scale_format,
                py::handle zero_point, std::int32_t zero_format, py::handle out, std::int32_t out_format,
                const py::object& block, const py::tuple& opts, std::int32_t threads, const char* isa) {
    const Settings settings(opts, block, dimensions(out), threads, isa);
    const Argument from(codes, codes_format, "codes", false), scales(scale, scale_format, "scale", false),
        zeros(zero_point, zero_format, "zero_point", false), to(out, out_format, "out", true);
    run(to.size(), [&](nc_error* error) {
        return nc_dequantize(from.get(), scales.get(), zeros.get(), to.get(), &settings.options, error);
    });
}

void fake_quantize(py::handle x, std::int32_t x_format, py::handle scale, std::int32_t scale_format,
                   py::handle zero_point, std::int32_t zero_format, py::handle out, std::int32_t out_format,
                   const py::object& block, const py::tuple& opts, std::int32_t threads, const char* isa) {
    const Settings settings(opts, block, dimensions(x), threads, isa);
    const Argument from(x, x_format, "x", false), scales(scale, scale_format, "scale", false),
        zeros(zero_point, zero_format, "zero_point", false), to(out, out_format, "out", true);
    run(from.size(), [&](nc_error* error) {
        return nc_fake_quantize(from.get(), scales.get(), zeros.get(), to.get(), &settings.options, error);
    });
}

void range(py::handle x, std::int32_t x_format, py::handle low, py::handle high, const py::object& block,
           std::int32_t threads, const char* isa) {
    const nc_quantize_options defaults = NC_QUANTIZE_OPTIONS_INIT;
    const Settings settings(options_tuple(defaults), block, dimensions(x), threads, isa);
    const Argument from(x, x_format, "x", false), lows(low, NC_FORMAT_f32, "low", true),
        highs(high, NC_FORMAT_f32, "high", true);
    run(from.size(),
        [&](nc_error* error) { return nc_range(from.get(), lows.get(), highs.get(), &settings.options, error); });
}

void choose_qparams(py::handle low, py::handle high, std::int32_t x_format, py::handle scale, std::int32_t scale_format,
                    py::handle zero_point, std::int32_t zero_format, const py::tuple& opts, const char* isa) {
    const Settings settings(opts, py::none(), 0, 1, isa);
    const Argument lows(low, NC_FORMAT_f32, "low", false), highs(high, NC_FORMAT_f32, "high", false),
        scales(scale, scale_format, "scale", true), zeros(zero_point, zero_format, "zero_point", true);
    run(lows.size(), [&](nc_error* error) {
        return nc_choose_qparams(lows.get(), highs.get(), x_format, scales.get(), zeros.get(), &settings.options,
                                 error);
    });
}

py::tuple quantization_error(py::handle x, std::int32_t x_format, py::handle codes, std::int32_t codes_format,
                             py::handle scale, std::int32_t scale_format, py::handle zero_point,
                             std::int32_t zero_format, const py::object& block, const py::tuple& opts,
                             const char* isa) {
    const Settings settings(opts, block, dimensions(x), 1, isa);
    const Argument from(x, x_format, "x", false), to(codes, codes_format, "codes", false),
        scales(scale, scale_format, "scale", false), zeros(zero_point, zero_format, "zero_point", false);
    nc_error_sums sums{};
    sums.size = sizeof sums;
    run(from.size(), [&](nc_error* error) {
        return nc_quantization_error(from.get(), to.get(), scales.get(), zeros.get(), &settings.options, &sums, error);
    });
    return py::make_tuple(sums.count, sums.finite, sums.sum_x2, sums.sum_error2, sums.sum_error, sums.max_error,
                          sums.overflowed, sums.became_zero, sums.became_nan);
}

py::list dialects() {
    py::list rows;
#define NC_DIALECT(number, id, quotient, zero, steps, nan)                                                             \
    rows.append(py::make_tuple(#id, number, #quotient, #zero, #steps, #nan));
#include "narrowcast/dialects.def"
    return rows;
}

} // namespace

nc_quantize_options read_options(const py::tuple& opts) {
    if (opts.size() != 11) {
        throw py::value_error("_core: options have 11 fields");
    }
    const auto integer = [&opts](std::size_t i) { return opts[i].cast<std::int32_t>(); };
    nc_quantize_options options{};
    options.size = sizeof options;
    options.dialect = integer(0);
    options.format = integer(1);
    options.bits = integer(2);
    options.is_signed = integer(3);
    options.qmin = integer(4);
    options.qmax = integer(5);
    options.symmetric = integer(6);
    options.compute = integer(7);
    options.layout = integer(8);
    options.dynamic = integer(9);
    options.scale_max = opts[10].cast<float>();
    options.threads = 1;
    return options;
}

py::tuple options_tuple(const nc_quantize_options& o) {
    return py::make_tuple(o.dialect, o.format, o.bits, o.is_signed, o.qmin, o.qmax, o.symmetric, o.compute, o.layout,
                          o.dynamic, o.scale_max);
}

void bind_quantize(py::module_& module) {
    module.def("dialects", &dialects);
    module.def("quantize", &quantize);
    module.def("dequantize", &dequantize);
    module.def("fake_quantize", &fake_quantize);
    module.def("range", &range);
    module.def("quantization_error", &quantization_error);
    using py::literals::operator""_a;
    module.def("choose_qparams", &choose_qparams, "low"_a, "high"_a, "x_format"_a, "scale"_a, "scale_format"_a,
               "zero_point"_a, "zero_format"_a, "opts"_a, "isa"_a = py::none());
}

} // namespace narrowcast::python
