"""cast_file's options: rounding, overflow, random keys, only and skip, from_format, progress; and the arguments that
are wrong.
"""

import json

import ml_dtypes
import numpy as np
import pytest

import cases
import files
import narrowcast as nc
import oracle


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr("narrowcast._files.stream.PIECE_BYTES", 4096)


@pytest.mark.parametrize("dst", ["float16", "float8_e5m2", "float8_e8m0fnu", "float4_e2m1fn"])
@pytest.mark.parametrize("overflow", oracle.POLICIES)
@pytest.mark.parametrize("rounding", oracle.ROUNDINGS)
def test_rounding_and_overflow(rounding, overflow, dst, tmp_path, small_pieces):
    tensors = {
        name: (name, files.sample(name, dst, 4012)) for name in ("float32", "float64", "bfloat16", "float8_e4m3fn")
    }
    options = {"rounding": rounding, "overflow": overflow, "seed": 2**63 + 7 if rounding == "stochastic" else None}
    source, target = files.write(tmp_path / "a.safetensors", tensors), tmp_path / "b.safetensors"
    nc.cast_file(source, target, dst, threads=2, **options)
    wanted = {name: files.expected(given, dst, name=name, **options) for name, given in tensors.items()}
    files.assert_same(files.read(target), wanted)


def test_random_keys_belong_to_names(tmp_path):
    """Two tensors of the same values differ; one tensor is the same in any file, beside any others, for one seed."""
    x = files.floats(1, (5000,))
    stochastic = {"rounding": "stochastic"}

    def cast(tensors, seed):
        files.write(tmp_path / "a.safetensors", tensors)
        nc.cast_file(
            tmp_path / "a.safetensors", tmp_path / "b.safetensors", "bfloat16", seed=seed, force=True, **stochastic
        )
        return files.read(tmp_path / "b.safetensors")

    both = cast({"first": x, "second ☃": x}, 9)
    assert not np.array_equal(both["first"][1], both["second ☃"][1])
    assert np.array_equal(cast({"second ☃": x}, 9)["second ☃"][1], both["second ☃"][1])
    assert not np.array_equal(cast({"second ☃": x}, 10)["second ☃"][1], both["second ☃"][1])
    wanted = nc.astype(files.as_numpy(*x), "bfloat16", seed=files.key(9, "second ☃"), **stochastic)
    assert np.array_equal(both["second ☃"][1], wanted.view(np.uint16))
    assert files.key(0, "") == int.from_bytes(bytes.fromhex("af5570f5a1810b7a"), "little")  # SHA-256 of 8 zero bytes


def test_seeds_of_numpy(tmp_path):
    """Integers are integers, in the keys and in the identity of a directory's cast."""
    model = files.make_model(tmp_path / "model")
    for name, seed in (("one", 7), ("two", np.int64(7))):
        nc.cast_file(model, tmp_path / name, "bfloat16", rounding="stochastic", seed=seed)
    assert files.contents(tmp_path / "one") == files.contents(tmp_path / "two")


@pytest.mark.parametrize("shape", [(37, 211), (3, 5, 7, 11, 13), (1, 9001), (9001, 1), (2, 2, 4099)])
@pytest.mark.parametrize("kind", [".npy", ".npz"])
def test_random_words_in_fortran_order(kind, shape, tmp_path, small_pieces):
    """An element's word is that of its index in C order, however the array lies in the file."""
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    results = []
    for order in "CF":
        given = np.asarray(x, order=order)
        if kind == ".npy":
            np.save(tmp_path / "x.npy", given)
        else:
            np.savez(tmp_path / "x.npz", x=given)
        (tmp_path / "out").mkdir(exist_ok=True)
        target = tmp_path / "out" / f"x{kind}"
        nc.cast_file(tmp_path / f"x{kind}", target, "float8_e5m2", rounding="stochastic", seed=3, force=True, threads=2)
        results.append(files.read(target))
    files.assert_same(results[0], results[1])
    given = files.tensor("float32", x)
    files.assert_same(results[0], {"x": files.expected(given, "float8_e5m2", "stochastic", seed=3, name="x")})


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", files.KINDS)
def test_raise(kind, threads, tmp_path, small_pieces):
    """The first value in the order of the file is named by tensor and index, whatever the threads; nothing is left."""
    x = np.zeros((50, 200), np.float32)
    x[31, 7], x[31, 8], x[49, 199] = 70000, np.inf, 1e9
    tensors = {
        "fine": files.floats(1, (4, 3000)),
        "layer.weight": files.tensor("float32", x),
        "later": files.tensor("float32", x),
    }
    if kind == ".npy":
        tensors = {"": tensors["layer.weight"]}
    source, target = files.write(tmp_path / f"a{kind}", tensors), tmp_path / f"b{kind}"
    name = "a" if kind == ".npy" else r"layer\.weight"
    for _ in range(5):
        with pytest.raises(OverflowError, match=rf"^{name}\[31, 7\] is 70000\.0, beyond the largest float16, 65504\.0"):
            nc.cast_file(source, target, "float16", overflow="raise", threads=threads)
        assert files.names(tmp_path) == [f"a{kind}"]
    x[31, 7] = x[49, 199] = 1  # an infinity float16 has
    files.write(source, {name: files.tensor("float32", x) for name in list(tensors)[:1]})
    nc.cast_file(source, target, "float16", overflow="raise", threads=threads)
    assert np.isinf(files.as_numpy(*next(iter(files.read(target).values())))[31, 8])


def test_raise_in_fortran_order(tmp_path):
    x = np.zeros((5, 7), np.float32, order="F")
    x[4, 2] = -1e30
    np.save(tmp_path / "a.npy", x)
    with pytest.raises(OverflowError, match=r"^a\[4, 2\] is -1"):
        nc.cast_file(tmp_path / "a.npy", tmp_path / "b.npy", "float16", overflow="raise")


def test_raise_in_many_dimensions(tmp_path):
    """More than numpy has: a safetensors file may have any number."""
    path = tmp_path / "a.safetensors"
    shape = [1] * 63 + [3, 2]
    header = json.dumps({"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, 24]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + np.float32([0, 0, 0, 1e9, 0, 0]).tobytes())
    with pytest.raises(OverflowError, match=r"^x\[(0, ){63}1, 1\] is 1000000000\.0, beyond"):
        nc.cast_file(path, tmp_path / "b.safetensors", "float16", overflow="raise")


def test_names_cannot_steer_a_terminal(tmp_path):
    source = files.write(tmp_path / "a.safetensors", {"a\x1b[31m\nb": files.tensor("float32", np.float32([1e9]))})
    with pytest.raises(OverflowError, match=r"^a\\x1b\[31m\\nb\[0\] is"):
        nc.cast_file(source, tmp_path / "b.safetensors", "float16", overflow="raise")


def test_raise_of_a_scalar_and_of_nan(tmp_path):
    source = files.write(
        tmp_path / "a.safetensors", {"pair": files.floats(1, (2,)), "s": files.tensor("float32", np.float32(1e30))}
    )
    with pytest.raises(OverflowError, match=r"^s is 1\.0\d*e\+30, beyond"):
        nc.cast_file(source, tmp_path / "b.safetensors", "float8_e4m3fn", overflow="raise")
    files.write(source, {"n": files.tensor("float32", np.float32([1, np.nan]))})
    with pytest.raises(OverflowError, match=r"^n\[1\] is nan, and float4_e2m1fn has no NaN"):
        nc.cast_file(source, tmp_path / "b.safetensors", "float4_e2m1fn", overflow="raise")


@pytest.mark.parametrize(
    ("options", "cast"),
    [
        ({"only": "*.weight"}, {"a.weight", "b.weight"}),
        ({"only": ["a.*", "c"]}, {"a.weight", "a.bias", "c"}),
        ({"skip": "*bias"}, {"a.weight", "b.weight", "c"}),
        ({"only": "?.*", "skip": ["b.*"]}, {"a.weight", "a.bias"}),
        ({"only": "[bc]*"}, {"b.weight", "c"}),
        ({"skip": "*"}, set()),
        ({"only": ["[!A]*"]}, {"a.weight", "a.bias", "b.weight", "c"}),  # as written, on every system
    ],
)
@pytest.mark.parametrize("kind", [".safetensors", ".npz"])
def test_only_and_skip(kind, options, cast, tmp_path):
    tensors = {name: files.floats(i, (16,)) for i, name in enumerate(("a.weight", "a.bias", "b.weight", "c"))}
    source, target = files.write(tmp_path / f"a{kind}", tensors), tmp_path / f"b{kind}"
    report = nc.cast_file(source, target, "float16", **options)
    wanted = {n: files.expected(given, "float16") if n in cast else given for n, given in tensors.items()}
    files.assert_same(files.read(target), wanted)
    assert {tensor.name for tensor in report.tensors if tensor.sums is not None} == cast


@pytest.mark.parametrize("word", ["wieght", "WEIGHT"])  # as written, on every system
@pytest.mark.parametrize("argument", ["only", "skip"])
def test_patterns_that_name_nothing(argument, word, tmp_path):
    """A misspelt pattern does not pass for a cast, nor for a tensor that is left as it is."""
    source = files.write(tmp_path / "a.safetensors", {"weight": files.floats(1, (16,))})
    with pytest.raises(ValueError, match=rf"^{argument} is '{word}', which names no tensor"):
        nc.cast_file(source, tmp_path / "b.safetensors", "float16", **{argument: ["weight", word]})
    assert files.names(tmp_path) == ["a.safetensors"]


@pytest.mark.parametrize("format", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float4_e2m1fn"])
@pytest.mark.parametrize("kind", [".npy", ".npz"])
def test_from_format(kind, format, tmp_path):
    """Arrays that numpy has saved under a void dtype (or, for float8_e5m2, under one that it refuses to load)."""
    codes = files.sample(format, "float32", 256)
    array = codes.view(getattr(ml_dtypes, format))
    if kind == ".npy":
        np.save(tmp_path / "a.npy", array)
    else:
        np.savez(tmp_path / "a.npz", a=array, plain=np.ones(3, np.float32))
    source, target = tmp_path / f"a{kind}", tmp_path / f"b{kind}"
    with pytest.raises(nc.FileFormatError, match=r"a.*--from"):
        nc.cast_file(source, target, "float32")
    assert files.names(tmp_path) == [f"a{kind}"]
    nc.cast_file(source, target, "float32", from_format=format)
    found = files.read(target)
    assert np.array_equal(found["b" if kind == ".npy" else "a"][1], files.expected((format, codes), "float32")[1])
    if kind == ".npz":
        assert np.array_equal(found["plain"][1], np.ones(3, np.float32).view(np.uint32))
    wrong = "float16" if codes.itemsize == 1 else "float8_e4m3fn"
    with pytest.raises(nc.FileFormatError, match=wrong):
        nc.cast_file(source, target, "float32", from_format=wrong, force=True)


def test_from_format_where_it_means_nothing(tmp_path):
    for kind in (".npy", ".safetensors"):
        source = files.write(tmp_path / f"a{kind}", {"a": files.floats(1, (16,))})
        with pytest.raises(ValueError, match="from_format"):
            nc.cast_file(source, tmp_path / f"b{kind}", "float16", from_format="bfloat16")
    assert files.names(tmp_path) == ["a.npy", "a.safetensors"]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("kind", files.KINDS)
def test_progress(kind, threads, tmp_path, small_pieces):
    """It rises to the bytes of the source's tensors, which is not more than the total that it is told."""
    source = files.write(tmp_path / f"a{kind}", {"a": files.floats(1, (40, 900))})
    calls = []
    nc.cast_file(source, tmp_path / f"b{kind}", "float16", threads=threads, progress=lambda *seen: calls.append(seen))
    done, totals = zip(*calls, strict=True)
    assert len(done) > 10
    assert list(done) == sorted(done)
    assert len(set(totals)) == 1
    assert 40 * 900 * 4 <= done[-1] <= totals[0] <= source.stat().st_size


def test_progress_of_what_is_compressed(tmp_path, small_pieces):
    """More bytes than the file has are never said to be done."""
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(100000, np.float32))
    calls = []
    nc.cast_file(tmp_path / "a.npz", tmp_path / "b.npz", "float16", progress=lambda *seen: calls.append(seen))
    assert len(calls) > 10
    assert all(done <= total for done, total in calls)
    assert calls[-1][0] == calls[-1][1]


def test_dry_run(tmp_path):
    """The report is that of the cast, but for what only the cast knows; nothing is written."""
    tensors = {"a": files.floats(1, (16, 2)), "ids": files.tensor("int64", np.arange(3))}
    source, target = files.write(tmp_path / "a.safetensors", tensors), tmp_path / "b.safetensors"
    planned = nc.cast_file(source, target, "float4_e2m1fn", dry_run=True)
    assert files.names(tmp_path) == ["a.safetensors"]
    assert not planned.complete
    done = nc.cast_file(source, target, "float4_e2m1fn")
    assert done.complete

    def facts(report):
        return [
            (t.name, t.source_format, t.target_format, t.size, t.bytes_before, t.bytes_after) for t in report.tensors
        ]

    assert facts(planned) == facts(done)
    assert facts(done) == [("a", "float32", "float4_e2m1fn", 32, 128, 16), ("ids", "int64", "int64", 3, 24, 24)]


@pytest.mark.parametrize(
    ("error", "word", "options"),
    [
        (ValueError, "rounding", {"rounding": "sideways"}),
        (ValueError, "overflow", {"overflow": "wrap"}),
        (ValueError, "seed", {"seed": 1}),
        (ValueError, "seed", {"rounding": "stochastic"}),
        (ValueError, "seed", {"rounding": "stochastic", "seed": -1}),
        (ValueError, "seed", {"rounding": "stochastic", "seed": 2**64}),
        (ValueError, "overflow", {"rounding": "stochastic", "seed": 1, "overflow": "raise"}),
        (ValueError, "threads", {"threads": -1}),
        (TypeError, "threads", {"threads": "two"}),
        (TypeError, "from_format", {"from_format": "float9"}),
        (ValueError, "rank", {"rank": 1}),
        (ValueError, "rank", {"rank": -1, "world": 2}),
        (ValueError, "world", {"world": 0}),
        (ValueError, "dask", {"dask": "local", "ray": "local"}),
        (ValueError, "dask is given; allowed for directories", {"dask": "local"}),
        (ValueError, "ray is given; allowed for directories", {"ray": "local"}),
        (TypeError, "seed", {"rounding": "stochastic", "seed": 1.5}),
        (TypeError, "only", {"only": [1]}),
        (TypeError, "only", {"only": 1}),
        (TypeError, "skip", {"skip": b"a"}),
    ],
)
def test_wrong_arguments(error, word, options, tmp_path):
    source = files.write(tmp_path / "a.safetensors", {"a": files.floats(1, (16,))})
    with pytest.raises(error, match=rf"^{word}\b") as caught:
        nc.cast_file(source, tmp_path / "b.safetensors", "float16", **options)
    assert "\n" not in str(caught.value)
    assert files.names(tmp_path) == ["a.safetensors"]


def test_targets_by_any_name(tmp_path):
    source = files.write(tmp_path / "a.safetensors", {"a": files.floats(1, (16,))})
    wanted = cases.numpy_cast(files.as_numpy(*files.floats(1, (16,))), ml_dtypes.bfloat16).view(np.uint16)
    for name in ("bfloat16", ml_dtypes.bfloat16, np.dtype(ml_dtypes.bfloat16), nc.finfo("bfloat16").dtype):
        nc.cast_file(str(source), str(tmp_path / "b.safetensors"), name, force=True)
        files.assert_same(files.read(tmp_path / "b.safetensors"), {"a": ("bfloat16", wanted)})
