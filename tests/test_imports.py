"""Modules of the package import each other one way: no circles, not even by imports in functions or for types alone."""

import ast
import graphlib
import pkgutil
from importlib.util import find_spec
from pathlib import Path

import pytest

import narrowcast as nc

NAMES = ["narrowcast", *(module.name for module in pkgutil.walk_packages(nc.__path__, "narrowcast."))]
MODULES = {name: Path(find_spec(name).origin) for name in NAMES}


def imported(source, name, path):
    """What of the package a module names in its imports, wherever they stand."""
    package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*base, node.module] if node.module else base)
            names = [f"{base}.{alias.name}" for alias in node.names]
            found = [one if one in MODULES else base for one in names]
        else:
            continue
        yield from (one for one in found if one in MODULES and one != name)


@pytest.fixture(scope="module")
def graph():
    python = {name: path for name, path in MODULES.items() if path.suffix == ".py"}
    return {name: {*imported(path.read_text("utf-8"), name, path)} for name, path in python.items()}


def test_no_circles(graph):
    assert sum(map(len, graph.values())) > 3 * len(graph), "most imports are not seen"
    found = [*graphlib.TopologicalSorter(graph).static_order()]
    assert found.index("narrowcast._formats") < found.index("narrowcast._quant.spec") < found.index("narrowcast")


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    from narrowcast._quant.spec import QuantSpec",
        "if TYPE_CHECKING:\n    from narrowcast._quant import spec",
        "from .spec import QuantSpec",
        "from . import spec",
        "import narrowcast._quant.spec",
    ],
)
def test_circles_are_seen(text, graph):
    name = "narrowcast._quant.boxes"
    more = graph | {name: graph[name] | {*imported(text, name, MODULES[name])}}
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(more).prepare()
