"""Properties of astype for arrays that hypothesis invents: any shape, layout, source, target and option, against the
oracle and against astype itself.
"""

import numpy as np
import pytest

import narrowcast as nc
import oracle

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

settings.register_profile("narrowcast", deadline=None, max_examples=120, derandomize=True, database=None)
settings.load_profile("narrowcast")

SOURCES = st.sampled_from([s for s in oracle.SOURCES if s != "bool"])
TARGETS = st.sampled_from(oracle.TARGETS)
ISAS = st.sampled_from(nc.isas())


@st.composite
def codes(draw, name):
    """An array of any codes, as a view with any strides."""
    storage = oracle.storage_dtype(name)
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=40))
    size = int(np.prod(shape)) if shape else 1
    if size > 20_000:
        shape = tuple(min(side, 11) for side in shape)
    seed = draw(st.integers(0, 2**32 - 1))
    array = np.random.default_rng(seed).integers(0, np.iinfo(storage).max, shape, storage, endpoint=True)
    array = np.asarray(array, storage)
    if name in ("float32", "float64") and draw(st.booleans()):  # values that are not all enormous or tiny
        array = np.asarray(np.random.default_rng(seed).normal(0, 4, shape), name).view(storage)
    if array.ndim:
        array = array.transpose(draw(st.permutations(range(array.ndim))))
        array = array[tuple(slice(None, None, draw(st.sampled_from([1, 1, 2, 3, -1, -2]))) for _ in range(array.ndim))]
        if draw(st.booleans()):
            array = np.asfortranarray(array)
    return array


@st.composite
def modes(draw):
    rounding = draw(st.sampled_from(oracle.ROUNDINGS))
    options = {"rounding": rounding, "overflow": draw(st.sampled_from(oracle.POLICIES))}
    if rounding == "stochastic":
        options |= {"seed": draw(st.integers(0, 2**64 - 1)), "offset": draw(st.integers(0, 2**40))}
    return options


def answer(src, array, dst, options):
    words = None
    if "seed" in options:
        words = oracle.random_words(options["seed"], options["offset"], array.size)
    return oracle.cast(src, array, dst, options["rounding"], options["overflow"], words).reshape(array.shape)


@given(st.data(), SOURCES, TARGETS, modes(), ISAS, st.sampled_from([1, 2, 3]))
def test_any_array_gives_what_the_oracle_gives(data, src, dst, options, isa, threads):
    array = data.draw(codes(src))
    with nc.use_isa(isa):
        got = nc.astype(
            array.view(oracle.numpy_dtype(src)) if array.ndim else array, dst, src_dtype=src, threads=threads, **options
        )
    assert got.shape == array.shape
    assert np.array_equal(np.asarray(got).view(oracle.storage_dtype(dst)), answer(src, array, dst, options))


@given(st.data(), SOURCES, TARGETS, modes(), ISAS)
def test_any_output_gets_it(data, src, dst, options, isa):
    array = np.atleast_1d(data.draw(codes(src)))
    storage = oracle.storage_dtype(dst)
    steps = tuple(slice(None, None, data.draw(st.sampled_from([1, 2, -1]))) for _ in range(array.ndim))
    memory = np.full(tuple(2 * side for side in array.shape), 0xA5, storage, order=data.draw(st.sampled_from("CF")))
    out = memory[steps][tuple(slice(side) for side in array.shape)]
    untouched = memory.copy()
    untouched[steps][tuple(slice(side) for side in array.shape)] = answer(src, array, dst, options)
    with nc.use_isa(isa):
        assert nc.astype(array, dst, out=out, src_dtype=src, **options) is out
    assert np.array_equal(memory, untouched)


@given(st.data(), TARGETS, modes(), ISAS)
def test_casting_twice_changes_nothing_more(data, dst, options, isa):
    array = data.draw(codes("float32"))
    with nc.use_isa(isa):
        once = nc.astype(array, dst, src_dtype="float32", **options)
        again = nc.astype(nc.astype(once, "float64"), dst, **options)
    once, again = (np.asarray(a).view(oracle.storage_dtype(dst)) for a in (once, again))
    # What the float64 in between cannot say: NaN payloads, and the zero that E8M0 lacks.
    number = ~oracle.decode(dst if dst != "tfloat32" else "float32", once).nan.reshape(once.shape)
    assert np.array_equal(again[number], once[number])


@given(
    st.data(),
    st.sampled_from([t for t in oracle.TARGETS if t != "float8_e8m0fnu"]),
    st.sampled_from(oracle.POLICIES),
    ISAS,
)
def test_down_mirrors_up(data, dst, overflow, isa):
    array = data.draw(codes("float64"))
    x = array.view(np.float64) if array.ndim else np.asarray(array).view(np.float64)
    x = np.where(np.isnan(x), 0, x)
    with nc.use_isa(isa):
        down = nc.astype(nc.astype(x, dst, rounding="down", overflow=overflow), "float64")
        up = nc.astype(nc.astype(-x, dst, rounding="up", overflow=overflow), "float64")
    assert np.array_equal(down, -up, equal_nan=True)


@given(st.data(), st.sampled_from(oracle.NARROW), st.sampled_from(oracle.DETERMINISTIC), ISAS)
def test_order_is_kept(data, dst, rounding, isa):
    values = data.draw(
        hnp.arrays(np.float64, st.integers(0, 300), elements=st.floats(allow_nan=False, allow_infinity=False))
    )
    x = np.sort(np.abs(values) if dst == "float8_e8m0fnu" else values)
    with nc.use_isa(isa):
        rounded = nc.astype(nc.astype(x, dst, rounding=rounding, overflow="saturate"), "float64")
    assert np.all(np.diff(rounded) >= 0)


@given(st.data(), SOURCES, TARGETS, st.integers(0, 2**64 - 1), ISAS)
def test_shards_equal_the_whole(data, src, dst, seed, isa):
    array = data.draw(codes(src)).ravel()
    cut = data.draw(st.integers(0, array.size))
    options = {"src_dtype": src, "rounding": "stochastic", "seed": seed}
    with nc.use_isa(isa):
        whole = nc.astype(array, dst, **options)
        parts = [nc.astype(array[:cut], dst, **options), nc.astype(array[cut:], dst, offset=cut, **options)]
    storage = oracle.storage_dtype(dst)
    assert np.array_equal(np.concatenate([part.view(storage) for part in parts]), whole.view(storage))
