"""formats, finfo and iinfo against the facts typed in specs.toml, and against ml_dtypes and numpy."""

import importlib.metadata

import ml_dtypes
import numpy as np
import pytest

import narrowcast as nc
import oracle

ROWS = {row.name: row for row in nc.formats()}
FLOATS = [name for name, row in ROWS.items() if row.is_float]


def test_the_list_is_the_typed_one():
    """Every format of the build has facts typed by hand, and the other way round."""
    assert list(oracle.FLOATS) == FLOATS
    assert [name for name in ROWS if name not in FLOATS] == list(oracle.INTEGERS)


@pytest.mark.parametrize("name", FLOATS)
def test_facts_of_floats(name):
    row, spec = ROWS[name], oracle.SPECS[name]
    for key in ("id", "storage_bytes", "bits", "sign_bits", "exponent_bits", "mantissa_bits", "bias"):
        assert getattr(row, key) == spec[key], key
    assert row.name == name
    assert row.has_inf == bool(spec["inf_codes"])
    assert row.has_nan == bool(spec["nan_codes"])
    assert row.has_zero == ("zero_code" in spec)
    assert row.has_negative_zero == ("negative_zero" in spec)
    for key in ("max_code", "smallest_normal_code", "smallest_subnormal_code"):
        assert getattr(row, key) == int(spec[key], 16), key
    sign = oracle.FLOATS[name].sign_code
    assert row.min_code == (row.max_code | sign if sign else 0)
    assert row.inf_code == (int(spec["inf_codes"][0], 16) if spec["inf_codes"] else 0)
    assert row.nan_code == int(spec.get("nan", "0"), 16)
    assert row.negative_nan_code == int(spec.get("negative_nan", "0"), 16)
    assert row.dtype == oracle.numpy_dtype(name)
    assert row.dtype.itemsize == row.storage_bytes


@pytest.mark.parametrize("name", oracle.INTEGERS)
def test_facts_of_integers(name):
    row = ROWS[name]
    bits, signed = oracle.INTEGERS[name]
    assert (row.bits, row.sign_bits, row.is_float) == (bits, int(signed), False)
    assert row.dtype == oracle.numpy_dtype(name)


def test_numbers_and_ids_are_unique():
    rows = nc.formats()
    assert len({row.code for row in rows}) == len({row.id for row in rows}) == len(rows)


@pytest.mark.parametrize("name", FLOATS)
def test_finfo_has_the_typed_facts(name):
    info, spec = nc.finfo(name), oracle.SPECS[name]
    assert (info.name, info.bits, info.bias) == (name, spec["bits"], spec["bias"])
    assert (info.exponent_bits, info.mantissa_bits) == (spec["exponent_bits"], spec["mantissa_bits"])
    assert float(info.max) == oracle.number(spec["max"])
    assert float(info.min) == (
        -oracle.number(spec["max"]) if spec["sign_bits"] else oracle.number(spec["smallest_normal"])
    )
    assert float(info.smallest_normal) == oracle.number(spec["smallest_normal"])
    assert float(info.smallest_subnormal) == oracle.number(spec["smallest_subnormal"])
    assert float(info.eps) == 2.0 ** -spec["mantissa_bits"]
    assert info.has_inf == bool(spec["inf_codes"])
    assert info.has_nan == bool(spec["nan_codes"])
    codes = (int(spec["nan"], 16), int(spec["negative_nan"], 16)) if spec["nan_codes"] else ()
    assert info.nan_codes == tuple(dict.fromkeys(codes))
    assert info.nan_code == (codes[0] if codes else None)
    assert info.inf_code == (int(spec["inf_codes"][0], 16) if spec["inf_codes"] else None)
    assert name in repr(info)


FINFO = "dtype bits eps epsneg iexp machep max maxexp min minexp negep nexp nmant precision resolution tiny"
FINFO += " smallest_normal smallest_subnormal"


@pytest.mark.parametrize("name", [n for n in FLOATS if oracle.has_dtype(n)])
def test_finfo_agrees_with_ml_dtypes_and_numpy(name):
    ours = nc.finfo(name)
    others = [ml_dtypes.finfo(oracle.numpy_dtype(name))]
    others += [np.finfo(name)] if name in ("float16", "float32", "float64") else []
    for theirs in others:
        for key in FINFO.split():
            value, expected = getattr(ours, key), getattr(theirs, key)
            assert value == expected, key
            if isinstance(expected, np.generic):  # ml_dtypes gives some of FP6's and FP4's as Python floats
                assert type(value) is type(expected), key


@pytest.mark.parametrize("name", [n for n in oracle.INTEGERS if n != "bool"])
def test_iinfo_agrees_with_ml_dtypes_and_numpy(name):
    ours, theirs = nc.iinfo(name), ml_dtypes.iinfo(oracle.numpy_dtype(name))
    assert (ours.bits, ours.kind, ours.min, ours.max) == (theirs.bits, theirs.kind, theirs.min, theirs.max)
    assert ours.dtype == oracle.numpy_dtype(name)
    assert name in repr(ours)


def test_wrong_kinds():
    with pytest.raises(TypeError, match=r"^dtype is int8, an integer format.*iinfo"):
        nc.finfo(np.int8)
    with pytest.raises(TypeError, match=r"^dtype is bfloat16, a float format.*finfo"):
        nc.iinfo(ml_dtypes.bfloat16)
    for ask in (nc.finfo, nc.iinfo):
        with pytest.raises(TypeError, match=r"^dtype is 'nope'; allowed are"):
            ask("nope")


def test_ways_to_ask():
    for dtype in ("bfloat16", ml_dtypes.bfloat16, np.dtype(ml_dtypes.bfloat16), ROWS["bfloat16"]):
        assert nc.finfo(dtype).name == "bfloat16"
    assert nc.finfo("tfloat32").bits == 19
    assert nc.finfo(np.float32).name == "float32"


def test_formats_cannot_be_changed_by_a_caller():
    assert isinstance(nc.formats(), tuple)
    with pytest.raises(AttributeError):
        ROWS["float16"].bits = 8


def test_the_package_says_what_it_has():
    assert set(nc.__all__) <= set(dir(nc))
    assert nc.__version__.count(".") == 2
    assert importlib.metadata.version("narrowcast") == nc.__version__
