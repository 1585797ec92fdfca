"""The core's packing in the layout lsb: golden bytes typed by hand, numpy.packbits as an oracle that shares nothing
with it, round trips, and what is refused. Every length and alignment between guard pages is in
cpp/tests/pack_test.cpp, other layouts in test_pack_layouts.py, the public calls in test_pack_calls.py.
"""

import mmap
import threading

import ml_dtypes
import numpy as np
import pytest

from narrowcast import _core

pytestmark = pytest.mark.emulated
WIDTHS = range(1, 9)


def packed_bytes(n, bits):
    return (n * bits + 7) // 8


def pack(codes, bits, **options):
    packed = np.full(packed_bytes(codes.size, bits), 0xA5, np.uint8)
    assert _core.pack(codes, packed, bits, **options) is None
    return packed


def unpack(packed, n, bits, **options):
    codes = np.full(n, 0xA5, np.uint8)
    assert _core.unpack(packed, codes, bits, **options) is None
    return codes


def oracle_pack(codes, bits):
    """The low bits of each code, one by one, lowest first."""
    rows = np.unpackbits(codes[:, None], axis=1, bitorder="little")[:, :bits]
    return np.packbits(rows, bitorder="little")


def oracle_unpack(packed, n, bits, is_signed=False):
    stream = np.unpackbits(packed, count=n * bits, bitorder="little").reshape(n, bits)
    above = np.repeat(stream[:, -1:] if is_signed else np.zeros_like(stream[:, -1:]), 8 - bits, axis=1)
    return np.packbits(np.concatenate([stream, above], axis=1), axis=1, bitorder="little").ravel()


def random_codes(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, n, np.uint8)


# Layout, bits, codes, packed. The 4-bit row is onnx's (float4e2m1 of 1 and -6); the rest was worked out on paper.
GOLDEN = [
    ("lsb", 1, "01 00 01 01 00 00 00 01 01", "8d 01"),
    ("lsb", 2, "00 01 02 03 03", "e4 03"),
    ("lsb", 3, "00 01 02 03 04 05 06 07 05", "88 c6 fa 05"),
    ("lsb", 4, "02 0f", "f2"),
    ("lsb", 4, "01 02 03", "21 03"),
    ("lsb", 5, "01 02 03 04 05 06 07 08", "41 0c 52 cc 41"),
    ("lsb", 6, "01 02 03 04 3f", "81 30 10 3f"),
    ("lsb", 7, "01 02 03 04 05 06 07 08", "01 c1 80 50 30 1c 10"),
    ("lsb", 8, "01 fe 00", "01 fe 00"),
]


@pytest.mark.parametrize(("layout", "bits", "codes", "packed"), GOLDEN)
def test_golden_bytes(layout, bits, codes, packed, isa):
    codes, packed = (np.frombuffer(bytes.fromhex(text), np.uint8) for text in (codes, packed))
    assert pack(codes, bits, layout=layout, isa=isa).tobytes() == packed.tobytes()
    assert unpack(packed, codes.size, bits, layout=layout, isa=isa).tobytes() == codes.tobytes()


def test_every_width_has_golden_bytes():
    assert _core.layouts()[0][:3] == ("lsb", 1, tuple(WIDTHS))
    assert {bits for _, bits, *_ in GOLDEN} == set(WIDTHS)


@pytest.mark.parametrize("bits", WIDTHS)
def test_against_packbits(bits, isa):
    for n in [*range(70), 500, 511, 4096, 5001]:
        codes = random_codes(n, n)  # hostile: bits above the width are there, and change nothing
        expected = oracle_pack(codes, bits)
        assert pack(codes, bits, isa=isa).tobytes() == expected.tobytes(), n
        in_place = codes.copy()
        _core.pack(in_place, in_place[: expected.size], bits, isa=isa)
        assert in_place[: expected.size].tobytes() == expected.tobytes(), n
        noise = random_codes(expected.size, n + 1)  # bits behind the last code are there, and ignored
        for is_signed in (False, True):
            got = unpack(noise, n, bits, is_signed=is_signed, isa=isa)
            assert got.tobytes() == oracle_unpack(noise, n, bits, is_signed).tobytes(), n


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
@pytest.mark.parametrize("bits", [3, 4, 6])
def test_large_arrays(bits, threads):
    n = (3 << 20) + 77
    codes = random_codes(n)
    packed = pack(codes, bits, threads=threads)
    assert packed.tobytes() == oracle_pack(codes, bits).tobytes()
    assert (unpack(packed, n, bits, threads=threads) == codes & (1 << bits) - 1).all()


@pytest.mark.parametrize("bits", WIDTHS)
def test_pieces_of_eight_codes_make_the_same_stream(bits):
    codes = random_codes(1003)
    whole = pack(codes, bits)
    pieces = [pack(codes[at : at + 56], bits) for at in range(0, codes.size, 56)]
    assert np.concatenate(pieces).tobytes() == whole.tobytes()


@pytest.mark.parametrize("dtype", ["int4", "uint4", "int2", "uint2", "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"])
def test_codes_of_ml_dtypes(dtype):
    """Every code of a format survives, as a view of its bytes."""
    dtype = np.dtype(getattr(ml_dtypes, dtype))
    bits = 2 if dtype.name.endswith("int2") else 6 if dtype.name.startswith("float6") else 4
    values = np.tile(np.arange(1 << bits, dtype=np.uint8), 5).view(dtype)
    packed = pack(values.view(np.uint8), bits, check=True)
    assert packed.size == values.size * bits // 8
    assert unpack(packed, values.size, bits).view(dtype).tolist() == values.tolist()


@pytest.mark.parametrize("bits", WIDTHS)
def test_signed_codes(bits, isa):
    values = np.arange(-(1 << (bits - 1)), 1 << (bits - 1), dtype=np.int8)
    packed = pack(values.view(np.uint8), bits, is_signed=True, check=True, isa=isa)
    assert unpack(packed, values.size, bits, is_signed=True, isa=isa).view(np.int8).tolist() == values.tolist()


@pytest.mark.parametrize("index", [0, 1, 63, 64, 999])
@pytest.mark.parametrize(
    ("bits", "is_signed", "code", "allowed"),
    [
        (1, False, 2, "unsigned codes of 1 bits are 0 to 1"),
        (4, False, 16, "unsigned codes of 4 bits are 0 to 15"),
        (6, False, 255, "unsigned codes of 6 bits are 0 to 63"),
        (4, True, 8, "signed codes of 4 bits are -8 to 7"),
        (4, True, -9, "signed codes of 4 bits are -8 to 7"),
        (7, True, 64, "signed codes of 7 bits are -64 to 63"),
    ],
)
def test_codes_that_do_not_fit(bits, is_signed, code, allowed, index, isa):
    codes = np.zeros(1000, np.uint8)
    codes[index] = codes[-1] = code % 256
    packed = np.full(packed_bytes(1000, bits), 0xA5, np.uint8)
    with pytest.raises(OverflowError) as refusal:
        _core.pack(codes, packed, bits, is_signed=is_signed, check=True, isa=isa)
    assert str(refusal.value) == f"codes[{index}] is {code}; {allowed}"
    assert (packed == 0xA5).all()


def test_any_buffer():
    codes = bytes([1, 2, 3, 4])
    packed = bytearray(2)
    _core.pack(codes, packed, 4)
    assert packed == b"\x21\x43"
    for kind in (bytes, bytearray, memoryview, lambda b: np.frombuffer(b, np.int8)):
        out = mmap.mmap(-1, 4)
        _core.unpack(kind(packed), out, 4)
        assert out[:] == codes
        out.close()
    _core.pack(b"", bytearray(), 3)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ((bytes(8), bytearray(4), 0), ValueError, "bits is 0; layout lsb has no codes of that many bits"),
        ((bytes(8), bytearray(4), 9), ValueError, "bits is 9; "),
        ((bytes(8), bytearray(4), -1), ValueError, "bits is -1; "),
        ((bytes(9), bytearray(4), 4), ValueError, "packed_bytes is 4; it must be 5, which 9 codes of 4 bits take"),
        ((bytes(9), bytearray(6), 4), ValueError, "packed_bytes is 6; it must be 5"),
        ((bytes(8), bytearray(4), 4, "LSB"), ValueError, "layout is 'LSB'; allowed are lsb, msb_nibble"),
        ((bytes(8), bytes(4), 4), BufferError, "writable"),
        (("text", bytearray(4), 4), TypeError, "bytes-like"),
        ((np.zeros(8, np.int32), bytearray(4), 4), TypeError, "codes has items of 4 bytes; pass a view of its bytes"),
        ((bytes(8), np.zeros(2, np.uint16), 4), TypeError, "packed has items of 2 bytes; pass a view of its bytes"),
        ((np.zeros(16, np.uint8)[::2], bytearray(4), 4), (BufferError, ValueError), "contiguous"),
    ],
)
def test_wrong_arguments(arguments, error, sentence):
    codes, packed, *rest = arguments
    with pytest.raises(error) as refusal:
        _core.pack(codes, packed, *rest)
    assert sentence in str(refusal.value)
    assert not isinstance(packed, bytearray) or not any(packed)


def test_wrong_arguments_of_unpack():
    for packed, codes, error, sentence in [
        (bytes(3), bytearray(8), ValueError, "packed_bytes is 3; it must be 4, which 8 codes of 4 bits take"),
        (bytes(4), bytes(8), BufferError, "writable"),
        (np.zeros(2, np.int16), bytearray(8), TypeError, "packed has items of 2 bytes"),
    ]:
        with pytest.raises(error, match=sentence):
            _core.unpack(packed, codes, 4)
    memory = np.zeros(16, np.uint8)
    with pytest.raises(ValueError, match="codes overlaps packed"):
        _core.unpack(memory[:4], memory[:8], 4)
    with pytest.raises(ValueError, match="packed overlaps codes"):
        _core.pack(memory[:8], memory[1:5], 4)
    with pytest.raises(ValueError, match="avx9"):
        _core.unpack(bytes(4), bytearray(8), 4, isa="avx9")
    with pytest.raises(ValueError, match="threads is -1"):
        _core.unpack(bytes(4), bytearray(8), 4, threads=-1)


def test_sizes():
    assert [_core.packed_bytes(n, 6) for n in range(6)] == [0, 1, 2, 3, 3, 4]
    assert _core.packed_bytes(2**60 + 1, 3) == 3 * 2**57 + 1
    for n, bits, layout in [(1, 0, "lsb"), (1, 9, "lsb"), (2**63, 4, "lsb"), (1, 4, "LSB")]:
        with pytest.raises(ValueError, match="layout"):
            _core.packed_bytes(n, bits, layout)


def test_threads_share_nothing():
    """Calls that run side by side, large enough to let each other run."""
    codes = [random_codes(200_000, seed) for seed in range(4)]
    results = [None] * 4

    def work(i):
        results[i] = [unpack(pack(codes[i], 3), codes[i].size, 3) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine, back in zip(codes, results, strict=True):
        assert all((b == mine & 7).all() for b in back)


def test_round_trips_that_hypothesis_invents():
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies

    @hypothesis.settings(deadline=None, max_examples=200, derandomize=True, database=None)
    @hypothesis.given(st.binary(max_size=3000), st.integers(1, 8), st.booleans(), st.integers(0, 63), st.data())
    def check(data, bits, is_signed, offset, draw):
        isa = draw.draw(st.sampled_from([name for name, supported in _core.isas() if supported]))
        memory = np.zeros(len(data) + 64, np.uint8)
        codes = memory[offset : offset + len(data)]
        codes[...] = np.frombuffer(data, np.uint8)
        packed = pack(codes, bits, isa=isa)
        back = unpack(packed, codes.size, bits, is_signed=is_signed, isa=isa)
        assert (back & (1 << bits) - 1).tolist() == (codes & (1 << bits) - 1).tolist()
        assert pack(back, bits, is_signed=is_signed, check=True, isa=isa).tobytes() == packed.tobytes()

    check()
