"""cast_file on directories: what becomes of each file, ranks, what the inputs must be. Interruptions are in
test_files_resume.py.
"""

import hashlib
import json
import os
import shutil
import subprocess
import time

import numpy as np
import pytest

import files
import narrowcast as nc
from narrowcast._files import job

pytestmark = pytest.mark.usefixtures("no_settling")

INDEX = "model.safetensors.index.json"
MANIFEST = "narrowcast.json"


@pytest.fixture
def model(tmp_path):
    return files.make_model(tmp_path / "model")


@pytest.fixture
def out(tmp_path):
    """An empty place for results, whose listing shows what is left behind."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_everything_arrives(model, out):
    """Shards are cast; index, configuration and manifest say what is there now; all else is the same."""
    before = files.contents(model)
    report = nc.cast_file(model, out / "new", "float8_e4m3fn", threads=2)
    assert files.contents(model) == before
    assert files.names(out) == ["new"]
    assert files.contents(out / "new").keys() == before.keys() | {MANIFEST}

    size = 0
    for shard in sorted(model.glob("*.safetensors")):
        old, metadata = files.read_safetensors(shard)
        new, kept = files.read_safetensors(out / "new" / shard.name)
        assert kept == metadata == {"format": "pt"}
        files.assert_same(new, {name: files.expected(given, "float8_e4m3fn") for name, given in old.items()})
        size += sum(codes.nbytes for _, codes in new.values())
    (extra,) = files.read(model / "1_Pooling" / "extra.npy").values()
    found = files.read(out / "new" / "1_Pooling" / "extra.npy")
    files.assert_same(found, {"extra": files.expected(extra, "float8_e4m3fn")})

    old, new = (json.loads((folder / INDEX).read_text()) for folder in (model, out / "new"))
    assert new == old | {"metadata": {"total_size": size, "note": "kept"}}
    assert list(new["weight_map"]) == list(old["weight_map"])
    assert (out / "new" / "config.json").read_bytes() == before["config.json"]  # models cannot be made in FP8
    for name in ("tokenizer.json", "README.md", "empty.txt", "1_Pooling/config.json"):
        assert (out / "new" / name).read_bytes() == before[name]
    assert report.complete
    assert report.files == report.files_done == 7
    assert {tensor.file for tensor in report.tensors} == {
        name for name in before if name.endswith(("safetensors", "npy"))
    }
    assert [tensor.name for tensor in report.tensors if tensor.file.startswith("model-00002")] == list(
        files.read(model / "model-00002-of-00003.safetensors")
    )


def test_the_manifest_holds(model, out):
    nc.cast_file(model, out / "new", "bfloat16")
    manifest = json.loads((out / "new" / MANIFEST).read_text())
    found = files.contents(out / "new")
    wanted = {name for name, data in found.items() if data is not None and name != MANIFEST}
    assert manifest["files"].keys() == wanted
    for name, row in manifest["files"].items():
        assert row["bytes"] == len(found[name])
        assert row["sha256"] == hashlib.sha256(found[name]).hexdigest()
        data = (model / name).read_bytes()
        ends = data if len(data) <= 1 << 17 else data[: 1 << 16] + data[-(1 << 16) :]
        facts = [len(data), (model / name).stat().st_mtime_ns, hashlib.sha256(ends).hexdigest()]
        assert row["source"] == facts
    assert manifest["options"]["format"] == "bfloat16"


def test_a_second_call(model, out):
    """The same cast of the same files is done already; any other is refused, unless it may replace."""
    nc.cast_file(model, out / "new", "bfloat16")
    before = {path: path.stat().st_mtime_ns for path in (out / "new").rglob("*")}
    assert nc.cast_file(model, out / "new", "bfloat16").complete
    assert {path: path.stat().st_mtime_ns for path in (out / "new").rglob("*")} == before
    for options in ({"rounding": "up"}, {"skip": "*.bias"}):
        with pytest.raises(FileExistsError, match="--force"):
            nc.cast_file(model, out / "new", "bfloat16", **options)
    with pytest.raises(FileExistsError, match="--force"):
        nc.cast_file(model, out / "new", "float16")
    os.utime(model / "tokenizer.json", ns=(1, 1))  # of the same size, and yet it may be another
    with pytest.raises(FileExistsError, match="--force"):
        nc.cast_file(model, out / "new", "bfloat16")
    (out / "new" / "mine.txt").write_text("of another day")
    nc.cast_file(model, out / "new", "float16", force=True)
    assert files.names(out) == ["new"]
    assert not (out / "new" / "mine.txt").exists()
    assert files.read(out / "new" / "model-00001-of-00003.safetensors")["layers.0.weight"][0] == "float16"


def test_a_result_is_a_source(model, out):
    """Down and up again; the manifest of the first is not carried on."""
    nc.cast_file(model, out / "narrow", "bfloat16")
    assert json.loads((out / "narrow" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    nc.cast_file(out / "narrow", out / "wide", "float32")
    narrow = files.read(out / "narrow" / "model-00001-of-00003.safetensors")
    wide = files.read(out / "wide" / "model-00001-of-00003.safetensors")
    files.assert_same(wide, {name: files.expected(given, "float32") for name, given in narrow.items()})
    assert json.loads((out / "wide" / MANIFEST).read_text())["options"]["format"] == "float32"
    assert json.loads((out / "wide" / "config.json").read_text())["torch_dtype"] == "float32"


def test_only_skip_and_dry_run(model, out):
    planned = nc.cast_file(model, out / "new", "float16", only="*.weight", skip="layers.1.*", dry_run=True)
    assert files.names(out) == []
    report = nc.cast_file(model, out / "new", "float16", only="*.weight", skip="layers.1.*")
    cast = {tensor.name for tensor in report.tensors if tensor.sums is not None}
    assert cast == {"layers.0.weight", "layers.2.weight"}
    assert [(t.file, t.name, t.bytes_after) for t in planned.tensors] == [
        (t.file, t.name, t.bytes_after) for t in report.tensors
    ]
    with pytest.raises(ValueError, match=r"only is 'nothing\*'"):
        nc.cast_file(model, out / "other", "float16", only="nothing*")
    assert files.names(out) == ["new"]


def test_empty_directories(model, out):
    (model / "a" / "b").mkdir(parents=True)
    nc.cast_file(model, out / "new", "bfloat16")
    assert files.contents(out / "new").keys() == files.contents(model).keys() | {MANIFEST}


def test_overflow_leaves_nothing(model, out):
    """The same call could never come to its end, and the error names the tensor."""
    with pytest.raises(OverflowError, match=r"layers\.0\.norm\[\d+\] is [\d.]+, beyond the largest float8_e4m3fn"):
        nc.cast_file(model, out / "new", "float8_e4m3fn", overflow="raise")
    assert files.names(out) == []
    with pytest.raises(OverflowError, match=r"partial can be removed once all processes have ended"):
        nc.cast_file(model, out / "new", "float8_e4m3fn", overflow="raise", world=2)


def test_stochastic_does_not_depend_on_shards(tmp_path, out):
    """The same tensors in one file and in three."""
    model = files.make_model(tmp_path / "three")
    tensors = {}
    for shard in sorted(model.glob("*.safetensors")):
        tensors |= files.read(shard)
    (tmp_path / "one").mkdir()
    files.write(tmp_path / "one" / "model.safetensors", tensors)
    nc.cast_file(tmp_path / "three", out / "three", "bfloat16", rounding="stochastic", seed=4)
    nc.cast_file(tmp_path / "one", out / "one", "bfloat16", rounding="stochastic", seed=4, threads=3)
    together = files.read(out / "one" / "model.safetensors")
    for shard in (out / "three").glob("*.safetensors"):
        for name, given in files.read(shard).items():
            assert np.array_equal(given[1], together[name][1]), name
            assert np.array_equal(
                given[1], files.expected(tensors[name], "bfloat16", "stochastic", seed=4, name=name)[1]
            )


@pytest.mark.parametrize("world", [1, 2, 7, 11])
def test_ranks_one_after_the_other(world, model, out):
    """Every file is done by one rank; the last one to come puts the directory in its place."""
    nc.cast_file(model, out / "whole", "float16")
    ranks = np.random.default_rng(world).permutation(world).tolist()
    seen = []
    for position, rank in enumerate(ranks):
        assert not (out / "new").exists()
        report = nc.cast_file(model, out / "new", "float16", rank=rank, world=world)
        assert report.complete == (position == world - 1) or report.files_done == report.files
        seen.append(report.files_done)
    assert seen == sorted(seen)
    assert files.contents(out / "new") == files.contents(out / "whole")
    assert files.names(out) == ["new", "whole"]


def test_records_that_show_late(model, out, monkeypatch):
    """The last rank waits for what another machine has written and the file system does not show at once."""
    done = nc.cast_file(model, out / "new", "float16", rank=1, world=2)
    assert not done.complete
    record, looks = job.Job.record, []

    def late(self, item):
        found = record(self, item)
        if found is None or len(looks) == 40:
            return found
        looks.append(item.path)
        return None

    monkeypatch.setattr(job, "_SETTLE_SECONDS", 60.0)
    monkeypatch.setattr(job.Job, "record", late)
    assert nc.cast_file(model, out / "new", "float16", rank=0, world=2).complete
    assert len(looks) == 40
    assert files.names(out) == ["new"]


@pytest.mark.parametrize(("world", "launcher"), [(5, "options"), (2, "torchrun"), (2, "slurm")])
def test_ranks_at_the_same_time(world, launcher, model, out):
    """Processes, as launchers start them."""
    nc.cast_file(model, out / "whole", "float16")
    processes = []
    for rank in range(world):
        words = {
            "options": ("", ""),
            "torchrun": ("RANK", "WORLD_SIZE"),
            "slurm": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
        }[launcher]
        variables = {} if launcher == "options" else dict(zip(words, (str(rank), str(world)), strict=True))
        options = ["--rank", rank, "--world", world] if launcher == "options" else []
        command = files.command("cast", model, out / "new", "--to", "float16", "--quiet", *options)
        processes.append(subprocess.Popen(command, env=os.environ | variables, stderr=subprocess.PIPE, text=True))
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * world, errors
    assert files.contents(out / "new") == files.contents(out / "whole")
    assert files.names(out) == ["new", "whole"]


def test_all_at_once_without_ranks(model, out):
    """Processes that do not know of each other make the same bytes and do not get into each other's way."""
    nc.cast_file(model, out / "whole", "float16")
    command = files.command("cast", model, out / "new", "--to", "float16", "--quiet")
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors
    assert files.contents(out / "new") == files.contents(out / "whole")
    assert files.names(out) == ["new", "whole"]


def test_a_single_file_belongs_to_rank_0(model, out):
    source, target = model / "model-00001-of-00003.safetensors", out / "b.safetensors"
    nc.cast_file(source, target, "float16", rank=1, world=2)
    assert files.names(out) == []
    nc.cast_file(source, target, "float16", rank=0, world=2)
    assert files.names(out) == ["b.safetensors"]


def test_links(model, out, tmp_path):
    """Links within the directory are followed; those out of it only when that is asked for, as caches need."""
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    nc.cast_file(model, out / "whole", "float16")
    (model / "1_Pooling" / "again.json").symlink_to("../tokenizer.json")
    nc.cast_file(model, out / "inside", "float16")
    assert (out / "inside" / "1_Pooling" / "again.json").read_bytes() == (model / "tokenizer.json").read_bytes()
    (model / "1_Pooling" / "again.json").unlink()
    for i, name in enumerate(("model-00002-of-00003.safetensors", "config.json", "1_Pooling")):
        (model / name).rename(blobs / str(i))
        (model / name).symlink_to(blobs / str(i))
        with pytest.raises(ValueError, match=r"is a link out of the directory.*--follow-symlinks"):
            nc.cast_file(model, out / "new", "float16")
    assert files.names(out) == ["inside", "whole"]
    nc.cast_file(model, out / "new", "float16", follow_symlinks=True)
    assert files.contents(out / "new") == files.contents(out / "whole")
    assert not any(path.is_symlink() for path in (out / "new").rglob("*"))


def test_links_in_circles(model, out):
    (model / "1_Pooling" / "up").symlink_to(model)
    with pytest.raises(ValueError, match="link"):
        nc.cast_file(model, out / "new", "float16", follow_symlinks=True)
    with pytest.raises(ValueError, match="link"):
        nc.cast_file(model, out / "new", "float16")
    (model / "1_Pooling" / "up").unlink()
    (model / "nowhere").symlink_to("gone")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        nc.cast_file(model, out / "new", "float16")
    assert files.names(out) == []


def set_in_index(folder, **changes):
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps(index | changes))


def point(folder, shard):
    index = json.loads((folder / INDEX).read_text())
    set_in_index(folder, weight_map=index["weight_map"] | {"layers.0.weight": shard})


NESTED = '{"dtype": "float32", "a": ' + "[" * 3000 + "]" * 3000 + "}"

BAD = {
    "dots": (lambda m: point(m, "../model-00001-of-00003.safetensors"), "out of the directory"),
    "hidden dots": (lambda m: point(m, "a/../../x.safetensors"), "out of the directory"),
    "absolute": (lambda m: point(m, "/etc/x.safetensors"), "out of the directory"),
    "backslash": (lambda m: point(m, "..\\x.safetensors"), "out of the directory"),
    "drive": (lambda m: point(m, "C:x.safetensors"), "out of the directory"),
    "no name": (lambda m: point(m, ""), "out of the directory"),
    "null": (lambda m: point(m, "a\0.safetensors"), "not there"),
    "absent shard": (lambda m: (m / "model-00002-of-00003.safetensors").unlink(), r"model-00002-of-00003.*not there"),
    "wrong shard": (lambda m: point(m, "model-00002-of-00003.safetensors"), r"'layers\.0\.weight'"),
    "number for a shard": (lambda m: point(m, 3), "weight_map"),
    "no weight map": (lambda m: (m / INDEX).write_text("{}"), "weight_map"),
    "list": (lambda m: (m / INDEX).write_text("[]"), "weight_map"),
    "weight map a list": (lambda m: set_in_index(m, weight_map=["a"]), "weight_map"),
    "metadata a list": (lambda m: set_in_index(m, metadata=[1]), "metadata"),
    "broken index": (lambda m: (m / INDEX).write_text('{"weight_map": {'), "not valid JSON"),
    "empty index": (lambda m: (m / INDEX).write_text(""), "not valid JSON"),
    "binary index": (lambda m: (m / INDEX).write_bytes(b"\xff\xfe\0"), "not valid JSON"),
    "deep index": (lambda m: (m / INDEX).write_text("[" * 100_000 + "]" * 100_000), "not valid JSON"),
    "long number": (lambda m: (m / INDEX).write_text('{"a": ' + "9" * 10_000 + "}"), "not valid JSON"),
    "duplicate keys": (lambda m: (m / INDEX).write_text('{"weight_map": {"a": "x", "a": "y"}}'), "'a' is there twice"),
    "huge index": (lambda m: os.truncate(m / INDEX, 10**11), "larger than"),
    "broken config": (lambda m: (m / "config.json").write_text("{'a': 1}"), "not valid JSON"),
    "deep config": (lambda m: (m / "config.json").write_text('{"a":' * 99_999 + "1" + "}" * 99_999), "not valid JSON"),
    "list too deep to write": (
        lambda m: (m / "config.json").write_text(NESTED),
        "cannot be written anew|not valid JSON",
    ),
    "duplicate config": (lambda m: (m / "config.json").write_text('{"b": {"a": 1, "a": 2}}'), "twice"),
    "truncated shard": (lambda m: os.truncate(m / "model-00003-of-00003.safetensors", 500), "model-00003-of-00003"),
    "broken array": (lambda m: (m / "1_Pooling" / "extra.npy").write_bytes(b"x" * 200), r"extra\.npy"),
    "pipe": (lambda m: os.mkfifo(m / "pipe"), "neither a file nor a directory"),
    "no tensors": (
        lambda m: [path.unlink() for path in [*m.glob("*.safetensors"), *m.rglob("*.npy"), m / INDEX]],
        "no files of tensors",
    ),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("dry_run", [False, True])
def test_bad_directories(case, dry_run, model, out):
    """One sentence that names the file, before anything is written."""
    spoil, words = BAD[case]
    spoil(model)
    with pytest.raises(ValueError, match=words) as caught:
        nc.cast_file(model, out / "new", "float16", dry_run=dry_run)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert str(model) in str(caught.value)
    assert files.names(out) == []


def test_indices_of_other_files(model, out):
    """PyTorch's own index, of pickles, is copied as it is, and so are the pickles."""
    text = '{"weight_map": {"a": "pytorch_model-1.bin"}, "metadata": {"total_size": 3}}'
    (model / "pytorch_model.bin.index.json").write_text(text)
    (model / "pytorch_model-1.bin").write_bytes(b"\x80abc")
    nc.cast_file(model, out / "new", "float16")
    assert (out / "new" / "pytorch_model.bin.index.json").read_text() == text
    assert (out / "new" / "pytorch_model-1.bin").read_bytes() == b"\x80abc"


def test_unrelated_indices(model, out):
    """Only an index of safetensors shards must be one; any other file of such a name is copied as it is."""
    texts = {"docs.index.json": '{"a": 1}', "list.index.json": "[1]", "broken.index.json": "no JSON"}
    for name, text in texts.items():
        (model / name).write_text(text)
    nc.cast_file(model, out / "new", "float16")
    assert {name: (out / "new" / name).read_text() for name in texts} == texts


def test_configurations(model, out):
    """The target takes the place of float dtypes everywhere but in what a quantizer is told."""
    old = {
        "dtype": "float16",
        "quantization_config": {"dtype": "float16", "parts": [{"dtype": "float16"}]},
        "parts": [{"torch_dtype": "torch.bfloat16", "dtype": "int8"}, 3, [{"dtype": "float8_e4m3fn"}]],
        "name": "☃",
    }
    (model / "config.json").write_text("\ufeff" + json.dumps(old), encoding="utf-8")
    nc.cast_file(model, out / "new", "tfloat32")
    new = (out / "new" / "config.json").read_text(encoding="utf-8")
    assert "☃" in new
    assert list(json.loads(new)) == list(old)
    assert json.loads(new) == old | {
        "dtype": "float32",
        "parts": [{"torch_dtype": "torch.float32", "dtype": "int8"}, 3, [{"dtype": "float32"}]],
    }


def test_configurations_that_stay(model, out):
    """Where torch can make no model in the target, and where there is no float dtype."""
    before = (model / "config.json").read_bytes()
    for dst in ("float4_e2m1fn", "float8_e8m0fnu", "float6_e3m2fn", "float8_e5m2"):
        nc.cast_file(model, out / dst, dst, only="*.weight")
        assert (out / dst / "config.json").read_bytes() == before
    for text in ("[]", '{"torch_dtype": null}', '{"dtype": {"dtype": 4}}', '{"torch_dtype": "auto"}'):
        (model / "config.json").write_text(text)
        nc.cast_file(model, out / "new", "float16", force=True)
        assert (out / "new" / "config.json").read_text() == text


def test_configurations_beside_nothing_that_was_cast(model, out):
    """A configuration speaks of the files beside and below it."""
    (model / "2_Dense").mkdir()
    old = '{"dtype": "float32"}'
    (model / "2_Dense" / "config.json").write_text(old)
    (model / "1_Pooling" / "config.json").write_text(old)
    before = (model / "config.json").read_bytes()
    nc.cast_file(model, out / "new", "bfloat16", skip="extra")
    assert (out / "new" / "2_Dense" / "config.json").read_text() == old
    assert (out / "new" / "1_Pooling" / "config.json").read_text() == old
    assert (out / "new" / "config.json").read_bytes() != before
    nc.cast_file(model, out / "none", "bfloat16", skip="*")
    assert (out / "none" / "config.json").read_bytes() == before
    nc.cast_file(model, out / "below", "bfloat16", only="extra")
    assert (out / "below" / "config.json").read_bytes() != before
    assert json.loads((out / "below" / "1_Pooling" / "config.json").read_text()) == {"dtype": "bfloat16"}


def test_half_a_surrogate_pair(model, out):
    """JSON in UTF-8 can say it, and says it again."""
    (model / "config.json").write_text(r'{"dtype": "float32", "name": "\ud800"}')
    nc.cast_file(model, out / "new", "float16")
    text = (out / "new" / "config.json").read_text()
    assert json.loads(text) == {"dtype": "float16", "name": "\ud800"}


def test_many_keys_that_come_twice(model, out):
    """Found in the time that reading them takes."""
    keys = ", ".join(f'"{i}": 1' for i in range(60_000))
    (model / "config.json").write_text(f'{{{keys}, "59999": 2}}')
    begin = time.process_time()
    with pytest.raises(ValueError, match="'59999' is there twice"):
        nc.cast_file(model, out / "new", "float16")
    assert time.process_time() - begin < 10  # comparing each with each takes minutes


def test_odd_names(tmp_path, out):
    """Spaces, other scripts, bytes that are no UTF-8, leading dots and dashes."""
    model = tmp_path / "a model ☃"
    for name in ("-x y.safetensors", ".hidden.safetensors", os.fsdecode(b"bad\xff.safetensors"), "sub/☃/model.npy"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        files.write(model / name, {"a": files.floats(1, (8,))})
    nc.cast_file(model, out / "new ☃", "float16")
    assert files.contents(out / "new ☃").keys() == files.contents(model).keys() | {MANIFEST}
    shutil.rmtree(out / "new ☃")
    nc.cast_file(model, out / "new ☃", "float16", rank=0, world=2)
    nc.cast_file(model, out / "new ☃", "float16", rank=1, world=2)
    assert files.contents(out / "new ☃").keys() == files.contents(model).keys() | {MANIFEST}


def test_trailing_slashes_and_relative_paths(model, out, monkeypatch):
    monkeypatch.chdir(out)
    nc.cast_file(f"{model}/", "new/", "float16")
    assert files.names(out) == ["new"]
