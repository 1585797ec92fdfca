"""The command ``narrowcast cast``: arguments; exit statuses, and what is printed, of all commands on files."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from narrowcast._astype import OVERFLOWS, ROUNDINGS
from narrowcast._files import progress, ranks
from narrowcast._files.atomic import write_bytes
from narrowcast._files.entry import cast_file
from narrowcast._files.report import CastReport, human_bytes, print_report, printable

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it

_TEXT: Final = """\
Cast the float tensors of a .safetensors, .npy or .npz file, or of every file of a model's directory. The result
appears whole or not at all. A directory that was interrupted is kept beside its place, and the same command goes on
with it. Exit status: 0 done, 1 a value overflowed (--overflow raise), 2 anything else, 130 interrupted."""


def add_parser(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("cast", help="cast the tensors of a file or directory", description=_TEXT)
    add_paths(parser, "a .safetensors, .npy or .npz file, or a directory")
    parser.add_argument("--to", metavar="FORMAT", required=True, help="the target format; see narrowcast formats")
    parser.add_argument("--rounding", choices=ROUNDINGS, default="nearest_even")
    parser.add_argument("--overflow", choices=OVERFLOWS, default="ieee")
    parser.add_argument("--seed", type=int, help="for --rounding stochastic: 0 to 2**64 - 1")
    add_names(parser, "cast")
    parser.add_argument("--from", dest="from_format", metavar="FORMAT", help="what .npy arrays of dtype V2, V1 are")
    add_common(parser)
    parser.set_defaults(run=run, convert=_cast)


def add_paths(parser: argparse.ArgumentParser, source: str) -> None:
    """Add what is read and what is made."""
    parser.add_argument("source", metavar="SRC", type=Path, help=source)
    parser.add_argument("target", metavar="DST", type=Path, help="the same kind of file, or a new directory")


def add_names(parser: argparse.ArgumentParser, verb: str) -> None:
    """Add the patterns of names."""
    names = {"action": "append", "metavar": "GLOB", "default": []}
    parser.add_argument("--only", **names, help=f"{verb} only tensors of such names; repeatable")  # type: ignore[arg-type]
    parser.add_argument("--skip", **names, help=f"do not {verb} tensors of such names; repeatable")  # type: ignore[arg-type]


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add what all commands on files have: `common` reads it."""
    parser.add_argument("--threads", type=int, help="threads that work on a file; 0: one per core; default 1")
    parser.add_argument("--force", action="store_true", help="replace DST if it exists")
    parser.add_argument("--dry-run", action="store_true", help="check everything and say what would be done")
    parser.add_argument("--follow-symlinks", action="store_true", help="follow links that lead out of a directory")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the report of every tensor; - is stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress and no table")
    parser.add_argument("--rank", type=int, metavar="I", help="do part I of a directory; default: torchrun's, Slurm's")
    parser.add_argument("--world", type=int, metavar="N", help="in how many parts processes share a directory")
    engine = parser.add_mutually_exclusive_group()
    engine.add_argument("--dask", metavar="SCHEDULER", help="let the workers of a Dask scheduler do the files")
    engine.add_argument("--ray", metavar="ADDRESS", help="let the workers of a Ray cluster do the files")


def common(options: argparse.Namespace) -> dict[str, Any]:
    """Return the keywords of what `add_common` has added, but for those of a terminal."""
    rank, world = _rank(options)
    names = ("threads", "force", "dry_run", "follow_symlinks", "dask", "ray")
    return {"rank": rank, "world": world} | {name: getattr(options, name) for name in names}


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    report: CastReport | None = None
    try:
        with _terminated_as_interrupted():
            place = _report_place(options)
            report = options.convert(options)
            _give(options, report, place)
    except KeyboardInterrupt:
        return _failed("interrupted; " + _what_is_left(options, report), INTERRUPTED)
    except SystemExit as stop:  # SIGTERM, SIGHUP
        return _failed("terminated; " + _what_is_left(options, report), int(str(stop.code)))
    except Exception as error:
        notes = getattr(error, "__notes__", ())
        if report is not None:
            sentence = f"the report cannot be written: {_sentence(error)}; {_what_is_left(options, report)}"
            return _failed(sentence, 2)
        return _failed("; ".join([_sentence(error), *notes]), 1 if isinstance(error, OverflowError) else 2)
    return 0


def _report_place(options: argparse.Namespace) -> Path | None:
    """Return where the report goes if that is a file, and refuse before the cast what it must not replace."""
    if options.json is None or str(options.json) == "-":
        return None
    given: Path = options.json
    if given.exists() and not given.is_file():
        if given.is_dir():
            raise ValueError(f"--json is {given}, a directory; allowed are files")
        return given  # a pipe or a device, to be written to and not replaced; its name may be no path: /dev/fd/63
    place = Path(os.path.realpath(given))
    for name, other in (("SRC", options.source), ("DST", options.target)):
        if place.is_relative_to(os.path.realpath(other)) or (given.exists() and _same_file(given, other)):
            raise ValueError(f"--json is {given}, which is {name} or in it; allowed is another place")
    if not place.parent.is_dir():
        raise FileNotFoundError(2, "is no directory to write the report into", str(place.parent))
    if not os.access(place.parent, os.W_OK):
        raise PermissionError(13, "is a directory that the report cannot be written into", str(place.parent))
    return place


def _same_file(path: Path, other: Path) -> bool:
    return other.exists() and path.samefile(other)


def _give(options: argparse.Namespace, report: CastReport, place: Path | None) -> None:
    """Write and print what is asked for."""
    if place is not None:
        text = report.to_json()
        if place.exists() and not place.is_file():
            place.write_text(text, encoding="ascii")
        else:
            write_bytes(place, text.encode("ascii"), replace=True)
    if sys.stdout is None:  # closed by the caller: >&-
        return
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a terminal of ASCII shows what it can
        if options.json is not None and place is None:
            sys.stdout.write(report.to_json())
        elif not options.quiet:
            _show(options, report)
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError):  # else Python would try again at its end, and fail with a traceback
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # the reader (head, less) has gone
            raise


def _cast(options: argparse.Namespace) -> CastReport:
    keywords = common(options)
    with progress.shown(options.quiet or options.dry_run) as shown:
        return cast_file(
            options.source,
            options.target,
            options.to,
            rounding=options.rounding,
            overflow=options.overflow,
            seed=options.seed,
            only=options.only,
            skip=options.skip,
            from_format=options.from_format,
            progress=shown,
            **keywords,
        )


def _rank(options: argparse.Namespace) -> tuple[int, int]:
    if (options.rank is None) != (options.world is None):
        raise ValueError("--rank and --world belong together; one of them is missing")
    return ranks.from_environment() if options.rank is None else ranks.check(options.rank, options.world)


def _show(options: argparse.Namespace, report: CastReport) -> None:
    target = printable(str(report.target))
    if options.dry_run:
        print_report(report, measured=False)
        print(f"\nnothing was written; {target} would be made in {report.files} file(s)")
        return
    if report.tensors:
        print_report(report)
        print()
    if not report.complete:
        left = report.files - report.files_done
        print(f"{report.files_done} of {report.files} files are done; {left} are left to other processes")
    elif report.tensors:
        sizes = f"{human_bytes(report.bytes_before)} to {human_bytes(report.bytes_after)}"
        print(f"{target}: {sizes} in {report.seconds:.2f} s")
    else:
        print(f"{target} is complete already")


def _sentence(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    expected = isinstance(error, OSError | TypeError | ValueError | RuntimeError | OverflowError)
    return str(error) if expected and str(error) else f"{type(error).__name__}: {error}"


def _what_is_left(options: argparse.Namespace, report: CastReport | None) -> str:
    if report is not None:
        return f"{options.target} is done" if report.complete else "what was to be done is done"
    if options.source.is_dir():
        return "finished files are kept, and the same command goes on with the others"
    return f"{options.target} was not touched"


def _failed(sentence: str, status: int) -> int:
    if sys.stderr is not None:  # else print would take the standard output
        with contextlib.suppress(OSError):  # a terminal that has gone
            print(f"narrowcast: {printable(sentence)}", file=sys.stderr, flush=True)
    return status


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let a polite kill end the command in order, as Ctrl-C does: temporary files go, finished ones stay."""

    def stop(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what signals do
        return
    polite = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.getsignal(number) for number in polite}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # which was not set by Python
                signal.signal(number, handler)


__all__: Final = ["add_common", "add_names", "add_parser", "add_paths", "common", "run"]
