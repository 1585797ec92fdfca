"""The numbers of a cast's report: against sums made here in float64 from the oracle's values."""

import json
import math

import numpy as np
import pytest

import files
import narrowcast as nc
import oracle
from narrowcast._sums import Sums


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr("narrowcast._files.stream.PIECE_BYTES", 4096)


def values(format, codes):
    """Exact values as float64 (of the formats that files are cast from, all are)."""
    found = oracle.decode(format, codes.ravel())
    return np.where(found.nan, np.nan, np.where(found.negative, -1, 1) * found.magnitude)


def model(given, dst, rounding="nearest_even", overflow="ieee"):
    """What a report should say of one tensor."""
    src, codes = given
    x = values(src, codes)
    y = values(*files.expected(given, dst, rounding, overflow))
    both = np.isfinite(x) & np.isfinite(y)
    signal, noise = math.fsum(x[both] ** 2), math.fsum((x[both] - y[both]) ** 2)
    return {
        "count": codes.size,
        "signal": signal,
        "noise": noise,
        "overflowed": int(np.count_nonzero(oracle.refusals(src, codes.ravel(), dst, rounding) == "finite")),
        "zeroed": int(np.count_nonzero((y == 0) & (x != 0) & ~np.isnan(x))),
        "became_nan": int(np.count_nonzero(np.isnan(y) & ~np.isnan(x))),
    }


def moderate(format, dst, count):
    """Codes of values whose squares float64 can add up: no larger than 2^100."""
    codes = files.sample(format, dst, 60000)
    with np.errstate(invalid="ignore"):
        codes = codes[~((np.abs(values(format, codes)) > 2.0**100) & np.isfinite(values(format, codes)))]
    return np.resize(np.random.default_rng(1).permutation(codes), count)


@pytest.mark.parametrize("overflow", ["ieee", "saturate"])
@pytest.mark.parametrize("rounding", ["nearest_even", "toward_zero", "up"])
@pytest.mark.parametrize("dst", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2fnuz", "float4_e2m1fn"])
def test_sums_and_counts(dst, rounding, overflow, tmp_path, small_pieces):
    tensors = {name: (name, moderate(name, dst, 8012)) for name in ("float32", "float64", "bfloat16", "float8_e5m2")}
    tensors |= {"gentle": files.floats(1, (100, 100), scale=1), "ids": files.tensor("int64", np.arange(4))}
    source = files.write(tmp_path / "a.safetensors", tensors)
    report = nc.cast_file(source, tmp_path / "b.safetensors", dst, rounding=rounding, overflow=overflow, threads=2)
    wanted = {
        name: model(given, dst, rounding, overflow) for name, given in tensors.items() if name not in (dst, "ids")
    }
    found = {tensor.name: tensor for tensor in report.tensors}
    for name, facts in wanted.items():
        sums = found[name].sums
        for field in ("count", "overflowed", "zeroed", "became_nan"):
            assert getattr(sums, field) == facts[field], (name, field)
        assert sums.signal == pytest.approx(facts["signal"], rel=1e-5), name
        assert sums.noise == pytest.approx(facts["noise"], rel=1e-5), name
        if facts["noise"]:
            assert found[name].sqnr == pytest.approx(10 * math.log10(facts["signal"] / facts["noise"]), abs=1e-4)
        elif facts["became_nan"] or facts["overflowed"]:
            assert math.isnan(found[name].sqnr), name  # something changed, but nothing that has an error
        else:
            lost = facts["overflowed"] or facts["zeroed"] or facts["became_nan"]
            assert found[name].sqnr == pytest.approx(math.nan if lost else math.inf, nan_ok=True)
    for name in set(found) - set(wanted):
        assert (found[name].sums, found[name].sqnr) == (None, None)
    assert report.sums.overflowed == sum(facts["overflowed"] for facts in wanted.values())
    assert report.sums.count == sum(facts["count"] for facts in wanted.values())
    worst = sorted(
        (t for t in found.values() if t.sums and t.sums.noise), key=lambda tensor: (tensor.sqnr, tensor.name)
    )[:3]
    assert list(report.worst) == worst


def test_counts_by_hand(tmp_path):
    """1e6 is beyond float16, 1e-9 vanishes; -inf has a place in float16, none in float8_e4m3fn."""
    x = np.float32([1, 2.5, 1e6, -1e6, 1e-9, 0, -0.0, np.nan, -np.inf])
    source = files.write(tmp_path / "a.safetensors", {"x": files.tensor("float32", x)})
    sums = nc.cast_file(source, tmp_path / "b.safetensors", "float16").sums
    assert (sums.count, sums.overflowed, sums.zeroed, sums.became_nan) == (9, 2, 1, 0)
    assert (sums.signal, sums.noise) == (pytest.approx(1 + 6.25), pytest.approx(1e-18, rel=1e-5))
    sums = nc.cast_file(source, tmp_path / "b.safetensors", "float8_e4m3fn", force=True).sums
    assert (sums.overflowed, sums.zeroed, sums.became_nan) == (2, 1, 3)


def test_sums_do_not_depend_on_threads(tmp_path, small_pieces):
    source = files.write(tmp_path / "a.safetensors", {f"t{i}": files.floats(i, (50, 203)) for i in range(9)})
    reports = [
        nc.cast_file(source, tmp_path / "b.safetensors", "float8_e4m3fn", threads=threads, force=True)
        for threads in (1, 2, 5)
    ]
    assert len({tuple((t.name, t.sums) for t in report.tensors) for report in reports}) == 1
    assert len({report.sums for report in reports}) == 1


def test_exact_and_empty_tensors(tmp_path):
    """Nothing lost is an infinite SQNR, which JSON does not know."""
    tensors = {
        "exact": files.tensor("float32", np.float32([1, 2, 3])),
        "none": files.floats(1, (0,)),
        "zero": files.tensor("float32", np.zeros(4, np.float32)),
    }
    source = files.write(tmp_path / "a.safetensors", tensors)
    report = nc.cast_file(source, tmp_path / "b.safetensors", "bfloat16")
    assert [tensor.sqnr for tensor in report.tensors] == [math.inf] * 3
    assert report.worst == ()
    assert [row["sqnr_db"] for row in json.loads(report.to_json())["tensors"]] == [None] * 3


def test_sums_that_float64_cannot_hold(tmp_path):
    """Of large float64 values; a legal cast all the same, whose report says what it knows."""
    x = np.full((2, 9000), 1e154)
    source = files.write(tmp_path / "a.safetensors", {"x": files.tensor("float64", x)})
    report = nc.cast_file(source, tmp_path / "b.safetensors", "float8_e4m3fn", overflow="saturate")
    assert report.sums.overflowed == x.size
    assert (report.sums.signal, report.sums.noise) == (math.inf, math.inf)
    assert math.isnan(report.sums.sqnr)
    (row,) = json.loads(report.to_json())["tensors"]
    assert (row["signal"], row["noise"], row["sqnr_db"]) == (None, None, None)
    assert Sums.from_dict(row) == report.sums


def test_a_total_that_float64_cannot_hold():
    """Of parts that it holds."""
    part = Sums(1, signal=1.5e308, noise=1e-30)
    total = Sums.total([part, part])
    assert (total.signal, total.noise) == (math.inf, 2e-30)
    assert part.sqnr == pytest.approx(10 * (math.log10(1.5) + 308 + 30))
    assert Sums(1, signal=1e300, noise=1e-300).sqnr == pytest.approx(6000)  # the quotient is beyond float64


@pytest.mark.parametrize(("value", "field"), [(1e-300, "zeroed"), (1e300, "overflowed"), (-np.inf, "became_nan")])
def test_nothing_left_is_not_exact(value, field, tmp_path):
    """Values of which no square is left in the sums have changed all the same."""
    source = files.write(tmp_path / "a.safetensors", {"x": files.tensor("float64", np.full(5, value))})
    report = nc.cast_file(source, tmp_path / "b.safetensors", "float8_e4m3fn")
    assert getattr(report.sums, field) == 5
    assert math.isnan(report.sums.sqnr)
    assert report.as_dict()["total"]["sqnr_db"] is None


def test_json(tmp_path):
    """Everything of the report, with the names that the documentation has."""
    tensors = {
        "é": files.floats(1, (16, 2)),
        "b": files.floats(2, (8,), scale=1e9),
        "ids": files.tensor("int64", np.arange(3)),
    }
    source, target = files.write(tmp_path / "a.safetensors", tensors), tmp_path / "b.safetensors"
    report = nc.cast_file(source, target, "float8_e4m3fn")
    found = json.loads(report.to_json())
    assert found == report.as_dict()
    assert (found["source"], found["target"], found["format"]) == (str(source), str(target), "float8_e4m3fn")
    assert (found["complete"], found["files"], found["files_done"]) == (True, 1, 1)
    assert (found["bytes_before"], found["bytes_after"]) == (128 + 32 + 24, 32 + 8 + 24)
    assert [row["name"] for row in found["tensors"]] == list(tensors)
    assert (found["total"]["count"], found["total"]["overflowed"]) == (40, 8)
    assert found["worst"] == ["é"]
    first, _, copied = found["tensors"]
    assert {
        "from": "float32",
        "to": "float8_e4m3fn",
        "size": 32,
        "bytes_before": 128,
        "bytes_after": 32,
    }.items() <= first.items()
    assert first["sqnr_db"] == report.tensors[0].sqnr
    assert {"from": "int64", "to": "int64", "bytes_after": 24}.items() <= copied.items()
    assert "sqnr_db" not in copied


def test_json_of_what_is_not_finite(tmp_path):
    """JSON knows neither infinities nor NaN, nor has a name that is no UTF-8 a place in it but as ASCII."""
    from narrowcast._files.report import CastReport, TensorReport
    from narrowcast._sums import Sums

    sums = Sums(count=3, signal=math.inf, noise=math.inf)
    tensor = TensorReport("x", "float64", "float32", 3, 24, 12, math.nan, sums)
    report = CastReport(tmp_path / "a\udcff", tmp_path / "b", "float32", (tensor,), math.nan)
    found = json.loads(report.to_json().encode("utf-8"), parse_constant=pytest.fail)
    assert found["source"] == str(report.source)
    assert (found["seconds"], found["tensors"][0]["signal"], found["total"]["noise"]) == (None, None, None)
    assert found["total"]["count"] == 3
    assert report.worst == ()  # which NaN would leave in no order


def test_tables_cannot_steer_a_terminal(tmp_path, capsys):
    """Neither in a row nor in the list of the worst."""
    from narrowcast._files.report import print_report

    source = files.write(tmp_path / "a.safetensors", {"a\x1b[31m\nb\r\u202e é": files.floats(1, (16,))})
    print_report(nc.cast_file(source, tmp_path / "b.safetensors", "bfloat16"))
    out = capsys.readouterr().out
    assert out.count("a\\x1b[31m\\nb\\r\\u202e é") == 2
    assert all(c.isprintable() for line in out.splitlines() for c in line)
