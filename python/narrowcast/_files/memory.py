"""Files as arrays in memory: load_file and save_file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from narrowcast import _astype, _core, _formats, _torch
from narrowcast._astype import Overflow, Rounding
from narrowcast._files import single
from narrowcast._files.atomic import AtomicFile
from narrowcast._files.container import Sink, Source, Tensor, shown
from narrowcast._files.entry import PathLike, existing
from narrowcast._files.options import CastOptions, make_options
from narrowcast._files.stream import is_packed, packed_bytes
from narrowcast._formats import FormatLike

# Elements that are packed or unpacked at a time: a multiple of 8, so that every piece begins at a byte.
_PIECE: Final = 1 << 20
_TORCH_PAIRS: Final = "float4_e2m1fn_x2"  # two elements in each of its items, the first in the low bits


def load_file(
    path: PathLike,
    dtype: FormatLike | None = None,
    *,
    rounding: Rounding = "nearest_even",
    overflow: Overflow = "ieee",
    seed: int | None = None,
    threads: int | None = None,
    only: str | Sequence[str] = (),
    skip: str | Sequence[str] = (),
    from_format: FormatLike | None = None,
) -> Any:
    """Read a file of tensors into memory, and cast its floats if a dtype is given.

    Parameters
    ----------
    path : path
        A ``.safetensors``, ``.npy`` or ``.npz`` file.
    dtype : str, numpy.dtype, scalar type, torch.dtype or Format, optional
        What float tensors are cast to; integers stay as they are.
    rounding, overflow, seed, threads, from_format
        As in `cast_file`.
    only, skip : str or sequence of str
        Patterns of names: which tensors are read.

    Returns
    -------
    dict of str to ndarray, or ndarray
        In the order of the file, with their true (ml_dtypes) dtypes; the array itself for ``.npy``. Tensors of less
        than a byte per element are unpacked, a code per byte.

    Raises
    ------
    FileFormatError, OverflowError, TypeError, ValueError, OSError
        As in `cast_file`.

    Examples
    --------
    >>> import tempfile, pathlib, ml_dtypes, numpy as np
    >>> import narrowcast as nc
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.npy"
    >>> nc.save_file(np.ones(2, ml_dtypes.bfloat16), path)
    >>> nc.load_file(path)
    array([1, 1], dtype=bfloat16)
    >>> nc.load_file(path, "float32")
    array([1., 1.], dtype=float32)
    """
    options = make_options(dtype or "float32", rounding, overflow, seed, only, skip, from_format)
    found: dict[str, np.ndarray[Any, Any]] = {}
    place = Path(path)
    single.check_from_format([place], options.from_format)
    with single.opened(place, options.from_format) as source:
        single.check_names(options, [tensor.name for tensor in source.tensors])
        for tensor in source.tensors:
            if not options.names(tensor.name):
                continue
            array = _read(place, source, tensor)
            if dtype is not None and options.selects(tensor):
                array = _cast(array, tensor.format, tensor.name, options, threads)
            found[tensor.name] = array
    if place.suffix == ".npy" and not found:
        raise ValueError(f"skip leaves out {place.stem!r}, the only array of {place}")
    return found if place.suffix != ".npy" else found[place.stem]


def save_file(
    tensors: Any,
    path: PathLike,
    dtype: FormatLike | None = None,
    *,
    rounding: Rounding = "nearest_even",
    overflow: Overflow = "ieee",
    seed: int | None = None,
    threads: int | None = None,
    metadata: Mapping[str, str] | None = None,
    force: bool = False,
) -> None:
    """Write arrays to a file, which appears whole or not at all; cast its floats first if a dtype is given.

    Parameters
    ----------
    tensors : Mapping of str to array, or array
        ndarrays of any dtype that the kind of file can hold, ml_dtypes ones included, or torch CPU tensors, by name;
        for ``.npy`` a single one.
    path : path
        A ``.safetensors``, ``.npy`` or ``.npz`` file.
    dtype : str, numpy.dtype, scalar type, torch.dtype or Format, optional
        What float arrays are cast to; others are written as they are.
    rounding, overflow, seed, threads
        As in `cast_file`.
    metadata : Mapping of str to str, optional
        The free text of a ``.safetensors`` header.
    force : bool
        Whether a file that exists is replaced.

    Raises
    ------
    FileExistsError
        If the file exists, without `force`.
    OverflowError, TypeError, ValueError, OSError
        As in `cast_file`. Nothing is written then.

    Notes
    -----
    numpy loses the dtype of ml_dtypes arrays in ``.npy`` and ``.npz``. Here they are written as records of one field,
    which is named after the format and holds the codes as unsigned integers: any numpy loads them, and
    ``a["bfloat16"].view(ml_dtypes.bfloat16)`` is the array again. FP4 and FP6 take a byte each there; in
    ``.safetensors`` they are packed densely, low bits first.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> import narrowcast as nc
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.safetensors"
    >>> nc.save_file({"w": np.float32([[0.5, 1], [2, 3]])}, path, "float4_e2m1fn")
    >>> nc.load_file(path)
    {'w': array([[0.5, 1],
           [2, 3]], dtype=float4_e2m1fn)}
    """
    options = make_options(dtype or "float32", rounding, overflow, seed, (), (), None)
    place = Path(os.path.realpath(path))
    kind = single.kind_of(place)
    if place.exists() and not force:
        raise existing(place)
    if metadata and place.suffix != ".safetensors":
        raise ValueError(f"metadata is given; {place.suffix} files have room for none")
    if metadata is not None and not _is_text(metadata):
        raise TypeError(f"metadata is {shown(metadata)}; it must map str to str")
    given = {place.stem: tensors} if place.suffix == ".npy" else tensors
    if not isinstance(given, Mapping):
        raise TypeError(f"tensors is a {type(tensors).__name__}; for {place.suffix} it must map names to arrays")
    arrays: dict[str, tuple[np.ndarray[Any, Any], str | None]] = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise TypeError(f"tensors has the key {shown(name)}; names must be str")
        array, format = _array_of(value, name)
        if dtype is not None and format is not None and _formats.BY_NAME[format].is_float:
            array, format = _cast(array, format, name, options, threads), options.format
        arrays[name] = array, format
    described = [kind.native(name, array, format) for name, (array, format) in arrays.items()]
    with single.named_errors(place), AtomicFile(place, replace=force) as output:
        sink = kind.Sink(output.file, described, metadata or {})
        for tensor, (array, _) in zip(sink.tensors, arrays.values(), strict=True):
            _write(sink, tensor, array)
        sink.finish()
        output.commit()


def _is_text(metadata: object) -> bool:
    """Whether this maps str to str."""
    return isinstance(metadata, Mapping) and all(isinstance(word, str) for item in metadata.items() for word in item)


def _array_of(value: Any, name: str) -> tuple[np.ndarray[Any, Any], str | None]:
    """Return an array and the format of its elements; None if it is none of narrowcast's."""
    if _torch.is_tensor(value):
        array, dtype = _torch.to_array(value.detach(), name)
        if dtype == _TORCH_PAIRS:
            return _unpaired(array, name)
        return array, dtype if dtype in _formats.BY_NAME else None
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"tensor {name!r} is a masked array, and files have no masks; call .filled()")
    array = np.asarray(value)
    row = _formats.format_of(array.dtype)
    return array, None if row is None else row.name


def _unpaired(pairs: np.ndarray[Any, Any], name: str) -> tuple[np.ndarray[Any, Any], str]:
    """Return the elements of torch's pairs of FP4, along the last dimension."""
    if pairs.ndim == 0:
        raise ValueError(f"tensor {name!r} is a pair of FP4 without a dimension; allowed is at least one: reshape it")
    if pairs.shape[-1] > 1 and pairs.strides[-1] != 1:  # pairs lie along another dimension, if it is a transpose
        raise ValueError(f"tensor {name!r} has pairs of FP4 across its last dimension; make it contiguous")
    row = _formats.BY_NAME["float4_e2m1fn"]
    codes = _unpacked(np.ascontiguousarray(pairs).reshape(-1), 2 * pairs.size, row.bits)
    return codes.view(row.dtype).reshape(*pairs.shape[:-1], 2 * pairs.shape[-1]), row.name


def _unpacked(raw: np.ndarray[Any, Any], size: int, bits: int) -> np.ndarray[Any, Any]:
    """Return codes that lie densely, one to a byte."""
    codes = np.empty(size, np.uint8)
    for start in range(0, size, _PIECE):
        part = codes[start : start + _PIECE]
        begin = packed_bytes(start, bits)
        _core.unpack(raw[begin : begin + packed_bytes(part.size, bits)], part, bits)
    return codes


def _cast(
    array: np.ndarray[Any, Any], format: str | None, name: str, options: CastOptions, threads: int | None
) -> np.ndarray[Any, Any]:
    if format == options.format:
        return array
    seed = options.key(name) if options.rounding == "stochastic" else None
    try:
        cast: np.ndarray[Any, Any] = _astype.astype(
            array,
            options.format,
            src_dtype=format,
            rounding=options.rounding,
            overflow=options.overflow,
            seed=seed,
            threads=threads,
        )
    except OverflowError as error:
        raise OverflowError(name + str(error).removeprefix("x")) from None
    return cast


def _read(path: Path, source: Source, tensor: Tensor) -> np.ndarray[Any, Any]:
    """Read a tensor whole, with the dtype it means."""
    raw = np.empty(tensor.nbytes, np.uint8)
    if tensor.nbytes:
        source.read(tensor, 0, raw.data)
    dtype = single.kind_of(path).dtype_of(tensor)
    order: Any = "F" if tensor.fortran else "C"
    if tensor.format is not None and is_packed(tensor):
        raw = _unpacked(raw, tensor.size, _formats.BY_NAME[tensor.format].bits)
    array: np.ndarray[Any, Any] = raw.view(dtype).reshape(tensor.shape, order=order)
    return array


def _write(sink: Sink, tensor: Tensor, array: np.ndarray[Any, Any]) -> None:
    """Write an array in the order in which its tensor is described."""
    flat = np.ascontiguousarray(array.T if tensor.fortran else array).reshape(-1)
    if tensor.format is not None and not flat.dtype.isnative and not tensor.swapped:
        flat = flat.astype(flat.dtype.newbyteorder("="))
    codes = flat.view(np.uint8)
    if tensor.format is None or not is_packed(tensor):
        if codes.size:
            sink.write(tensor, 0, codes.data)
        return
    bits = _formats.BY_NAME[tensor.format].bits
    for start in range(0, tensor.size, _PIECE):
        part = codes[start : start + _PIECE]
        packed = np.empty(packed_bytes(part.size, bits), np.uint8)
        _core.pack(part, packed, bits)
        sink.write(tensor, packed_bytes(start, bits), packed.data)
