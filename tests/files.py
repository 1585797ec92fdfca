"""Files of tensors for the tests: written and read without narrowcast, packed codes and headers included.

A tensor is (format, codes): the name of a format, or of a numpy dtype that is none, and an array of unsigned integers
that holds its bits. What a cast should give is the oracle's business.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest

import cases
import oracle

# dtype strings of safetensors 0.8, typed from its documentation.
WORDS = {
    "bool": "BOOL",
    "float4_e2m1fn": "F4",
    "float6_e2m3fn": "F6_E2M3",
    "float6_e3m2fn": "F6_E3M2",
    "uint8": "U8",
    "int8": "I8",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "int16": "I16",
    "uint16": "U16",
    "float16": "F16",
    "bfloat16": "BF16",
    "int32": "I32",
    "uint32": "U32",
    "float32": "F32",
    "complex64": "C64",
    "float64": "F64",
    "int64": "I64",
    "uint64": "U64",
}
FORMATS = {word: name for name, word in WORDS.items()}
PACKED = {"float4_e2m1fn": 4, "float6_e2m3fn": 6, "float6_e3m2fn": 6}
NUMPY = {"float64", "float32", "float16", "complex64"} | set(oracle.INTEGERS) - {"int4", "uint4", "int2", "uint2"}

KINDS = (".safetensors", ".npz", ".npy")


def held_by(kind):
    """Names of the float formats, tfloat32 included, that a kind of file holds."""
    return [name for name in oracle.TARGETS if kind != ".safetensors" or name in WORDS or name == "tfloat32"]


def as_read(format):
    """What a file says that it holds after a cast to a format: TF32 has no name of its own anywhere."""
    return "float32" if format == "tfloat32" else format


def numpy_dtype(name):
    return np.dtype(np.complex64) if name == "complex64" else oracle.numpy_dtype(name)


def tensor(name, array):
    """A tensor of a numpy or ml_dtypes array."""
    array = np.ascontiguousarray(array).reshape(np.shape(array))
    return name, array.view(f"u{array.dtype.itemsize}")


def floats(seed, shape, scale=0.05):
    """A tensor of float32 as models have them."""
    return tensor("float32", np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32))


def sample(src, dst, count):
    """Codes of src among which is everything that matters to a cast to dst; those of FP4 and FP6 fit their bits."""
    codes = cases.codes_for(src, dst)
    codes = codes[:: max(1, codes.size // count)][:count]
    codes = np.resize(codes, count)
    return codes & codes.dtype.type((1 << PACKED[src]) - 1) if src in PACKED else codes


def expected(given, dst, rounding="nearest_even", overflow="ieee", seed=None, name=""):
    """The tensor that a cast makes of a given one, by the oracle; integers and complex numbers stay."""
    src, codes = given
    if src not in oracle.FLOATS:
        return given
    words = oracle.random_words(key(seed, name), 0, codes.size) if rounding == "stochastic" else None
    cast = oracle.cast(src, codes.ravel(), dst, rounding, overflow, words)
    return as_read(dst), cast.reshape(codes.shape)


def key(seed, name):
    """The random key of a tensor, as the documentation has it."""
    return int.from_bytes(hashlib.sha256(seed.to_bytes(8, "little") + name.encode()).digest()[:8], "little")


def assert_same(found, wanted):
    """Compare dicts of tensors: names in order, formats, shapes, bits."""
    assert list(found) == list(wanted)
    for name, (format, codes) in wanted.items():
        assert found[name][0] == format, name
        assert found[name][1].shape == codes.shape, name
        assert np.array_equal(found[name][1], codes), name


def pack(codes, bits):
    """Codes densely, low bits first."""
    each = np.unpackbits(codes.astype(np.uint8).reshape(-1, 1), axis=1, bitorder="little")[:, :bits]
    return np.packbits(each.ravel(), bitorder="little").tobytes()


def unpack(data, bits, count):
    each = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[: count * bits].reshape(count, bits)
    return np.packbits(each, axis=1, bitorder="little").reshape(count)


def write(path, tensors, metadata=None):
    """Write a file of the kind that its name says; a .npy file's only tensor may have any name."""
    if path.suffix == ".safetensors":
        _write_safetensors(path, tensors, metadata)
    elif path.suffix == ".npz":
        np.savez(path, **{name: as_numpy(*given) for name, given in tensors.items()})
    else:
        (given,) = tensors.values()
        np.save(path, as_numpy(*given))
    return path


def read(path):
    """Read a file as a dict of tensors; a .npy file's is named after the file."""
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    found = np.load(path, allow_pickle=False)
    if path.suffix == ".npy":
        return {path.stem: _of_numpy(found)}
    with found:
        return {name: _of_numpy(found[name]) for name in found.files}


def as_numpy(format, codes):
    """An array that numpy saves without loss: of a dtype of numpy's own, or of a field named after the format."""
    if format in NUMPY:
        return codes.view(numpy_dtype(format))
    return codes.view([(format, codes.dtype.newbyteorder("<"))])


def _of_numpy(array):
    if array.dtype.names:
        (name,) = array.dtype.names
        return name, array[name]
    return tensor(array.dtype.newbyteorder("=").name, array.astype(array.dtype.newbyteorder("=")))


def header(tensors, metadata=None):
    """The JSON of a header whose tensors lie in the order given, and their bytes."""
    entries, data = {} if metadata is None else {"__metadata__": metadata}, []
    at = 0
    for name, (format, codes) in tensors.items():
        raw = pack(codes, PACKED[format]) if format in PACKED else codes.tobytes()
        entries[name] = {"dtype": WORDS[format], "shape": list(codes.shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        data.append(raw)
    return entries, b"".join(data)


def _write_safetensors(path, tensors, metadata):
    entries, data = header(tensors, metadata)
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def read_safetensors(path):
    """Tensors in the header's order, and the metadata; nothing may overlap, lack or be left over."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    assert start % 8 == 0
    entries = json.loads(raw[8:start])
    metadata = entries.pop("__metadata__", None)
    tensors, spans = {}, []
    for name, entry in entries.items():
        format, shape, (begin, end) = FORMATS[entry["dtype"]], entry["shape"], entry["data_offsets"]
        spans.append((begin, end))
        data, count = raw[start + begin : start + end], int(np.prod(shape, dtype=np.int64))
        if format in PACKED:
            codes = unpack(data, PACKED[format], count)
        else:
            itemsize = numpy_dtype(format).itemsize
            assert (start + begin) % itemsize == 0, f"{name} is not aligned"
            codes = np.frombuffer(data, f"u{itemsize}")
        tensors[name] = format, codes.reshape(shape)
    spans.sort()
    assert [begin for begin, _ in spans] == [0, *(end for _, end in spans)][: len(spans)]
    assert start + max((end for _, end in spans), default=0) == len(raw)
    return tensors, metadata


def contents(folder):
    """Every file's bytes and every directory below a folder, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def names(folder):
    """Everything in a folder, hidden things included."""
    return sorted(os.listdir(folder))


def make_model(folder, shards=3, rows=40):
    """A model of `shards` shards with all that such directories have, in two levels."""
    folder.mkdir(parents=True)
    where, total = {}, 0
    for k in range(shards):
        name = f"model-{k + 1:05}-of-{shards:05}.safetensors"
        tensors = {
            f"layers.{k}.weight": floats(k, (rows, 64 + k)),
            f"layers.{k}.bias": ("bfloat16", np.random.default_rng(k).integers(0x3C00, 0x3F80, rows, np.uint16)),
            f"layers.{k}.ids": tensor("int64", np.arange(5 + k)),
            f"layers.{k}.norm": tensor("float64", np.linspace(-3, 1e6, 32)),
        }
        write(folder / name, tensors, {"format": "pt"})
        where |= dict.fromkeys(tensors, name)
        total += sum(codes.nbytes for _, codes in tensors.values())
    index = {"metadata": {"total_size": total, "note": "kept"}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {
        "architectures": ["Tiny"],
        "torch_dtype": "float32",
        "hidden_size": 64,
        "text_config": {"dtype": "torch.bfloat16", "layers": shards},
        "dtype": "float16",
        "storage": {"dtype": "int8"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes(bytes(range(256)) * 30)
    (folder / "README.md").write_text("# A model\n")
    (folder / "empty.txt").touch()
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling": true}')
    write(folder / "1_Pooling" / "extra.npy", {"extra": floats(7, (33,))})
    return folder


def command(*arguments):
    """The words of a command line that runs narrowcast in a process of its own."""
    return [sys.executable, "-m", "narrowcast.cli", *map(str, arguments)]


def run(*arguments, **options):
    """Run narrowcast in a process of its own; whatever happens, it prints no traceback."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=120, **options)
    assert "Traceback" not in done.stderr, done.stderr
    return done


@contextlib.contextmanager
def small_disk(options):
    """A file system of its own: a directory with these options of tmpfs. Skips where nothing can be mounted."""
    folder = pathlib.Path(tempfile.mkdtemp())
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
    )
    if not done or done.returncode:
        folder.rmdir()
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()
