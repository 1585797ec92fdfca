"""The command ``narrowcast cast``: arguments, exit statuses, and what is printed."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from narrowcast._astype import OVERFLOWS, ROUNDINGS
from narrowcast._files import progress, ranks
from narrowcast._files.atomic import write_bytes
from narrowcast._files.entry import cast_file
from narrowcast._files.report import CastReport, human_bytes, print_report

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
    parser.add_argument("source", metavar="SRC", type=Path, help="a .safetensors, .npy or .npz file, or a directory")
    parser.add_argument("target", metavar="DST", type=Path, help="the same kind of file, or a new directory")
    parser.add_argument("--to", metavar="FORMAT", required=True, help="the target format; see narrowcast formats")
    parser.add_argument("--rounding", choices=ROUNDINGS, default="nearest_even")
    parser.add_argument("--overflow", choices=OVERFLOWS, default="ieee")
    parser.add_argument("--seed", type=int, help="for --rounding stochastic: 0 to 2**64 - 1")
    parser.add_argument("--threads", type=int, help="threads that work on a file; 0: one per core; default 1")
    names = {"action": "append", "metavar": "GLOB", "default": []}
    parser.add_argument("--only", **names, help="cast only tensors of such names; repeatable")  # type: ignore[arg-type]
    parser.add_argument("--skip", **names, help="do not cast tensors of such names; repeatable")  # type: ignore[arg-type]
    parser.add_argument("--from", dest="from_format", metavar="FORMAT", help="what .npy arrays of dtype V2, V1 are")
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
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    try:
        with _terminated_as_interrupted():
            report = _cast(options)
            if options.json is not None and str(options.json) != "-":
                write_bytes(options.json, report.to_json().encode(), replace=True)
    except KeyboardInterrupt:
        return _failed("interrupted; " + _what_is_left(options), INTERRUPTED)
    except SystemExit as stop:  # SIGTERM
        return _failed("terminated; " + _what_is_left(options), int(str(stop.code)))
    except OverflowError as error:
        return _failed(str(error), 1)
    except MemoryError:
        return _failed("not enough memory", 2)
    except OSError as error:
        named = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        return _failed(named[:1] + named[1:], 2)
    except (TypeError, ValueError, RuntimeError) as error:
        return _failed(str(error), 2)
    try:
        if options.json is not None and str(options.json) == "-":
            sys.stdout.write(report.to_json())
        elif not options.quiet:
            _show(options, report)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (head, less) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _cast(options: argparse.Namespace) -> CastReport:
    rank, world = _rank(options)
    with progress.shown(options.quiet or options.dry_run) as shown:
        return cast_file(
            options.source,
            options.target,
            options.to,
            rounding=options.rounding,
            overflow=options.overflow,
            seed=options.seed,
            threads=options.threads,
            only=options.only,
            skip=options.skip,
            from_format=options.from_format,
            force=options.force,
            dry_run=options.dry_run,
            follow_symlinks=options.follow_symlinks,
            rank=rank,
            world=world,
            dask=options.dask,
            ray=options.ray,
            progress=shown,
        )


def _rank(options: argparse.Namespace) -> tuple[int, int]:
    if (options.rank is None) != (options.world is None):
        raise ValueError("--rank and --world belong together; one of them is missing")
    return ranks.from_environment() if options.rank is None else ranks.check(options.rank, options.world)


def _show(options: argparse.Namespace, report: CastReport) -> None:
    if options.dry_run:
        print_report(report, measured=False)
        print(f"\nnothing was written; {report.target} would be made in {report.files} file(s)")
        return
    if report.tensors:
        print_report(report)
        print()
    if not report.complete:
        left = report.files - report.files_done
        print(f"{report.files_done} of {report.files} files are done; {left} are left to other processes")
    elif report.tensors:
        sizes = f"{human_bytes(report.bytes_before)} to {human_bytes(report.bytes_after)}"
        print(f"{report.target}: {sizes} in {report.seconds:.2f} s")
    else:
        print(f"{report.target} is complete already")


def _what_is_left(options: argparse.Namespace) -> str:
    if options.source.is_dir():
        return "finished files are kept, and the same command goes on with the others"
    return f"{options.target} was not touched"


def _failed(sentence: str, status: int) -> int:
    print(f"narrowcast: {sentence}", file=sys.stderr)
    return status


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let a polite kill end the command in order, as Ctrl-C does: temporary files go, finished ones stay."""

    def stop(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what signals do
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


__all__: Final = ["add_parser", "run"]
