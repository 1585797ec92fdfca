"""From file to file: the arguments of a cast, checks of paths, and which of the rooms does the work."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

from narrowcast import _config
from narrowcast._astype import Overflow, Rounding
from narrowcast._files import engines, model, ranks, single
from narrowcast._files.container import FileFormatError
from narrowcast._files.job import Job
from narrowcast._files.options import make_options
from narrowcast._files.report import CastReport, TensorReport
from narrowcast._files.single import Conversion
from narrowcast._formats import FormatLike

PathLike: TypeAlias = "str | os.PathLike[str]"
Progress: TypeAlias = Callable[[int, int], None]


def cast_file(
    src: PathLike,
    dst: PathLike,
    dtype: FormatLike,
    *,
    rounding: Rounding = "nearest_even",
    overflow: Overflow = "ieee",
    seed: int | None = None,
    threads: int | None = None,
    only: str | Sequence[str] = (),
    skip: str | Sequence[str] = (),
    from_format: FormatLike | None = None,
    force: bool = False,
    dry_run: bool = False,
    follow_symlinks: bool = False,
    rank: int = 0,
    world: int = 1,
    dask: str | None = None,
    ray: str | None = None,
    progress: Progress | None = None,
) -> CastReport:
    """Cast the float tensors of a file, or of every file of a directory, to a format.

    Tensors of integers, bools and anything else are copied, and so are files of a directory that hold no tensors. In
    a directory the indices of shards (``*.index.json``) and the dtype in ``config.json`` are brought up to date. The
    memory used does not depend on the size of the files.

    Parameters
    ----------
    src : path
        A ``.safetensors``, ``.npy`` or ``.npz`` file, or a directory.
    dst : path
        The same kind of file, or the new directory. It appears whole or not at all. An unfinished directory is kept
        beside it, and the same call goes on with that one.
    dtype : str, numpy.dtype, scalar type, torch.dtype or Format
        The target, as in `astype`; it must be one that the kind of file can hold.
    rounding, overflow : str
        As in `astype`.
    seed : int, optional
        For ``rounding="stochastic"``. The key of a tensor is made of it and the tensor's name (the first 8 bytes of
        SHA-256 over the seed's 8 bytes, little-endian, and the name in UTF-8), so that its values do not depend on
        the file or process that it is in.
    threads : int, optional
        How many threads work on a file; 0 is one per core. Default as in `astype`.
    only, skip : str or sequence of str
        Patterns (``*``, ``?``, ``[...]``) of names of tensors: only those named by `only` (if given), and none of
        those named by `skip`, are cast. The others are copied.
    from_format : str, numpy.dtype, scalar type, torch.dtype or Format, optional
        What arrays of a dtype without a name ("V2", "V1") in ``.npy`` and ``.npz`` files are: numpy writes ml_dtypes
        arrays so.
    force : bool
        Whether `dst` is replaced if it exists.
    dry_run : bool
        Check everything, write nothing, and report what would be done.
    follow_symlinks : bool
        Whether links that lead out of a directory are followed (those of a Hugging Face cache do).
    rank, world : int
        This process's number and how many processes share the directory: each does its part of the files, the last to
        finish puts `dst` in its place. A single file is done by rank 0.
    dask, ray : str, optional
        Address of a Dask scheduler or a Ray cluster whose workers do the files of a directory; ``"local"`` makes one.
    progress : callable, optional
        Called with the number of source bytes done and their total, from any thread.

    Returns
    -------
    CastReport
        Per tensor: bytes, SQNR, values that overflowed, became zero, became NaN.

    Raises
    ------
    FileFormatError
        If a file is truncated or its header lies (a ValueError).
    OverflowError
        With ``overflow="raise"``: names the tensor, the index and the value.
    FileExistsError
        If `dst` exists, without `force`.
    TypeError, ValueError, OSError
        For wrong arguments, and for what the system refuses.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> import narrowcast as nc
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> nc.save_file({"a": np.float32([1, 2.5, 1e6])}, folder / "a.safetensors")
    >>> report = nc.cast_file(folder / "a.safetensors", folder / "b.safetensors", "float16")
    >>> report.bytes_before, report.bytes_after, report.sums.overflowed
    (12, 6, 1)
    >>> nc.load_file(folder / "b.safetensors")
    {'a': array([1. , 2.5, inf], dtype=float16)}
    """
    options = make_options(dtype, rounding, overflow, seed, only, skip, from_format)
    return convert(src, dst, options, How(threads, force, dry_run, follow_symlinks, rank, world, dask, ray, progress))


class How(NamedTuple):
    """How a conversion is done, whatever it is: the arguments that all such functions share."""

    threads: int | None
    force: bool
    dry_run: bool
    follow_symlinks: bool
    rank: int
    world: int
    dask: str | None
    ray: str | None
    progress: Progress | None


def convert(src: PathLike, dst: PathLike, options: Conversion, how: How) -> CastReport:
    """Make one file or directory from another; for arguments and errors see `cast_file`."""
    workers = _config.get_num_threads() if how.threads is None else _config.check_threads(how.threads, "threads")
    ranks.check(how.rank, how.world)
    if how.dask is not None and how.ray is not None:
        raise ValueError(f"dask is {how.dask!r} and ray is {how.ray!r}; allowed is one of them")
    source, target = _check_paths(Path(src), Path(dst))
    begin = time.perf_counter()
    if not source.is_dir():
        if how.dask is not None or how.ray is not None:
            raise ValueError(
                f"{'ray' if how.dask is None else 'dask'} is given; allowed for directories, and {src} is a file"
            )
        if target.suffix != source.suffix:
            raise ValueError(f"{dst} ends in {target.suffix!r}; allowed is the ending of the source, {source.suffix!r}")
        return _convert_single(source, target, options, workers, how, begin)
    job, tensors = _plan_directory(source, target, options, workers, how)
    if how.dry_run:
        return CastReport(source, target, options.format, tuple(tensors), 0.0, False, len(job.work), 0)
    if job.replaces is None and target.exists():
        if job.is_complete():
            job.verify(how.rank, how.world)
            job.clean()  # a process may have been killed before it could
            return CastReport(source, target, options.format, (), 0.0, True, len(job.work), len(job.work))
        raise existing(target)
    try:
        return _convert_directory(job, how, begin)
    except OverflowError:  # which would come again
        raise
    except Exception as error:
        error.add_note("finished files are kept, and the same command goes on with the others")
        raise


def _check_paths(src: Path, dst: Path) -> tuple[Path, Path]:
    """Return both paths without links, if one can be made of the other."""
    source, target = Path(os.path.realpath(src)), Path(os.path.realpath(dst))
    if not source.exists():
        raise FileNotFoundError(2, "does not exist", str(src))
    if not source.is_dir():
        single.kind_of(src)
        source = source if single.is_tensor_file(source) else src.absolute()  # a link into a cache of nameless files
    if source == target or (target.exists() and source.samefile(target)):
        raise ValueError(f"{dst} is the source itself; allowed is another place")
    if target.is_relative_to(source):
        raise ValueError(f"{dst} is inside of the source, {src}; allowed is a place beside it")
    if source.is_relative_to(target):
        raise ValueError(f"{dst} contains the source, {src}; allowed is a place beside it")
    if not target.parent.is_dir():
        raise FileNotFoundError(2, "is no directory to write into", str(target.parent))
    if target.exists() and source.is_dir() != target.is_dir():
        raise ValueError(f"{dst} is {'a directory' if target.is_dir() else 'a file'}, and {src} is not")
    return source, target


def existing(target: Path) -> FileExistsError:
    """Return the error of a file or directory that is in the way."""
    return FileExistsError(17, "exists; it is replaced only with force (--force)", str(target))


def _convert_single(
    source: Path, target: Path, options: Conversion, threads: int, how: How, begin: float
) -> CastReport:
    if target.exists() and not how.force:
        raise existing(target)
    single.check_from_format([source], options.from_format)
    plans = options.needs_plan or how.dry_run  # else the conversion itself checks all that this would
    tensors = _plan_file(source, options, "")[0] if plans else []
    if plans:
        single.check_names(options, [tensor.name for tensor in tensors])
        options.check_result(source, tensors)
    if how.dry_run or how.rank != 0:
        tensors = tensors if how.dry_run else []
        return CastReport(source, target, options.format, tuple(tensors), 0.0, False, 1, 0)
    advance = _counter(how.progress, source.stat().st_size)
    reports = single.cast_beside(source, target, options, threads, advance, force=how.force)
    return CastReport(source, target, options.format, tuple(reports), time.perf_counter() - begin)


def _plan_file(path: Path, options: Conversion, name: str) -> tuple[list[TensorReport], set[str]]:
    """Return what would become of a file, and the names of its tensors."""
    with single.opened(path, options.from_format) as source:
        targets, tasks, _ = single.plan_of(path, source, options)
        return [replace(task.report, file=name) for task in tasks(targets)], {tensor.name for tensor in source.tensors}


def _plan_directory(
    source: Path, target: Path, options: Conversion, threads: int, how: How
) -> tuple[Job, list[TensorReport]]:
    """Read every header and index, so that what is wrong is said before anything is written."""
    if how.force and os.path.ismount(target):
        raise ValueError(f"{target} is a mount point, which nothing can replace; allowed is a place in it")
    items = model.scan(source, follow_symlinks=how.follow_symlinks)
    tensors: list[TensorReport] = []
    names: dict[str, set[str]] = {}
    planned: dict[str, list[dict[str, object]]] = {}
    for item in items:
        if item.kind == "tensors":
            found, names[item.path] = _plan_file(source / item.path, options, item.path)
            planned[item.path] = [tensor.as_dict() for tensor in found]
            tensors += found
    single.check_from_format([source / path for path in names], options.from_format)
    if not names:
        raise ValueError(f"{source} has no files of tensors; those end in {', '.join(single.KINDS)}")
    for item in items:
        if item.kind == "index":
            model.check_index(source, item, names)
        if item.kind in ("index", "config"):
            try:
                model.rewritten(source, item, options, planned)
            except RecursionError as error:  # nested too deep for that
                raise FileFormatError(f"{source / item.path}: cannot be written anew ({error})") from None
    single.check_names(options, [tensor.name for tensor in tensors])
    options.check_result(source, tensors)
    replaces = target.stat().st_ino if how.force and target.exists() else None
    return Job(source, target, options, tuple(items), threads, replaces), tensors


def _convert_directory(job: Job, how: How, begin: float) -> CastReport:
    mine = job.share(how.rank, how.world)
    advance = _counter(how.progress, sum(item.size for item in mine))
    try:
        job.prepare()
        if how.dask is not None:
            engines.run_on_dask(how.dask, job, mine, advance)
        elif how.ray is not None:
            engines.run_on_ray(how.ray, job, mine, advance)
        else:
            for item in mine:
                job.do(item, advance)
    except FileNotFoundError:
        if not job.is_complete():  # else another process has finished it all, and taken the staging directory away
            raise
    except OverflowError as error:  # it comes again, so nobody will go on with what is done
        if how.world > 1:
            raise OverflowError(f"{error}; {job.staging} can be removed once all processes have ended") from None
        job.discard()
        raise
    ours = [record for item in mine if (record := job.record(item)) is not None]
    records = job.finish(settle=how.world > 1)
    shown = ours if not records else list(records.values())
    reports = [TensorReport.from_dict(tensor) for record in shown for tensor in record["tensors"]]
    done = len(job.work) if records is not None else sum(job.record(item) is not None for item in job.work)
    seconds = time.perf_counter() - begin
    return CastReport(
        job.source, job.target, job.options.format, tuple(reports), seconds, records is not None, len(job.work), done
    )


def _counter(progress: Progress | None, total: int) -> Callable[[int], None]:
    """Return what adds up the bytes of finished pieces for the caller."""
    if progress is None:
        return lambda _: None
    lock, done = threading.Lock(), 0
    report = progress

    def advance(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            report(min(done, total), total)  # a compressed file holds more than its size

    return advance
