"""Calibration: onnxruntime's percentile and entropy, the search for the least error, and choose_qparams."""

import contextlib
import io
import pickle

import ml_dtypes
import numpy as np
import pytest

import narrowcast as nc
import quantize_cases


def samples():
    """What histograms are hard on: long tails, one side, few values, a plateau, zeros, extremes of float32."""
    random = np.random.default_rng(1)
    tails = (random.normal(size=4000) * np.exp(random.normal(size=4000))).astype(np.float32)
    yield "normal", random.normal(size=5000).astype(np.float32)
    yield "tails", tails
    yield "positive", np.abs(tails) + np.float32(0.5)
    yield "negative", -np.abs(tails)
    yield "few", np.float32([-1, 2, 3])
    yield "one", np.float32([5])
    yield "same", np.full(100, -2.5, np.float32)
    yield "zeros", np.zeros(10, np.float32)
    yield "integers", random.integers(-20, 100, 3000).astype(np.float32)
    yield "outlier", np.append(random.normal(size=2000), 1e6).astype(np.float32)
    yield "small", (tails * np.float32(1e-30)).astype(np.float32)
    yield "large", (tails / np.abs(tails).max() * np.float32(1e37)).astype(np.float32)


SAMPLES = dict(samples())


def onnxruntime_range(x, method, symmetric, **parameters):
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate", reason="needs onnxruntime and onnx")
    given = {"num_bins": 128, "num_quantized_bins": 128, "percentile": 99.999} | parameters
    made = calibrate.HistogramCollector(method=method, symmetric=symmetric, scenario=None, **given)
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        made.collect({"x": x})
        low, high, *_ = made.compute_collection_result()["x"]
    return np.float32(low), np.float32(high)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("percentile", {"num_bins": 2048}),
        ("percentile", {"num_bins": 2048, "percentile": 99.0}),
        ("percentile", {"num_bins": 100, "percentile": 50.0}),
        ("percentile", {"num_bins": 2048, "percentile": 100.0}),
        ("entropy", {"num_bins": 128, "num_quantized_bins": 128}),
        ("entropy", {"num_bins": 400, "num_quantized_bins": 128}),
        ("entropy", {"num_bins": 301, "num_quantized_bins": 15}),
    ],
)
def test_as_onnxruntime(method, parameters, sample, symmetric):
    x = SAMPLES[sample]
    low, high = onnxruntime_range(x, method, symmetric, **parameters)
    calibration = nc.Calibration(method, **parameters)
    name = "int8" if symmetric else "uint8"
    expected = nc.choose_qparams(low=min(low, 0), high=max(high, 0), spec=name)
    got = nc.choose_qparams(x, name, calibration=calibration)
    assert got.scale.item() == expected.scale.item()
    if not symmetric:
        assert got.zero_point.item() == expected.zero_point.item()


def test_defaults_are_onnxruntimes():
    assert nc.Calibration("percentile") == nc.Calibration("percentile", percentile=99.999, num_bins=2048)
    assert nc.Calibration("entropy") == nc.Calibration("entropy", num_bins=128, num_quantized_bins=128)


def test_a_percentile_by_hand():
    """Four bins of [-4, 4], a tenth of the values in each outer one.

    70 percent inside are reached within the second bin and the third; onnxruntime takes their lower edges, -2 and 0.
    """
    x = np.float32([-4, 4, -1.5, -1, -0.5, -0.25, 0.25, 0.5, 1, 1.5])
    got = nc.choose_qparams(x, "uint8", calibration=nc.Calibration("percentile", percentile=70, num_bins=4))
    assert got.scale.item() == np.float32(2) / np.float32(255)
    assert got.zero_point.item() == 255


@pytest.mark.parametrize("granularity", quantize_cases.GRANULARITIES)
@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_each_box_by_itself(method, granularity):
    """The scale of a box is that of its values alone, NaN and infinities left out."""
    x = quantize_cases.hard()[:11, :20]
    options = quantize_cases.GRANULARITIES[granularity]
    calibration = nc.Calibration(method, num_bins=140, **({"percentile": 90} if method == "percentile" else {}))
    q = nc.quantize(x, "uint8", calibration=calibration, **options)
    block = quantize_cases.model.block_of(x.shape, **options)
    for index, box in quantize_cases.model.boxes(x.shape, block):
        values = x[box][np.isfinite(x[box])]
        expected = nc.choose_qparams(values, "uint8", calibration=calibration)
        assert q.scale[index] == expected.scale.item()
        assert q.zero_point[index] == expected.zero_point.item()
    again = nc.quantize(x, "uint8", scale=q.scale, zero_point=q.zero_point, **options)
    assert quantize_cases.same(again.codes, q.codes)


@pytest.mark.parametrize("name", ["int4", "uint4", "float4_e2m1fn"])
@pytest.mark.parametrize("options", [{}, {"granularity": "group", "group_size": 24}, {"granularity": "block",
                                     "block_shape": (2, 16)}])  # fmt: skip
@pytest.mark.parametrize("norm", [2.0, 2.4])
def test_mse_is_the_best_of_its_grid(norm, options, name):
    """By trying each range on each box alone."""
    x = np.random.default_rng(2).standard_t(2, (6, 40)).astype(np.float32)
    x[0, 0] = np.nan
    calibration = nc.Calibration("mse", grid=20, maxshrink=0.5, norm=norm)
    q = nc.quantize(x, name, calibration=calibration, **options)
    block = quantize_cases.model.block_of(x.shape, **options)
    lows, highs = quantize_cases.model.ranges(x, block)
    shrunk = 0
    for index, box in quantize_cases.model.boxes(x.shape, block):
        values = x[box][np.isfinite(x[box])]
        errors, scales = [], []
        for step in range(11):
            factor = np.float32(1 - step / 20)
            scale, zero = nc.choose_qparams(low=lows[index] * factor, high=highs[index] * factor, spec=name)
            y = nc.fake_quantize(values, name, scale=scale, zero_point=zero)
            errors.append((np.abs(y - values).astype(np.float64) ** norm).sum())
            scales.append(scale.item())
        best = int(np.argmin(errors))
        shrunk += best > 0
        assert q.scale[index] == scales[best]
    assert shrunk, "the data do not tell"


@pytest.mark.parametrize("method", ["percentile", "entropy", "mse", "minmax"])
def test_extremes(method):
    """The whole range of float32, and next to nothing of it: an answer, and no warning."""
    largest = np.finfo(np.float32).max
    for values in ([-largest, 0, 1, largest], [1e-45, -1e-45], [largest] * 3, [1, 1 + 2**-23], [np.inf, np.nan], []):
        for name in ("int8", "uint8"):
            q = nc.quantize(np.float32(values), name, calibration=method)
            assert (q.scale > 0).all()
            assert np.isfinite(q.scale).all()


def test_mse_lowers_the_error():
    x = np.random.default_rng(3).normal(size=(64, 128)).astype(np.float32)
    by_range = nc.quantize(x, "int4", granularity="group", group_size=128)
    by_error = nc.quantize(x, "int4", granularity="group", group_size=128, calibration="mse")
    assert nc.quantization_error(x, by_error).rmse < 0.95 * nc.quantization_error(x, by_range).rmse


def test_choose_qparams_of_values():
    """What quantize computes."""
    x = quantize_cases.hard()
    for options in ({"granularity": "row"}, {}, {"granularity": "channel", "axis": 1}):
        for name in ("int8", "uint4"):
            scale, zero_point = nc.choose_qparams(x, name, **options)
            q = nc.quantize(x, name, **options)
            assert quantize_cases.same(scale, q.scale)
            assert (zero_point is None) == (q.zero_point is None)
            assert zero_point is None or quantize_cases.same(zero_point, q.zero_point)
    assert nc.choose_qparams(np.float32(2.0)).scale.shape == ()


def test_choose_qparams_of_ranges():
    scale, zero_point = nc.choose_qparams(low=-234.1, high=251.51, spec="int8", symmetric=False)
    assert (scale.dtype, scale.item()) == (np.float32, np.float32(1.9043529).item())
    assert (zero_point.dtype, zero_point.item()) == (np.int32, -5)
    low, high = np.float32([[-1, 0, 1]]), np.float32([[1, 0, 3]])
    scale, zero_point = nc.choose_qparams(low=low, high=high, spec="uint8")
    assert scale.shape == zero_point.shape == (1, 3)
    assert scale[0].tolist() == [np.float32(2) / np.float32(255), 1, np.float32(3) / np.float32(255)]
    assert zero_point[0].tolist() == [128, 0, 0]
    halves = [end.astype(ml_dtypes.bfloat16) for end in (low, high)]
    assert nc.choose_qparams(low=halves[0], high=halves[1], dialect="torchao").scale.dtype == ml_dtypes.bfloat16
    assert nc.choose_qparams(low=-1, high=1).scale.item() == np.float32(1) / np.float32(127)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ValueError, "^x, low and high: allowed are x alone, or low and high together"),
        ({"low": 1.0}, ValueError, "^x, low and high"),
        ({"x": np.ones(3), "high": 1.0}, ValueError, "^x, low and high"),
        ({"x": np.ones(3), "low": 0.0, "high": 1.0}, ValueError, "^x, low and high"),
        ({"low": 2.0, "high": 1.0}, ValueError, "^low is above high"),
        ({"low": np.nan, "high": 1.0}, ValueError, "^low is nan; allowed are finite"),
        ({"low": 0.0, "high": np.inf}, ValueError, "^high is inf; allowed are finite"),
        ({"low": np.zeros(2), "high": np.zeros(3)}, ValueError, r"^low has shape \(2,\), and high has \(3,\)"),
        ({"low": np.zeros(2), "high": np.zeros(2, np.float16)}, TypeError, "^low has dtype float64.*float16"),
    ],
)
def test_wrong_ranges(options, error, words):
    with pytest.raises(error, match=words):
        nc.choose_qparams(**options)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("max",), ValueError, "^calibration is 'max'; allowed are minmax, percentile, entropy, mse"),
        ((3,), ValueError, "^calibration is 3"),
        (("minmax", 99.0), ValueError, "^percentile is 99.0; calibration 'minmax' has no such parameter"),
        (("percentile", 101), ValueError, "^percentile is 101; allowed are numbers from 0 to 100"),
        (("percentile", np.nan), ValueError, "^percentile is nan"),
        (("percentile", "99"), TypeError, "^percentile is '99'"),
        (("percentile", 99, 1), ValueError, "^num_bins is 1; allowed are 2 to"),
        (("percentile", 99, 2.0), TypeError, "^num_bins is 2.0; allowed are integers"),
        (("entropy", None, 64), ValueError, "^num_bins is 64; allowed are num_quantized_bins, 128, and more"),
    ],
)
def test_wrong_calibrations(arguments, error, words):
    with pytest.raises(error, match=words):
        nc.Calibration(*arguments)
    for wrong in ({"maxshrink": 1.0}, {"grid": 0}, {"norm": 0.0}, {"norm": np.inf}):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))} is"):
            nc.Calibration("mse", **wrong)


def test_calibrations_are_values():
    made = nc.Calibration("percentile", percentile=99.5)
    assert repr(made) == "Calibration('percentile', percentile=99.5)"
    assert eval(repr(made), {"Calibration": nc.Calibration}) == made
    assert pickle.loads(pickle.dumps(made)) == made
    assert hash(made) == hash(nc.Calibration("percentile", percentile=99.5))
    assert nc.QuantSpec(calibration="mse").calibration == nc.Calibration("mse")
