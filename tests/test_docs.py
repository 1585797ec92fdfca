"""The examples in the docstrings of the package, and that everything public has one that says what it must."""

import ast
import doctest
import importlib
import inspect
import pathlib
import pkgutil

import pytest

import narrowcast as nc
from narrowcast import _core
from narrowcast._astype import astype

MODULES = [
    m.name for m in pkgutil.iter_modules(nc.__path__, "narrowcast.") if not m.ispkg and m.name != "narrowcast._core"
]


@pytest.mark.parametrize("name", ["narrowcast", *MODULES])
def test_examples(name, no_threads_left):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert failed == 0


def test_the_readmes_examples(no_threads_left):
    readme = pathlib.Path(__file__).parent.parent / "README.md"
    if not readme.is_file():
        pytest.skip("no README here: the tests run from an installed copy")
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, tried = doctest.testfile(str(readme), module_relative=False, optionflags=flags)
    assert failed == 0
    assert tried > 5


def test_everything_public_has_an_example():
    functions = [getattr(nc, name) for name in nc.__all__ if callable(getattr(nc, name))]
    assert len(functions) > 8
    for function in functions:
        assert inspect.getdoc(function), function
    for name in (
        "astype",
        "finfo",
        "iinfo",
        "formats",
        "inspect",
        "as_buffer",
        "isa",
        "isas",
        "use_isa",
        "set_num_threads",
    ):
        text = inspect.getdoc(getattr(nc, name))
        assert ">>> " in text, name
        if name not in ("isa", "isas", "formats", "get_num_threads"):
            assert "Parameters\n-----" in text, name


def test_the_compiled_entry_has_the_signature():
    """astype is a builtin; help() and editors still see its arguments."""
    ours, python = inspect.signature(nc.astype), inspect.signature(astype)
    assert list(ours.parameters) == list(python.parameters)
    for name, parameter in python.parameters.items():
        assert ours.parameters[name].kind == parameter.kind
        assert ours.parameters[name].default == parameter.default
    assert inspect.getdoc(nc.astype) == inspect.getdoc(astype)


def test_the_stub_names_what_the_core_has():
    """_core.pyi and the compiled module agree on names."""
    stub = pathlib.Path(nc.__file__).parent / "_core.pyi"
    names = set()
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign):
            names.add(node.target.id)
    assert names == {name for name in dir(_core) if not name.startswith("__")}
