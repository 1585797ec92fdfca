// What the hot entries share: the formats of sources by numpy's type numbers, and the step from a C function to an
// object of Python. What an entry does with a call is in its own unit.
#pragma once

#include <array>
#include <utility>

#include "arrays.hpp"

namespace narrowcast::python {

// The formats that Python's table gives to dtypes. Others, and those of the other byte order, are for Python.
class Sources {
public:
    void read(const py::sequence& pairs) {
        for (const py::handle pair : pairs) {
            const auto [dtype, code] = pair.cast<std::pair<py::object, std::int8_t>>();
            const auto number = static_cast<std::size_t>(reinterpret_cast<PyArray_Descr*>(dtype.ptr())->type_num);
            if (number < type_numbers) {
                formats_[number] = code;
            }
        }
    }
    // NC_FORMAT_INVALID if it is not among them.
    [[nodiscard]] std::int32_t find(PyArrayObject* x) const noexcept {
        const auto number = static_cast<std::size_t>(PyArray_TYPE(x));
        if (number >= type_numbers || !PyArray_ISNOTSWAPPED(x)) {
            return NC_FORMAT_INVALID;
        }
        return formats_[number];
    }

private:
    static constexpr std::size_t type_numbers = 512; // numpy's own types, then up to 256 registered ones from 256 on
    std::array<std::int8_t, type_numbers> formats_{};
};

using FastFunction = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*) noexcept;

// The function under its public name. method and text stay for ever: a call may still run while the interpreter ends.
inline py::object make_function(PyMethodDef& method, const char* name, FastFunction function, const py::str& text) {
    method.ml_name = name;
    method.ml_meth = reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
    method.ml_flags = METH_FASTCALL | METH_KEYWORDS;
    method.ml_doc = PyUnicode_AsUTF8(text.inc_ref().ptr());
    const py::str module("narrowcast");
    return py::reinterpret_steal<py::object>(PyCFunction_NewEx(&method, nullptr, module.ptr()));
}

} // namespace narrowcast::python
