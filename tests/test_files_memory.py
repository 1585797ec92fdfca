"""The memory that a cast takes does not grow with the files: sparse models of 90 MB and, with --large, of 4 GB, cast
by a process whose address space may grow by less than 100 MB, and whose resident memory is measured.
"""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import files

resource = pytest.importorskip("resource")

if not sys.platform.startswith("linux"):
    pytest.skip("/proc is Linux's", allow_module_level=True)

MB = 1_000_000
ALLOWED = 100 * MB

# After the import, the address space may grow by ALLOWED and no more (`ulimit -v`). The peak of resident memory is the
# system's own count (VmHWM); mapped libraries, which are in it, are counted at the end, when they are all there.
CHILD = """
import json, resource, sys
import narrowcast as nc
def facts():
    lines = open("/proc/self/status").read().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}
source, target, format, threads, allowed = sys.argv[1:]
nc.cast_file  # imported before the limit is set, like all else
before = facts()
limit = before["VmSize"] + int(allowed)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
report = nc.cast_file(source, target, format, threads=int(threads))
after = facts()
print(json.dumps({
    "grown": after["VmHWM"] - before["VmRSS"],
    "peak": after["VmHWM"] - after["RssFile"] - after["RssShmem"],
    "bytes": report.bytes_before,
}))
"""


def make_sparse(folder, shards, elements):
    """Shards of zeros, but for some values at their ends, that take no room on the disk."""
    folder.mkdir()
    where = {}
    for k in range(shards):
        path = folder / f"model-{k + 1:05}-of-{shards:05}.safetensors"
        names = [f"layers.{k}.{part}" for part in ("a", "b", "c")]
        sizes = [elements // 2, elements // 2 - 1024, 1024]
        at, entries = 0, {}
        for name, size in zip(names, sizes, strict=True):
            entries[name] = {"dtype": "F32", "shape": [size // 64, 64], "data_offsets": [at, at + 4 * size]}
            at += 4 * size
        text = json.dumps(entries).encode()
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + at)
            file.seek(-8, 2)
            file.write(b"\0\0\x80\x3f\0\0\0\x40")  # 1.0, 2.0
        where |= dict.fromkeys(names, path.name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


@pytest.mark.parametrize(
    ("megabytes", "shards", "format", "bits", "threads"),
    [
        (90, 1, "float8_e4m3fn", 8, 1),
        (90, 3, "float4_e2m1fn", 4, 2),
        pytest.param(4096, 4, "float8_e4m3fn", 8, 2, marks=pytest.mark.large),
        pytest.param(5000, 1, "float4_e2m1fn", 4, 1, marks=pytest.mark.large),  # offsets beyond 32 bits
    ],
)
def test_memory_is_bounded(megabytes, shards, format, bits, threads, tmp_path):
    if shutil.disk_usage(tmp_path).free < 2 * megabytes * 2**20 * bits / 32:
        pytest.skip(f"{tmp_path} has no room for the result")
    source = make_sparse(tmp_path / "model", shards, megabytes * 2**18 // shards // 64 * 64)
    words = [str(source), str(tmp_path / "new"), format, str(threads), str(ALLOWED)]
    done = subprocess.run([sys.executable, "-c", CHILD, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["bytes"] > megabytes * MB
    assert found["grown"] < ALLOWED
    assert found["peak"] < ALLOWED
    shard = sorted((tmp_path / "new").glob("*.safetensors"))[-1]
    end = shard.read_bytes()[-2:] if bits == 8 else shard.read_bytes()[-1:]
    assert end == (b"\x38\x40" if bits == 8 else b"\x42")  # 1.0, 2.0
    shutil.rmtree(tmp_path / "new")


def test_the_limit_is_one(tmp_path):
    """The same process cannot read the same file whole: the test above would notice."""
    source = make_sparse(tmp_path / "model", 1, 45 * 2**20)
    script = CHILD.replace(
        "report = nc.cast_file(", "nc.load_file(source + '/model-00001-of-00001.safetensors'); nc.cast_file("
    )
    words = [str(source), str(tmp_path / "new"), "float8_e4m3fn", "1", str(ALLOWED)]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert "MemoryError" in done.stderr


@pytest.mark.parametrize("kind", [".npy", ".npz"])
def test_arrays_of_numpy(kind, tmp_path):
    """Single files of the other kinds, compressed ones included."""
    x = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float32, (1000, 40_000), fortran_order=True)
    if kind == ".npz":
        np.savez_compressed(tmp_path / "a.npz", x=x)
    del x
    words = [str(tmp_path / f"a{kind}"), str(tmp_path / f"b{kind}"), "float8_e5m2", "2", str(ALLOWED)]
    done = subprocess.run([sys.executable, "-c", CHILD, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["peak"] < ALLOWED
    ((_, found),) = files.read(tmp_path / f"b{kind}").values()
    assert found.shape == (1000, 40_000)
    assert not found.any()
