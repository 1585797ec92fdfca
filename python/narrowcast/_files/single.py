"""One file: which kind it is, what becomes of its tensors, and its conversion beside its place."""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias

from narrowcast import _formats
from narrowcast._files import npy, npz, safetensors
from narrowcast._files.atomic import AtomicFile, mode_like
from narrowcast._files.container import FileFormatError, Source, Tensor
from narrowcast._files.crew import Plan, run_tasks
from narrowcast._files.options import CastOptions
from narrowcast._files.report import TensorReport, printable
from narrowcast._files.stream import Casts

if TYPE_CHECKING:
    from types import ModuleType

    from narrowcast._files.dequantized import DequantizeOptions
    from narrowcast._files.quantized_plan import QuantizeOptions

# What can be done to files. The two besides the cast are imported by those who ask for them.
Conversion: TypeAlias = "CastOptions | QuantizeOptions | DequantizeOptions"

KINDS: Final[dict[str, ModuleType]] = {".safetensors": safetensors, ".npy": npy, ".npz": npz}

_WRITE_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def is_tensor_file(path: Path) -> bool:
    """Whether the name says that this is a file of tensors."""
    return path.suffix in KINDS


def kind_of(path: Path) -> ModuleType:
    """Return the module that reads and writes files of this name."""
    kind = KINDS.get(path.suffix)
    if kind is None:
        raise ValueError(f"{path} ends in {path.suffix!r}; allowed are {', '.join(KINDS)}, and directories")
    return kind


@contextmanager
def opened(path: Path, from_format: str | None) -> Iterator[Source]:
    """Open a file of tensors, with `from_format` where it has a use for that; an error of the system names it."""
    kind = kind_of(path)
    with named_errors(path, reading=True):
        source: Source = kind.open_source(path)
        if from_format is not None and any(map(kind.is_ambiguous, source.tensors)):
            source.close()
            source = kind.open_source(path, from_format=from_format)
        with closing(source):
            yield source


def check_from_format(paths: Sequence[Path], from_format: str | None) -> None:
    """Refuse a format for dtypes without a name if none of the files has such: it would pass for more than it is."""
    if from_format is None:
        return
    for path in paths:
        with opened(path, None) as source:
            if any(map(kind_of(path).is_ambiguous, source.tensors)):
                return
    raise ValueError(f"from_format (--from) is {from_format!r}; no array has a dtype without a name (V2, V1)")


def plan_of(path: Path, source: Source, options: Conversion) -> Plan:
    """Return what becomes of a file."""
    if not isinstance(options, CastOptions):
        return options.plan(path, source)
    return Plan(targets_of(path, source, options), lambda targets: Casts(source.tensors, targets, options))


def targets_of(path: Path, source: Source, options: CastOptions) -> list[Tensor]:
    """Return what each tensor becomes in a cast."""
    kind = kind_of(path)
    targets = [_target(path, kind, tensor, options) for tensor in source.tensors]
    names = {tensor.name for tensor in source.tensors}
    for old, new in zip(source.tensors, targets, strict=True):
        if new.format != old.format and old.format is not None and _formats.BY_NAME[old.format].bits <= 8:
            _check_unscaled(path, old.name, names)
    return targets


def _check_unscaled(path: Path, name: str, names: Container[str]) -> None:
    """Refuse codes that mean nothing without a scale beside them: a cast would make wrong weights of them."""
    for scale in (f"{name}_scale", f"{name}_scale_inv"):
        if scale in names:
            raise ValueError(
                f"{path}: {printable(name)} is scaled by {printable(scale)}, which a cast does not apply; skip leaves "
                "it as it is, and narrowcast dequantize reads models in the format of compressed-tensors"
            )


def _target(path: Path, kind: ModuleType, tensor: Tensor, options: CastOptions) -> Tensor:
    if not options.selects(tensor):
        if tensor.format is None and options.names(tensor.name) and kind.is_ambiguous(tensor):
            raise FileFormatError(f"{path}: {kind.ambiguity(tensor)}")
        return tensor
    if tensor.format == options.format:
        return tensor
    if tensor.fortran and options.rounding == "stochastic":
        tensor = tensor._replace(fortran=False)  # written in the order in which random words are counted
    try:
        target: Tensor = kind.recast(tensor, options.format)
    except ValueError as error:  # codes that would not end on a byte
        raise ValueError(f"{path}: {error}; --skip (skip) leaves a tensor as it is") from None
    return target


def check_names(options: Conversion, names: Sequence[str]) -> None:
    """Refuse patterns that name nothing: a misspelt one must not pass for a cast."""
    for argument, patterns in (("only", options.only), ("skip", options.skip)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(f"{argument} is {pattern!r}, which names no tensor")


def cast_into(
    path: Path, file: BinaryIO, options: Conversion, threads: int, advance: Callable[[int], None]
) -> list[TensorReport]:
    """Convert a file of tensors into an open file of the same kind."""
    with ExitStack() as stack:
        with _without_collector():
            source = stack.enter_context(opened(path, options.from_format))
            targets, tasks, metadata = plan_of(path, source, options)
            sink = source.sink(file, targets) if metadata is None else kind_of(path).Sink(file, targets, metadata)
            made = tasks(sink.tensors)
        reports = run_tasks(source, sink, made, threads=threads, advance=advance)
        sink.finish()
    return reports


@contextmanager
def _without_collector() -> Iterator[None]:
    """Make many objects that all stay; looking for garbage among them, again and again, takes time for nothing."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def cast_beside(
    path: Path,
    target: Path,
    options: Conversion,
    threads: int,
    advance: Callable[[int], None],
    *,
    force: bool,
    scratch: Path | None = None,
) -> list[TensorReport]:
    """Convert a file of tensors to a file with its permissions, whole or not at all; `scratch` as for AtomicFile."""
    with named_errors(target), AtomicFile(target, replace=force, scratch=scratch, mode=mode_like(path)) as output:
        reports = cast_into(path, output.file, options, threads, advance)
        output.commit()
    return reports


@contextmanager
def named_errors(path: Path, *, reading: bool = False) -> Iterator[None]:
    """Give errors of the system that name no file this one's name; if it is only read, not those of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None or (reading and error.errno in _WRITE_ERRORS):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
