"""load_file and save_file: what they refuse, and arrays that need more than a copy. Their casts are those of
cast_file; torch's part is skipped where it is not installed.
"""

import os

import ml_dtypes
import numpy as np
import pytest

import narrowcast as nc

ONE = np.ones(3, np.float32)


def test_the_only_array_left_out(tmp_path):
    nc.save_file(ONE, tmp_path / "b.npy")
    with pytest.raises(ValueError, match=r"^skip leaves out 'b', the only array of .*b\.npy$"):
        nc.load_file(tmp_path / "b.npy", skip="b")


@pytest.mark.parametrize("kind", [".safetensors", ".npz"])
@pytest.mark.parametrize("name", [1, None, b"a", ("a",)])
def test_names_are_text(kind, name, tmp_path):
    with pytest.raises(TypeError, match=r"^tensors has the key .*; names must be str$"):
        nc.save_file({"first": ONE, name: ONE}, tmp_path / f"a{kind}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("metadata", [{"a": 1}, {1: "a"}, {"a": None}, {"a": {"b": "c"}}, ["a"], "a", 3])
def test_metadata_is_text(metadata, tmp_path):
    with pytest.raises(TypeError, match=r"^metadata is .*; it must map str to str$"):
        nc.save_file({"a": ONE}, tmp_path / "a.safetensors", metadata=metadata)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../x", "/x", "a\0b", "a" * 65532])
def test_names_that_no_npz_file_can_hold(name, tmp_path):
    with pytest.raises(ValueError, match=r"which a \.npz file cannot hold$"):
        nc.save_file({name: ONE}, tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())


def test_the_names_of_tensorflow(tmp_path):
    nc.save_file({"w:0": ONE}, tmp_path / "a.npz")
    nc.cast_file(tmp_path / "a.npz", tmp_path / "b.npz", "bfloat16")
    assert nc.load_file(tmp_path / "b.npz")["w:0"].dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize("mask", [False, [True, False, False]])
@pytest.mark.parametrize("kind", [".safetensors", ".npz", ".npy"])
def test_masks(kind, mask, tmp_path):
    masked = np.ma.MaskedArray(ONE, mask)
    with pytest.raises(TypeError, match=r"is a masked array, and files have no masks; call \.filled\(\)$"):
        nc.save_file(masked if kind == ".npy" else {"a": masked}, tmp_path / f"a{kind}")
    assert not list(tmp_path.iterdir())


def test_links(tmp_path):
    """A link is followed, also one to nothing yet, as cast_file does."""
    place, link = tmp_path / "there.safetensors", tmp_path / "link.safetensors"
    os.symlink(place, link)
    nc.save_file({"a": ONE}, link)
    assert place.is_file()
    assert link.is_symlink()
    with pytest.raises(FileExistsError, match="force"):
        nc.save_file({"a": ONE}, link)
    nc.save_file({"a": ONE * 2}, link, force=True)
    assert link.is_symlink()
    np.testing.assert_array_equal(nc.load_file(place)["a"], ONE * 2)


# ---- FP4 of torch, which keeps two elements in an item


@pytest.fixture
def pairs():
    torch = pytest.importorskip("torch")
    if not hasattr(torch, "float4_e2m1fn_x2"):
        pytest.skip("this torch has no FP4")
    return torch.arange(0, 252, 7, dtype=torch.uint8).reshape(2, 3, 6).view(torch.float4_e2m1fn_x2)


def codes_of(pairs):
    torch = pytest.importorskip("torch")
    raw = pairs.view(torch.uint8).numpy()
    return np.stack([raw & 15, raw >> 4], axis=-1).reshape(*raw.shape[:-1], -1)


@pytest.mark.parametrize("kind", [".safetensors", ".npz", ".npy"])
def test_pairs(kind, pairs, tmp_path):
    path = tmp_path / f"a{kind}"
    for given in (pairs, pairs[:, ::2], pairs[..., :0], pairs[0, 0]):
        nc.save_file(given if kind == ".npy" else {"a": given}, path, force=True)
        found = nc.load_file(path)
        found = found if kind == ".npy" else found["a"]
        assert found.dtype == ml_dtypes.float4_e2m1fn
        np.testing.assert_array_equal(found.view(np.uint8), codes_of(given))


def test_pairs_are_cast(pairs, tmp_path):
    nc.save_file({"a": pairs}, tmp_path / "a.safetensors", "float16")
    wanted = codes_of(pairs).view(ml_dtypes.float4_e2m1fn).astype(np.float16)
    np.testing.assert_array_equal(nc.load_file(tmp_path / "a.safetensors")["a"], wanted)


def test_pairs_in_safetensors_are_torch_s(pairs, tmp_path):
    """The package for torch writes the same bytes after its header, and the same shape."""
    package = pytest.importorskip("safetensors.torch")
    nc.save_file({"a": pairs}, tmp_path / "a.safetensors")
    package.save_file({"a": pairs}, tmp_path / "b.safetensors")
    ours, theirs = ((tmp_path / name).read_bytes() for name in ("a.safetensors", "b.safetensors"))
    assert ours[-36:] == theirs[-36:]
    np.testing.assert_array_equal(
        nc.load_file(tmp_path / "b.safetensors")["a"].view(np.uint8),
        nc.load_file(tmp_path / "a.safetensors")["a"].view(np.uint8),
    )


def test_pairs_along_no_last_dimension(pairs, tmp_path):
    for given, words in ((pairs[0].t(), "across its last dimension"), (pairs[0, 0, 0], "at least one")):
        with pytest.raises(ValueError, match=words):
            nc.save_file({"a": given}, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
