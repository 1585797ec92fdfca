"""`quantize_file`, `dequantize_file` and their commands in bad weather: arguments without sense, models that cannot
be quantized, kills, interrupts, and the memory that they take. Files that lie are in test_files_quantize_lies.py; that
the same machinery makes casts safe is shown in test_files_safety.py, test_files_resume.py and others.
"""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

import files
import files_quantized as fq
import narrowcast as nc
from narrowcast import cli
from narrowcast._files import single
from test_files_memory import ALLOWED, CHILD

pytestmark = pytest.mark.usefixtures("no_settling")


@pytest.fixture
def model(tmp_path):
    return fq.make_model(tmp_path / "model", shards=4)


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def run(capsys, *arguments):
    status = cli.main([str(argument) for argument in arguments])
    found = capsys.readouterr()
    return status, found.out, found.err


# -- the commands --------------------------------------------------------------------------------------------------


def test_the_commands(model, out, capsys):
    """A table, the worst tensors, and a line; reports as JSON; what is complete is not made again."""
    words = ("quantize", model, out / "new", "--to", "int4", "--group-size", "32", "--asymmetric")
    status, printed, error = run(capsys, *words)
    assert (status, error) == (0, "")
    assert "int4 group 32" in printed
    assert "worst by SQNR: " in printed
    assert printed.splitlines()[-1].startswith(f"{out / 'new'}: ")
    assert run(capsys, *words) == (0, f"{out / 'new'} is complete already\n", "")
    status, printed, _ = run(capsys, "quantize", model, out / "other", "--to", "int8", "--json", "-")
    assert (status, json.loads(printed)["format"]) == (0, "int8 channel")
    status, printed, _ = run(capsys, "dequantize", out / "new", out / "back", "--to", "float16")
    assert status == 0
    (row,) = [line for line in printed.splitlines() if "up_proj" in line]
    assert row.split()[1:6] == ["1", "int4", "group", "32", "float16"]
    status, printed, _ = run(capsys, "quantize", model, out / "dry", "--to", "int2", "--dry-run", "--group-size", "16")
    assert (status, "nothing was written" in printed) == (0, True)
    assert not (out / "dry").exists()
    assert run(capsys, "dequantize", out / "new", out / "back", "--to", "float16", "--quiet") == (0, "", "")


def test_all_options_of_the_command(model, out, capsys):
    common = ("--only", "*_proj*", "--skip", "*k_proj*", "--threads", "2", "--quiet")
    words = ("--granularity", "block", "--block-shape", "16", "32", "--scale-dtype", "float32", "--dynamic-activations")
    assert run(capsys, "quantize", model, out / "a", "--to", "float8_e4m3fn", *words, *common) == (0, "", "")
    nc.quantize_file(
        model,
        out / "b",
        "float8_e4m3fn",
        block_shape=(16, 32),
        scale_dtype="float32",
        dynamic_activations=True,
        only="*_proj*",
        skip="*k_proj*",
    )
    assert files.contents(out / "a") == files.contents(out / "b")
    words = ("--calibration", "percentile", "--percentile", "99", "--format", "pack-quantized", "--symmetric")
    assert run(capsys, "quantize", model, out / "c", "--to", "int8", *words, "--quiet") == (0, "", "")
    calibration = nc.Calibration("percentile", percentile=99)
    nc.quantize_file(model, out / "d", "int8", calibration=calibration, format="pack-quantized")
    assert files.contents(out / "c") == files.contents(out / "d")


def test_ranks(model, out, capsys):
    """Three processes share a directory, which is the same as one's."""
    nc.quantize_file(model, out / "whole", "int8")
    for rank in (2, 0, 1):
        words = ("quantize", model, out / "new", "--to", "int8", "--quiet", "--rank", rank, "--world", 3)
        assert run(capsys, *words) == (0, "", "")
    assert files.contents(out / "new") == files.contents(out / "whole")
    assert files.names(out) == ["new", "whole"]


# -- arguments -----------------------------------------------------------------------------------------------------

ARGUMENTS = [
    (("uint8",), {}, TypeError, "dtype is uint8; allowed are int1, .*float8_e4m3fn"),
    (("fp8",), {}, TypeError, "dtype is 'fp8'; allowed are int1, .*float8_e4m3fn$"),
    (("int4",), {"granularity": "row"}, ValueError, "granularity is 'row'; allowed are tensor, channel, group, block"),
    (("int4",), {"granularity": "tensor", "group_size": 8}, ValueError, "group_size is 8, and granularity is 'tensor'"),
    (("int4",), {"group_size": 0}, ValueError, "group_size is 0"),
    (("int4",), {"group_size": "x"}, TypeError, "group_size is 'x'"),
    (("int4",), {"block_shape": (0, 1)}, ValueError, r"block_shape\[0\] is 0"),
    (("int4",), {"symmetric": None}, TypeError, "symmetric is None"),
    (("float8_e4m3fn",), {"symmetric": False}, ValueError, "symmetric is False, and dtype is float8_e4m3fn"),
    (("int4",), {"format": "int-quantized"}, ValueError, "format is 'int-quantized', and dtype is int4"),
    (("int8",), {"format": "marlin"}, ValueError, "format is 'marlin'.*int-quantized, pack-quantized"),
    (("int4",), {"dynamic_activations": True}, ValueError, "dynamic_activations is True"),
    (("int4",), {"scale_dtype": "float8_e8m0fnu"}, TypeError, "scale_dtype is float8_e8m0fnu"),
    (("int4",), {"calibration": "best"}, ValueError, "calibration is 'best'"),
    (("int4",), {"only": 3}, TypeError, "only is 3"),
    (("int8",), {"only": "*.nothing"}, ValueError, "only is .*nothing.*names no tensor"),
    (("int8",), {"only": "*.bias"}, ValueError, "no weights to quantize"),
    (("int8",), {"skip": "*"}, ValueError, "no weights to quantize"),
    (("int4",), {"group_size": 128}, ValueError, r"rows of 64 values, which are no groups of 128;.*--skip"),
]


@pytest.mark.parametrize(("arguments", "options", "error", "words"), ARGUMENTS)
@pytest.mark.parametrize("dry_run", [False, True])
def test_arguments(arguments, options, error, words, dry_run, model, out):
    """One sentence, and nothing is written."""
    with pytest.raises(error, match=words) as caught:
        nc.quantize_file(model, out / "new", *arguments, **options, dry_run=dry_run)
    assert "\n" not in str(caught.value)
    assert files.names(out) == []


def set_config(model, **changes):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | changes))


def test_models_that_are_not_quantized(model, out, tmp_path):
    nc.quantize_file(model, tmp_path / "done", "int8")
    for place in (tmp_path / "done", *sorted((tmp_path / "done").glob("*.safetensors"))[:1]):
        target = out / ("new" if place.is_dir() else "new.safetensors")
        with pytest.raises(ValueError, match=r"quantized already; dequantize it first"):
            nc.quantize_file(place, target, "int4", granularity="channel")
    set_config(model, model_type="gpt2")
    with pytest.raises(ValueError, match="Conv1D"):
        nc.quantize_file(model, out / "new", "int8")
    (model / "config.json").write_text('{"pooling": 1}')
    with pytest.raises(ValueError, match="no weights to quantize"):
        nc.quantize_file(model, out / "new", "int8")
    (model / "config.json").unlink()
    assert nc.quantize_file(model, out / "new", "int8").complete  # shards without a configuration are a model's
    assert "quantization_config" in files.read_safetensors(sorted((out / "new").glob("*.safetensors"))[0])[1]
    for kind in (".npy", ".npz"):
        source = files.write(tmp_path / f"x.weight{kind}", {"x.weight": files.floats(1, (8, 64))})
        with pytest.raises(ValueError, match=r"no weights to quantize.*\.safetensors"):
            nc.quantize_file(source, out / f"b{kind}", "int8")
    source = files.write(
        tmp_path / "a.safetensors", {"up.weight": files.floats(1, (8, 64)), "up.weight_scale": files.floats(1, (8,))}
    )
    with pytest.raises(ValueError, match=r"'up\.weight_scale' is there already"):
        nc.quantize_file(source, out / "b.safetensors", "int8")
    assert files.names(out) == ["new"]


def test_nothing_to_dequantize(model, out, tmp_path):
    with pytest.raises(ValueError, match="no quantized weights"):
        nc.dequantize_file(model, out / "new")
    with pytest.raises(TypeError, match="dtype is int8"):
        nc.dequantize_file(model, out / "new", "int8")
    assert files.names(out) == []


def test_values_that_are_no_numbers(out, tmp_path):
    """NaN and infinities have their codes, as `quantize` says, and the rest of their rows is not lost."""
    x = np.random.default_rng(1).normal(0, 1, (4, 64)).astype(np.float32)
    x[0, 3], x[1, 5], x[2] = np.nan, -np.inf, 0
    nc.save_file({"up.weight": x}, tmp_path / "a.safetensors")
    report = nc.quantize_file(tmp_path / "a.safetensors", out / "b.safetensors", "int8")
    found = nc.load_file(out / "b.safetensors")
    assert found["up.weight"][0, 3] == found["up.weight"][1, 5] == -128
    assert not found["up.weight"][2].any()
    assert np.isfinite(found["up.weight_scale"]).all()
    assert report.sums.sqnr > 30


@pytest.mark.parametrize("dtype", ["int8", "int4", "float8_e4m3fn"])
@pytest.mark.parametrize("source", ["float32", "bfloat16"])
def test_values_that_have_no_code_are_counted(dtype, source, out, tmp_path):
    """A weight that is broken does not pass for an exact one: FP8 keeps NaN, and nothing keeps infinities."""
    x = np.zeros((4, 64), np.float32)
    x[0, :3], x[1, 5], x[3, 7] = np.nan, -np.inf, np.inf
    given = {"up.weight": x.astype(fq.DTYPES[source]), "gone.weight": np.full((2, 64), np.nan, fq.DTYPES[source])}
    nc.save_file(given, tmp_path / "a.safetensors")
    report = nc.quantize_file(tmp_path / "a.safetensors", out / "b.safetensors", dtype, granularity="channel")
    counted = {tensor.name: tensor.sums.overflowed for tensor in report.tensors}
    keeps_nan = dtype.startswith("float")
    assert counted == {"up.weight": 2 if keeps_nan else 5, "gone.weight": 0 if keeps_nan else 128}
    assert np.isnan(report.sums.sqnr)  # not exact


# -- interruptions -------------------------------------------------------------------------------------------------


def test_dask(model, out):
    """What to do with a file travels to workers as plain data."""
    pytest.importorskip("distributed")
    nc.quantize_file(model, out / "whole", "int4", group_size=32)
    nc.quantize_file(model, out / "new", "int4", group_size=32, dask="local")
    assert files.contents(out / "new") == files.contents(out / "whole")
    nc.dequantize_file(out / "whole", out / "one")
    nc.dequantize_file(out / "new", out / "other", dask="local")
    names = {*files.names(out / "one")} - {"narrowcast.json"}
    for name in sorted(name for name in names if name.endswith((".json", ".safetensors"))):
        assert (out / "one" / name).read_bytes() == (out / "other" / name).read_bytes()


def test_an_interrupt_in_the_middle(model, out, monkeypatch):
    """What is done is kept and skipped; the result is that of a run that nothing disturbed."""
    nc.quantize_file(model, out / "whole", "int8")
    before, calls = single.cast_beside, []

    def stop(*arguments, **options):
        calls.append(arguments[0].name)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return before(*arguments, **options)

    monkeypatch.setattr("narrowcast._files.single.cast_beside", stop)
    with pytest.raises(KeyboardInterrupt):
        nc.quantize_file(model, out / "new", "int8")
    assert not (out / "new").exists()
    nc.quantize_file(model, out / "other", "int8", symmetric=False)  # other options take nothing of it
    done = len(calls)
    nc.quantize_file(model, out / "new", "int8")
    assert len(calls) - done == 3  # of six
    assert files.contents(out / "new") == files.contents(out / "whole")
    assert files.contents(out / "other") != files.contents(out / "whole")
    assert files.names(out) == ["new", "other", "whole"]


SLOW = """
import os, signal, sys
from narrowcast import cli
from narrowcast._files import crew, stream
do, seen = crew.Worker.do, []
def killed(self, piece):
    seen.append(piece)
    if len(seen) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return do(self, piece)
crew.Worker.do = killed
stream.PIECE_BYTES = 4096
sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nothing kills like that here")
@pytest.mark.parametrize("command", ["quantize", "dequantize"])
def test_killed(command, model, out, tmp_path):
    """Anywhere: no half of a result is ever seen, and the same command goes on."""
    source, options = model, ["--to", "float8_e4m3fn", "--granularity", "tensor"]
    if command == "dequantize":
        nc.quantize_file(model, tmp_path / "quantized", "int4", group_size=32)
        source, options = tmp_path / "quantized", []
    words = [command, source, out / "new", *options, "--quiet"]
    for pieces in (2, 6, 4):
        done = subprocess.run([sys.executable, "-c", SLOW, str(pieces), *map(str, words)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert [name for name in files.names(out) if not name.startswith(".")] == []
    assert cli.main([str(word) for word in words]) == 0
    assert files.names(out) == ["new"]
    assert cli.main([str(word) for word in [command, source, out / "whole", *options, "--quiet"]]) == 0
    assert files.contents(out / "new") == files.contents(out / "whole")


# -- memory --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_memory_does_not_grow(tmp_path):
    """Three weights of 64 MB each, of zeros that take no room, there and back."""
    entries, at = {}, 0
    for name in ("a.up_proj.weight", "b.up_proj.weight", "c.up_proj.weight"):
        entries[name] = {"dtype": "F32", "shape": [4096, 4096], "data_offsets": [at, at + (1 << 26)]}
        at += 1 << 26
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    source = tmp_path / "a.safetensors"
    with source.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    steps = (
        ("quantize_file(source, target, format, threads", "a", "b", "int4"),
        ("quantize_file(source, target, format, granularity='tensor', threads", "a", "c", "float8_e4m3fn"),
        ("dequantize_file(source, target, format, threads", "b", "d", "bfloat16"),
    )
    for call, one, other, dtype in steps:
        script = CHILD.replace("cast_file(source, target, format, threads", call).replace(
            "nc.cast_file", "nc.quantize_file"
        )
        script = script.replace("import narrowcast as nc", "import narrowcast as nc, narrowcast._files.quantized_entry")
        words = [str(tmp_path / f"{name}.safetensors") for name in (one, other)] + [dtype, "2", str(ALLOWED)]
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["grown"] < ALLOWED
