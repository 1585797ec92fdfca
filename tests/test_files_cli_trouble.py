"""The command `narrowcast cast` in bad weather: places where its report cannot or must not go, streams that are closed,
terminals that are gone, errors that nobody expects. What it prints otherwise is in test_files_cli.py.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import types

import pytest

import files
from test_files_cli import example, run


@pytest.fixture
def source(tmp_path):
    return example(tmp_path)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "b.safetensors"


@pytest.mark.parametrize("place", ["a.safetensors", "link", "b.safetensors", "c.safetensors", "missing/r", "folder"])
def test_reports_that_would_destroy(place, source, tmp_path, capsys):
    """Neither source nor target is replaced, under no name of theirs; and that is found out before the cast."""
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "c.safetensors").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    before = files.contents(tmp_path)
    target = tmp_path / ("c.safetensors" if place[0] == "c" else "b.safetensors")
    status, out, err = run(capsys, source, target, "--to", "float16", "--force", "--json", tmp_path / place)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert place.split("/")[0] in err
    assert files.contents(tmp_path) == before


@pytest.mark.parametrize("place", ["model/config.json", "model/new.json", "old/new.json", "model"])
def test_reports_in_directories_of_the_cast(place, tmp_path, capsys):
    model = files.make_model(tmp_path / "model")
    (tmp_path / "old").mkdir()
    before = files.contents(tmp_path)
    status, _, err = run(capsys, model, tmp_path / "old", "--to", "float16", "--force", "--json", tmp_path / place)
    assert (status, err.count("\n")) == (2, 1)
    assert files.contents(tmp_path) == before


def test_reports_replace_what_a_link_names(source, target, tmp_path, capsys):
    (tmp_path / "old.json").write_text("old")
    (tmp_path / "link.json").symlink_to("old.json")
    assert run(capsys, source, target, "--to", "float16", "--json", tmp_path / "link.json")[0] == 0
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "old.json").read_text())["format"] == "float16"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes that have names")
def test_reports_into_pipes_and_devices(source, target, tmp_path, capsys):
    """They are written to, and stay what they are."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
    assert run(capsys, source, target, "--to", "float16", "--json", pipe, "--quiet")[0] == 0
    assert json.loads(reader.communicate(timeout=30)[0])["format"] == "float16"
    assert pipe.is_fifo()
    ours, theirs = os.pipe()
    try:
        if os.path.exists(f"/dev/fd/{theirs}"):  # as a shell's >(...) is named
            place = f"/dev/fd/{theirs}"
            assert run(capsys, source, target, "--to", "float16", "--json", place, "--force", "--quiet")[0] == 0
            assert json.loads(os.read(ours, 65536))["format"] == "float16"
    finally:
        os.close(ours)
        os.close(theirs)


def full():
    if not os.path.exists("/dev/full"):
        pytest.skip("no device that is always full")
    return open("/dev/full", "w")


@pytest.mark.parametrize("arguments", [[], ["--json", "-"]])
def test_a_report_that_finds_no_room(arguments, source, target):
    """The result is there, and the sentence says so."""
    with full() as device:
        done = subprocess.run(
            files.command("cast", source, target, "--to", "float16", *arguments),
            stdout=device,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("narrowcast: the report cannot be written: ")
    assert done.stderr.endswith(f"; {target} is done\n")
    assert files.read(target)["head"][0] == "float16"


def test_a_report_for_which_the_disk_is_full(source, target, tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device", "r.json")

    monkeypatch.setattr("narrowcast._files.cli.write_bytes", fail)
    sentence = f"the report cannot be written: r.json: No space left on device; {target} is done"
    done = run(capsys, source, target, "--to", "float16", "--json", tmp_path / "r.json")
    assert done == (2, "", f"narrowcast: {sentence}\n")
    assert files.read(target)["head"][0] == "float16"


@pytest.mark.skipif(os.name != "posix", reason="of shells")
@pytest.mark.parametrize(("closed", "force", "status"), [(">&-", True, 0), ("2>&-", True, 0), ("2>&-", False, 2)])
def test_closed_streams(closed, force, status, source, target):
    target.write_bytes(b"")
    words = files.command("cast", source, target, "--to", "float16", *(["--force"] if force else []))
    line = f"{shlex.join(map(str, words))} {closed}"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, "")
    assert ("total" in done.stdout) == (force and closed != ">&-")


def test_names_that_the_terminal_does_not_know(tmp_path):
    source = files.write(tmp_path / "a.safetensors", {"é": files.floats(1, (16,))})
    for hide in ("", "import sys; sys.modules['rich'] = sys.modules['rich.console'] = None; "):
        script = f"{hide}import sys; from narrowcast import cli; sys.exit(cli.main(sys.argv[1:]))"
        done = subprocess.run(
            [sys.executable, "-c", script, "cast", source, tmp_path / "b.safetensors", "--to", "float16", "--force"],
            env=os.environ | {"PYTHONIOENCODING": "ascii"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "\\xe9 (" in done.stdout


def test_names_of_files_that_are_no_text(tmp_path):
    source = files.write(tmp_path / "a.safetensors", {"x": files.floats(1, (16,))})
    odd = os.fsencode(tmp_path) + b"/\xff\n.safetensors"
    try:
        source.rename(os.fsdecode(odd))
    except OSError:
        pytest.skip("names here are text")
    out = tmp_path / "b.safetensors"
    done = files.run("cast", os.fsdecode(odd), out, "--to", "float16", "--json", "-")
    assert (done.returncode, done.stderr) == (0, "")
    assert os.fsencode(json.loads(done.stdout)["source"]) == odd
    done = files.run("cast", os.fsdecode(odd), out, "--to", "float16")
    assert (done.returncode, done.stdout) == (2, "")
    done = files.run("cast", out, os.fsdecode(odd), "--to", "bfloat16")
    assert (done.returncode, done.stderr.count("\n"), "\\udcff\\n.safetensors" in done.stderr) == (2, 1, True)


# -- what is not expected ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (ZeroDivisionError("by zero"), 2, "ZeroDivisionError: by zero"),
        (KeyError("x"), 2, "KeyError: 'x'"),
        (RuntimeError("a sentence"), 2, "a sentence"),
        (MemoryError(), 2, "not enough memory"),
        (OSError(28, "No space left", "there"), 2, "there: No space left"),
        (ValueError("two\nlines \x1b[2J"), 2, r"two\nlines \x1b[2J"),
        (OverflowError("x is large"), 1, "x is large"),
    ],
)
def test_any_error_is_a_sentence(error, status, sentence, source, target, capsys, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("narrowcast._files.cli.cast_file", fail)
    assert run(capsys, source, target, "--to", "float16") == (status, "", f"narrowcast: {sentence}\n")


def test_an_interrupt_outside_of_the_cast(source, target, capsys, monkeypatch):
    """While modules are imported, say: nothing to say, the shell's status."""

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("narrowcast._files.cli.add_parser", interrupt)
    assert run(capsys, source, target, "--to", "float16") == (130, "", "")


def test_what_is_left_of_a_directory(tmp_path, capsys, monkeypatch):
    """A failure in the middle says that it was not in vain; a wrong argument does not."""
    from narrowcast._files.job import Job

    model, do = files.make_model(tmp_path / "model"), Job.do
    calls = []

    def fail(self, item, advance):
        calls.append(item)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", "there")
        return do(self, item, advance)

    monkeypatch.setattr(Job, "do", fail)
    status, out, err = run(capsys, model, tmp_path / "new", "--to", "float16", "--quiet")
    assert (status, out) == (2, "")
    kept = "finished files are kept, and the same command goes on with the others"
    assert err == f"narrowcast: there: No space left on device; {kept}\n"
    assert run(capsys, model, tmp_path / "new", "--to", "float16", "--quiet") == (0, "", "")
    status, _, err = run(capsys, model, tmp_path / "other", "--to", "float16", "--only", "x")
    assert (status, "kept" in err) == (2, False)


class Future:
    """What Dask gives for a task."""

    key = "task"

    def __init__(self, error):
        self.error = error

    def result(self):
        raise self.error


class KilledWorker(Exception):  # noqa: N818  # Dask's name
    """No subclass of anything that a cast raises."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            KilledWorker("the worker died\nsee the logs"),
            r"[\w./-]+\w: Dask could not do .*\(KilledWorker: the worker died",
        ),
        (OSError(28, "No space left on device", "there"), "there: No space left on device"),
    ],
)
def test_a_cluster_that_gives_up(error, words, tmp_path, capsys, monkeypatch):
    """One sentence, the file, and status 2 (1 would mean an overflow)."""

    class Client:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, *_, **__):
            return Future(error)

    distributed = types.ModuleType("distributed")
    distributed.Client, distributed.as_completed = Client, lambda futures: futures
    monkeypatch.setitem(sys.modules, "distributed", distributed)
    model = files.make_model(tmp_path / "model")
    status, out, err = run(capsys, model, tmp_path / "new", "--to", "float16", "--dask", "local")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert re.match(f"narrowcast: {words}.*; finished files are kept", err), err


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no terminals that hang up")
@pytest.mark.parametrize("ignored", [False, True])
def test_a_terminal_that_hangs_up(ignored, source, target, tmp_path):
    """Nothing is left; under nohup the cast goes on."""
    script = f"""
import os, signal, sys
signal.signal(signal.SIGHUP, signal.{"SIG_IGN" if ignored else "SIG_DFL"})
from narrowcast import cli
from narrowcast._files import crew
do = crew.Worker.do
def hang_up(self, piece):
    os.kill(os.getpid(), signal.SIGHUP)
    return do(self, piece)
crew.Worker.do = hang_up
sys.exit(cli.main(sys.argv[1:]))
"""
    words = [sys.executable, "-c", script, "cast", source, target, "--to", "float16", "--quiet"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    if ignored:
        assert (done.returncode, done.stderr) == (0, "")
        assert target.exists()
    else:
        assert (done.returncode, done.stderr) == (129, f"narrowcast: terminated; {target} was not touched\n")
        assert files.names(tmp_path) == ["a.safetensors"]
