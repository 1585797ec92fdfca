"""The examples in the docstrings of the package, in the README and on the pages of docs/, commands included, and that
everything public has one that says what it must.
"""

import ast
import doctest
import importlib
import inspect
import os
import pathlib
import pkgutil
import re
import shlex

import numpy as np
import pytest

import narrowcast as nc
from narrowcast import _core, _quant, cli
from narrowcast._astype import astype

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "convert-a-model.md"
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS

PLACES = [("narrowcast.", nc.__path__), ("narrowcast._quant.", _quant.__path__)]
MODULES = [m.name for prefix, path in PLACES for m in pkgutil.iter_modules(path, prefix) if not m.ispkg]
MODULES.remove("narrowcast._core")


@pytest.mark.parametrize("name", ["narrowcast", *MODULES])
def test_examples(name, no_threads_left):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=FLAGS)
    assert failed == 0


def test_the_readmes_examples(no_threads_left):
    readme = ROOT / "README.md"
    if not readme.is_file():
        pytest.skip("no README here: the tests run from an installed copy")
    failed, tried = doctest.testfile(str(readme), module_relative=False, optionflags=FLAGS)
    assert failed == 0
    assert tried > 5


# -- the page "Convert a model" ------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A directory with everything that the page speaks of, small."""
    if not PAGE.is_file():
        pytest.skip("no docs here: the tests run from an installed copy")
    random = np.random.default_rng(0)
    weight = random.normal(0, 0.05, (384, 1536)).astype(np.float32)
    weight[99, 856] = 7.914802074432373  # as in the real model
    tensors = {
        "embeddings.position_ids": np.arange(512)[None],
        "embeddings.word_embeddings.weight": random.normal(0, 0.05, (100, 384)).astype(np.float32),
        "encoder.layer.0.attention.self.key.bias": random.normal(0, 0.0003, 384).astype(np.float32),
        "encoder.layer.0.output.LayerNorm.weight": np.ones(384, np.float32),
        "encoder.layer.0.output.dense.weight": weight,
    }
    for folder in ("all-MiniLM-L6-v2", "shards", "snapshot", "blobs"):
        (tmp_path / folder).mkdir()
    for path in ("all-MiniLM-L6-v2/model", "shards/model-00001-of-00002", "blobs/53aa"):
        nc.save_file(tensors, tmp_path / f"{path}.safetensors")
    (tmp_path / "blobs" / "53aa.safetensors").rename(tmp_path / "blobs" / "53aa")
    (tmp_path / "snapshot" / "model.safetensors").symlink_to("../blobs/53aa")
    (tmp_path / "all-MiniLM-L6-v2" / "config.json").write_text("{}")
    nc.save_file({"lm_head.weight": weight}, tmp_path / "shards" / "model-00002-of-00002.safetensors")
    np.save(tmp_path / "lossy.npy", nc.astype(weight, "bfloat16"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)
    return tmp_path


def commands(text):
    """Commands of the page's console blocks, each with the lines that it prints there."""
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for part in block.split("$ ")[1:]:
            command, *printed = part.strip().splitlines()
            yield command, printed


@pytest.mark.skipif(os.name == "nt", reason="the page's paths are those of other systems")
def test_the_pages_commands(home, capsys):
    tried = 0
    for command, printed in commands(PAGE.read_text(encoding="utf-8")):
        words = shlex.split(command)
        words = words[words.index("narrowcast") + 1 :]  # without torchrun and srun: then it is the only process
        if "--dask" in words or "--ray" in words:
            continue  # test_files_engines.py
        status = cli.main(words)
        found = capsys.readouterr()
        said = (found.out + found.err).replace(str(home), "/home/me").splitlines()
        assert (status != 0) == any(line.startswith("narrowcast: ") for line in printed), (command, said)
        assert set(printed) <= set(said), command
        tried += 1
    assert tried > 12
    made = {"MiniLM-bf16", "MiniLM-fp8", "MiniLM-sr", "fp8.safetensors", "values.npy", "report.json", "m"}
    made |= {"out-1", "out-2", "out-3"}
    assert made <= {path.name for path in home.iterdir()}
    assert not {"MiniLM-fp4", "model.npz"} & {path.name for path in home.iterdir()}


def test_the_pages_examples(home):
    failed, tried = doctest.testfile(str(PAGE), module_relative=False, optionflags=FLAGS)
    assert failed == 0
    assert tried > 10


def test_the_pages_blocks(home):
    """Blocks of Python without prompts run too, where what they import is there."""
    pytest.importorskip("dask.array")
    text = PAGE.read_text(encoding="utf-8")
    blocks = [b for b in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) if ">>>" not in b]
    (block,) = blocks
    names = {}
    exec(block, names)
    x, y = names["x"].compute(), names["y"].compute()
    assert y.dtype.name == "bfloat16"
    assert (y == x.astype(y.dtype)).all()


def test_the_pages_links():
    if not PAGE.is_file():
        pytest.skip("no docs here: the tests run from an installed copy")
    for path in (PAGE, ROOT / "README.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), (path.name, target)
    text = PAGE.read_text(encoding="utf-8")
    sections = {
        re.sub(r"[^a-z ]", "", line[3:].lower()).replace(" ", "-") for line in re.findall("^## .*$", text, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= sections


# -- docstrings ----------------------------------------------------------------------------------------------------


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
        elif isinstance(node, ast.AnnAssign) and not node.target.id.startswith("_"):  # else a name for types only
            names.add(node.target.id)
    assert names == {name for name in dir(_core) if not name.startswith("__")}
