"""Small weights that others have quantized, in every shape that packages give scales, before `dequantize_file`: against
(code - zero point) * scale in plain numpy. What lies is in test_files_quantize_lies.py.
"""

import json

import ml_dtypes
import numpy as np
import pytest

import files
import files_quantized as fq
import narrowcast as nc


def config(storage="int-quantized", **weights):
    """What a file's metadata say of its weights."""
    weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"} | weights
    group = {"targets": ["Linear"], "weights": weights, "format": storage}
    found = {"quant_method": "compressed-tensors", "format": storage, "config_groups": {"group_0": group}}
    return {"quantization_config": json.dumps(found)}


def dequantized(folder, tensors, metadata, to=None):
    """The weight that is made of these tensors."""
    tensors = {f"up.weight{end}": fq.stored(np.asarray(array)) for end, array in tensors.items()}
    source = files.write(folder / "a.safetensors", tensors, metadata)
    nc.dequantize_file(source, folder / "b.safetensors", to, force=True)
    (name,) = found = nc.load_file(folder / "b.safetensors")
    assert name == "up.weight"
    return found[name]


def codes(*shape, low=-128, high=128):
    return np.random.default_rng(3).integers(low, high, shape, np.int8)


def scales(count):
    return np.float32(2) ** np.arange(count, dtype=np.float32)


@pytest.mark.parametrize("shape", [(4, 1), (4,), (1, 4), (4, 1, 1)])
def test_a_scale_for_each_row(shape, tmp_path):
    x, scale = codes(4, 6), scales(4)
    found = dequantized(tmp_path, {"": x, "_scale": scale.reshape(shape)}, config())
    assert np.array_equal(found, x * scale[:, None])


@pytest.mark.parametrize("shape", [(1, 4), (4,), (4, 1)])
@pytest.mark.parametrize("rows", [1, 2])
def test_all_scales_in_one_row(shape, rows, tmp_path):
    """Groups of a weight of one row, and blocks of all rows."""
    x, scale = codes(rows, 8), scales(4)
    weights = {"group_size": 2, "strategy": "group"} if rows == 1 else {"strategy": "block", "block_structure": [2, 2]}
    found = dequantized(tmp_path, {"": x, "_scale": scale.reshape(shape)}, config(**weights))
    assert np.array_equal(found, x * np.repeat(scale, 2))


@pytest.mark.parametrize("shape", [(1, 2), (2,)])
def test_packed_zero_points_of_one_row(shape, tmp_path):
    x, zero, scale = codes(1, 16, low=-8, high=8), np.array([[-8, 7]], np.int8), scales(2)
    tensors = {
        "_packed": fq.packed(x, 4).view(np.int32),
        "_scale": scale.reshape(shape),
        "_shape": np.array(x.shape),
        "_zero_point": np.ascontiguousarray(fq.packed(zero.T, 4).T).view(np.int32).reshape(shape),
    }
    weights = {"num_bits": 4, "strategy": "group", "group_size": 8, "symmetric": False}
    found = dequantized(tmp_path, tensors, config("pack-quantized", **weights))
    assert np.array_equal(found, (x.astype(np.float32) - np.repeat(zero, 8, axis=1)) * np.repeat(scale, 8))


@pytest.mark.parametrize("shape", [(4, 0), (0, 4), (0, 0)])
@pytest.mark.parametrize("packed", [False, True])
def test_no_values(shape, packed, tmp_path):
    given = {"": np.zeros(shape, np.int8), "_scale": scales(shape[0])[:, None]}
    metadata = config()
    if packed:
        words = np.zeros((shape[0], 1 if shape[1] else 0), np.int32)
        given = {"_packed": words, "_scale": given["_scale"], "_shape": np.array(shape)}
        metadata = config("pack-quantized", num_bits=4)
    found = dequantized(tmp_path, given, metadata)
    assert (found.shape, found.dtype) == (shape, np.float32)


def test_codes_beyond_their_bits(tmp_path):
    """A byte is the number that it is, as in the package, though the configuration says 4 bits."""
    x = np.array([[-128, -9, -8, 7, 8, 127]], np.int8)
    found = dequantized(tmp_path, {"": x, "_scale": np.float32([[0.5]])}, config(num_bits=4))
    assert np.array_equal(found, x * np.float32(0.5))


def test_zero_points_that_no_package_makes(tmp_path):
    """The sentence names the file and the tensor, though it comes with the values only; nothing is left."""
    given = {"": codes(2, 4), "_scale": scales(2)[:, None], "_zero_point": np.array([[1], [2**31 - 1]], np.int32)}
    with pytest.raises(ValueError, match=r"a\.safetensors: tensor 'up\.weight': zero_point is 2147483647"):
        dequantized(tmp_path, given, config(symmetric=False))
    assert files.names(tmp_path) == ["a.safetensors"]


@pytest.mark.parametrize("to", ["float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"])
@pytest.mark.parametrize("shape", [(64, 6), (24, 7), (8, 5), (1, 8), (20, 10)])
def test_targets_of_less_than_a_byte(to, shape, tmp_path, monkeypatch):
    """Rows need not end on a byte; pieces do."""
    monkeypatch.setattr("narrowcast._files.stream.PIECE_BYTES", 64)
    x, scale = codes(*shape), np.float32([[0.05]])
    dtype = getattr(ml_dtypes, to)
    for weights in ({"strategy": "tensor"}, {"strategy": "block", "block_structure": [3, 64]}):
        boxes = 1 if len(weights) == 1 else -(-shape[0] // 3)
        given = {"": x, "_scale": np.repeat(scale, boxes, axis=0)}
        found = dequantized(tmp_path, given, config(**weights), to)
        assert found.dtype == dtype
        assert np.array_equal(found.view(np.uint8), nc.astype(x * scale, dtype).view(np.uint8))
