"""The command `narrowcast cast`: what it prints, its exit statuses, and one sentence for everything that is wrong."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import files
import narrowcast as nc
from narrowcast import cli

pytestmark = pytest.mark.usefixtures("no_settling")


def example(folder):
    tensors = {
        "layers.0.weight": files.floats(1, (64, 32)),
        "layers.1.weight": files.floats(2, (64, 32), scale=1e-4),
        "head": files.floats(3, (16, 4), scale=1e6),
        "ids": files.tensor("int64", np.arange(8)),
    }
    return files.write(folder / "a.safetensors", tensors)


@pytest.fixture
def source(tmp_path):
    return example(tmp_path)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "b.safetensors"


@pytest.fixture(params=["rich", "plain"])
def tables(request, monkeypatch):
    """With rich, and as if it were not installed."""
    if request.param == "rich":
        pytest.importorskip("rich")
    else:
        for name in ("rich", "rich.console", "rich.table", "rich.text", "rich.progress"):
            monkeypatch.setitem(sys.modules, name, None)


def run(capsys, *arguments):
    """Exit status, standard output, standard error of a call in this process."""
    try:
        status = cli.main(["cast", *map(str, arguments)])
    except SystemExit as stop:  # of argparse
        status = stop.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def row(out, name):
    (line,) = [line for line in out.splitlines() if line.split()[:1] == [name]]
    return line


def test_the_table(source, target, capsys, tables):
    """A row per group of tensors whose names differ in numbers only, the total, the worst, the result."""
    status, out, err = run(capsys, source, target, "--to", "float8_e4m3fn")
    assert (status, err) == (0, "")
    report = nc.cast_file(source, target.with_name("c.safetensors"), "float8_e4m3fn")
    weights = row(out, "layers.*.weight").split()
    assert weights[1:4] == ["2", "float32", "float8_e4m3fn"]
    assert "16.4 kB" in row(out, "layers.*.weight")
    assert "4.1 kB" in row(out, "layers.*.weight")
    assert "copied" in row(out, "ids")
    assert str(report.tensors[2].sums.overflowed) in row(out, "head").split()
    assert row(out, "total").split()[1] == "4"
    assert f"{report.sums.sqnr:.2f}" in row(out, "total")
    assert "worst by SQNR: layers.1.weight (" in out
    assert f"({report.worst[0].sqnr:.2f} dB)" in out
    last = out.splitlines()[-1]
    assert last.startswith(f"{target}: 16.7 kB to 4.22 kB in ")
    assert max(map(len, out.splitlines()[:-1])) < 140
    assert files.read(target)["head"][0] == "float8_e4m3fn"


def test_dry_run(source, target, capsys, tables):
    status, out, err = run(capsys, source, target, "--to", "float4_e2m1fn", "--dry-run")
    assert (status, err) == (0, "")
    assert "float4_e2m1fn" in row(out, "layers.*.weight")
    assert "2.05 kB" in row(out, "layers.*.weight")
    assert "SQNR" not in out
    assert "nothing was written" in out.splitlines()[-1]
    assert str(target) in out.splitlines()[-1]
    assert not target.exists()


def test_quiet(source, target, capsys):
    assert run(capsys, source, target, "--to", "float16", "--quiet") == (0, "", "")
    assert files.read(target)["head"][0] == "float16"


def test_json_to_a_file_and_to_stdout(source, target, tmp_path, capsys):
    report = tmp_path / "report.json"
    status, out, err = run(capsys, source, target, "--to", "float8_e5m2", "--json", report)
    assert (status, err) == (0, "")
    assert "total" in out
    found = json.loads(report.read_text(encoding="utf-8"))
    assert {
        "source",
        "target",
        "format",
        "complete",
        "seconds",
        "bytes_before",
        "bytes_after",
        "total",
        "worst",
        "tensors",
    } <= set(found)
    assert (found["target"], found["format"], found["complete"]) == (str(target), "float8_e5m2", True)
    assert [tensor["name"] for tensor in found["tensors"]] == list(files.read(source))
    assert files.names(tmp_path) == ["a.safetensors", "b.safetensors", "report.json"]

    status, out, err = run(capsys, source, target, "--to", "float8_e5m2", "--json", "-", "--force")
    assert (status, err) == (0, "")
    again = json.loads(out)  # and nothing else
    for one in (found, again):
        one.pop("seconds")
        for tensor in one["tensors"]:
            tensor.pop("seconds")
    assert again == found
    status, out, _ = run(
        capsys, source, target, "--to", "float8_e5m2", "--json", "-", "--force", "--dry-run", "--quiet"
    )
    assert status == 0
    assert json.loads(out)["complete"] is False


def test_options_arrive(source, target, capsys):
    arguments = [
        "--to",
        "bfloat16",
        "--rounding",
        "stochastic",
        "--seed",
        "5",
        "--overflow",
        "saturate",
        "--threads",
        "2",
    ]
    arguments += ["--only", "layers.*", "--only", "head", "--skip", "*.1.*", "--quiet"]
    assert run(capsys, source, target, *arguments)[0] == 0
    given, found = files.read(source), files.read(target)
    for name in ("layers.0.weight", "head"):
        wanted = files.expected(given[name], "bfloat16", "stochastic", "saturate", seed=5, name=name)
        assert np.array_equal(found[name][1], wanted[1])
    assert found["layers.1.weight"] == ("float32", pytest.approx(given["layers.1.weight"][1]))


def test_from(tmp_path, capsys):
    import ml_dtypes

    np.save(tmp_path / "a.npy", np.ones(4, ml_dtypes.bfloat16))
    status, out, err = run(capsys, tmp_path / "a.npy", tmp_path / "b.npy", "--to", "float32")
    assert (status, out) == (2, "")
    assert "--from" in err
    status, _, _ = run(capsys, tmp_path / "a.npy", tmp_path / "b.npy", "--to", "float32", "--from", "bfloat16")
    assert status == 0
    assert np.load(tmp_path / "b.npy").tolist() == [1, 1, 1, 1]


def test_a_directory(tmp_path, capsys, tables):
    model = files.make_model(tmp_path / "model")
    status, out, err = run(capsys, model, tmp_path / "new", "--to", "bfloat16", "--dry-run")
    assert (status, err) == (0, "")
    assert "7 file(s)" in out
    status, out, err = run(capsys, model, tmp_path / "new", "--to", "bfloat16", "--rank", "0", "--world", "2")
    assert (status, err) == (0, "")
    assert re.search(r"^\d of 7 files are done; \d are left to other processes$", out, re.MULTILINE)
    status, out, err = run(capsys, model, tmp_path / "new", "--to", "bfloat16", "--rank", "1", "--world", "2")
    assert (status, err) == (0, "")
    assert row(out, "layers.*.weight").split()[1] == "3"
    assert out.splitlines()[-1].startswith(f"{tmp_path / 'new'}: ")
    status, out, err = run(capsys, model, tmp_path / "new", "--to", "bfloat16")
    assert (status, err, out) == (0, "", f"{tmp_path / 'new'} is complete already\n")


def test_ranks_from_the_environment(tmp_path, capsys, monkeypatch):
    model = files.make_model(tmp_path / "model")
    arguments = (model, tmp_path / "new", "--to", "bfloat16")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "left to other processes" in run(capsys, *arguments)[1]
    monkeypatch.setenv("RANK", "2")
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert re.search("RANK is '2' and WORLD_SIZE is '2'.*--rank", err)
    status, out, _ = run(capsys, *arguments, "--rank", "1", "--world", "2")  # said here: nothing else counts
    assert status == 0
    assert (tmp_path / "new").is_dir()


@pytest.mark.parametrize(
    ("status", "words", "arguments"),
    [
        (
            1,
            r"^narrowcast: head\[\d+, \d+\] is .*, beyond the largest float16",
            ["--to", "float16", "--overflow", "raise"],
        ),
        (2, "float9", ["--to", "float9"]),
        (2, "int8", ["--to", "int8"]),
        (2, "float8_e3m4", ["--to", "float8_e3m4"]),
        (2, "seed", ["--to", "float16", "--rounding", "stochastic"]),
        (2, "seed", ["--to", "float16", "--seed", "1"]),
        (2, "threads", ["--to", "float16", "--threads", "-2"]),
        (2, "only is 'x'", ["--to", "float16", "--only", "x"]),
        (2, "--rank and --world", ["--to", "float16", "--rank", "0"]),
        (2, "rank is 3", ["--to", "float16", "--rank", "3", "--world", "2"]),
        (2, "from_format", ["--to", "float16", "--from", "bfloat16"]),
    ],
)
def test_one_sentence(status, words, arguments, source, target, capsys, tmp_path):
    got, out, err = run(capsys, source, target, *arguments, "--quiet")
    assert (got, out) == (status, "")
    assert re.search(words, err), err
    assert err.startswith("narrowcast: ")
    assert err.count("\n") == 1
    assert files.names(tmp_path) == ["a.safetensors"]


@pytest.mark.parametrize(
    ("words", "paths"),
    [
        ("nowhere.safetensors", ["nowhere.safetensors", "b.safetensors"]),
        ("is the source itself", ["a.safetensors", "a.safetensors"]),
        ("force", ["a.safetensors", "there.safetensors"]),
        ("missing", ["a.safetensors", "missing/b.safetensors"]),
        (r"'\.npy'", ["a.safetensors", "b.npy"]),
        (r"short\.safetensors", ["short.safetensors", "b.safetensors"]),
        ("inside", ["folder", "folder/new"]),
        ("no files of tensors", ["folder", "new"]),
    ],
)
def test_one_sentence_about_paths(words, paths, source, capsys, tmp_path):
    (tmp_path / "short.safetensors").write_bytes(source.read_bytes()[:-3])
    (tmp_path / "there.safetensors").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    before = files.contents(tmp_path)
    status, out, err = run(capsys, *(tmp_path / path for path in paths), "--to", "float16")
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert re.search(words, err), err
    assert files.contents(tmp_path) == before


def test_a_report_that_cannot_be_written(source, target, tmp_path, capsys):
    status, out, err = run(capsys, source, target, "--to", "float16", "--json", tmp_path / "missing" / "r.json")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "missing" in err


def test_usage(capsys):
    for arguments in ([], ["a", "b"], ["a", "b", "--to", "float16", "--rounding", "sideways"], ["a", "b", "--to"]):
        status, out, err = run(capsys, *arguments)
        assert (status, out) == (2, "")
        assert "usage: narrowcast cast" in err
    status, out, _ = run(capsys, "--help")
    assert status == 0
    for option in ("--to", "--rounding", "--overflow", "--seed", "--threads", "--only", "--skip", "--from", "--force"):
        assert option in out
    for option in ("--dry-run", "--json", "--quiet", "--rank", "--world", "--dask", "--ray", "--follow-symlinks"):
        assert option in out
    assert cli.main(["formats"]) == 0
    assert (
        "cast"
        in subprocess.run(
            [sys.executable, "-m", "narrowcast.cli", "--help"], capture_output=True, text=True, check=True
        ).stdout
    )


def test_engines_that_are_not_there(tmp_path, capsys, monkeypatch):
    model = files.make_model(tmp_path / "model")
    for engine, module in (("dask", "distributed"), ("ray", "ray")):
        monkeypatch.setitem(sys.modules, module, None)
        status, out, err = run(capsys, model, tmp_path / "new", "--to", "float16", f"--{engine}", "local")
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert f"narrowcast[{engine}]" in err
    assert run(capsys, model, tmp_path / "new", "--to", "float16", "--dask", "a", "--ray", "b")[0] == 2


def test_progress_in_a_pipe(source, target, capsys, monkeypatch):
    """Plain lines on standard error, one every few seconds: bytes, rate, time left."""
    monkeypatch.setattr("narrowcast._files.progress._LINE_SECONDS", 0.0)
    monkeypatch.setattr("narrowcast._files.stream.PIECE_BYTES", 4096)
    status, _, err = run(capsys, source, target, "--to", "float16")
    assert status == 0
    lines = err.splitlines()
    assert len(lines) >= 3
    for line in lines:
        assert re.fullmatch(r"\d[\d.]* k?B of 17 kB, \d[\d.e+]* [kMGT]?B/s, \d+ s left", line), line


def test_progress_on_a_terminal(source, target):
    """A bar, which is gone at the end; with rich or without, in a terminal of its own."""
    pty = pytest.importorskip("pty")
    for hide in ("", "import sys; sys.modules['rich'] = sys.modules['rich.progress'] = None; "):
        script = f"{hide}import sys; from narrowcast import cli; sys.exit(cli.main(sys.argv[1:]))"
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", script, "cast", source, target, "--to", "float16", "--force"],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
        )
        os.close(theirs)
        out = process.communicate(timeout=60)[0].decode()
        shown = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux: the other end is closed
                break
            if not data:
                break
            shown += data
        os.close(ours)
        assert process.returncode == 0
        assert "total" in out
        assert b"Traceback" not in shown


def test_a_reader_that_goes_away(source, target):
    done = subprocess.run(
        f"{sys.executable} -m narrowcast.cli cast {source} {target} --to float16 | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert target.exists()


def test_in_a_process_of_its_own(source, target):
    done = files.run("cast", source, target, "--to", "float16")
    assert (done.returncode, done.stderr) == (0, "")
    assert "total" in done.stdout
    done = files.run("cast", source, target, "--to", "float16")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"narrowcast: {target}: exists; it is replaced only with force (--force)\n"
