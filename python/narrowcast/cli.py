"""The command ``narrowcast``: formats, info, inspect, cast, quantize, dequantize, bench.

What it shows is made by the package; here are only arguments and tables. The casts of files and the benchmark are
imported when they are asked for.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import ml_dtypes
import numpy as np

import narrowcast as nc
from narrowcast import _core
from narrowcast._console import Cell, Span, print_spans, print_table
from narrowcast._inspect import code_text, error_text

_LONGEST = 40  # digits of a number in a table
_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    try:
        return _main(argv)
    except KeyboardInterrupt:
        return _INTERRUPTED


def _main(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="narrowcast", description="Conversion between number formats.")
    parser.add_argument("--version", action="version", version=f"narrowcast {nc.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    formats = commands.add_parser("formats", help="list all formats and their facts")
    formats.set_defaults(run=_formats)
    info = commands.add_parser("info", help="show the version, the instruction sets and the CPU")
    info.set_defaults(run=_info)
    inspect = commands.add_parser("inspect", help="show a value in one or all formats, down to its bits")
    what = inspect.add_mutually_exclusive_group(required=True)
    what.add_argument("value", nargs="?", metavar="VALUE", help="a decimal number, a fraction, inf or nan")
    what.add_argument("--bits", metavar="CODE", help="a stored code instead: 0x41a")
    inspect.add_argument("--dtype", action="append", metavar="NAME", help="only this format, in detail; repeatable")
    inspect.set_defaults(run=_inspect)
    if arguments[:1] == ["bench"]:
        from narrowcast._bench import cli as bench

        bench.add_parser(commands)
        return int(bench.run(parser.parse_args(arguments)))
    if arguments[:1] == ["cast"]:
        from narrowcast._files import cli as files

        files.add_parser(commands)
        return files.run(parser.parse_args(arguments))
    if arguments[:1] in (["quantize"], ["dequantize"]):
        from narrowcast._files import quantized_cli

        (quantized_cli.add_quantize if arguments[0] == "quantize" else quantized_cli.add_dequantize)(commands)
        return quantized_cli.run(parser.parse_args(arguments))
    commands.add_parser("cast", help="cast the tensors of a file or directory", add_help=False)
    commands.add_parser("quantize", help="quantize a model's weights", add_help=False)
    commands.add_parser("dequantize", help="make floats of a quantized model", add_help=False)
    commands.add_parser("bench", help="measure this machine: equality first, then speed", add_help=False)

    options = parser.parse_args(_shield_negative_numbers(arguments))
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        run(options)
    except (TypeError, ValueError) as error:
        print(f"narrowcast: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader (head, less) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _shield_negative_numbers(arguments: list[str]) -> list[str]:
    """Put a space before "-1e-3" and "-inf", which argparse would take for options; readers of numbers ignore it."""
    return [f" {a}" if a[:1] == "-" and (a[1:2].isdigit() or a[1:2] in (".", "i", "n")) else a for a in arguments]


def _formats(_: argparse.Namespace) -> None:
    columns = (
        "name",
        "bits",
        "fields",
        "bias",
        "largest",
        "smallest normal",
        "smallest",
        "eps",
        "inf",
        "nan",
        "arrays",
    )
    rows: list[tuple[Cell, ...]] = []
    for row in nc.formats():
        if row.is_float:
            facts = nc.finfo(row)
            fields = f"{row.sign_bits}.{row.exponent_bits}.{row.mantissa_bits}"
            limits = (facts.max, facts.smallest_normal, facts.smallest_subnormal, facts.eps)
            numbers = (f"{float(value):.6g}" for value in limits)
            codes = ("no" if code is None else f"{code:x}" for code in (facts.inf_code, facts.nan_code))
            rows.append((row.name, str(row.bits), fields, str(row.bias), *numbers, *codes, _arrays_of(row)))
        else:
            limit = nc.iinfo(row)
            rows.append((row.name, str(row.bits), "", "", str(limit.max), "", "", "", "", "", _arrays_of(row)))
    print_table(columns, rows, right=columns[1:8])
    print("\nfields: sign.exponent.fraction bits; inf, nan: stored codes in hexadecimal; integers are sources only")


def _arrays_of(row: nc.Format) -> str:
    if row.dtype.name == row.name:
        return "numpy" if row.dtype.isbuiltin == 1 else "ml_dtypes"
    return f"{row.dtype.name} codes" if row.is_codes else row.dtype.name


def _info(_: argparse.Namespace) -> None:
    absent = [name for name, supported in _core.isas() if not supported]
    sets = " ".join(nc.isas()) + (f" (not on this machine: {' '.join(absent)})" if absent else "")
    rows: list[tuple[Cell, ...]] = [
        ("narrowcast", nc.__version__),
        ("instruction set", nc.isa()),
        ("instruction sets", sets),
        ("CPU", _cpu_name()),
        ("CPU features", " ".join(_core.cpu_features())),
        ("cores", str(os.cpu_count())),
        ("threads", str(nc.get_num_threads())),
        ("Python", f"{platform.python_version()} on {platform.platform()}"),
        ("numpy, ml_dtypes", f"{np.__version__}, {ml_dtypes.__version__}"),
    ]
    for name, text in rows:
        print(f"{name!s:18}{text}")


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _inspect(options: argparse.Namespace) -> None:
    value, bits = (options.value, False) if options.bits is None else (options.bits, True)
    if options.dtype:
        for position, name in enumerate(options.dtype):
            found = nc.inspect(value, name, bits=bits)
            if position:
                print()
            print_spans(_coloured_bits(found))
            print(str(found).partition("\n")[2])
        return
    rows: list[tuple[Cell, ...]] = []
    for row in nc.formats():
        if not row.is_float:
            continue
        try:
            found = nc.inspect(value, row, bits=bits)
        except ValueError:
            if not bits:
                raise
            continue  # a code too wide for this format
        fields = [Span("" if row.sign_bits else "  "), *_coloured_bits(found)]
        rows.append((row.name, fields, code_text(found), _shortened(found.exact), error_text(found)))
    if not rows:
        raise ValueError(f"--bits is {value}; allowed are the codes of at least one format, such as 0x41a")
    columns = ("format", "sign exponent fraction", "code", "stored", "error")
    print_table([*columns[:-1]] if bits else columns, [row[:-1] for row in rows] if bits else rows)


def _coloured_bits(found: nc.Inspection) -> list[Span]:
    fields = ((found.sign, "red"), (found.exponent, "green"), (found.fraction, "cyan"))
    shown = [Span(text, colour) for text, colour in fields if text]
    return [piece for span in shown for piece in (span, Span(" "))][:-1]


def _shortened(digits: str) -> str:
    """Cut a long exact number; `--dtype` shows it whole."""
    if len(digits) <= _LONGEST:
        return digits
    mantissa, e, exponent = digits.partition("e")
    return f"{mantissa[: _LONGEST - len(e + exponent) - 3]}...{e}{exponent}"


__all__: Final = ["main"]

if __name__ == "__main__":
    sys.exit(main())
