"""The page "Quantize a model": its commands say what it shows, its examples give what they must, its links lead on."""

import doctest
import os
import re
import shlex

import numpy as np
import pytest

import files_quantized as fq
import narrowcast as nc
from narrowcast import cli
from narrowcast._files import quantized_entry
from test_docs import FLAGS, ROOT, commands

PAGE = ROOT / "docs" / "quantize-a-model.md"

if not PAGE.is_file():
    pytest.skip("no docs here: the tests run from an installed copy", allow_module_level=True)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A directory with everything that the page speaks of, small."""
    fq.make_model(tmp_path / "shards")
    (tmp_path / "all-MiniLM-L6-v2").mkdir()
    random = np.random.default_rng(0)
    tensors = {
        "embeddings.word_embeddings.weight": random.normal(0, 0.05, (100, 64)).astype(np.float32),
        "encoder.layer.0.output.dense.weight": random.normal(0, 0.05, (64, 256)).astype(np.float32),
    }
    nc.save_file(tensors, tmp_path / "all-MiniLM-L6-v2" / "model.safetensors")
    (tmp_path / "all-MiniLM-L6-v2" / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)
    return tmp_path


@pytest.mark.skipif(os.name == "nt", reason="the page's paths are those of other systems")
def test_the_commands(home, capsys):
    tried = 0
    for command, printed in commands(PAGE.read_text(encoding="utf-8")):
        status = cli.main(shlex.split(command)[1:])
        found = capsys.readouterr()
        said = (found.out + found.err).replace(str(home), "/home/me").splitlines()
        assert (status != 0) == any(line.startswith("narrowcast: ") for line in printed), (command, said)
        assert set(printed) <= set(said), (command, said)
        tried += 1
    assert tried > 12
    made = {"MiniLM-int8", "Llama-int4", "Llama-int4a", "Llama-fp8", "Llama-fp8b", "Llama-mixed", "Llama-head"}
    assert made | {"Llama-mse", "Llama-99", "Llama-back"} <= {path.name for path in home.iterdir()}
    assert not {"Llama-dry", "Llama-int4b", "MiniLM-int4", "Llama-back2"} & {path.name for path in home.iterdir()}


def test_the_examples(home):
    failed, tried = doctest.testfile(str(PAGE), module_relative=False, optionflags=FLAGS)
    assert failed == 0
    assert tried > 9


def test_the_docstrings():
    failed, tried = doctest.testmod(quantized_entry, optionflags=FLAGS)
    assert failed == 0
    assert tried > 10


def test_the_links():
    text = PAGE.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (PAGE.parent / target).exists(), target
    for page, anchors in (
        (PAGE, r"\]\(#([^)]+)\)"),
        (ROOT / "docs" / "convert-a-model.md", r"convert-a-model\.md#([^)]+)\)"),
    ):
        headings = re.findall("^## (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        sections = {re.sub(r"[^a-z ]", "", line.lower()).replace(" ", "-") for line in headings}
        assert set(re.findall(anchors, text)) <= sections
