"""nc.pack, nc.unpack and nc.repack as they are called: dtypes, shapes, padding, out=, tensors, and what is refused.

What the bytes of each layout are is in test_pack_layouts.py.
"""

import ml_dtypes
import numpy as np
import pytest

import narrowcast as nc

pytestmark = pytest.mark.emulated


def test_a_dtype_by_any_name():
    codes = np.array([1, 2, 3, 4], np.uint8)
    for dtype in ("uint4", np.dtype(ml_dtypes.uint4), ml_dtypes.uint4):
        assert nc.pack(codes, dtype).tolist() == [0x21, 0x43]
    assert nc.pack(codes.astype(ml_dtypes.uint4)).tolist() == [0x21, 0x43]
    assert nc.pack(codes).tolist() == [1, 2, 3, 4]
    assert nc.pack(codes, "uint3", pad=True).tolist() == [0b11010001, 0b1000]
    assert (
        nc.pack(codes.view(ml_dtypes.float6_e2m3fn)).tolist()
        == nc.pack(codes, "float6_e2m3fn").tolist()
        == [129, 48, 16]
    )


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("int4", ml_dtypes.int4),
        ("uint4", ml_dtypes.uint4),
        ("int2", ml_dtypes.int2),
        ("uint2", ml_dtypes.uint2),
        ("int3", np.int8),
        ("uint5", np.uint8),
        ("int8", np.int8),
        ("float4_e2m1fn", ml_dtypes.float4_e2m1fn),
        ("float6_e2m3fn", ml_dtypes.float6_e2m3fn),
        ("float6_e3m2fn", ml_dtypes.float6_e3m2fn),
    ],
)
def test_codes_come_back_in_their_dtype(name, dtype):
    bits = next(int(digit) for digit in name if digit.isdigit())
    low = -(1 << (bits - 1)) if name.startswith("int") else 0
    if name.startswith("float"):
        codes = np.arange(1 << bits, dtype=np.uint8).view(dtype)
    else:
        codes = np.arange(low, low + (1 << bits)).astype(dtype)
    back = nc.unpack(nc.pack(codes, name, pad=True), name, shape=codes.shape)
    assert back.dtype == dtype
    assert back.tolist() == codes.tolist()


def test_what_stands_above_a_code_of_a_narrow_dtype_is_no_part_of_it():
    codes = np.array([0x18, 0xF1], np.uint8).view(ml_dtypes.int4)
    assert nc.pack(codes).tolist() == [0x18]
    assert nc.pack(np.array([-8, 1], np.int8), "int4").tolist() == [0x18]


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.int64, np.uint64, ">i4", np.uint8, np.int8, bool])
def test_any_integers(dtype):
    codes = np.array([0, 1, 1, 0], dtype)
    assert nc.pack(codes, "uint4").tolist() == nc.pack(codes, "int4").tolist() == [0x10, 0x01]
    assert nc.pack([0, 1, 1, 0], "int4").tolist() == [0x10, 0x01]
    assert nc.pack(codes.astype(ml_dtypes.uint4), "int4").tolist() == [0x10, 0x01]


@pytest.mark.parametrize(
    ("codes", "dtype", "sentence"),
    [
        (np.array([[0, 1], [16, 99]], np.uint8), "uint4", "codes[1, 0] is 16; unsigned codes of 4 bits are 0 to 15"),
        (np.array([[0, 1], [8, -9]], np.int8), "int4", "codes[1, 0] is 8; signed codes of 4 bits are -8 to 7"),
        (np.array([0, 255], np.uint8), "int4", "codes[1] is 255; signed codes of 4 bits are -8 to 7"),
        (np.array([0, 255], np.uint8), "int8", "codes[1] is 255; signed codes of 8 bits are -128 to 127"),
        (np.array([0, -1], np.int8), "uint8", "codes[1] is -1; unsigned codes of 8 bits are 0 to 255"),
        (np.array([0, -1], np.int8), "uint4", "codes[1] is -1; unsigned codes of 4 bits are 0 to 15"),
        (np.array([0, 2**40]), "uint4", "codes[1] is 1099511627776; unsigned codes of 4 bits are 0 to 15"),
        (np.array([0, 2**64 - 1], np.uint64), "int4", "codes[1] is 18446744073709551615; signed codes"),
        (np.array([0, -1]).astype(ml_dtypes.int4), "uint4", "codes[1] is -1; unsigned codes of 4 bits are 0 to 15"),
        (np.array([0, 64], np.uint8), "float6_e2m3fn", "codes[1] is 64; unsigned codes of 6 bits are 0 to 63"),
    ],
)
def test_codes_that_do_not_fit(codes, dtype, sentence):
    bits = int(next(digit for digit in dtype if digit.isdigit()))
    out = np.full(nc.pack(codes, dtype, pad=True, check=False).shape, 0xA5, np.uint8)
    with pytest.raises(OverflowError) as refusal:
        nc.pack(codes, dtype, pad=True, out=out)
    assert str(refusal.value).startswith(sentence)
    assert (out == 0xA5).all()
    low = codes.astype(np.int64) if codes.dtype != np.uint64 else codes
    unchecked = nc.unpack(nc.pack(codes, dtype, pad=True, check=False), f"uint{bits}", shape=codes.shape)
    assert (unchecked.view(np.uint8) == low % (1 << bits)).all()


def test_strides_of_codes_and_out():
    codes = np.random.default_rng(0).integers(0, 16, (6, 40)).astype(np.uint8)
    expected = nc.pack(codes, "uint4")
    for given in (np.asfortranarray(codes), np.repeat(codes, 2, 1)[:, ::2], codes[::-1][::-1]):
        assert np.array_equal(nc.pack(given, "uint4"), expected)
    out = np.zeros((6, 40), np.uint8)[:, ::2]
    assert nc.pack(codes, "uint4", out=out) is out
    assert np.array_equal(out, expected)
    back = np.full((40, 6), 99, np.uint8).T
    assert nc.unpack(np.asfortranarray(expected), "uint4", out=back) is back
    assert np.array_equal(back, codes)
    typed = np.zeros((6, 40), ml_dtypes.uint4)
    assert nc.unpack(expected, "uint4", out=typed) is typed
    assert np.array_equal(typed.view(np.uint8), codes)
    part = np.full((6, 50), 99, np.int8)[:, :33]
    words = nc.pack(codes[:, :33], "uint4", layout="awq", pad=True)
    assert nc.unpack(words, "uint4", shape=(6, 33), layout="awq", out=part) is part
    assert np.array_equal(part, codes[:, :33])
    unsigned = np.zeros((6, 5), np.uint32)
    assert nc.pack(codes, "uint4", layout="awq", out=unsigned) is unsigned
    assert np.array_equal(unsigned.view(np.int32), nc.pack(codes, "uint4", layout="awq"))


def test_packed_that_is_no_array():
    assert nc.unpack(b"\x21\x43", "uint4").tolist() == [1, 2, 3, 4]
    words = nc.pack(np.arange(16), "uint4", layout="awq")
    assert nc.unpack(words.tobytes(), "uint4", layout="awq").tolist() == list(range(16))


def test_nothing_to_pack():
    for shape in ((0,), (0, 8), (3, 0)):
        for layout in ("lsb", "quanto", "gptq", "awq", "ggml", "compressed_tensors"):
            codes = np.zeros(shape, np.int8)
            packed = nc.pack(codes, "int4", layout=layout, pad=True)
            assert packed.size == 0
            assert nc.unpack(packed, "int4", layout=layout, shape=shape).shape == shape
            assert nc.repack(packed, "int4", layout, layout, shape=shape, pad=True).shape == packed.shape


def test_padding_is_zero_bits_and_cut_off_by_shape():
    codes = np.full((3, 5), -1, np.int8)
    packed = nc.pack(codes, "int4", layout="compressed_tensors", pad=True)
    assert packed.tolist() == [[0x77777]] * 3
    assert nc.unpack(packed, "int4", layout="compressed_tensors", shape=(3, 5)).tolist() == codes.tolist()
    assert nc.unpack(packed, "int4", layout="compressed_tensors").shape == (3, 8)
    assert nc.pack([1, 2, 3], "uint4", layout="msb_nibble", pad=True).tolist() == [0x12, 0x30]


# What is wrong, and the sentence that says so.
WRONG = [
    (lambda: nc.pack([1], "uint9"), TypeError, "dtype is 'uint9'; allowed are int1 to int8, uint1 to uint8, float4"),
    (
        lambda: nc.pack([1.0, 2.0], "uint4"),
        TypeError,
        "codes has dtype float64; allowed for uint4 are integers and uint4",
    ),
    (lambda: nc.pack([1]), TypeError, "codes.dtype is dtype('int64'); allowed are"),
    (lambda: nc.pack([1, 2], "uint4", layout="LSB"), ValueError, "layout is 'LSB'; allowed are lsb, msb_nibble, ggml"),
    (lambda: nc.pack([1, 2], "uint3", layout="awq"), ValueError, "dtype is uint3; layout awq has codes of 4 bits"),
    (lambda: nc.pack(3, "uint4"), ValueError, "the codes have 0 axes; layout lsb needs 1"),
    (lambda: nc.pack([1, 2], "uint4", layout="marlin"), ValueError, "the codes have 1 axes; layout marlin needs 2"),
    (
        lambda: nc.pack([1, 2, 3], "uint4"),
        ValueError,
        "have 3 items along axis 0; allowed are multiples of 2 for uint4",
    ),
    (
        lambda: nc.pack(np.zeros((3, 5), int), "uint3", axis=0),
        ValueError,
        "3 items along axis 0; allowed are multiples of 8",
    ),
    (lambda: nc.pack([[1, 2]], "uint4", axis=2), ValueError, "axis is 2; allowed are -2 to 1"),
    (lambda: nc.pack([1, 2], "uint4", axis=0.5), TypeError, "axis is 0.5; allowed are integers and None"),
    (lambda: nc.pack([1, 2], "uint4", threads=-1), ValueError, "threads is -1"),
    (lambda: nc.pack([1, 2], "uint4", out=np.zeros(2, np.uint8)), ValueError, "out has shape (2,); allowed is (1,)"),
    (lambda: nc.pack([1, 2], "uint4", out=np.zeros(1, np.int32)), TypeError, "out has dtype int32; allowed are uint8"),
    (lambda: nc.pack([1, 2], "uint4", out=bytearray(1)), TypeError, "out is a bytearray; allowed are ndarrays"),
    (lambda: nc.pack(np.zeros((16, 70), int), "uint4", layout="marlin"), ValueError, "must be multiples of 16 and 64"),
    (
        lambda: nc.pack(np.zeros((16, 64), int), "uint4", layout="marlin", axis=1),
        ValueError,
        "tiles of the last two axes",
    ),
    (lambda: nc.unpack(np.zeros(3, np.int32), "uint4"), TypeError, "packed has dtype int32; allowed for layout lsb"),
    (lambda: nc.unpack(np.zeros(3, np.uint8), "uint4", layout="awq"), TypeError, "layout awq are int32 and uint32"),
    (lambda: nc.unpack(np.zeros(4, np.uint8), "uint3"), ValueError, "3 hold 8 codes of uint3; say with shape="),
    (
        lambda: nc.unpack(np.zeros(3, np.uint8), "uint4", shape=7),
        ValueError,
        "shape (7,) take (4,) in layout lsb along axis 0",
    ),
    (lambda: nc.unpack(np.zeros(3, np.uint8), "uint4", shape=(-6,)), ValueError, "an extent must be 0 or more"),
    (lambda: nc.unpack(np.zeros(3, np.uint8), "uint4", shape="6"), TypeError, "shape is '6'; allowed are integers"),
    (lambda: nc.unpack(np.zeros(3, np.uint8), "uint4", out=np.zeros(5, np.uint8)), ValueError, "allowed is (6,)"),
    (lambda: nc.repack(b"\x21", "uint4", "lsb", "gguf", shape=2), ValueError, "to_layout is 'gguf'; allowed are"),
    (
        lambda: nc.repack(b"\x21", "uint4", "lsb", "awq", shape=2),
        ValueError,
        "allowed are multiples of 8 for uint4 in layout awq",
    ),
    (lambda: nc.repack(b"\x21", "uint4", "lsb", "ggml", shape=3, pad=True), ValueError, "packed has shape (1,)"),
    (lambda: nc.repack(b"\x21", "uint2", "lsb", "awq", shape=4), ValueError, "layout awq has codes of 4 bits"),
]


@pytest.mark.parametrize(("call", "error", "sentence"), WRONG)
def test_wrong_arguments(call, error, sentence):
    with pytest.raises(error) as refusal:
        call()
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_memory_that_may_not_be_written():
    out = np.zeros(1, np.uint8)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        nc.pack([1, 2], "uint4", out=out)
    memory = np.zeros(64, np.uint8)
    with pytest.raises(ValueError, match="overlaps"):
        nc.pack(memory, "uint4", layout="ggml", out=memory[16:48])
    with pytest.raises(ValueError, match="overlaps"):
        nc.unpack(memory[:32], "uint4", out=memory)
    with pytest.raises(ValueError, match="overlaps"):
        nc.repack(memory[:32], "uint4", "lsb", "msb_nibble", shape=64, out=memory[16:48])
    memory[:] = np.arange(64) % 16
    expected = nc.pack(memory, "uint4").tolist()
    nc.pack(memory, "uint4", out=memory[:32])  # the one overlap that is sound
    assert memory[:32].tolist() == expected


def test_tensors():
    torch = pytest.importorskip("torch")
    codes = torch.arange(-8, 8, dtype=torch.int8).reshape(2, 8)
    packed = nc.pack(codes, "int4")
    assert packed.dtype == torch.uint8
    assert packed.tolist() == nc.pack(codes.numpy(), "int4").tolist()
    words = nc.pack(codes, "int4", layout="compressed_tensors")
    assert words.dtype == torch.int32
    assert torch.equal(nc.unpack(words, "int4", layout="compressed_tensors"), codes)
    again = nc.repack(words, "int4", "compressed_tensors", "lsb", shape=(2, 8))
    assert torch.equal(again, packed)
    out = torch.zeros(8, 2, dtype=torch.int8).T
    assert nc.unpack(packed, "int4", out=out) is out
    assert torch.equal(out, codes)
    assert nc.unpack(packed, "uint4").dtype == torch.uint8
    if hasattr(torch, "uint4"):
        assert nc.unpack(packed, torch.uint4).dtype == torch.uint8
    if hasattr(torch, "float4_e2m1fn_x2"):
        pairs = packed.view(torch.float4_e2m1fn_x2)
        assert torch.equal(nc.unpack(pairs, "float4_e2m1fn"), nc.unpack(packed, "uint4"))


def test_zero_points_of_gptq():
    """Version 1 stores them less one, in words along the rows."""
    zeros = np.full((2, 8), 8)
    assert [hex(word) for word in nc.pack(zeros - 1, "uint4", layout="gptq", axis=-1).ravel()] == ["0x77777777"] * 2
