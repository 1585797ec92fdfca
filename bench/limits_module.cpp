// narrowcast._limits: the memory limit loops as a Python module without dependencies. Two functions:
//     forms() -> ((name, isa), ...)      what was compiled in; the caller checks that the CPU has `isa`
//     move(form, source, destination, count, source_bytes, destination_bytes) -> None      addresses as integers
// It is private to the benchmark: addresses are trusted, numbers are not.
#include <Python.h>

#include "limits.hpp"

namespace {

using namespace narrowcast_limits;

const FormList* const all_lists[] = {
    &generic_forms,
#if defined(NARROWCAST_LIMITS_X86)
    &avx2_forms,
    &avx512_forms,
#elif defined(NARROWCAST_LIMITS_NEON)
    &neon_forms,
#endif
};

const Form* form_at(size_t index) {
    for (const FormList* list : all_lists) {
        if (index < list->count)
            return &list->forms[index];
        index -= list->count;
    }
    return nullptr;
}

PyObject* list_forms(PyObject*, PyObject*) {
    PyObject* names = PyList_New(0);
    if (names == nullptr)
        return nullptr;
    for (size_t i = 0; const Form* form = form_at(i); ++i) {
        PyObject* item = Py_BuildValue("(ss)", form->name, form->isa);
        const int failed = item == nullptr ? -1 : PyList_Append(names, item);
        Py_XDECREF(item);
        if (failed < 0) {
            Py_DECREF(names);
            return nullptr;
        }
    }
    PyObject* result = PyList_AsTuple(names);
    Py_DECREF(names);
    return result;
}

// 3 bytes are 8 codes of 3 bits, or 4 of 6, which stand in 8 or 4 bytes before they are packed.
bool are_item_sizes(size_t a, size_t b) {
    const auto power = [](size_t n) { return n == 1 || n == 2 || n == 4 || n == 8; };
    const auto apart = [](size_t n) { return n == 4 || n == 8; };
    return (power(a) && power(b)) || (a == 3 && apart(b)) || (apart(a) && b == 3);
}

PyObject* move(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
    size_t number[6];
    if (nargs != 6) {
        PyErr_Format(PyExc_TypeError, "move() takes 6 arguments, %zd given", nargs);
        return nullptr;
    }
    for (size_t i = 0; i < 6; ++i) {
        number[i] = PyLong_AsSize_t(args[i]);
        if (number[i] == static_cast<size_t>(-1) && PyErr_Occurred())
            return nullptr;
    }
    const Form* form = form_at(number[0]);
    if (form == nullptr || !are_item_sizes(number[4], number[5])) {
        PyErr_SetString(PyExc_ValueError,
                        "form must be an index into forms(), item sizes must be 1, 2, 4 or 8, or 3 beside 4 or 8");
        return nullptr;
    }
    form->run(Job{reinterpret_cast<const uint8_t*>(number[1]), reinterpret_cast<uint8_t*>(number[2]), number[3],
                  static_cast<uint32_t>(number[4]), static_cast<uint32_t>(number[5])});
    Py_RETURN_NONE;
}

PyMethodDef methods[] = {
    {"forms", list_forms, METH_NOARGS, "forms() -> ((name, isa), ...): the compiled loops."},
    {"move", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)(void)>(move)), METH_FASTCALL,
     "move(form, source, destination, count, source_bytes, destination_bytes): run one loop once."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef_Slot slots[] = {
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, nullptr},
};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    "_limits",
    "Memory limit loops of narrowcast's benchmark.",
    0,
    methods,
    slots,
    nullptr,
    nullptr,
    nullptr,
};

} // namespace

PyMODINIT_FUNC PyInit__limits() { return PyModuleDef_Init(&definition); }
