"""The benchmark of quantize, dequantize and pack: it refuses to time wrong bits, and what it compares with is right.

Nothing here looks at a speed: sizes are tiny and machines are busy. The rest of the benchmark is in test_bench.py.
"""

import numpy as np
import pytest

import narrowcast as nc
from narrowcast import cli
from narrowcast._bench import compare, goals, measure_operations, operations, plan, reference_operations, results

TINY_OPERATIONS = ["bench", "--only", "quantize,dequantize,pack", "--sizes", "4Ki"]


@pytest.fixture(scope="module")
def operations_file(tmp_path_factory):
    """The result of one tiny run over every operation, beside the peers that there are."""
    path = tmp_path_factory.mktemp("bench") / "operations.json"
    assert cli.main([*TINY_OPERATIONS, "--json", str(path)]) == 0
    return path


def test_operations_are_measured_on_every_isa(operations_file):
    run = results.load(operations_file)
    assert {(row.section, row.isa) for row in run.rows} == {
        (section, isa) for section in operations.SECTIONS for isa in nc.isas()
    }
    assert len(run.rows) == len(operations.OPERATIONS) * len(nc.isas())
    for row in run.rows:
        assert row.seconds > 0
        assert row.limit_seconds > 0
        assert row.peers["numpy"].seconds > 0
        assert row.peers["numpy"].differ == 0
    assert len(compare.compare(run, run).changes) == len(run.rows)
    assert len({row.key for row in run.rows}) == len(run.rows)


@pytest.mark.parametrize(
    ("peer", "count"), [("torch", 8), ("onnxruntime", 4), ("fbgemm", 1), ("numpy in place", 8), ("numpy", 16)]
)
def test_peers_do_the_same_operation(operations_file, peer, count):
    """Bit for bit, but for the ties and halves that torch rounds in its own way, of which there are few."""
    rows = [row for row in results.load(operations_file).rows if row.isa == nc.isa()]
    found = [row.peers[peer] for row in rows if peer in row.peers]
    if not found and peer.startswith("numpy") is False:
        pytest.skip(f"{peer} is not installed")
    assert len(found) == count
    for time in found:
        assert time.differ is None if peer == "fbgemm" else time.differ <= (8 if peer == "torch" else 0)


def test_tables_of_operations(operations_file, capsys):
    from narrowcast._bench import report

    run = results.load(operations_file)
    report.show_run(run)
    printed = capsys.readouterr().out
    for text in (
        "quantize: GB/s",
        "float32 -> int8, scale computed, per row",
        "packed -> uint3, lsb",
        "numpy in place 4 K",
    ):
        assert text in printed


@pytest.mark.parametrize("section", operations.SECTIONS)
@pytest.mark.parametrize("when", ["difficult", "timed"])
def test_wrong_code_is_reported_and_not_timed(capsys, monkeypatch, section, when):
    right = measure_operations._require

    def wrong(got, want, what):
        if what.endswith("results") and ("difficult values" in what) == (when == "difficult"):
            want = want.copy()
            want.reshape(-1).view(np.uint8)[want.itemsize * 17] ^= 1
        right(got, want, what)

    monkeypatch.setattr(measure_operations, "_require", wrong)
    assert cli.main(["bench", "--only", section, "--sizes", "4Ki", "--peers", "none"]) == 1
    printed = capsys.readouterr()
    assert "WRONG BITS: " in printed.err
    assert "[17] is 0x" in printed.err
    assert ("difficult values" in printed.err) == (when == "difficult")
    assert "share of the memory limit" not in printed.out


def test_expected_bits_of_operations():
    x = np.array([[-234.1, 0.05, 251.51, np.nan] * 1024], np.float32)
    rows = operations.Operation("quantize", "float32", "int8", "row")
    codes, scale = reference_operations.expected_quantized(rows, x, np.ones((1, 1), np.float32))
    assert scale.tolist() == [[float(np.float32(251.51 / 127))]]
    assert codes[0, :4].tolist() == [-118, 0, 127, -128]
    groups = operations.Operation("quantize", "float32", "int4", "group")
    codes, scale = reference_operations.expected_quantized(
        groups, np.float32([[0.0] * 128 + [7.5, -7.5, 1, 0] * 32]), scale
    )
    assert scale.tolist() == [[1, 1]]
    assert codes[0, [0, 64, 65]].tolist() == [0, 0x87, 0x01]
    values = reference_operations.expected_values(
        operations.Operation("dequantize", "int4", "bfloat16", "group"), codes, np.float32([[1, 0.3]])
    )
    assert values.shape == (1, 256)
    assert values[0, 128:131].astype(float).tolist() == [2.09375, -2.40625, 0.30078125]
    for bits, packed in ((3, [0b11_010_001, 0b1_101_100_0, 0b000_111_11]), (6, [0x81, 0x30, 0x10, 5, 0, 0])):
        pack = operations.Operation("pack", f"uint{bits}", "packed")
        unpack = operations.Operation("pack", "packed", f"uint{bits}")
        codes = np.uint8([1, 2, 3, 4, 5, 7, 7, 0] if bits == 3 else [1, 2, 3, 4, 5, 0, 0, 0])
        assert (
            reference_operations.expected_codes(unpack, reference_operations.expected_codes(pack, codes)).tolist()
            == codes.tolist()
        )
        assert reference_operations.expected_codes(pack, codes).tolist() == packed


def test_a_token_is_timed():
    call = measure_operations.token_call(rounds=1)
    assert call.name == operations.TOKEN
    assert 0 < call.seconds < 1
    assert 0 < call.yardstick_seconds < 1


@pytest.mark.parametrize(("seconds", "met"), [(1.4e-6, True), (1.6e-6, False)])
def test_goal_of_a_token(seconds, met):
    run = results.Run({}, {}, calls=[results.CallTime(operations.TOKEN, "numpy", seconds, 1.0)])
    (verdict,) = [v for v in goals.judge(run) if v.name.startswith("one row of 4096")]
    assert (verdict.met, verdict.needed, verdict.found) == (met, "< 1.50 us", f"{seconds * 1e6:.2f} us")


def test_goals_of_operations_name_what_exists():
    planned = operations.make("default", ("avx512vbmi", "avx2", "scalar"), plan.Filters())
    for goal in goals.operation_goals():
        covered = [operation for operation in planned if goal.covers(operation) and goal.isa in operation.isas]
        assert len(covered) == goal.size, f"the default plan does not measure all of {goal}"
    wanted = {goal.count for goal in goals.operation_goals()}
    assert {operation.pair for operation in goals.needed(planned)} == {one.pair for one in operations.OPERATIONS}
    assert wanted == {operations.LARGE, plan.IN_MEMORY}
    assert {entry["name"] for entry in goals._read()["call"]} >= {operations.TOKEN}
