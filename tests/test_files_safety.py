"""What must never happen to a file: that a broken one becomes visible, that another is lost, that anything is left
behind. Paths that are refused, disks that are full or read-only, processes that die.
"""

import errno
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

import numpy as np
import pytest

import files
import narrowcast as nc
from narrowcast._files.atomic import write_bytes

pytestmark = pytest.mark.usefixtures("no_settling")

NOBODY = 65534
KINDS = pytest.mark.parametrize("kind", files.KINDS)


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr("narrowcast._files.stream.PIECE_BYTES", 4096)


def make(folder, kind=".safetensors", count=4000):
    return files.write(folder / f"a{kind}", {"a": files.floats(1, (count,))})


def refused(error, match, source, target, **options):
    """The call fails with one sentence, and everything around the source is as it was."""
    before = files.contents(source.parent)
    with pytest.raises(error, match=match) as caught:
        nc.cast_file(source, target, "float16", **options)
    assert "\n" not in str(caught.value)
    assert files.contents(source.parent) == before
    return caught.value


def test_the_source_itself(tmp_path, monkeypatch):
    source = make(tmp_path)
    (tmp_path / "soft.safetensors").symlink_to(source)
    os.link(source, tmp_path / "hard.safetensors")
    (tmp_path / "around").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    for target in (
        source,
        tmp_path / "soft.safetensors",
        tmp_path / "hard.safetensors",
        tmp_path / "around" / "a.safetensors",
        pathlib.Path("a.safetensors"),
    ):
        for force in (False, True):
            refused(ValueError, "is the source itself", source, target, force=force)
    refused(ValueError, "is the source itself", tmp_path / "soft.safetensors", source, force=True)


def test_directories_in_each_other(tmp_path):
    source = files.make_model(tmp_path / "deep" / "model")
    (tmp_path / "link").symlink_to(source)
    for force in (False, True):
        refused(ValueError, "is inside of the source", source, source / "new", force=force)
        refused(ValueError, "is inside of the source", source, source / "1_Pooling", force=force)
        refused(ValueError, "is inside of the source", source, tmp_path / "link" / "new", force=force)
        refused(ValueError, "contains the source", source, tmp_path, force=force)
        refused(ValueError, "is the source itself", source, tmp_path / "link", force=force)
    assert files.names(tmp_path) == ["deep", "link"]


@KINDS
def test_a_target_that_exists(kind, tmp_path):
    source, target = make(tmp_path, kind), tmp_path / f"b{kind}"
    target.write_bytes(b"mine")
    refused(FileExistsError, r"--force", source, target)
    nc.cast_file(source, target, "float16", force=True)
    (found,) = files.read(target).values()
    assert found[0] == "float16"
    assert files.names(tmp_path) == [f"a{kind}", f"b{kind}"]


def test_a_target_that_appears_meanwhile(tmp_path):
    """Between the first look and the end another process has made it: it is not replaced."""
    source, target = make(tmp_path), tmp_path / "b.safetensors"
    with pytest.raises(FileExistsError):
        nc.cast_file(source, target, "float16", progress=lambda *_: target.write_bytes(b"theirs"))
    assert target.read_bytes() == b"theirs"
    assert files.names(tmp_path) == ["a.safetensors", "b.safetensors"]


def test_paths_that_make_no_sense(tmp_path):
    source = make(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.bin").write_bytes(b"")
    refused(FileNotFoundError, "nowhere", tmp_path / "nowhere.safetensors", tmp_path / "b.safetensors")
    refused(FileNotFoundError, "missing", source, tmp_path / "missing" / "b.safetensors")
    refused(FileNotFoundError, r"a\.bin", source, tmp_path / "a.bin" / "b.safetensors")
    refused(ValueError, r"'\.npy'.*'\.safetensors'", source, tmp_path / "b.npy")
    refused(ValueError, r"'\.bin'.*\.safetensors, \.npy, \.npz", tmp_path / "a.bin", tmp_path / "b.bin")
    refused(ValueError, r"is a directory", source, tmp_path / "folder", force=True)
    refused(ValueError, r"is a file", tmp_path / "folder", source, force=True)
    refused(ValueError, r"has no files of tensors", tmp_path / "folder", tmp_path / "new")


@KINDS
def test_sources_that_are_no_files(kind, tmp_path):
    for make_it in (os.mkfifo, os.mkdir):
        source = tmp_path / make_it.__name__ / f"a{kind}"
        source.parent.mkdir()
        make_it(source)
        with pytest.raises((nc.FileFormatError, ValueError)):
            nc.cast_file(source, tmp_path / f"b{kind}", "float16")
    assert files.names(tmp_path) == ["mkdir", "mkfifo"]


@KINDS
def test_truncated_sources(kind, tmp_path):
    source = make(tmp_path, kind)
    whole = source.read_bytes()
    for length in (0, 1, 7, 8, 9, 60, len(whole) // 2, len(whole) - 1):
        source.write_bytes(whole[:length])
        refused(nc.FileFormatError, rf"a\{kind}", source, tmp_path / f"b{kind}")


@KINDS
def test_a_source_that_shrinks(kind, tmp_path, small_pieces):
    source = make(tmp_path, kind, 400000)
    with pytest.raises(nc.FileFormatError, match=rf"a\{kind}"):
        nc.cast_file(source, tmp_path / f"b{kind}", "float16", progress=lambda *_: os.truncate(source, 40000))
    assert files.names(tmp_path) == [f"a{kind}"]


@KINDS
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_errors_in_the_middle(error, threads, kind, tmp_path, small_pieces):
    source = make(tmp_path, kind, 400000)
    seen = []

    def fail(done, total):
        seen.append(done)
        if len(seen) == 5:
            raise error("now")

    with pytest.raises(error, match="now"):
        nc.cast_file(source, tmp_path / f"b{kind}", "float16", threads=threads, progress=fail)
    assert files.names(tmp_path) == [f"a{kind}"]
    nc.cast_file(source, tmp_path / f"b{kind}", "float16")


def test_a_full_disk(tmp_path):
    source = make(tmp_path, count=200_000)
    with files.small_disk("size=128k") as disk:
        with pytest.raises(OSError, match=r"No space") as caught:
            nc.cast_file(source, disk / "b.safetensors", "float16", threads=2)
        assert caught.value.errno == errno.ENOSPC
        assert str(disk) in str(caught.value)
        assert files.names(disk) == []
        done = files.run("cast", source, disk / "b.safetensors", "--to", "float16", "--quiet")
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert "No space" in done.stderr
        assert files.names(disk) == []
        make(tmp_path, count=1000)
        nc.cast_file(source, disk / "b.safetensors", "float16")


def test_a_full_disk_under_a_directory(tmp_path):
    """What is done stays for the next run, which has more room."""
    source = files.make_model(tmp_path / "model", shards=4, rows=400)
    with files.small_disk("size=200k") as disk:
        with pytest.raises(OSError, match="No space"):
            nc.cast_file(source, disk / "new", "float16")
        (staging,) = files.names(disk)
        assert staging.endswith("-partial")
        assert not [name for name in files.contents(disk) if name.endswith("-tmp")]
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        nc.cast_file(source, disk / "new", "float16")
        assert files.names(disk) == ["new"]


def test_a_limit_on_the_size_of_files(tmp_path):
    """The same where nothing can be mounted: EFBIG instead of ENOSPC."""
    source = make(tmp_path, count=200_000)
    script = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000)); "
    script += "from narrowcast import cli; sys.exit(cli.main(sys.argv[1:]))"
    for threads in ("1", "3"):
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                script,
                "cast",
                source,
                tmp_path / "b.safetensors",
                "--to",
                "float16",
                "--threads",
                threads,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert "b.safetensors" in done.stderr
        assert files.names(tmp_path) == ["a.safetensors"]


def test_a_read_only_disk(tmp_path):
    source = make(tmp_path)
    with files.small_disk("size=1m") as disk:
        make(disk).rename(disk / "b.safetensors")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        before = files.contents(disk)
        for target in ("c.safetensors", "b.safetensors"):
            with pytest.raises(OSError, match="Read-only") as caught:
                nc.cast_file(source, disk / target, "float16", force=True)
            assert str(disk) in str(caught.value)
        assert files.contents(disk) == before
        nc.cast_file(disk / "b.safetensors", tmp_path / "b.safetensors", "float16")  # to read from it is fine


@pytest.fixture
def unprivileged():
    """An empty directory, in the shoes of a user who may write there and nowhere else, even if root runs the tests."""
    folder = pathlib.Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    if root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(folder)


def test_a_read_only_directory(unprivileged):
    source, folder = make(unprivileged), unprivileged / "folder"
    folder.mkdir(mode=0o555)
    refused(PermissionError, "folder", source, folder / "b.safetensors")
    model = files.make_model(unprivileged / "model")
    refused(PermissionError, "folder", model, folder / "new")
    assert files.names(folder) == []


def test_an_unreadable_source(unprivileged):
    make(unprivileged).chmod(0)
    with pytest.raises(PermissionError, match=r"a\.safetensors"):
        nc.cast_file(unprivileged / "a.safetensors", unprivileged / "b.safetensors", "float16")
    assert files.names(unprivileged) == ["a.safetensors"]
    model = files.make_model(unprivileged / "model")
    (model / "tokenizer.json").chmod(0)
    with pytest.raises(PermissionError, match=r"tokenizer\.json"):
        nc.cast_file(model, unprivileged / "new", "float16")
    assert not (unprivileged / "new").exists()


@KINDS
def test_a_process_that_is_killed(kind, tmp_path):
    """The target is not there; what the dead process has left is gone after the next run."""
    source = make(tmp_path, kind, 400000)
    script = f"""
import os, signal, narrowcast as nc
nc.cast_file({str(source)!r}, {str(tmp_path / f"b{kind}")!r}, "float16",
             progress=lambda done, total: os.kill(os.getpid(), signal.SIGKILL))
"""
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", script], check=False)
        assert done.returncode == -signal.SIGKILL
        left = [name for name in files.names(tmp_path) if name != f"a{kind}"]
        assert len(left) == 1  # the second run has removed what the first one left
        assert left[0].startswith(f".b{kind}.")
    nc.cast_file(source, tmp_path / f"b{kind}", "float16")
    assert files.names(tmp_path) == [f"a{kind}", f"b{kind}"]


def test_two_writers_of_one_file(tmp_path):
    """A running writer's file is not taken for a dead one's; the slower one does not replace the target."""
    source, target = make(tmp_path), tmp_path / "b.safetensors"
    inner = []

    def meanwhile(*_):
        if not inner:
            inner.append(nc.cast_file(source, target, "float16"))

    with pytest.raises(FileExistsError):
        nc.cast_file(source, target, "float16", progress=meanwhile)
    assert inner[0].complete
    assert files.read(target)["a"][0] == "float16"
    assert files.names(tmp_path) == ["a.safetensors", "b.safetensors"]


def test_a_mount_point_is_not_replaced(tmp_path):
    """That is said before hours of work."""
    model = files.make_model(tmp_path / "model")
    with files.small_disk("size=1m") as disk:
        with pytest.raises(ValueError, match="is a mount point"):
            nc.cast_file(model, disk, "float16", force=True)
        assert files.names(disk) == []
        nc.cast_file(model, disk / "new", "float16")


def test_long_names_of_directories(tmp_path):
    """As long as the system allows; two that differ at the end only do not share what is unfinished."""
    model, out = files.make_model(tmp_path / "model"), tmp_path / "out"
    out.mkdir()
    targets = [out / ("é" * 127 + end) for end in "ab"]
    for target in targets:
        nc.cast_file(model, target, "float16", world=2)
    assert len(files.names(out)) == 2
    for target in targets:
        nc.cast_file(model, target, "float16", rank=1, world=2)
    assert files.names(out) == sorted(target.name for target in targets)


def test_modes_and_long_names(tmp_path):
    """A new file has the permissions of its source, and its name may be as long as the system allows."""
    name = "é" * 121 + ".safetensors"  # 254 bytes
    source = make(tmp_path)
    nc.cast_file(source, tmp_path / name, "float16")
    (tmp_path / "plain").touch()
    assert (tmp_path / name).stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / name).stat().st_nlink == 1


def test_save_file_is_as_careful(tmp_path):
    path = tmp_path / "a.safetensors"
    nc.save_file({"a": np.ones(3, np.float32)}, path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="force"):
        nc.save_file({"a": np.zeros(3, np.float32)}, path)
    with pytest.raises(OverflowError, match=r"^a\[1\] is 1000000000\.0"):
        nc.save_file({"a": np.array([0, 1e9])}, path, "float16", overflow="raise", force=True)
    assert path.read_bytes() == before
    assert files.names(tmp_path) == ["a.safetensors"]
    with files.small_disk("size=64k") as disk, pytest.raises(OSError, match="No space"):
        nc.save_file({"a": np.ones(100_000, np.float32)}, disk / "a.safetensors")


def test_writers_of_one_name_at_the_same_time(tmp_path):
    """None takes the unfinished file of another for abandoned."""
    failures = []

    def write():
        for _ in range(300):
            try:
                write_bytes(tmp_path / "x", b"whole", replace=True)
            except OSError as error:
                failures.append(error)

    writers = [threading.Thread(target=write) for _ in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures == []
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"whole"
