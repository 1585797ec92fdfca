"""The floating-point environment of the caller: whatever it is, the bits are the same, and it is as it was afterwards,
sticky flags included.
"""

import functools
import operator
import threading

import numpy as np
import pytest

import cases
import fpenv
import narrowcast as nc
import oracle

pytestmark = [pytest.mark.emulated, pytest.mark.skipif(not fpenv.AVAILABLE, reason="no machine code for this CPU")]

if fpenv.AVAILABLE:
    CONTROLS = {f"round_{name}": bits for name, bits in fpenv.ROUNDING_MODES.items()} | fpenv.FLUSH
    CONTROLS["everything"] = functools.reduce(operator.or_, fpenv.FLUSH.values(), fpenv.ROUNDING_MODES["up"])
else:
    CONTROLS = {}

# A pair for every way in and out, subnormals everywhere.
PAIRS = [
    ("float32", "float16", {}),
    ("float32", "bfloat16", {}),
    ("float32", "float8_e4m3fn", {}),
    ("float32", "float8_e8m0fnu", {}),
    ("float32", "float4_e2m1fn", {"overflow": "saturate"}),
    ("float32", "tfloat32", {}),
    ("float32", "float64", {}),
    ("float32", "float16", {"rounding": "up"}),
    ("float32", "bfloat16", {"rounding": "down"}),
    ("float32", "float8_e5m2", {"rounding": "nearest_away"}),
    ("float32", "bfloat16", {"rounding": "stochastic", "seed": 1}),
    ("float64", "float32", {}),
    ("float64", "float32", {"rounding": "up"}),
    ("float64", "float32", {"rounding": "toward_zero"}),
    ("float64", "float16", {}),
    ("float16", "float32", {}),
    ("float16", "bfloat16", {}),
    ("bfloat16", "float32", {}),
    ("bfloat16", "float64", {}),
    ("bfloat16", "float16", {}),
    ("bfloat16", "float8_e5m2", {}),
    ("float8_e5m2", "float32", {}),
    ("float8_e5m2", "float16", {}),
    ("float8_e8m0fnu", "float32", {}),
    ("float8_e4m3fn", "bfloat16", {}),
    ("int32", "float32", {}),
    ("int64", "float32", {"rounding": "down"}),
    ("int64", "float64", {}),
    ("uint64", "float64", {"rounding": "up"}),
]


def sample(src, dst, options):
    """Codes with everything of interest, and what they give."""
    codes = cases.codes_for(src, dst)
    codes = codes[:: max(1, codes.size // 4000)]
    words = oracle.random_words(1, 0, codes.size) if "seed" in options else None
    return codes, oracle.cast(
        src, codes, dst, options.get("rounding", "nearest_even"), options.get("overflow", "ieee"), words
    )


@pytest.mark.skipif(not fpenv.X86, reason="older CPUs lack some of these bits")
@pytest.mark.parametrize("control", CONTROLS)
def test_the_environment_is_really_set(control):
    with fpenv.environment(fpenv.DEFAULT | CONTROLS[control], fpenv.ALL_FLAGS):
        assert fpenv.get() == (fpenv.DEFAULT | CONTROLS[control], fpenv.ALL_FLAGS)


@pytest.mark.parametrize("control", CONTROLS)
def test_any_environment_gives_the_same_bits(control, isa):
    for src, dst, options in PAIRS:
        codes, expected = sample(src, dst, options)
        x, out = cases.array(src, codes), np.empty_like(expected)
        for flags in (0, fpenv.ALL_FLAGS):
            # Nothing but the call happens inside: Python's own arithmetic would set flags.
            with fpenv.environment(fpenv.DEFAULT | CONTROLS[control], flags):
                before = fpenv.get()  # an older CPU ignores bits that it does not have
                nc.astype(x, dst, out=out, **options)
                after = fpenv.get()
            assert np.array_equal(out, expected), f"{src} -> {dst}, {options}"
            assert after == before, f"{src} -> {dst}, {options}"
            assert before[1] == flags


@pytest.mark.parametrize("control", ["round_up", "everything"])
def test_strided_raise_and_threads(control, isa):
    """The other ways through the core: tiles, the scan of "raise", and threads, which inherit the environment."""
    codes, expected = sample("float32", "float16", {})
    x = np.repeat(cases.array("float32", codes), 2)[::2]
    big, big_expected = np.resize(cases.array("float32", codes), 1 << 20), np.resize(expected, 1 << 20)
    small = np.full(1000, 1e-45, np.float32)
    out, big_out, small_out = np.empty_like(expected), np.empty_like(big_expected), np.empty(1000, np.uint16)
    with fpenv.environment(fpenv.DEFAULT | CONTROLS[control]):
        before = fpenv.get()
        nc.astype(x, "float16", out=out)
        nc.astype(big, "float16", out=big_out, threads=4)
        nc.astype(small, "float16", out=small_out, rounding="up", overflow="raise")
        after = fpenv.get()
    assert after == before
    assert np.array_equal(out, expected)
    assert np.array_equal(big_out, big_expected)
    assert np.all(small_out == 1)


@pytest.mark.skipif(not fpenv.X86, reason="this CPU has no trapping exceptions to unmask")
def test_unmasked_exceptions_do_not_trap(isa):
    """A caller who lets inexact results trap must not be killed by ours."""
    for src, dst, options in PAIRS:
        codes, expected = sample(src, dst, options)
        x, out = cases.array(src, codes), np.empty_like(expected)
        with fpenv.environment(fpenv.DEFAULT & ~fpenv.UNMASKED):
            nc.astype(x, dst, out=out, **options)
            after = fpenv.get()
        assert after == (fpenv.DEFAULT & ~fpenv.UNMASKED, 0)
        assert np.array_equal(out, expected)


def test_errors_restore_it_too():
    x, out = np.full(100, 1e30, np.float32), np.zeros(100, np.uint8)
    control = fpenv.DEFAULT | CONTROLS["everything"]
    with fpenv.environment(control):
        before = fpenv.get()[0]
        try:
            nc.astype(x, "float8_e5m2", out=out, overflow="raise")
        except OverflowError:
            after = fpenv.get()[0]
    assert after == before
    assert not out.any()


def test_other_threads_of_the_process(isa):
    """Each Python thread has its own environment; ours is set and restored in the one that calls."""
    codes, expected = sample("float32", "bfloat16", {})
    x = cases.array("float32", codes)
    found = {}

    def run(control):
        out = np.empty_like(expected)
        with nc.use_isa(isa), fpenv.environment(fpenv.DEFAULT | CONTROLS[control]):
            before = fpenv.get()[0]
            nc.astype(x, "bfloat16", out=out)
            found[control] = fpenv.get()[0] == before and np.array_equal(out, expected)

    threads = [threading.Thread(target=run, args=(control,)) for control in CONTROLS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(CONTROLS, True)
