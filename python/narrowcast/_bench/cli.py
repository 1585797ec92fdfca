"""``narrowcast bench``: options, and the order of things.

Everything heavy is imported when the command runs, not when the command line is built.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .measure import Bench
    from .measure_operations import OperationBench
    from .operations import Operation
    from .plan import Case, Filters
    from .results import Run

_BUDGET_SECONDS = {"quick": 22.0, "default": 215.0, "full": float("inf")}
_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
_LEAST_BYTES = 10**6
_DECIMAL_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_EPILOG = """\
examples:
  narrowcast bench --quick
  narrowcast bench --formats float8_e4m3fn,float16 --sizes 64Ki,64Mi --isa avx2
  narrowcast bench --only quantize,dequantize,pack --sizes 1Mi
  narrowcast bench --files --size 500M
  narrowcast bench --json new.json --plot new.png
  narrowcast bench --compare old.json new.json

Exit status: 0, or 1 if anything gave a wrong bit (nothing is timed then), or 2 for wrong arguments.
"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the ``bench`` command to the subparsers of the command line."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "bench",
        help="check the bits, then time casts and quantization against the memory limit and other libraries",
        description="Check the bits, then time casts, quantization and packing against the memory limit and every "
        "other library found. Without options: under 4 minutes and 1.2 GB of memory.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--quick", action="store_true", help="best instruction set, sizes in cache: under 30 s")
    mode.add_argument("--full", action="store_true", help="every cast at every size on every instruction set")
    parser.add_argument("--files", action="store_true", help="casts of .safetensors files instead of arrays")
    parser.add_argument("--size", type=_bytes, metavar="2G", help="bytes of the file that is cast; default 2G")
    parser.add_argument("--formats", type=_names, default=(), metavar="A,B", help="only casts from or to these formats")
    parser.add_argument("--pairs", type=_pairs, default=(), metavar="A:B,...", help="only the casts from A to B")
    parser.add_argument("--sizes", type=_sizes, default=(), metavar="64Ki,...", help="numbers of elements")
    parser.add_argument("--isa", type=_names, default=(), metavar="NAME,...", help="instruction sets")
    parser.add_argument("--only", type=_names, default=(), metavar="SECTION,...", help="sections")
    parser.add_argument("--peers", type=_names, default=None, metavar="NAME,...", help="libraries; 'none' for none")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="time N threads (0: all) besides one")
    parser.add_argument("--targets", "--check", action="store_true", help="measure what the goals need and judge them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result, whole or not at all")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the result (needs matplotlib)")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A.json", "B.json"), help="compare two results")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    from .check import MismatchError

    try:
        if args.compare:
            return _compare(args.compare)
        return _bench(args)
    except (_UsageError, OSError) as error:
        print(f"narrowcast bench: {error}", file=sys.stderr)
        return 2
    except MismatchError as error:
        print(f"narrowcast bench: WRONG BITS: {error}", file=sys.stderr)
        return 1


class _UsageError(Exception):
    pass


def _compare(paths: list[Path]) -> int:
    from . import compare, report, results

    try:
        a, b = (results.load(path) for path in paths)
    except (OSError, ValueError) as error:
        raise _UsageError(error) from error
    report.show_comparison(compare.compare(a, b))
    return 0


def _bench(args: argparse.Namespace) -> int:
    start = time.monotonic()
    import narrowcast as nc

    from . import (
        calls,
        goals,
        machine,
        measure,
        measure_operations,
        operation_work,
        operations,
        peers,
        plan,
        report,
        results,
    )
    from .inputs import Memory

    filters = _filters(args)
    mode = "full" if args.full else "quick" if args.quick else "default"
    _check_files(args, filters)
    if args.plot:
        _require_writable(args.plot)
        _require_matplotlib()
    if args.json:
        _require_writable(args.json)
    isas = filters.isas or tuple(nc.isas())
    cases = [] if args.files else plan.make(mode, isas, filters)
    planned = [] if args.files else operations.make(mode, isas, filters)
    if args.targets:
        cases, planned = goals.needed(cases), goals.needed(planned)
    if not cases and not planned and not args.files:
        about = " that a goal is about on this machine's instruction sets" if args.targets else ""
        raise _UsageError(f"no cast is left by these options{about}")
    if args.plot and not any(case.section in ("encode", "decode") for case in cases):
        raise _UsageError("--plot draws casts from and to float32, and these options leave none")

    found = peers.find(_chosen_peers(args.peers))
    settings = {"mode": mode, "threads": args.threads, "peers": found.versions, "absent": found.absent}
    result = results.Run(machine.describe(), settings)
    report.show_machine(result)
    effort = measure.Effort(threads=args.threads, all_peers_in_memory=args.full)
    default_threads = nc.get_num_threads()
    nc.set_num_threads(1)
    try:
        if cases or planned:
            memory = Memory(max([*map(_memory_of, cases), *map(operation_work.memory_of, planned)]))
            benches = measure.Bench(memory, found, effort), measure_operations.OperationBench(memory, found, effort)
            ordered = _in_order(cases, planned)
            _measure_all(*benches, ordered, result, start + (float("inf") if args.targets else _BUDGET_SECONDS[mode]))
        if not args.files and (args.targets or not filters):
            small = [*calls.small_calls(), measure_operations.token_call()]
            result.calls = [*small, calls.import_time(3 if args.quick else 7)]
        if args.files or (args.targets and not filters):
            _measure_files(result, args)
    finally:
        nc.set_num_threads(default_threads)

    report.show_run(result)
    if args.targets:
        report.show_goals(goals.judge(result))
    if args.json:
        results.save(result, args.json)
    if args.plot:
        from .plot import draw

        draw(result, args.plot)
    return 0


def _check_files(args: argparse.Namespace, filters: Filters) -> None:
    """Refuse options that say nothing about files beside --files, and --size without it."""
    if args.files and (filters or args.plot or args.full or args.threads != 1):
        raise _UsageError("--files goes with --quick, --size, --peers, --targets and --json only")
    if args.size is not None and not args.files:
        raise _UsageError("--size is the size of a file; it needs --files")


def _measure_files(result: Run, args: argparse.Namespace) -> None:
    from importlib.util import find_spec

    from . import files

    with_torch = "torch" in result.settings["peers"] and find_spec("safetensors") is not None
    size = args.size or (files.QUICK_SIZE if args.quick else files.SIZE)
    files.measure(result, size, with_torch=with_torch, rounds=3 if args.quick else 7)


def _in_order(cases: list[Case], planned: list[Operation]) -> list[Case | Operation]:
    """Join two plans: first what time must not run out for, which is every section once; then the other sizes."""
    from . import operations, plan

    first = (plan.IN_CACHE, operations.LARGE)
    ordered: list[Case | Operation] = [case for case in cases if case.count == first[0]]
    ordered += [operation for operation in planned if operation.count == first[1]]
    rest: list[Case | Operation] = [case for case in cases if case.count != first[0]]
    rest += [operation for operation in planned if operation.count != first[1]]
    return ordered + sorted(rest, key=lambda case: case.count >= plan.IN_MEMORY)


def _measure_all(
    bench: Bench, operation_bench: OperationBench, cases: list[Case | Operation], result: Run, deadline: float
) -> None:
    """Measure case by case; when the time is used up, say what was left out."""
    from .formats import short_size
    from .plan import Case

    left_out: Counter[str] = Counter()
    show = sys.stderr.isatty()
    for number, case in enumerate(cases, 1):
        if time.monotonic() > deadline:
            left_out[f"{case.section} at {short_size(case.count)}"] += 1
            continue
        if show:
            print(f"\r\033[K[{number}/{len(cases)}] {case.pair}, {case.count}", end="", file=sys.stderr, flush=True)
        result.rows += bench.measure(case) if isinstance(case, Case) else operation_bench.measure(case)
    if show:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    if left_out:
        what = ", ".join(f"{count} of {name}" for name, count in left_out.items())
        result.notes.append(f"out of time (--full has no limit), so these were left out: {what}")


def _memory_of(case: Case) -> int:
    from .formats import item_bytes

    source = case.count * item_bytes(case.source) * (1 if case.layout == "contiguous" else 2)
    return source + case.count * item_bytes(case.target)


def _filters(args: argparse.Namespace) -> Filters:
    import narrowcast as nc

    from . import operations, plan
    from .formats import float_formats

    _require_known("--formats", args.formats, float_formats())
    _require_known("--pairs", [name for pair in args.pairs for name in pair], float_formats())
    _require_known("--isa", args.isa, tuple(nc.isas()))
    _require_known("--only", args.only, (*plan.SECTIONS, *operations.SECTIONS))
    if args.threads < 0:
        raise _UsageError(f"--threads must be 0 or more, not {args.threads}")
    return plan.Filters(args.formats, args.pairs, args.sizes, args.isa, args.only)


def _require_known(option: str, given: Any, known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise _UsageError(f"{option}: {name!r} is not one of {', '.join(known)}")


def _chosen_peers(given: tuple[str, ...] | None) -> tuple[str, ...]:
    from .peers import NAMES

    if given is None:
        return NAMES
    if given == ("none",):
        return ()
    _require_known("--peers", given, NAMES)
    return given


def _require_writable(path: Path) -> None:
    if not path.absolute().parent.is_dir():
        raise _UsageError(f"{path}: there is no such folder")


def _require_matplotlib() -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise _UsageError("--plot needs matplotlib, which is not installed: pip install matplotlib")


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for part in _names(text):
        source, separator, target = part.partition(":")
        if not separator:
            raise argparse.ArgumentTypeError(f"{part!r} is not SOURCE:TARGET")
        pairs.append((source, target))
    return tuple(pairs)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = []
    for part in _names(text):
        digits = part.rstrip("KMGi")
        if not digits.isdecimal() or part[len(digits) :] not in _UNITS or int(digits) < 1:
            raise argparse.ArgumentTypeError(f"{part!r} is not a number of elements such as 4096, 64Ki or 1Mi")
        sizes.append(int(digits) * _UNITS[part[len(digits) :]])
    return tuple(sizes)


def _bytes(text: str) -> int:
    digits = text.rstrip("kMG")
    unit = _DECIMAL_UNITS.get(text[len(digits) :])
    if not digits.isdecimal() or unit is None or int(digits) * unit < _LEAST_BYTES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes, at least 1M, such as 200M or 2G")
    return int(digits) * unit
