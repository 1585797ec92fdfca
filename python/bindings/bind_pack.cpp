// Packing: two buffers of bytes, handed to nc_pack, nc_unpack and nc_repack. Whatever holds contiguous bytes is taken
// (ndarray, bytes, mmap, memoryview); an array of an ml_dtypes dtype has no buffer and comes as a view of its bytes. A
// refusal of the core becomes an exception with its sentence; that of a code has its index.
#include <string>
#include <utility>

#include "arrays.hpp"

namespace narrowcast::python {
namespace {

// Contiguous memory of any object with the buffer protocol, held as long as this lives.
class Bytes {
public:
    Bytes(py::handle object, const char* name, int flags) {
        if (PyObject_GetBuffer(object.ptr(), &view_, flags) != 0) {
            throw py::error_already_set();
        }
        if (view_.itemsize != 1) {
            const Py_ssize_t itemsize = view_.itemsize;
            PyBuffer_Release(&view_);
            throw py::type_error(std::string(name) + " has items of " + std::to_string(itemsize) +
                                 " bytes; pass a view of its bytes");
        }
    }
    ~Bytes() { PyBuffer_Release(&view_); }
    Bytes(const Bytes&) = delete;
    Bytes& operator=(const Bytes&) = delete;

    void* data() const noexcept { return view_.buf; }
    std::size_t size() const noexcept { return static_cast<std::size_t>(view_.len); }

private:
    Py_buffer view_{};
};

std::int32_t find_layout(const char* name) {
    const std::int32_t layout = nc_layout_from_name(name);
    if (layout != NC_LAYOUT_INVALID) {
        return layout;
    }
    std::string known;
    for (std::int32_t position = 0; nc_layout_at(position) != NC_LAYOUT_INVALID; ++position) {
        nc_layout_info info{};
        info.size = sizeof info;
        nc_layout_get_info(nc_layout_at(position), &info);
        known += std::string(known.empty() ? "" : ", ") + info.name;
    }
    throw py::value_error("layout is '" + std::string(name) + "'; allowed are " + known);
}

// The codes along the axis of a layout, and those of all later axes; 0: one line.
using Extents = std::pair<std::size_t, std::size_t>;

nc_pack_options pack_options(const char* layout, bool is_signed, std::int32_t threads, const char* isa,
                             const Extents& extents) {
    nc_pack_options options{};
    options.size = sizeof options;
    options.layout = find_layout(layout);
    options.is_signed = is_signed ? 1 : 0;
    options.threads = threads;
    options.isa = isa;
    options.along = extents.first;
    options.inner = extents.second;
    return options;
}

// Runs one call, without the GIL if there is enough to do, and raises what it refuses.
template <class Call> void run(std::size_t codes, const Call& call) {
    nc_error error{};
    error.size = sizeof error;
    const nc_status status = run_core(static_cast<std::int64_t>(codes), [&] { return call(&error); });
    if (status == NC_ERROR_OVERFLOW) {
        const py::object refusal = py::reinterpret_borrow<py::object>(PyExc_OverflowError)(error.message);
        refusal.attr("index") = error.index; // in C order
        PyErr_SetObject(PyExc_OverflowError, refusal.ptr());
        throw py::error_already_set();
    }
    if (status != NC_OK) {
        throw py::value_error(error.message);
    }
}

void pack(py::handle codes, py::handle packed, std::int32_t bits, const char* layout, bool is_signed, bool check,
          std::int32_t threads, const char* isa, const Extents& extents) {
    const Bytes from(codes, "codes", PyBUF_SIMPLE);
    const Bytes to(packed, "packed", PyBUF_WRITABLE);
    nc_pack_options options = pack_options(layout, is_signed, threads, isa, extents);
    options.check = check ? 1 : 0;
    run(from.size(), [&](nc_error* error) {
        return nc_pack(from.data(), from.size(), bits, to.data(), to.size(), &options, error);
    });
}

void unpack(py::handle packed, py::handle codes, std::int32_t bits, const char* layout, bool is_signed,
            std::int32_t threads, const char* isa, const Extents& extents) {
    const Bytes from(packed, "packed", PyBUF_SIMPLE);
    const Bytes to(codes, "codes", PyBUF_WRITABLE);
    const nc_pack_options options = pack_options(layout, is_signed, threads, isa, extents);
    run(to.size(), [&](nc_error* error) {
        return nc_unpack(from.data(), from.size(), bits, to.data(), to.size(), &options, error);
    });
}

void repack(py::handle packed, py::handle out, std::size_t n, std::int32_t bits, const char* from_layout,
            const Extents& from_extents, const char* to_layout, const Extents& to_extents, bool is_signed,
            std::int32_t threads, const char* isa) {
    const Bytes from(packed, "packed", PyBUF_SIMPLE);
    const Bytes to(out, "out", PyBUF_WRITABLE);
    const nc_pack_options source = pack_options(from_layout, is_signed, threads, isa, from_extents);
    const nc_pack_options target = pack_options(to_layout, is_signed, threads, isa, to_extents);
    run(n, [&](nc_error* error) {
        return nc_repack(from.data(), from.size(), n, bits, to.data(), to.size(), &source, &target, error);
    });
}

std::size_t packed_bytes(std::size_t n, std::int32_t bits, const char* layout) {
    std::size_t bytes = 0;
    if (nc_packed_bytes(n, bits, find_layout(layout), &bytes) != NC_OK) {
        throw py::value_error("layout " + std::string(layout) + " has no " + std::to_string(n) + " codes of " +
                              std::to_string(bits) + " bits");
    }
    return bytes;
}

std::int32_t granule(std::int32_t bits, const char* layout) { return nc_layout_granule(find_layout(layout), bits); }

py::list layouts() {
    py::list rows;
    for (std::int32_t position = 0; nc_layout_at(position) != NC_LAYOUT_INVALID; ++position) {
        nc_layout_info info{};
        info.size = sizeof info;
        nc_layout_get_info(nc_layout_at(position), &info);
        py::list widths;
        for (std::int32_t bits = info.least_bits; bits <= info.most_bits; ++bits) {
            if ((info.widths >> bits & 1) != 0) {
                widths.append(bits);
            }
        }
        rows.append(py::make_tuple(info.name, info.layout, py::tuple(widths), info.word_bits, info.axis,
                                   info.biased != 0, info.inner_codes));
    }
    return rows;
}

} // namespace

void bind_pack(py::module_& module) {
    using py::literals::operator""_a;
    module.def("pack", &pack, "codes"_a, "packed"_a, "bits"_a, "layout"_a = "lsb", py::kw_only(), "is_signed"_a = false,
               "check"_a = false, "threads"_a = 1, "isa"_a = py::none(), "extents"_a = Extents{0, 0});
    module.def("unpack", &unpack, "packed"_a, "codes"_a, "bits"_a, "layout"_a = "lsb", py::kw_only(),
               "is_signed"_a = false, "threads"_a = 1, "isa"_a = py::none(), "extents"_a = Extents{0, 0});
    module.def("repack", &repack, "packed"_a, "out"_a, "n"_a, "bits"_a, "from_layout"_a, "from_extents"_a,
               "to_layout"_a, "to_extents"_a, py::kw_only(), "is_signed"_a = false, "threads"_a = 1,
               "isa"_a = py::none());
    module.def("packed_bytes", &packed_bytes, "n"_a, "bits"_a, "layout"_a = "lsb");
    module.def("layout_granule", &granule, "bits"_a, "layout"_a = "lsb");
    module.def("layouts", &layouts);
}

} // namespace narrowcast::python
