"""cast_file on single files: every pair of formats of every kind of file, bit for bit; pieces, threads, layouts, and
what is not cast. Options, failures and directories have files of their own.
"""

import ml_dtypes
import numpy as np
import pytest

import cases
import files
import narrowcast as nc
import oracle

SAFETENSORS_TARGETS = files.held_by(".safetensors")


@pytest.fixture
def small_pieces(monkeypatch):
    """Files are cast in pieces of 512 float64 elements, 1024 float32 ones and so on."""
    monkeypatch.setattr("narrowcast._files.stream.PIECE_BYTES", 4096)


def every_tensor(kind, dst, count):
    """One tensor of every format that a kind of file holds, with the codes that matter to a cast to dst."""
    sources = [name for name in oracle.SOURCES if kind != ".safetensors" or name in files.WORDS]
    tensors = {f"{name}/x": (name, files.sample(name, dst, count)) for name in sources}
    return tensors | {"complex64/x": files.tensor("complex64", np.arange(6, dtype=np.complex64) * 1j)}


@pytest.mark.parametrize(
    ("kind", "dst"), [(kind, dst) for kind in (".safetensors", ".npz") for dst in files.held_by(kind)]
)
def test_every_pair(kind, dst, tmp_path, small_pieces):
    """One file with a tensor of every format: floats are cast, integers, bools and complex numbers copied."""
    tensors = every_tensor(kind, dst, 4012)
    source, target = files.write(tmp_path / f"a{kind}", tensors), tmp_path / f"b{kind}"
    report = nc.cast_file(source, target, dst)
    files.assert_same(files.read(target), {name: files.expected(given, dst) for name, given in tensors.items()})
    assert report.complete
    assert [tensor.name for tensor in report.tensors] == list(tensors)
    assert report.bytes_before == sum(tensor.bytes_before for tensor in report.tensors)
    assert report.bytes_after == sum(tensor.bytes_after for tensor in report.tensors) <= target.stat().st_size


@pytest.mark.parametrize("src", [name for name in oracle.SOURCES if name in oracle.FLOATS])
def test_every_source_of_npy(src, tmp_path, small_pieces):
    for dst in ("float64", "bfloat16", "float8_e4m3b11fnuz", "float6_e2m3fn"):
        given = src, files.sample(src, dst, 4013)
        source, target = files.write(tmp_path / "a.npy", {"": given}), tmp_path / "a-cast.npy"
        nc.cast_file(source, target, dst, force=True)
        files.assert_same(files.read(target), {"a-cast": files.expected(given, dst)})


@pytest.mark.parametrize("dst", files.held_by(".npy"))
def test_every_target_of_npy(dst, tmp_path):
    given = "float32", files.sample("float32", dst, 4013)
    source, target = files.write(tmp_path / "a.npy", {"": given}), tmp_path / "b.npy"
    nc.cast_file(source, target, dst)
    files.assert_same(files.read(target), {"b": files.expected(given, dst)})


@pytest.mark.parametrize("dst", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"])
def test_against_numpy_and_ml_dtypes(dst, tmp_path):
    """The same without any help of the oracle."""
    x = np.random.default_rng(3).normal(0, 30, (77, 52)).astype(np.float32)
    x[0, :4] = [0, -0.0, 1e9, -np.inf]
    source, target = files.write(tmp_path / "a.npz", {"x": files.tensor("float32", x)}), tmp_path / "b.npz"
    nc.cast_file(source, target, dst)
    wanted = cases.numpy_cast(x, getattr(ml_dtypes, dst, dst))
    files.assert_same(files.read(target), {"x": files.tensor(dst, wanted)})


@pytest.mark.parametrize("dst", ["float16", "bfloat16"])
def test_what_the_safetensors_package_reads(dst, tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    x = {
        "weight": np.random.default_rng(4).normal(size=(33, 7)).astype(np.float32),
        "half": np.linspace(-9, 9, 50).astype(np.float16),
        "ids": np.arange(9),
        "none": np.zeros((0, 4), np.float32),
        "scalar": np.array(2.5, np.float32),
    }
    package.save_file(x, tmp_path / "a.safetensors", metadata={"format": "np"})
    nc.cast_file(tmp_path / "a.safetensors", tmp_path / "b.safetensors", dst)
    found = package.load_file(tmp_path / "b.safetensors")
    assert set(found) == set(x)
    for name, array in x.items():
        wanted = array if name == "ids" else cases.numpy_cast(array, getattr(ml_dtypes, dst, dst))
        assert found[name].dtype == wanted.dtype
        assert found[name].shape == wanted.shape
        assert found[name].tobytes() == wanted.tobytes()


def test_what_the_safetensors_package_knows(tmp_path):
    """It takes every header; of formats that numpy lacks, it says names and shapes, and gives bytes to torch."""
    package = pytest.importorskip("safetensors")
    source = files.write(tmp_path / "a.safetensors", {"w": files.floats(1, (6, 8)), "s": files.floats(2, (8,))})
    for dst in SAFETENSORS_TARGETS:
        nc.cast_file(source, tmp_path / "b.safetensors", dst, force=True)
        with package.safe_open(tmp_path / "b.safetensors", "numpy") as found:
            for name, shape in (("w", [6, 8]), ("s", [8])):
                described = found.get_slice(name)
                assert (described.get_dtype(), described.get_shape()) == (files.WORDS[files.as_read(dst)], shape)
    torch = pytest.importorskip("torch")
    for dst in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e8m0fnu"):
        nc.cast_file(source, tmp_path / "b.safetensors", dst, force=True)
        with package.safe_open(tmp_path / "b.safetensors", "pt") as found:
            wanted = files.expected(files.floats(1, (6, 8)), dst)[1]
            assert np.array_equal(found.get_tensor("w").view(torch.uint8).numpy(), wanted)


@pytest.mark.parametrize("kind", files.KINDS)
def test_threads_give_equal_bytes(kind, tmp_path, small_pieces):
    random = np.random.default_rng(8)
    tensors = {
        f"t{i}": files.floats(i, (int(random.integers(1, 5)) * 4, int(random.integers(1, 3000)))) for i in range(12)
    }
    tensors = (
        {"": files.floats(1, (401, 77))}
        if kind == ".npy"
        else tensors | {"ids": files.tensor("int64", np.arange(2000))}
    )
    source = files.write(tmp_path / f"a{kind}", tensors)
    for options in ({}, {"rounding": "stochastic", "seed": 5}):
        results = set()
        for threads in range(1, 9):
            nc.cast_file(source, tmp_path / f"b{kind}", "float6_e3m2fn", threads=threads, force=True, **options)
            results.add((tmp_path / f"b{kind}").read_bytes())
        assert len(results) == 1


@pytest.mark.parametrize("src", ["float32", "float6_e2m3fn", "float4_e2m1fn", "float64"])
@pytest.mark.parametrize("dst", ["float4_e2m1fn", "float6_e3m2fn", "bfloat16", "float64"])
def test_lengths_around_pieces(src, dst, tmp_path, small_pieces):
    """Packed codes of every piece begin and end at the right bit."""
    lengths = sorted({max(0, n + d) for n in (0, 512, 1024, 4096, 8192, 12288) for d in (-64, -8, -4, 0, 4, 8, 20)})
    tensors = {f"n{n}": (src, files.sample(src, dst, 12400)[-n or 12400 :]) for n in lengths}
    assert sorted(codes.size for _, codes in tensors.values()) == lengths
    source, target = files.write(tmp_path / "a.safetensors", tensors), tmp_path / "b.safetensors"
    nc.cast_file(source, target, dst, threads=3)
    files.assert_same(files.read(target), {name: files.expected(given, dst) for name, given in tensors.items()})


@pytest.mark.parametrize("kind", [".safetensors", ".npz"])
def test_shapes_order_and_metadata(kind, tmp_path):
    """Names keep their order, shapes their lengths, whether there is anything in them or not."""
    tensors = {
        "z": files.floats(1, (4, 2, 1, 8)),
        "scalar": files.floats(2, ()),
        "a": files.tensor("int64", np.arange(6).reshape(2, 3)),
        "none": files.floats(3, (0, 7)),
        "flag": files.tensor("bool", np.array([True, False])),
        "m": files.tensor("float64", np.ones((3, 3))),
        "no ids": files.tensor("uint8", np.zeros((2, 0), np.uint8)),
        "é ☃ \U0001f600": files.floats(4, (16,)),
    }
    source, target = tmp_path / f"a{kind}", tmp_path / f"b{kind}"
    files.write(source, tensors, {"format": "pt", "ü": "☃"})
    nc.cast_file(source, target, "bfloat16")
    files.assert_same(files.read(target), {name: files.expected(given, "bfloat16") for name, given in tensors.items()})
    if kind == ".safetensors":
        assert files.read_safetensors(target)[1] == {"format": "pt", "ü": "☃"}


def test_a_file_without_tensors(tmp_path):
    for kind in (".safetensors", ".npz"):
        report = nc.cast_file(files.write(tmp_path / f"a{kind}", {}), tmp_path / f"b{kind}", "float16")
        assert files.read(tmp_path / f"b{kind}") == {}
        assert (report.tensors, report.worst, report.bytes_after) == ((), (), 0)


@pytest.mark.parametrize("kind", files.KINDS)
def test_the_format_it_has_already(kind, tmp_path):
    """Every NaN code, and those bits of a byte that FP4 has no use for, stay as they are."""
    for format in ("float32", "float8_e5m2", "float4_e2m1fn"):
        given = {"a": (format, files.sample(format, "float32", 4096))}
        source, target = files.write(tmp_path / f"a{kind}", given), tmp_path / f"b{kind}"
        report = nc.cast_file(source, target, format, force=True, overflow="saturate", threads=2)
        files.assert_same(files.read(target), {"b" if kind == ".npy" else "a": given["a"]})
        assert report.tensors[0].sums is None


def test_codes_wider_than_their_format(tmp_path):
    """In .npy a byte holds FP4 and FP6; what a hostile one has in its other bits is of no account."""
    codes = np.arange(256, dtype=np.uint8)
    files.write(tmp_path / "a.npy", {"": ("float4_e2m1fn", codes)})
    nc.cast_file(tmp_path / "a.npy", tmp_path / "b.npy", "float32")
    assert np.array_equal(np.load(tmp_path / "b.npy"), np.resize(np.load(tmp_path / "b.npy")[:16], 256))
    files.assert_same(files.read(tmp_path / "b.npy"), {"b": files.expected(("float4_e2m1fn", codes & 15), "float32")})


@pytest.mark.parametrize("dst", ["bfloat16", "float8_e4m3fn", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">f8", ">f2", "<f2"])
@pytest.mark.parametrize("kind", [".npy", ".npz"])
def test_numpy_layouts(kind, dtype, order, dst, tmp_path, small_pieces):
    """Both byte orders, both memory orders: the same array comes out."""
    x = np.random.default_rng(1).normal(0, 20, (7, 31, 41)).astype(dtype)
    y = np.asarray(x, order=order)
    if kind == ".npy":
        np.save(tmp_path / "a.npy", y)
    else:
        np.savez_compressed(tmp_path / "a.npz", a=y, b=y[0])
    nc.cast_file(tmp_path / f"a{kind}", tmp_path / f"b{kind}", dst)
    wanted = files.tensor(dst, cases.numpy_cast(x.astype(x.dtype.newbyteorder("=")), getattr(ml_dtypes, dst, dst)))
    found = files.read(tmp_path / f"b{kind}")
    if kind == ".npy":
        files.assert_same(found, {"b": wanted})
    else:
        files.assert_same(found, {"a": wanted, "b": (dst, wanted[1][0])})


def test_copies_of_what_is_no_number(tmp_path):
    """Text, dates, records, complex numbers in foreign byte orders: bit for bit, layout included."""
    for array in (
        np.array(["a", "snow ☃"]),
        np.array([b"x", b"yz"]),
        np.array(["2026-01-01"], "M8[s]"),
        np.asfortranarray(np.arange(12, dtype=">c16").reshape(3, 4)),
        np.arange(5, dtype=">i4"),
        np.array([(1, 2.5)], [("n", "<i4"), ("x", "<f8")]),
    ):
        np.save(tmp_path / "a.npy", array)
        nc.cast_file(tmp_path / "a.npy", tmp_path / "b.npy", "float16", force=True)
        found = np.load(tmp_path / "b.npy")
        assert found.dtype == array.dtype
        assert found.flags.f_contiguous == array.flags.f_contiguous
        assert found.tobytes("A") == array.tobytes("A")


@pytest.mark.parametrize(
    ("dst", "shape"), [("float4_e2m1fn", (3, 5)), ("float6_e2m3fn", (3, 2)), ("float4_e2m1fn", ())]
)
def test_codes_that_do_not_end_on_a_byte(dst, shape, tmp_path):
    """safetensors forbids that; the sentence says which tensor, and to leave that out is a way."""
    tensors = {"good": files.floats(1, (8, 4)), "odd.weight": files.floats(2, shape)}
    source, target = files.write(tmp_path / "a.safetensors", tensors), tmp_path / "b.safetensors"
    with pytest.raises(ValueError, match=r"odd\.weight"):
        nc.cast_file(source, target, dst)
    assert files.names(tmp_path) == ["a.safetensors"]
    nc.cast_file(source, target, dst, skip="odd.*")
    files.assert_same(
        files.read(target), {"good": files.expected(tensors["good"], dst), "odd.weight": tensors["odd.weight"]}
    )


def test_formats_that_a_kind_does_not_hold(tmp_path):
    source = files.write(tmp_path / "a.safetensors", {"a": files.floats(1, (8,))})
    for dst in sorted(set(oracle.TARGETS) - set(SAFETENSORS_TARGETS)):
        with pytest.raises(TypeError, match=rf"safetensors.* {dst}\b"):
            nc.cast_file(source, tmp_path / "b.safetensors", dst)
    for wrong in ("int8", "float9"):
        with pytest.raises(TypeError, match=wrong):
            nc.cast_file(source, tmp_path / "b.safetensors", wrong)
    assert files.names(tmp_path) == ["a.safetensors"]


def test_a_link_to_a_nameless_file(tmp_path):
    """Caches of models have files without endings, and links with the names to them."""
    files.write(tmp_path / "blob.safetensors", {"a": files.floats(1, (8,))}).rename(tmp_path / "blob")
    (tmp_path / "a.safetensors").symlink_to(tmp_path / "blob")
    nc.cast_file(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "float16")
    files.assert_same(files.read(tmp_path / "b.safetensors"), {"a": files.expected(files.floats(1, (8,)), "float16")})
    assert (tmp_path / "a.safetensors").is_symlink()


def test_isa(isa, tmp_path, small_pieces):
    """The instruction set that use_isa names does it, on every thread."""
    tensors = {
        name: (name, files.sample(name, "float6_e2m3fn", 4012)) for name in ("float32", "float64", "float4_e2m1fn")
    }
    source, target = files.write(tmp_path / "a.safetensors", tensors), tmp_path / "b.safetensors"
    report = nc.cast_file(source, target, "float6_e2m3fn", threads=2)
    files.assert_same(files.read(target), {n: files.expected(given, "float6_e2m3fn") for n, given in tensors.items()})
    assert report.tensors[0].sums is not None


@pytest.mark.parametrize("end", ["_scale", "_scale_inv"])
def test_codes_that_have_scales(end, tmp_path):
    """FP8 weights with a scale beside them are refused: floats made of the codes alone would be other weights."""
    tensors = {
        "a.weight": ("float8_e4m3fn", files.sample("float8_e4m3fn", "float32", 256)),
        f"a.weight{end}": files.tensor("float32", np.float32([0.5])),
        "b.weight": ("float8_e4m3fn", files.sample("float8_e4m3fn", "float32", 256)),
    }
    source = files.write(tmp_path / "a.safetensors", tensors)
    with pytest.raises(
        ValueError, match=rf"a\.safetensors: a\.weight is scaled by a\.weight{end}, which a cast does not"
    ):
        nc.cast_file(source, tmp_path / "b.safetensors", "bfloat16")
    assert files.names(tmp_path) == ["a.safetensors"]
    report = nc.cast_file(source, tmp_path / "b.safetensors", "bfloat16", skip="a.weight*")
    assert [tensor.target_format for tensor in report.tensors] == ["float8_e4m3fn", "float32", "bfloat16"]
