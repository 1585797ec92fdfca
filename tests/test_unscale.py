"""unscale: against numpy's arithmetic and torch's own operator, with every instruction set, in every layout; what is
found; and everything that is refused before a byte is written.
"""

import ml_dtypes
import numpy as np
import pytest

import fpenv
import narrowcast as nc

DTYPES = [np.dtype(t) for t in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16)]
CODES = {8: np.uint64, 4: np.uint32, 2: np.uint16}
FACTORS = [1 / 65536, 1 / 3, -0.5, 3.0, 1e30, 1e-30]


def codes_of(array):
    return np.ascontiguousarray(array).view(CODES[array.itemsize])


INF = {"float64": 0x7FF << 52, "float32": 0xFF << 23, "float16": 0x7C00, "bfloat16": 0x7F80}


def nans(array):
    """Return where there are NaN, without the warnings that looking at values may give."""
    word = CODES[array.itemsize]
    return (codes_of(array) & word((1 << 8 * array.itemsize - 1) - 1)) > word(INF[array.dtype.name])


def hard(dtype, n=5000, seed=0):
    """Any bits at all: every exponent, subnormals, Inf, NaN of both signs and any payload."""
    array = np.frombuffer(bytearray(np.random.default_rng(seed).bytes(n * dtype.itemsize)), dtype)
    array[-4:] = np.array([np.inf, -np.inf, np.nan, 0], dtype)
    return array


def expected(x, factor):
    """Return numpy's products; NaN by narrowcast's rule (quiet, sign kept; bfloat16: without payload)."""
    if factor == 1:
        return x.copy()
    with np.errstate(all="ignore"):
        wide = x if x.dtype == np.float64 else x.astype(np.float32)
        result = (wide * wide.dtype.type(np.float32(factor))).astype(x.dtype)
    codes, given, nan = codes_of(result), codes_of(x), nans(x)
    word = CODES[x.itemsize]
    quiet = word(INF[x.dtype.name] | 1 << ml_dtypes.finfo(x.dtype).nmant - 1)
    kept = given & word(1 << 8 * x.itemsize - 1) if x.dtype == ml_dtypes.bfloat16 else given
    return np.where(nan, kept | quiet, codes).view(x.dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("factor", [1.0, *FACTORS])
def test_products(dtype, factor, isa):
    x = hard(dtype)
    want = codes_of(expected(x, factor))
    out = np.empty_like(x)
    given = x.copy()
    assert nc.unscale(x, factor, out=out) is True
    assert np.array_equal(codes_of(x), codes_of(given))
    assert np.array_equal(codes_of(out), want)
    assert nc.unscale(x, factor) is True
    assert np.array_equal(codes_of(x), want)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_value_that_is_not_finite_is_found(dtype, isa):
    for special in (np.inf, -np.inf, np.nan, -np.nan):
        for at in range(70):
            x = np.ones(70, dtype)
            assert nc.unscale(x, 0.5) is False
            x[at] = special
            assert nc.unscale(x, 0.5) is True
            assert (x == 0.25).sum() == 69


def test_a_product_that_overflows_is_not_found():
    x = np.array([6e4, -6e4], np.float16)
    assert nc.unscale(x, 1024) is False
    assert x.tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts(dtype):
    x = hard(dtype, 2 * 60 * 70).reshape(2, 60, 70)
    want = expected(x, 1 / 3)
    for view in (
        lambda a: a,
        lambda a: a.transpose(2, 0, 1),
        lambda a: a[:, ::-1, ::3],
        lambda a: a[0, 5],
        lambda a: a[1, 2, 3, ...],
        lambda a: a[:, :0],
    ):
        for order in "CF":
            array = x.copy(order)
            nc.unscale(view(array), 1 / 3)
            whole = x.copy(order)
            view(whole)[...] = view(want)  # copies codes: the dtypes are equal
            assert np.array_equal(codes_of(array), codes_of(whole))
    swapped = x.astype(dtype.newbyteorder()) if dtype.isbuiltin == 1 else None
    if swapped is not None:
        nc.unscale(swapped, 1 / 3, threads=2)
        assert np.array_equal(codes_of(swapped.byteswap().view(dtype)), codes_of(want))


@pytest.mark.parametrize("threads", [1, 2, 0])
def test_threads_give_the_same_bits(threads):
    x = hard(np.dtype(np.float32), 1 << 20)
    want = expected(x, 1 / 65536)
    assert nc.unscale(x, 1 / 65536, threads=threads)
    assert np.array_equal(codes_of(x), codes_of(want))
    clean = np.ones(1 << 20, np.float32)
    assert not nc.unscale(clean, 0.5, threads=threads)
    clean[-1] = np.nan
    assert nc.unscale(clean, 0.5, threads=threads)


def test_a_list_mixes_formats_and_shapes():
    arrays = [hard(dtype, 100 + i, i) for i, dtype in enumerate(DTYPES)]
    arrays += [np.array(2.0, np.float32), np.zeros((0, 3), np.float16)]
    want = [expected(a, 0.25) for a in arrays]
    kept = [a.copy() for a in arrays]
    outs = tuple(np.empty_like(a) for a in arrays)
    assert nc.unscale(arrays, 0.25, out=outs)
    for a, b, c, d in zip(arrays, kept, outs, want, strict=True):
        assert np.array_equal(codes_of(a), codes_of(b))
        assert np.array_equal(codes_of(c), codes_of(d))
    assert nc.unscale(arrays, 0.25)
    for a, d in zip(arrays, want, strict=True):
        assert np.array_equal(codes_of(a), codes_of(d))
    assert nc.unscale([], 0.25) is False
    twice = np.float32([8])
    assert nc.unscale([twice, twice], 0.5) is False
    assert twice == 2


@pytest.mark.skipif(not fpenv.AVAILABLE, reason="the environment of this machine is not known")
def test_the_floating_point_environment_does_not_matter(isa):
    x = hard(np.dtype(np.float16))
    want = codes_of(expected(x, 1 / 3))
    modes = {**fpenv.ROUNDING_MODES, **fpenv.FLUSH}
    for bits in modes.values():
        y = x.copy()
        with fpenv.environment(fpenv.DEFAULT | bits):
            nc.unscale(y, 1 / 3)
        assert np.array_equal(codes_of(y), want)


# -- torch ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0, *FACTORS])
@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16"])
def test_torchs_own_operator(name, factor, isa):
    torch = pytest.importorskip("torch")
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    bits = hard(dtype).view(f"i{dtype.itemsize}")
    for clean in (False, True):
        ours = torch.from_numpy(bits.copy()).view(getattr(torch, name))
        if clean:
            ours = torch.nan_to_num(ours, nan=1.0, posinf=2.0, neginf=3.0)
        theirs, found = ours.clone(), torch.zeros(1)
        torch._amp_foreach_non_finite_check_and_unscale_([theirs], found, torch.tensor(factor, dtype=torch.float32))
        assert nc.unscale([ours], factor) is bool(found) is not clean
        nan = theirs.isnan()  # whose codes depend on the position there
        assert torch.equal(nan, ours.isnan())
        carrier = getattr(torch, f"int{8 * dtype.itemsize}")
        assert torch.equal(ours.view(carrier)[~nan], theirs.view(carrier)[~nan])


def test_tensors_are_written_in_place():
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.ones(4))
    (weight * 3).sum().backward()
    pointer = weight.grad.data_ptr()
    out = torch.empty(4)
    assert nc.unscale([weight.grad, np.float32([8])], 0.5) is False
    assert weight.grad.tolist() == [1.5] * 4
    assert weight.grad.data_ptr() == pointer
    assert nc.unscale(weight.grad, 2.0, out=out) is False
    assert out.tolist() == [3.0] * 4
    with pytest.raises(ValueError, match=r"^x\[0\] requires a gradient"):
        nc.unscale([weight], 0.5)


# -- refusals ------------------------------------------------------------------------------------------------------

GOOD = np.float32([1, 2])


def read_only():
    array = np.ones(2, np.float32)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        ((GOOD, 0.0), {}, ValueError, r"^inv_scale is 0\.0; allowed are numbers that are finite and not 0 in float32"),
        ((GOOD, np.inf), {}, ValueError, "^inv_scale is inf"),
        ((GOOD, np.nan), {}, ValueError, "^inv_scale is nan"),
        ((GOOD, 1e-50), {}, ValueError, "^inv_scale is 1e-50"),
        ((GOOD, 1e50), {}, ValueError, r"^inv_scale is 1e\+50"),
        ((GOOD, "2"), {}, TypeError, "^inv_scale is '2'; allowed are numbers"),
        ((GOOD, GOOD), {}, TypeError, "^inv_scale is array"),
        ((GOOD, 0.5), {"threads": -1}, ValueError, "^threads is -1"),
        (([GOOD, np.int8([1])], 0.5), {}, TypeError, r"^x\[1\] has dtype int8; allowed are float64, float32, float16"),
        (([GOOD, np.ones(2, ml_dtypes.float8_e5m2)], 0.5), {}, TypeError, r"^x\[1\] has dtype float8_e5m2"),
        (([GOOD, np.array(["a"])], 0.5), {}, TypeError, r"^x\[1\] has dtype <U1"),
        (([GOOD, None], 0.5), {}, TypeError, r"^x\[1\] is a NoneType; allowed are ndarrays and torch tensors"),
        ((np.float32(3), 0.5), {}, TypeError, "^x is a float32"),
        (([1.0, 2.0], 0.5), {}, TypeError, r"^x\[0\] is a float"),
        (([GOOD, read_only()], 0.5), {}, ValueError, r"^x\[1\] is read-only"),
        (([GOOD, GOOD], 0.5), {"out": [GOOD]}, ValueError, "^out is of 1; allowed is a list or tuple of 2 arrays"),
        (([GOOD], 0.5), {"out": GOOD}, ValueError, "^out is a ndarray; allowed is a list or tuple of 1 arrays"),
        ((GOOD, 0.5), {"out": [GOOD]}, TypeError, "^out is a list"),
        ((GOOD, 0.5), {"out": np.ones(3, np.float32)}, ValueError, r"^out has shape \(3,\); allowed is the shape of x"),
        (
            (GOOD, 0.5),
            {"out": np.ones(2, np.float16)},
            TypeError,
            "^out has dtype float16; allowed is that of x, float",
        ),
        ((GOOD, 0.5), {"out": read_only()}, ValueError, "^out is read-only"),
    ],
)
def test_refusals(arguments, options, error, match):
    with pytest.raises(error, match=match):
        nc.unscale(*arguments, **options)
    assert GOOD.tolist() == [1, 2]


def test_overlap_is_refused():
    memory = np.ones(12, np.float32)
    repeated = np.lib.stride_tricks.as_strided(memory, (4, 4), (4, 4))
    with pytest.raises(ValueError, match=r"^out overlaps itself"):
        nc.unscale([memory, repeated], 0.5)
    with pytest.raises(ValueError, match=r"^out overlaps x"):
        nc.unscale([memory, memory[:8]], 0.5, out=[np.empty_like(memory), memory[4:]])
    with pytest.raises(ValueError, match=r"^out overlaps x"):
        nc.unscale(memory, 0.5, out=memory[::-1])
    assert (memory == 1).all()
    with pytest.raises(ValueError, match=r"^out overlaps x"):  # by their byte ranges
        nc.unscale(memory[::2], 0.5, out=memory[1::2])
