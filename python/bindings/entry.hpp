// What the hot entries share: the formats of sources by numpy's type numbers, the formats that are asked for by what
// names them (for pack both are kinds of codes, numbered in Python), arguments, and the step from a C function to an
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

// The formats that a call may ask for, by the names, dtypes and types that Python's table holds, and the dtypes of
// their arrays. Never changed again, and never freed.
class Targets {
public:
    void read(const py::dict& names, const py::dict& dtypes) {
        names_ = names.inc_ref().ptr();
        for (const auto& [name, code] : names) {
            add(name.ptr(), code.cast<std::int32_t>());
        }
        for (const auto& [code, dtype] : dtypes) {
            dtypes_.at(code.cast<std::size_t>()) = reinterpret_cast<PyArray_Descr*>(dtype.inc_ref().ptr());
        }
    }
    // NC_FORMAT_INVALID, without an exception, for what Python has to look at.
    [[nodiscard]] std::int32_t find(PyObject* name) const noexcept {
        for (std::size_t slot = first_slot(name); keys_[slot] != nullptr; slot = (slot + 1) % slots) {
            if (keys_[slot] == name) {
                return codes_[slot];
            }
        }
        PyObject* const code = PyDict_GetItemWithError(names_, name);
        if (code == nullptr) {
            PyErr_Clear(); // not hashable; Python says it better
            return NC_FORMAT_INVALID;
        }
        return static_cast<std::int32_t>(PyLong_AsLong(code));
    }
    [[nodiscard]] PyArray_Descr* dtype(std::int32_t format) const noexcept {
        return dtypes_[static_cast<std::size_t>(format)];
    }

private:
    // By address: open addressing, filled once. A name that was not interned, or an equal dtype, is not found here.
    static constexpr std::size_t slots = 256;
    static std::size_t first_slot(const PyObject* key) noexcept {
        const auto address = reinterpret_cast<std::uintptr_t>(key);
        return (address >> 4 ^ address >> 12) % slots; // objects are 16 bytes apart at least
    }
    void add(PyObject* key, std::int32_t code) noexcept {
        std::size_t slot = first_slot(key);
        while (keys_[slot] != nullptr) {
            slot = (slot + 1) % slots;
        }
        if (2 * ++count_ <= slots) { // chains stay short and end; what does not fit is found in the dict
            keys_[slot] = key;
            codes_[slot] = static_cast<std::int8_t>(code);
        }
    }

    PyObject* names_ = nullptr;
    std::array<const PyObject*, slots> keys_{};
    std::array<std::int8_t, slots> codes_{};
    std::size_t count_ = 0;
    std::array<PyArray_Descr*, NC_FORMAT_LIMIT> dtypes_{};
};

// threads=, if it is not there or None, which leaves count as it is, or a small plain int.
inline bool read_threads(PyObject* value, std::int32_t& count) noexcept {
    if (value == nullptr || value == Py_None) {
        return true;
    }
    if (!PyLong_CheckExact(value)) {
        return false;
    }
    int overflow = 0;
    const long given = PyLong_AsLongAndOverflow(value, &overflow);
    if (overflow != 0 || given < 0 || given > NPY_MAX_INT16) {
        return false;
    }
    count = static_cast<std::int32_t>(given);
    return true;
}

// The member of a Request that an argument goes into, by the argument's interned name.
template <class Request> using Place = std::pair<PyObject*, PyObject * Request::*>;

// Keyword arguments, each into its place; false for an unknown one, or one whose place is taken.
template <class Request, class Places>
bool read_keywords(const Places& places, PyObject* kwnames, PyObject* const* values, Request& request) noexcept {
    const Py_ssize_t count = kwnames == nullptr ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < count; ++i) {
        PyObject* Request::* place = nullptr;
        for (const auto& [name, its_place] : places) {
            place = PyTuple_GET_ITEM(kwnames, i) == name ? its_place : place;
        }
        if (place == nullptr || request.*place != nullptr) {
            return false;
        }
        request.*place = values[i];
    }
    return true;
}

// What use_isa has chosen in this context, for as long as this lives.
class ChosenIsa {
public:
    explicit ChosenIsa(PyObject* variable) noexcept : known_(PyContextVar_Get(variable, nullptr, &value_) == 0) {}
    ~ChosenIsa() { Py_XDECREF(value_); }
    ChosenIsa(const ChosenIsa&) = delete;
    ChosenIsa& operator=(const ChosenIsa&) = delete;
    [[nodiscard]] bool known() const noexcept { return known_; }
    [[nodiscard]] const char* name() const noexcept {
        return value_ != nullptr && value_ != Py_None ? PyUnicode_AsUTF8(value_) : nullptr;
    }

private:
    PyObject* value_ = nullptr;
    bool known_;
};

using FastFunction = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*) noexcept;

// Fills in what a function or a method is made of. method and text stay for ever: a call may still run while the
// interpreter ends.
inline PyMethodDef& define(PyMethodDef& method, const char* name, FastFunction function, const py::str& text) {
    method.ml_name = name;
    method.ml_meth = reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
    method.ml_flags = METH_FASTCALL | METH_KEYWORDS;
    method.ml_doc = PyUnicode_AsUTF8(text.inc_ref().ptr());
    return method;
}

// The function under its public name.
inline py::object make_function(PyMethodDef& method, const char* name, FastFunction function, const py::str& text) {
    const py::str module("narrowcast");
    return py::reinterpret_steal<py::object>(
        PyCFunction_NewEx(&define(method, name, function, text), nullptr, module.ptr()));
}

} // namespace narrowcast::python
