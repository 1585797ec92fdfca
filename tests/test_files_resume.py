"""A directory's cast that is interrupted: by kill -9 at random moments, by Ctrl-C and SIGTERM, by files that change.
The next run goes on; the result is that of a run that nothing disturbed.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import files
import narrowcast as nc
from narrowcast._files import single

pytestmark = pytest.mark.usefixtures("no_settling")

KILLS = 50

# A process that forks one cast after the other and kills each after a random time; a fork costs a millisecond, an
# import of numpy two hundred. The times grow with every kill and shrink with every cast that came to its end, so that
# kills fall on all stages, however busy the machine is. It prints how many files were done at each kill, and after a
# dash, how often all were.
KILLER = """
import glob, os, random, signal, sys, time
from narrowcast import cli
import narrowcast._files.cli
source, target, kills, *options = sys.argv[1:]
random.seed(7)
killed, finished, longest = 0, 0, 0.02
while killed < int(kills):
    child = os.fork()
    if child == 0:
        os._exit(cli.main(["cast", source, target, "--to", "bfloat16", "--quiet", *options]))
    end = time.monotonic() + random.random() * longest
    ended, status = 0, 0
    while not ended and time.monotonic() < end:
        time.sleep(0.001)
        ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    longest *= 1.15 if os.WIFSIGNALED(status) else 0.8
    if os.WIFSIGNALED(status):
        killed += 1
        print(len(glob.glob(f"{os.path.dirname(target)}/.*-partial/done/*.json")), end=" ")
    elif os.WEXITSTATUS(status) != 0:
        sys.exit(f"exit status {os.WEXITSTATUS(status)}")
    if os.path.exists(target):
        finished += 1
        os.rename(target, f"{target}-{finished}")
print("-", finished)
"""


@pytest.fixture
def model(tmp_path):
    return files.make_model(tmp_path / "model", shards=8, rows=300)


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def staging(out, tree=True):
    """The one unfinished directory."""
    (found,) = [name for name in files.names(out) if name.endswith(".narrowcast-partial")]
    return out / found / "tree" if tree else out / found


def test_killed_at_random_moments(model, out):
    """Fifty times: no unfinished directory is ever visible under the target's name, and those that were finished in
    between, and the last one, are the undisturbed one byte for byte.
    """
    before = files.contents(model)
    nc.cast_file(model, out / "whole", "bfloat16")
    whole = files.contents(out / "whole")
    done = subprocess.run(
        [sys.executable, "-c", KILLER, model, out / "new", str(KILLS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    stages, _, finished = done.stdout.partition("-")
    assert len(stages.split()) == KILLS
    assert len(set(stages.split())) >= 5, "the kills came all at the same time"
    for i in range(1, int(finished) + 1):
        assert files.contents(out / f"new-{i}") == whole
        shutil.rmtree(out / f"new-{i}")
    assert not (out / "new").exists()
    assert nc.cast_file(model, out / "new", "bfloat16").complete
    assert files.contents(out / "new") == whole
    assert files.names(out) == ["new", "whole"]
    assert files.contents(model) == before


@pytest.mark.parametrize("renames", [1, 2])
@pytest.mark.parametrize("exists", [False, True])
def test_killed_at_the_end(exists, renames, model, out):
    """Between the last steps: old directory away, new one into its place, staging directory removed."""
    nc.cast_file(model, out / "whole", "bfloat16")
    whole = files.contents(out / "whole")
    script = f"""
import os, signal, narrowcast as nc
from narrowcast._files import job
rename, left = os.rename, [{renames}]
def counted(source, target):
    rename(source, target)
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
job.os.rename = counted
job.shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL) if left[0] < {renames} else None
nc.cast_file({str(model)!r}, {str(out / "new")!r}, "bfloat16", force=True)
"""
    if exists:
        (out / "new").mkdir()
        (out / "new" / "old.txt").write_text("old")
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    if (out / "new").exists():
        assert files.contents(out / "new") == whole
    assert nc.cast_file(model, out / "new", "bfloat16").complete
    assert files.contents(out / "new") == whole
    assert files.names(out) == ["new", "whole"]


@pytest.fixture
def interrupted(model, out, monkeypatch):
    """A staging directory with some files done."""
    before = single.cast_beside
    calls = []

    def stop(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return before(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("narrowcast._files.single.cast_beside", stop)
        with pytest.raises(KeyboardInterrupt):
            nc.cast_file(model, out / "new", "bfloat16")
    assert not (out / "new").exists()
    return staging(out)


def cast_and_count(monkeypatch, model, target, **options):
    """Cast; return the names of the files that were cast anew."""
    before, cast = single.cast_beside, []

    def count(path, *arguments, **others):
        cast.append(path.name)
        return before(path, *arguments, **others)

    with monkeypatch.context() as patch:
        patch.setattr("narrowcast._files.single.cast_beside", count)
        report = nc.cast_file(model, target, "bfloat16", **options)
    assert report.complete
    return cast


def test_what_is_done_is_skipped(interrupted, model, out, monkeypatch):
    """The report tells of all tensors all the same."""
    done = [path.name for path in interrupted.rglob("*.safetensors")] + [p.name for p in interrupted.rglob("*.npy")]
    assert len(done) == 4
    anew = cast_and_count(monkeypatch, model, out / "new")
    assert len(anew) == 5
    assert not set(anew) & set(done)
    nc.cast_file(model, out / "whole", "bfloat16")
    assert files.contents(out / "new") == files.contents(out / "whole")
    assert files.names(out) == ["new", "whole"]


def test_the_report_of_two_runs(interrupted, model, out):
    report = nc.cast_file(model, out / "new", "bfloat16")
    whole = nc.cast_file(model, out / "whole", "bfloat16")

    def facts(of):
        return [(t.file, t.name, t.bytes_after, t.sums) for t in of.tensors]

    assert facts(report) == facts(whole)


def read_record(path):
    return json.loads(path.read_text().partition("\n")[2])


@pytest.mark.parametrize(
    "damage",
    ["bit", "shorter", "longer", "gone", "record", "record cut", "record bit", "[]", "null", "{}", "", '{"source": 1}'],
)
def test_damaged_files_are_done_again(damage, interrupted, model, out, monkeypatch):
    victim = sorted(interrupted.rglob("*.safetensors"))[1]
    records = {read_record(p)["source"][0]: p for p in (interrupted.parent / "done").iterdir()}
    if damage == "bit":
        raw = bytearray(victim.read_bytes())
        raw[-1] ^= 1
        victim.write_bytes(raw)
    elif damage in ("shorter", "longer"):
        os.truncate(victim, victim.stat().st_size + (1 if damage == "longer" else -1))
    elif damage == "gone":
        victim.unlink()
    elif damage == "record":
        records[victim.name].unlink()
    elif damage == "record cut":
        os.truncate(records[victim.name], 100)
    elif damage == "record bit":
        text = records[victim.name].read_text()
        records[victim.name].write_text(text.replace('"overflowed": 0', '"overflowed": 1'))
    else:
        records[victim.name].write_text(damage)
    assert victim.name in cast_and_count(monkeypatch, model, out / "new")
    nc.cast_file(model, out / "whole", "bfloat16")
    assert files.contents(out / "new") == files.contents(out / "whole")
    assert files.names(out) == ["new", "whole"]


def test_a_source_that_changed_in_between(interrupted, model, out, monkeypatch):
    done = sorted(path.name for path in interrupted.rglob("*.safetensors"))
    tensors = files.read(model / done[0])
    tensors["layers.0.weight"] = files.floats(99, tensors["layers.0.weight"][1].shape)
    files.write(model / done[0], tensors, {"format": "pt"})  # of the same size
    assert done[0] in cast_and_count(monkeypatch, model, out / "new")
    wanted = {name: files.expected(given, "bfloat16") for name, given in tensors.items()}
    files.assert_same(files.read(out / "new" / done[0]), wanted)


def test_a_source_that_changes_meanwhile(model, out):
    """One sentence; the file is not taken for done."""
    changed = []

    def change(*_):
        if not changed:
            changed.append(1)
            for shard in model.glob("*.safetensors"):
                os.utime(shard, ns=(1, 1))

    with pytest.raises(ValueError, match=r"was changed while it was read"):
        nc.cast_file(model, out / "new", "bfloat16", progress=change)
    assert not (out / "new").exists()
    assert nc.cast_file(model, out / "new", "bfloat16").complete
    assert files.names(out) == ["new"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_a_configuration_that_changes_meanwhile(name, model, out):
    text = (model / name).read_text()

    def change(done, total):
        (model / name).write_text(text + " ")

    with pytest.raises(ValueError, match=rf"{name} was changed while it was read"):
        nc.cast_file(model, out / "new", "bfloat16", progress=change)
    assert not (out / "new").exists()


def test_other_options_begin_anew(interrupted, model, out):
    """What was made with other options is not mixed in."""
    nc.cast_file(model, out / "new", "bfloat16", rounding="up")
    shard = "model-00001-of-00008.safetensors"
    wanted = {n: files.expected(given, "bfloat16", "up") for n, given in files.read(model / shard).items()}
    files.assert_same(files.read(out / "new" / shard), wanted)


# A cast that says when it has begun its third piece, and then takes its time.
SLOW = """
import sys, time
from narrowcast import cli
from narrowcast._files import crew, stream
do, seen = crew.Worker.do, []
def slowly(self, piece):
    seen.append(piece)
    if len(seen) == 3:
        print("begun", flush=True)
    if len(seen) >= 3:
        time.sleep(0.05)
    return do(self, piece)
crew.Worker.do = slowly
stream.PIECE_BYTES = 4096
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
@pytest.mark.parametrize("what", ["directory", "file"])
def test_signals(what, number, status, word, threads, model, out):
    """One sentence and the shell's status; of a directory what is resumable stays, of a file nothing."""
    source = model if what == "directory" else model / "model-00001-of-00008.safetensors"
    target = out / ("new" if what == "directory" else "new.safetensors")
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "cast", source, target, "--to", "bfloat16", "--threads", threads],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == status
    assert (error.count("\n"), word in error, "Traceback" in error) == (1, True, False), error
    if what == "file":
        assert files.names(out) == []
    else:
        left = files.contents(staging(out, tree=False))
        assert not [name for name in left if name.endswith("-tmp")]
        assert not target.exists()
    nc.cast_file(source, target, "bfloat16")
    assert files.names(out) == [target.name]


def test_what_was_killed_is_cleaned_up(model, out):
    """Unfinished files of dead processes do not stay in the directory."""
    script = f"""
import os, signal, narrowcast as nc
nc.cast_file({str(model)!r}, {str(out / "new")!r}, "bfloat16", rank=RANK, world=2,
             progress=lambda done, total: os.kill(os.getpid(), signal.SIGKILL))
"""
    for rank in "01":
        done = subprocess.run([sys.executable, "-c", script.replace("RANK", rank)], check=False)
        assert done.returncode == -signal.SIGKILL
    assert len([name for name in files.contents(staging(out, tree=False)) if name.endswith("-tmp")]) == 2
    assert not [name for name in files.contents(staging(out)) if name.endswith("-tmp")]
    nc.cast_file(model, out / "new", "bfloat16")
    nc.cast_file(model, out / "whole", "bfloat16")
    assert files.contents(out / "new") == files.contents(out / "whole")
    assert files.names(out) == ["new", "whole"]


def test_killed_ranks(model, out):
    """One of three ranks dies again and again while the others work."""
    nc.cast_file(model, out / "whole", "bfloat16")
    parts = [
        subprocess.Popen(
            files.command("cast", model, out / "new", "--to", "bfloat16", "--quiet", "--rank", rank, "--world", 3)
        )
        for rank in (0, 1)
    ]
    random.seed(3)
    for _ in range(3):
        process = subprocess.Popen(
            files.command("cast", model, out / "new", "--to", "bfloat16", "--quiet", "--rank", 2, "--world", 3)
        )
        time.sleep(0.2 + random.random() * 0.3)
        process.kill()
        process.wait()
    assert [process.wait(30) for process in parts] == [0, 0]
    nc.cast_file(model, out / "new", "bfloat16", rank=2, world=3)
    assert files.contents(out / "new") == files.contents(out / "whole")
    assert files.names(out) == ["new", "whole"]


def test_ranks_and_no_ranks_share_what_is_done(model, out):
    """A cast begun by ranks is finished by a process alone, and the reverse."""
    nc.cast_file(model, out / "whole", "bfloat16")
    for first, second in (({"rank": 1, "world": 2}, {}), ({"rank": 3, "world": 5}, {"rank": 0, "world": 1})):
        nc.cast_file(model, out / "new", "bfloat16", **first)
        assert staging(out).is_dir()
        assert np.all(nc.cast_file(model, out / "new", "bfloat16", **second).complete)
        assert files.contents(out / "new") == files.contents(out / "whole")
        shutil.rmtree(out / "new")
