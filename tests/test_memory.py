"""Kernels touch nothing outside their range: every length, every misalignment, between pages that fault when touched.

Every slot of a kernel table is reached here through some pair and rounding; that is what FAMILIES lists.
"""

import ctypes
import faulthandler
import functools
import os

import numpy as np
import pytest

import cases
import narrowcast as nc
import oracle
from guard import GuardedBytes

LENGTHS = range(201)  # beyond three of the widest vectors, of the narrowest items
UNTOUCHED = b"\xa5" * 64  # what lies beside a result
HUBS = ("float32", "float16", "bfloat16")
BYTES = [n for n in oracle.TARGETS if oracle.FLOATS[n].storage_bytes == 1]
WIDE = ("float64", "int32", "uint32", "int64", "uint64")
NEAREST, SATURATE = {}, {"overflow": "saturate"}

FAMILIES = {
    "widen": [(s, "float32", NEAREST) for s in oracle.SOURCES if s not in ("float32", *WIDE)],
    "widen16": [(s, t, NEAREST) for s in BYTES if s != "float8_e8m0fnu" for t in HUBS[1:]],
    "direct": [(s, t, NEAREST) for s in HUBS for t in oracle.NARROW if s != t],
    "direct_saturate": [(s, t, SATURATE) for s in HUBS for t in oracle.NARROW if s != t],
    "encode": [("float32", t, {"rounding": "up"}) for t in oracle.NARROW],
    "encode_stochastic": [("float32", t, {"rounding": "stochastic", "seed": 9}) for t in ("float16", "float8_e5m2")],
    "wide": [(s, t, NEAREST) for s in WIDE for t in ("float64", "float32", "float16", "float8_e4m3fn") if s != t],
    "to_float64": [(s, "float64", NEAREST) for s in (*HUBS, "float8_e4m3fn", "int8")],
    "reference": [(s, "float32", {"rounding": "nearest_away"}) for s in WIDE],
    "raise": [(s, t, {"overflow": "raise"}) for s in (*HUBS, "float64") for t in ("float8_e5m2", "bfloat16") if s != t],
    "copy": [(s, s, NEAREST) for s in ("float64", *HUBS, "float8_e4m3fn")],
}
TWO_STEPS = [
    ("float32", "float8_e4m3fn"),
    ("float64", "float16"),
    ("float8_e5m2", "float32"),
    ("bfloat16", "float4_e2m1fn"),
    ("int64", "bfloat16"),
]


@functools.cache
def sample(src, dst, options):
    """257 codes with everything that matters among them (for "raise": nothing that it refuses), and the answer."""
    options = dict(options)
    random = cases.rng("sample", src, dst)
    codes = cases.codes_for(src, dst)
    rounding, overflow = options.get("rounding", "nearest_even"), options.get("overflow", "ieee")
    if overflow == "raise":
        codes, overflow = codes[oracle.refusals(src, codes, dst, rounding) == ""], "ieee"
    codes = np.ascontiguousarray(random.choice(codes, 257))
    words = oracle.random_words(options["seed"], 0, codes.size) if rounding == "stochastic" else None
    return codes, oracle.cast(src, codes, dst, rounding, overflow, words)


def cast_into(x, src, dst, out, options):
    nc.astype(cases.array(src, x), dst, out=out, **cases.reading(src), **options)


def pairs(family):
    for src, dst, options in FAMILIES[family]:
        codes, expected = sample(src, dst, tuple(sorted(options.items())))
        yield src, dst, options, codes, expected


@pytest.fixture(scope="module")
def guarded():
    """A guarded region for the input and one for the output."""
    regions = GuardedBytes(pages=2), GuardedBytes(pages=2)
    yield regions
    for region in regions:
        region.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("place", [-1, 1])
def test_the_guard_guards(place, guarded):
    """A child that touches the byte before or after the region dies of it."""
    region = guarded[0].bytes
    address = region.ctypes.data - 1 if place < 0 else region.ctypes.data + region.size
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        ctypes.string_at(address, 1)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.emulated
@pytest.mark.parametrize("family", FAMILIES)
def test_every_length_between_guard_pages(family, isa, guarded):
    """The input and the output end at, or begin after, memory that cannot be touched; what is beside them stays."""
    source, target = guarded
    for src, dst, options, codes, expected in pairs(family):
        for place in ("at_end", "at_start"):
            for n in LENGTHS:
                x = getattr(source, place)(codes.dtype, n)
                out = getattr(target, place)(expected.dtype, n)
                x[...] = codes[:n]
                target.bytes.fill(0xA5)
                cast_into(x, src, dst, out, options)
                assert out.tobytes() == expected[:n].tobytes(), f"{src} -> {dst}, {options}, n={n}, {place}"
                beside = (
                    target.bytes[: -out.nbytes or None][-64:] if place == "at_end" else target.bytes[out.nbytes :][:64]
                )
                assert beside.tobytes() == UNTOUCHED, f"{src} -> {dst}, {options}, n={n}, {place}: wrote beside out"


OFFSETS = [(i, 0) for i in range(64)] + [(0, i) for i in range(1, 64)] + [(i, (i * 29 + 7) % 64) for i in range(1, 64)]


@pytest.mark.emulated
@pytest.mark.parametrize("family", FAMILIES)
def test_every_misalignment(family, isa):
    source, target = np.zeros(4096, np.uint8), np.zeros(4096, np.uint8)
    for src, dst, options, codes, expected in pairs(family):
        for i, (x_offset, out_offset) in enumerate(OFFSETS):
            n = 64 + i % 71
            x = source[x_offset:][: n * codes.itemsize].view(codes.dtype)
            out = target[out_offset:][: n * expected.itemsize].view(expected.dtype)
            x[...] = codes[:n]
            target.fill(0xA5)
            cast_into(x, src, dst, out, options)
            assert out.tobytes() == expected[:n].tobytes(), (
                f"{src} -> {dst}, {options}, n={n}, offsets {x_offset}, {out_offset}"
            )
            out[...] = 0
            untouched = np.count_nonzero(target == 0xA5)
            assert untouched == target.size - out.nbytes


@pytest.mark.emulated
@pytest.mark.parametrize(("src", "dst"), TWO_STEPS)
def test_lengths_around_the_tile(src, dst, isa):
    """Two-step casts work in tiles; no length may fall between them."""
    codes = np.resize(sample(src, dst, ())[0], 4096)
    expected = oracle.cast(src, codes, dst)
    for n in [k + d for k in (256, 512, 1024, 1536, 2048) for d in range(-3, 4)]:
        got = nc.astype(cases.array(src, codes[:n]), dst)
        assert np.array_equal(got.view(expected.dtype), expected[:n]), n


@pytest.mark.parametrize("step", [2, 3, -1, -5])
@pytest.mark.parametrize(("src", "dst"), TWO_STEPS)
def test_strided_between_guard_pages(src, dst, step, isa, guarded):
    """A strided view's last element may be the last byte that exists."""
    source, target = guarded
    codes, expected = sample(src, dst, ())
    for n in range(1, 130):
        room = (n - 1) * abs(step) + 1
        x = source.at_end(codes.dtype, room)[::step]
        out = target.at_end(expected.dtype, room)[::step]
        x[...], out[...] = codes[:n], 0
        cast_into(x, src, dst, out, {})
        assert np.array_equal(out, expected[:n]), n
