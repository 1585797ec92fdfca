"""The command line: what each command prints, plain and in colour, in this process and in one of its own."""

import os
import re
import subprocess
import sys

import pytest

import narrowcast as nc
from narrowcast import cli


def run(capsys, *arguments):
    status = cli.main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(params=["rich", "plain"])
def tables(request, monkeypatch):
    """With rich, and as if it were not installed."""
    if request.param == "rich":
        pytest.importorskip("rich")
    else:
        for name in ("rich", "rich.console", "rich.table", "rich.text"):
            monkeypatch.setitem(sys.modules, name, None)


def test_formats(capsys, tables):
    status, out, err = run(capsys, "formats")
    assert (status, err) == (0, "")
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert {row.name for row in nc.formats()} <= set(lines)
    assert {"1.4.3", "7", "448", "float8_e4m3fn", "7f", "no", "ml_dtypes"} <= set(lines["float8_e4m3fn"])
    assert {"0.8.0", "127", "ff"} <= set(lines["float8_e8m0fnu"])
    assert "7" in lines["int4"]


def test_info(capsys):
    status, out, err = run(capsys, "info")
    assert (status, err) == (0, "")
    assert nc.__version__ in out
    assert re.search(rf"^instruction set\s+{nc.isa()}$", out, re.MULTILINE)
    for name in nc.isas():
        assert name in out


def test_inspect_all(capsys, tables):
    status, out, err = run(capsys, "inspect", "9.625")
    assert (status, err) == (0, "")
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "0 10000010 00110100000000000000000" in lines["float32"]
    assert "0 10000000010 0011010000000000000000000000000000000000000000000000" in lines["float64"]
    assert "0x411a0000" in lines["tfloat32"]
    assert {row.name for row in nc.formats() if row.is_float} <= set(lines)
    assert max(map(len, out.splitlines())) < 200


def test_inspect_one(capsys):
    status, out, _ = run(capsys, "inspect", "9.625", "--dtype", "float32")
    assert status == 0
    assert out == str(nc.inspect(9.625, "float32")) + "\n"
    status, out, _ = run(capsys, "inspect", "9.625", "--dtype", "float32", "--dtype", "bfloat16")
    assert out.count("stored") == 2


@pytest.mark.parametrize("value", ["-1.5", "-inf", "-1e-3", "-.5", "nan", "1/3"])
def test_inspect_of_any_number(value, capsys):
    status, out, err = run(capsys, "inspect", value, "--dtype", "float16")
    assert (status, err) == (0, "")
    assert out == str(nc.inspect(value, "float16")) + "\n"


def test_inspect_bits(capsys, tables):
    status, out, _ = run(capsys, "inspect", "--bits", "0x41a")
    assert status == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "0 00001 0000011010" in lines["float16"]
    assert "float8_e5m2" not in lines


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "one"], "value is 'one'"),
        (["inspect", "1", "--dtype", "float9"], "dtype is 'float9'"),
        (["inspect", "1", "--dtype", "int8"], "dtype is int8"),
        (["inspect", "--bits", "0xfffffffffffffffffff"], "--bits is"),
        (["inspect", "--bits", "0x100", "--dtype", "float8_e5m2"], "value is 0x100"),
    ],
)
def test_errors_are_one_line(arguments, words, capsys):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("narrowcast: ")
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [[], ["nope"], ["inspect"], ["inspect", "1", "--bits", "2"], ["formats", "extra"]]
)
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert "usage: narrowcast" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_options(option, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([option])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert (
        nc.__version__ in out
        if option == "--version"
        else all(c in out for c in ("formats", "info", "inspect", "bench"))
    )


def command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "narrowcast.cli", *arguments],
        env=os.environ | {"COLUMNS": "300"} | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_as_a_process():
    done = command("inspect", "9.625", "--dtype", "float32")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "0 10000010 00110100000000000000000"
    assert command("inspect", "nope").returncode == 2
    assert command("info", NARROWCAST_ISA="scalar").stdout.count("scalar") >= 2


def test_the_installed_command():
    """The script that pip makes beside the interpreter."""
    script = os.path.join(os.path.dirname(sys.executable), "narrowcast")
    if not os.path.exists(script):
        pytest.skip("the package is on the path, not installed")
    done = subprocess.run([script, "formats"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "float4_e2m1fn" in done.stdout


def test_colours_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\033[" in run(capsys, "inspect", "9.625", "--dtype", "float32")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033[" not in run(capsys, "inspect", "9.625", "--dtype", "float32")[1]


def test_a_reader_that_goes_away():
    """`narrowcast formats | head -1` ends quietly."""
    done = subprocess.run(
        f"{sys.executable} -m narrowcast.cli formats | head -1", shell=True, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
