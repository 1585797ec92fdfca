"""Layouts: golden bytes of their owners, a model in plain integers, all codes there and back, repacking.

The golden bytes were typed from what the packages named give for `pattern`. Where such a package is installed it is
asked again.
"""

import functools
import itertools

import numpy as np
import pytest

import narrowcast as nc
import pack_model


def pattern(rows, columns, bits):
    k, n = np.arange(rows)[:, None], np.arange(columns)
    return ((k * 5 + n * 3 + k // 7) % (1 << bits)).astype(np.uint8)


def signed(codes, bits):
    return (codes.astype(np.int16) - (1 << (bits - 1))).astype(np.int8)


def shown(packed):
    return (
        packed.tobytes().hex(" ")
        if packed.itemsize == 1
        else " ".join(f"{word:08x}" for word in packed.view("u4").flat)
    )


# Layout, bits, shape of the pattern, what its owner stores.
GOLDEN = [
    ("quanto", 2, (5, 3), "08 37 22 0d 08 07"),
    ("quanto", 4, (5, 3), "f0 23 56 45 78 ab 0a 0d 00"),
    ("awq", 4, (2, 16), "5f932c60 d71ba4e8 a4e871b5 2c60f93d"),
    ("gptq", 2, (32, 2), "493924e4 34e4d393 e493924e 934e4d39"),
    ("gptq", 3, (32, 2), "f198cea8 8ce67543 633aa150 99d50e87 ea8543c6 543a1e33"),
    ("gptq", 4, (32, 2), "4e94fa50 71c72d83 d82d83e9 0b50b61c 61c61c72 94f94fa5 fa50a50b 2d83d83e"),
    (
        "gptq",
        8,
        (32, 2),
        "0f0a0500 120d0803 241e1914 27211c17 38332e29 3b36312c 4d48423d 504b4540 615c5752 645f5a55 76716c66 79746f69 "
        "8a85807b 8d88837e 9f9a9590 a29d9893",
    ),
    ("compressed_tensors", 1, (2, 10), "000002aa 00000155"),
    ("compressed_tensors", 2, (2, 10), "000c6c6c 0001b1b1"),
    ("compressed_tensors", 3, (2, 10), "18abc398 055e1cc5"),
    ("compressed_tensors", 4, (2, 10), "52fc9630 000000b8 a741eb85 0000000d"),
    ("compressed_tensors", 5, (2, 10), "9ec49860 000378ac e9172d05 00001dd5"),
    ("compressed_tensors", 6, (2, 10), "cc2460c0 06d85523 1138b205 081d6975"),
    ("compressed_tensors", 7, (2, 10), "c1218180 982a4878 0000000d 11c2c405 1d345ca1 00000010"),
    ("compressed_tensors", 8, (2, 10), "09060300 15120f0c 00001b18 0e0b0805 1a171411 0000201d"),
    ("compressed_tensors_pre018", 1, (2, 10), "000002aa 00000155"),
    ("compressed_tensors_pre018", 2, (2, 10), "000c6c6c 0001b1b1"),
    ("compressed_tensors_pre018", 3, (2, 10), "18abc398 055e1cc5"),
    ("compressed_tensors_pre018", 4, (2, 10), "52fc9630 000000b8 a741eb85 0000000d"),
    ("compressed_tensors_pre018", 5, (2, 10), "1ec49860 000de2b2 29172d05 00007757"),
    ("compressed_tensors_pre018", 6, (2, 10), "0c2460c0 1b61548f 1138b205 2075a5d4"),
    ("compressed_tensors_pre018", 7, (2, 10), "01218180 02a4878c 00000d98 01c2c405 0345ca11 0000101d"),
    ("compressed_tensors_pre018", 8, (2, 10), "09060300 15120f0c 00001b18 0e0b0805 1a171411 0000201d"),
]


@pytest.mark.emulated
@pytest.mark.parametrize(("layout", "bits", "shape", "packed"), GOLDEN)
def test_golden_words(layout, bits, shape, packed, isa):
    codes = pattern(*shape, bits)
    name = f"uint{bits}"
    if layout.startswith("compressed_tensors"):
        codes, name = signed(codes, bits), f"int{bits}"
    words = nc.pack(codes, name, layout=layout, pad=True)
    assert shown(words) == packed
    assert nc.unpack(words, name, layout=layout, shape=shape).astype(int).tolist() == codes.tolist()


def test_golden_bytes_of_bitsandbytes():
    """quantize_4bit of NF4's own values: its codes."""
    codes = [15, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert shown(nc.pack(codes, "uint4", layout="msb_nibble")) == "f0 12 34 56 78 9a"


def test_golden_bytes_of_ggml():
    """The 16 bytes behind the scale in a Q4_0 block of -8 to 7."""
    codes = [0] + [(j * 5 + j // 16 * 3 + 3) % 16 for j in range(1, 32)]
    assert shown(nc.pack(codes, "uint4", layout="ggml")) == "60 b8 0d 52 a7 fc 41 96 eb 30 85 da 2f 74 c9 1e"


@pytest.mark.emulated
def test_golden_words_of_marlin(isa):
    """The first and the last words of auto-gptq's Marlin layer for 16 x 64 codes."""
    codes = (pattern(16, 64, 4) + np.arange(64) // 16) % 16
    words = nc.pack(codes, "uint4", layout="marlin")
    assert words.shape == (1, 128)
    assert shown(words[0, :8]) == "6de51890 7ef629a1 8f073ab2 90184bc3 078fb23a 1890c34b 29a1d45c 3ab2e56d"
    assert shown(words[0, -8:]) == "f67ea129 078fb23a 1890c34b 29a1d45c a1295bd3 b23a6ce4 c34b7df5 d45c8e06"


def test_every_layout_has_golden_bytes():
    elsewhere = {("msb_nibble", 4), ("ggml", 4), ("marlin", 4)} | {
        ("lsb", bits) for bits in range(1, 9)
    }  # test_pack.py
    assert {(row.name, bits) for row in nc.layouts() for bits in row.widths} == elsewhere | {row[:2] for row in GOLDEN}


# --- the model --------------------------------------------------------------------------------------------------------


def test_the_rows_are_those_of_the_model():
    rows = {row.name: (list(row.widths), row.word_bits, row.axis, row.is_biased) for row in nc.layouts()}
    assert rows == {name: (list(widths), *rest) for name, (widths, *rest) in pack_model.LAYOUTS.items()}


def names(bits):
    yield f"uint{bits}", lambda codes: codes
    yield f"int{bits}", lambda codes: signed(codes, bits)


def random_codes(shape, bits, seed=0):
    return np.random.default_rng(seed).integers(0, 1 << bits, shape).astype(np.uint8)


@functools.cache  # the model is asked once for all instruction sets
def expected(shape, name, bits, layout, axis, seed):
    codes = random_codes(shape, bits, seed)
    codes = signed(codes, bits) if name.startswith("int") else codes
    return codes, pack_model.pack(codes, bits, layout, axis)


def check(shape, bits, layout, axis=None, seed=0):
    for name in (f"uint{bits}", f"int{bits}"):
        codes, words = expected(shape, name, bits, layout, axis, seed)
        packed = nc.pack(codes, name, layout=layout, axis=axis, pad=True)
        assert (packed.dtype, packed.shape) == (words.dtype, words.shape)
        assert packed.tobytes() == words.tobytes(), (name, shape, axis)
        back = nc.unpack(packed, name, layout=layout, axis=axis, shape=shape)
        assert np.array_equal(back.astype(np.int16), codes), (name, shape, axis)


LINES = [(name, bits) for name, bits in pack_model.ROWS if name != "marlin"]


@pytest.mark.parametrize(("layout", "bits"), LINES)
def test_every_length_of_a_line(layout, bits, isa):
    """All lengths around the groups, of one line and of lines that begin anywhere."""
    for n in (*range(1, 35), 63, 64, 65, 97, 1919, 1921):
        check((n,), bits, layout, seed=n)
    for n in (1, 7, 31, 33, 100):
        check((3, n), bits, layout, axis=1)


@pytest.mark.parametrize(("layout", "bits"), LINES)
def test_every_axis(layout, bits, isa):
    for shape in ((5, 3), (33, 2), (4, 37, 3), (40, 1, 5), (1, 2, 1930), (1, 64)):
        for axis in range(len(shape)):
            check(shape, bits, layout, axis)
    codes = random_codes((6, 32, 8), bits)
    own = pack_model.own_axis(layout, 3)
    assert np.array_equal(
        nc.pack(codes, f"uint{bits}", layout=layout, pad=True),
        nc.pack(codes, f"uint{bits}", layout=layout, pad=True, axis=own - 3),
    )


def test_tiles(isa):
    for shape in ((16, 64), (32, 192), (2, 16, 128), (16, 1024), (48, 64)):
        check(shape, 4, "marlin")
    codes = random_codes((19, 70), 4)
    padded = np.zeros((32, 128), np.uint8)
    padded[:19, :70] = codes
    words = nc.pack(codes, "uint4", layout="marlin", pad=True)
    assert np.array_equal(words, pack_model.pack(padded, 4, "marlin"))
    assert nc.unpack(words, "uint4", layout="marlin", shape=codes.shape).astype(int).tolist() == codes.tolist()


@pytest.mark.emulated
@pytest.mark.parametrize(("layout", "bits"), pack_model.ROWS)
def test_all_codes(layout, bits):
    """Every code at every place of 64, and in dtypes of its own."""
    codes = (np.arange(64)[:, None] + np.arange(960)) % (1 << bits)  # of whole words in every layout
    for name, made in names(bits):
        given = made(codes.astype(np.uint8))
        packed = nc.pack(given, name, layout=layout)
        assert nc.unpack(packed, name, layout=layout).astype(int).tolist() == given.tolist()
        typed = given.astype(nc.unpack(packed, name, layout=layout).dtype)
        assert nc.pack(typed, name, layout=layout).tobytes() == packed.tobytes()
    assert nc.unpack(np.zeros_like(packed), name, layout=layout).shape == codes.shape


@pytest.mark.parametrize(
    ("layout", "bits"), [("lsb", 4), ("lsb", 3), ("quanto", 2), ("gptq", 3), ("marlin", 4), ("ggml", 4)]
)
@pytest.mark.parametrize("threads", [0, 3])
def test_threads(layout, bits, threads):
    codes = np.tile(random_codes((64, 1024), bits), (32, 1))
    name = f"uint{bits}"
    one, many = (nc.pack(codes, name, layout=layout, threads=t) for t in (1, threads))
    assert np.array_equal(one, many)
    assert np.array_equal(one, nc.pack(codes.astype(np.int64), name, layout=layout))
    back = nc.unpack(one, name, layout=layout, threads=threads)
    assert np.array_equal(back.view(np.uint8), codes)
    again = nc.repack(one, name, layout, "lsb", shape=codes.shape, threads=threads)
    assert np.array_equal(again, nc.pack(codes, name))


# --- repack -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", pack_model.LAYOUTS)
@pytest.mark.parametrize("source", pack_model.LAYOUTS)
def test_repack_is_unpack_and_pack(source, to):
    (from_widths, *_), (to_widths, *_) = pack_model.LAYOUTS[source], pack_model.LAYOUTS[to]
    shapes = [(32, 128), (2, 16, 64), (48, 2112)] if "marlin" in (source, to) else [(4, 37, 3), (100,), (33, 1930)]
    for bits, shape in itertools.product(set(from_widths) & set(to_widths), shapes):
        axes = [(None, None)]
        if bits in (3, 4) and len(shape) < 3:
            every = [None] if "marlin" in (source, to) else range(len(shape))
            axes = list(itertools.product(every, every))
        for (name, made), (from_axis, to_axis) in itertools.product(names(bits), axes):
            codes = made(random_codes(shape, bits))
            given = nc.pack(codes, name, layout=source, axis=from_axis, pad=True)
            wanted = nc.pack(codes, name, layout=to, axis=to_axis, pad=True)
            options = {"shape": shape, "from_axis": from_axis, "to_axis": to_axis, "pad": True}
            got = nc.repack(given, name, source, to, **options)
            assert got.dtype == wanted.dtype
            assert np.array_equal(got, wanted), (bits, shape, from_axis, to_axis)
            out = np.full_like(wanted, 0x55)
            assert nc.repack(given, name, source, to, out=out, **options) is out
            assert np.array_equal(out, wanted)


# --- the owners -------------------------------------------------------------------------------------------------------


def tensor(codes):
    return pytest.importorskip("torch", reason="its owner computes with torch").from_numpy(codes)


def test_against_compressed_tensors():
    name = "compressed_tensors.compressors.pack_quantized.helpers"
    owner = pytest.importorskip(name, reason="compressed-tensors 0.18 or later is not installed")
    for bits, axis in itertools.product(range(1, 9), (0, 1)):
        codes = signed(random_codes((37, 70), bits), bits)
        packed = owner.pack_to_int32(tensor(codes), bits, axis).numpy()
        assert np.array_equal(nc.pack(codes, f"int{bits}", layout="compressed_tensors", axis=axis, pad=True), packed)


def test_against_quanto():
    owner = pytest.importorskip("optimum.quanto.tensor.packed", reason="optimum-quanto is not installed")
    for bits, rows in itertools.product((2, 4), (1, 5, 8, 9, 64)):
        codes = random_codes((rows, 6), bits)
        packed = owner.pack_weights(tensor(codes), bits).numpy()
        assert np.array_equal(nc.pack(codes, f"uint{bits}", layout="quanto", pad=True), packed)


def test_against_quanto_s_awq():
    owner = pytest.importorskip("optimum.quanto.tensor.weights.awq.packed", reason="optimum-quanto is not installed")
    codes = random_codes((6, 64), 4)
    assert np.array_equal(nc.pack(codes, "uint4", layout="awq"), owner.pack(tensor(codes), reorder=True).numpy())


def test_against_bitsandbytes():
    owner = pytest.importorskip("bitsandbytes.functional", reason="bitsandbytes is not installed")
    values = owner.get_4bit_type("nf4", device="cpu")
    codes = random_codes(512, 4)
    codes[::64] = 15  # the value 1, so that every block's scale is 1
    packed, _ = owner.quantize_4bit(values[tensor(codes).long()].contiguous(), quant_type="nf4", blocksize=64)
    assert np.array_equal(nc.pack(codes, "uint4", layout="msb_nibble"), packed.numpy().ravel())


def test_against_gguf():
    owner = pytest.importorskip("gguf", reason="gguf is not installed")
    codes = random_codes((4, 32), 4)
    codes[:, 0] = 0  # the value -8, so that every block's scale is 1
    blocks = owner.quants.quantize(codes.astype(np.float32) - 8, owner.GGMLQuantizationType.Q4_0)
    assert np.array_equal(nc.pack(codes, "uint4", layout="ggml"), blocks[:, 2:])
