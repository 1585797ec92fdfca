"""The benchmark: that it refuses to time wrong bits, that its limit loops move every byte, and that its files come out.

Nothing here looks at a speed: sizes are tiny and machines are busy.
"""

import json
import os
import pathlib
import sys
import tempfile
from importlib.util import find_spec, module_from_spec, spec_from_file_location

import numpy as np
import pytest

import narrowcast as nc
from narrowcast import _limits, cli
from narrowcast._bench import compare, files, goals, limits, measure, models, peers, plan, reference, results

TINY = ["bench", "--peers", "numpy", "--sizes", "4Ki", "--formats", "float8_e4m3fn,bfloat16"]


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    """The result of one tiny run over every section."""
    path = tmp_path_factory.mktemp("bench") / "run.json"
    assert cli.main([*TINY, "--json", str(path)]) == 0
    return path


def test_run_measures_every_section_on_every_isa(run_file):
    run = results.load(run_file)
    assert {row.section for row in run.rows} == set(plan.SECTIONS)
    assert {row.isa for row in run.rows if row.section in ("encode", "decode")} == set(nc.isas())
    assert {row.rounding for row in run.rows} == {"nearest_even", *plan.ROUNDINGS}
    for row in run.rows:
        assert row.seconds > 0
        assert row.turns >= (1 if row.isa == "scalar" else 15)
        assert (row.limit_seconds is None) == (row.layout != "contiguous")
        assert "numpy" in row.peers
        assert row.peers["numpy"].seconds > 0


def test_run_prints_machine_and_tables(capsys):
    arguments = ["bench", "--peers", "numpy", "--sizes", "4Ki", "--pairs", "float32:float16", "--isa", "scalar"]
    assert cli.main([*arguments, "--only", "encode", "--targets"]) == 2  # no goal is about this size
    assert cli.main([*arguments, "--only", "encode"]) == 0
    printed = capsys.readouterr().out
    for text in ("CPU:", "instruction sets:", "float32 -> float16", "4 Ki", "numpy 4 Ki"):
        assert text in printed


def test_absent_peers_are_named(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "numkong", None)  # what Python does for a blocked import
    arguments = ["bench", "--peers", "numkong", "--sizes", "16", "--pairs", "float32:float16", "--isa", "scalar"]
    assert cli.main([*arguments, "--only", "encode"]) == 0
    assert "NumKong (pip install numkong)" in capsys.readouterr().out


@pytest.mark.parametrize("when", ["difficult", "timed"])
def test_wrong_bit_is_reported_and_not_timed(capsys, monkeypatch, tmp_path, when):
    right = measure.expected

    def wrong(source, target, *options):
        codes = right(source, target, *options).copy()
        if (codes.size == 4096) == (when == "timed"):
            codes[17] ^= 1
        return codes

    monkeypatch.setattr(measure, "expected", wrong)
    path = tmp_path / "run.json"
    assert cli.main([*TINY, "--only", "encode", "--json", str(path)]) == 1
    printed = capsys.readouterr()
    assert "WRONG BITS: float32 -> bfloat16" in printed.err
    assert "[17]" in printed.err
    assert "share of the memory limit" not in printed.out
    assert not path.exists()


def test_compare_with_itself_finds_no_change(run_file, capsys):
    assert cli.main(["bench", "--compare", str(run_file), str(run_file)]) == 0
    count = len(results.load(run_file).rows)
    assert f"0 of {count} casts changed" in capsys.readouterr().out


def test_compare_tells_change_from_noise(run_file):
    a, b = results.load(run_file), results.load(run_file)
    for row in (*a.rows, *b.rows):
        row.spread = 0.02
    b.rows[0].seconds /= 2
    b.rows[1].seconds /= 1.04
    changes = compare.compare(a, b).changes
    assert [change.is_noise for change in changes[:3]] == [False, True, True]
    assert changes[0].ratio == pytest.approx(2)


def test_compare_refuses_other_files(tmp_path, capsys):
    path = tmp_path / "other.json"
    path.write_text('{"rows": []}')
    assert cli.main(["bench", "--compare", str(path), str(path)]) == 2
    assert "is not a result of narrowcast bench" in capsys.readouterr().err


def test_result_file_is_written_whole_or_not_at_all(run_file, tmp_path, capsys):
    path = tmp_path / "run.json"
    path.write_text("kept")
    run = results.load(run_file)
    run.notes.append(object())
    with pytest.raises(TypeError):
        results.save(run, path)
    assert path.read_text() == "kept"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]
    assert cli.main([*TINY, "--json", str(tmp_path / "absent" / "run.json")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_plot(run_file, tmp_path, capsys):
    path = tmp_path / "run.png"
    if find_spec("matplotlib") is None:
        assert cli.main([*TINY, "--plot", str(path)]) == 2
        assert "pip install matplotlib" in capsys.readouterr().err
        return
    from narrowcast._bench import plot

    plot.draw(results.load(run_file), path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.png"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--formats", "float9"], "'float9' is not one of"),
        (["--isa", "sse9"], "'sse9' is not one of"),
        (["--peers", "blas"], "'blas' is not one of"),
        (["--threads", "-1"], "must be 0 or more"),
        (["--pairs", "float16:float64"], "no cast is left"),
        (["--size", "2G"], "it needs --files"),
        (["--files", "--formats", "float16"], "--files goes with"),
        (["--files", "--threads", "2"], "--files goes with"),
    ],
)
def test_wrong_arguments(arguments, said, capsys):
    assert cli.main(["bench", *arguments]) == 2
    assert said in capsys.readouterr().err


# -- goals ---------------------------------------------------------------------------------------------------------


def test_goals_name_what_exists():
    formats = {facts.name for facts in nc.formats()}
    for goal in goals.goals():
        assert goal.sources <= formats
        assert goal.targets <= formats
        assert goal.roundings <= {"nearest_even", *plan.ROUNDINGS}
        assert goal.layouts <= {"contiguous", *plan.LAYOUTS}
    planned = plan.make("default", ("avx512vbmi", "avx2", "scalar"), plan.Filters())
    for goal in goals.goals():
        covered = [case for case in planned if goal.covers(case) and goal.isa in case.isas]
        assert len(covered) == goal.size, f"the default plan does not measure all of {goal}"


@pytest.mark.parametrize(("share", "met"), [(0.91, True), (0.89, False)])
def test_goal_is_judged_by_its_slowest_cast(share, met):
    goal = next(goal for goal in goals.goals() if goal.measure == "share" and goal.at_least == 0.9 and goal.size == 2)
    pairs = [(source, target) for source in goal.sources for target in goal.targets]
    rows = [
        results.Row("encode", source, target, goal.count, goal.isa, "nearest_even", "contiguous", 1, 1.0, 0.0, 15, 1, x)
        for (source, target), x in zip(pairs, (0.99, share), strict=True)
    ]
    run = results.Run({}, {}, rows)
    verdict = goals.judge(run)[goals.goals().index(goal)]
    assert verdict.met is met
    run.rows.pop()
    assert goals.judge(run)[goals.goals().index(goal)].met is None  # half of it says nothing


# -- files ---------------------------------------------------------------------------------------------------------

TINY_FILES = ["bench", "--files", "--quick", "--size", "1M"]


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The only place for files that the benchmark makes; it must leave nothing there."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(files, "_in_memory", lambda size: str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def test_files_are_measured(scratch, tmp_path_factory, capsys):
    path = tmp_path_factory.mktemp("bench") / "run.json"
    with_torch = bool(find_spec("torch") and find_spec("safetensors"))
    assert cli.main([*TINY_FILES, "--peers", "torch", "--targets", "--json", str(path)]) == 0
    run = results.load(path)
    assert {row.section for row in run.rows} == {"files"}
    several = (os.cpu_count() or 1) > 1
    assert {(row.target, row.threads) for row in run.rows} >= {(dtype, 1) for dtype in files.TARGETS}
    for row in run.rows:
        assert row.seconds > 0
        assert row.count * 4 == pytest.approx(1e6, rel=0.1)
        assert (row.share is None) == (row.threads != 1)
        assert (row.times_faster(peers.FILE_PEER) is not None) == (with_torch and row.threads == 1)
        if sys.platform == "linux" and row.threads == 1:
            assert 1e6 < row.peak_bytes < 1e8
    assert [call.name for call in run.calls][:1] == [files.FIRST_BYTE]
    assert all(call.seconds > 0 for call in run.calls)
    if several:
        assert run.calls[1].name == files.TWO_PROCESSES
    printed = capsys.readouterr().out
    assert "float32 -> float8_e4m3fn" in printed
    assert "first byte of 10,000 tensors" in printed
    assert "2 GB file" in printed
    assert len(compare.compare(run, run).changes) == len(run.rows) + len(run.calls)


@pytest.mark.parametrize("place", [1000, -1000])
def test_wrong_bit_in_a_file_is_reported_and_not_timed(scratch, monkeypatch, capsys, place):
    right = nc.cast_file

    def wrong(source, target, dtype, **options):
        right(source, target, dtype, **options)
        with open(target, "r+b") as file:
            file.seek(place, os.SEEK_SET if place > 0 else os.SEEK_END)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))

    monkeypatch.setattr(nc, "cast_file", wrong)
    monkeypatch.setattr(models, "language_model", lambda size: {"a": (300, 1000)})  # its header is short
    assert cli.main([*TINY_FILES, "--peers", "none"]) == 1
    printed = capsys.readouterr()
    assert "WRONG BITS: a, float32 -> bfloat16 in a file: 1 elements; [" in printed.err
    assert "x loop" not in printed.out


@pytest.mark.parametrize("what", ["name", "order", "shape", "dtype"])
def test_check_of_a_file_looks_at_the_header(tmp_path, what):
    before, after = tmp_path / "before.safetensors", tmp_path / "after.safetensors"
    models.write_file(before, {"a": (3, 4), "b": (4,)})
    nc.cast_file(before, after, "bfloat16")
    models.check_cast(before, after, "bfloat16")
    if what == "dtype":
        with pytest.raises(models.MismatchError, match="a is BF16 of shape"):
            models.check_cast(before, after, "float8_e4m3fn")
        return
    shapes = {"name": {"a": (3, 4), "c": (4,)}, "order": {"b": (4,), "a": (3, 4)}, "shape": {"a": (4, 3), "b": (4,)}}
    models.write_file(before, shapes[what])
    with pytest.raises(models.MismatchError, match="of shape" if what == "shape" else "other names"):
        models.check_cast(before, after, "bfloat16")


@pytest.mark.parametrize("size", [4096, 1 << 20, 5_000_000])
def test_models_have_the_size_asked_for(tmp_path, size):
    shapes = models.language_model(size)
    models.write_file(tmp_path / "a.safetensors", shapes)
    found = models.read_file(tmp_path / "a.safetensors")
    assert {name: tuple(shape) for name, (_, shape, _) in found.items()} == shapes
    assert sum(data.size for _, _, data in found.values()) == pytest.approx(size, rel=0.05, abs=1 << 18)
    models.write_directory(tmp_path / "shards", shapes, 8)
    parts = [models.read_file(path) for path in sorted((tmp_path / "shards").iterdir())]
    assert len(parts) == 8
    assert sorted(name for part in parts for name in part) == sorted(shapes)


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("loop", ["read", "map"])
def test_file_loop_writes_as_many_bytes_as_the_cast(tmp_path, loop, width):
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"\x5a" * 5_000_000)
    if loop == "read":
        files._read_and_write(source, target, width, 1 << 16)
        assert target.stat().st_size == 1_250_000 * width
    else:
        files._map_and_write(source, target, width)
        assert target.read_bytes() == b"\x5a" * (1_250_000 * width)  # stored for what was loaded


def file_row(dtype, seconds, size=2_000_000_000, peak=50_000_000):
    row = results.Row("files", "float32", dtype, size // 4, "avx2", "nearest_even", "file", 1, seconds, 0, 5, 3)
    row.limit_seconds, row.peak_bytes = 1.0, peak
    row.peers[peers.FILE_PEER] = results.PeerTime(4.2, 3)
    return row


@pytest.mark.parametrize(
    ("slow", "peak", "met"),
    [(1.39, 99e6, (True, True, True)), (1.41, 101e6, (False, False, False)), (1.3, 101e6, (True, True, False))],
)
def test_goals_of_files_are_judged_by_the_worst(slow, peak, met):
    run = results.Run({}, {}, [file_row("bfloat16", 1.1), file_row("float8_e4m3fn", slow, peak=int(peak))])
    verdicts = [verdict for verdict in goals.judge(run) if verdict.name == "2 GB file"]
    assert tuple(verdict.met for verdict in verdicts) == met
    assert {verdict.worst for verdict in verdicts} == {"float8_e4m3fn"}
    run.rows = [file_row("bfloat16", 1.1, size=1_000_000_000)]
    assert all(v.met is None for v in goals.judge(run) if v.name == "2 GB file")  # another size says nothing


@pytest.mark.parametrize(("seconds", "met"), [(0.58, True), (0.60, False)])
def test_goal_of_two_processes(seconds, met):
    run = results.Run({}, {}, calls=[results.CallTime(files.TWO_PROCESSES, "one", seconds, 1.0)])
    assert [v.met for v in goals.judge(run) if v.name == files.TWO_PROCESSES] == [met]


# -- limit loops ---------------------------------------------------------------------------------------------------


POWERS_AND_THREES = [*((s, t) for s in (1, 2, 4, 8) for t in (1, 2, 4, 8)), (3, 4), (3, 8), (4, 3), (8, 3)]


@pytest.mark.parametrize("form", limits.forms())
@pytest.mark.parametrize(("source_bytes", "target_bytes"), POWERS_AND_THREES)
def test_limit_loop_moves_every_byte(form, source_bytes, target_bytes):
    for count in (0, 1, 7, 64, 129, 1000):
        for offset in (0, 1, target_bytes):
            source = np.full(count * source_bytes, 0x5A, np.uint8)
            target = np.zeros(128 + count * target_bytes + 64, np.uint8)
            start = -target.ctypes.data % 64 + offset
            end = start + count * target_bytes
            _limits.move(form, source.ctypes.data, target.ctypes.data + start, count, source_bytes, target_bytes)
            assert (target[start:end] == 0x5A).all()
            assert not target[:start].any()
            assert not target[end:].any()


@pytest.mark.parametrize("form", limits.forms())
@pytest.mark.parametrize(("source_bytes", "target_bytes"), [pair for pair in POWERS_AND_THREES if 2 not in pair])
def test_limit_loop_reads_every_byte(form, source_bytes, target_bytes):
    count = 300
    source = np.zeros(count * source_bytes, np.uint8)
    target = np.empty(count * target_bytes, np.uint8)
    for i in range(source.size):
        source[i] = 0x80
        _limits.move(form, source.ctypes.data, target.ctypes.data, count, source_bytes, target_bytes)
        assert target.any(), f"byte {i} was not read"
        source[i] = 0


def test_limit_loop_refuses_wrong_numbers():
    for arguments in (
        (len(_limits.forms()), 0, 0, 0, 1, 1),
        (0, 0, 0, 0, 3, 1),
        (0, 0, 0, 0, 3, 3),
        (0, 0, 0, 0, 2, 3),
        (0, 0, 0, 0, 1, 16),
    ):
        with pytest.raises(ValueError, match="item sizes must be"):
            _limits.move(*arguments)


# -- expected bits -------------------------------------------------------------------------------------------------


def test_philox_known_answer():
    assert [f"{word:08x}" for word in reference.philox(0, 4)] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


def test_expected_rounds_float64_once():
    just_above_tie = np.array([1 + 2**-11 + 2**-40, 1 + 2**-8 + 2**-40])
    assert reference.expected(just_above_tie, "bfloat16").tolist() == [0x3F80, 0x3F81]
    assert reference.expected(just_above_tie, "tfloat32").tolist() == [0x3F802000, 0x3F808000]


@pytest.mark.parametrize(
    ("rounding", "codes"),
    [
        ("toward_zero", [0x38, 0xB8, 0x39, 0xB9]),
        ("up", [0x39, 0xB8, 0x39, 0xB9]),
        ("down", [0x38, 0xB9, 0x39, 0xB9]),
        ("nearest_away", [0x39, 0xB9, 0x39, 0xB9]),
    ],
)
def test_expected_directed(rounding, codes):
    x = np.array([1.0625, -1.0625, 1.125, -1.125], np.float32)  # the neighbours of 1 in e4m3fn are 1/8 apart
    assert reference.expected(x, "float8_e4m3fn", rounding).tolist() == codes


def test_json_is_readable_by_others(run_file):
    data = json.loads(run_file.read_text())
    assert data["schema"] == results.SCHEMA
    assert {"machine", "settings", "rows", "calls", "notes"} <= set(data)


def test_the_readmes_tables_are_those_of_the_kept_results():
    root = pathlib.Path(__file__).parents[1]
    spec = spec_from_file_location("readme_table", root / "bench" / "readme_table.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (root / "README.md").read_text(encoding="utf-8")
    kept = root / "bench" / "results"
    casts, operations = (results.load(kept / name) for name in ("amd-zen4.json", "amd-zen4-quantize.json"))
    for run, table in ((casts, module.table(casts)), (operations, module.operations_table(operations))):
        assert table.count("\n") > 10
        assert table in text
        assert module.replace(text, run) == text
