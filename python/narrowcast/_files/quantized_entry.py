"""quantize_file and dequantize_file: their arguments, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal, TypeAlias

from narrowcast import _formats
from narrowcast._files.dequantized import DequantizeOptions
from narrowcast._files.entry import How, PathLike, Progress, convert
from narrowcast._files.options import patterns
from narrowcast._files.quantized import PACKED, STRATEGIES, Scheme
from narrowcast._files.quantized_plan import QuantizeOptions
from narrowcast._files.quantized_tasks import spec_of
from narrowcast._files.report import CastReport
from narrowcast._formats import FormatLike
from narrowcast._quant.collectors import Calibration
from narrowcast._quant.target import find_target

Granularity: TypeAlias = Literal["tensor", "channel", "group", "block"]

SCALE_DTYPES: Final = ("float32", "float16", "bfloat16")
GROUP_SIZE: Final = 128
BLOCK_SHAPE: Final = (128, 128)
# The formats of compressed-tensors that codes can be stored in; the first is the default.
FORMATS: Final = {f"int{bits}": (PACKED,) for bits in range(1, 8)} | {
    "int8": ("int-quantized", PACKED),
    "float8_e4m3fn": ("float-quantized",),
}


def quantize_file(
    src: PathLike,
    dst: PathLike,
    dtype: FormatLike = "int4",
    *,
    granularity: Granularity | None = None,
    group_size: int | None = None,
    block_shape: tuple[int, int] | None = None,
    symmetric: bool = True,
    calibration: str | Calibration = "minmax",
    scale_dtype: FormatLike | None = None,
    format: str | None = None,
    dynamic_activations: bool = False,
    threads: int | None = None,
    only: str | Sequence[str] = (),
    skip: str | Sequence[str] = (),
    force: bool = False,
    dry_run: bool = False,
    follow_symlinks: bool = False,
    rank: int = 0,
    world: int = 1,
    dask: str | None = None,
    ray: str | None = None,
    progress: Progress | None = None,
) -> CastReport:
    """Quantize the linear layers of a model, a file or a directory, into the format of compressed-tensors.

    transformers and vLLM load the result. The weights of linear layers become codes, scales and, if not symmetric,
    zero points; all else is copied. In a directory the indices of shards are brought up to date, and ``config.json``
    gets a ``quantization_config``. Files are read in pieces, and written as safely as by `cast_file`.

    Parameters
    ----------
    src : path
        A ``.safetensors`` file, or a directory with such files.
    dst : path
        The new file or directory, as for `cast_file`.
    dtype : str, dtype or type, default "int4"
        The codes: ``int1`` to ``int8``, or ``float8_e4m3fn``.
    granularity : {"tensor", "channel", "group", "block"}, optional
        What shares a scale: a weight; a row of it, which is an output channel; `group_size` neighbours in a row;
        `block_shape` rows and columns. By default groups for less than 8 bits, else channels.
    group_size : int, optional
        128 by default; it must divide the rows of every weight.
    block_shape : (int, int), optional
        (128, 128) by default.
    symmetric : bool, default True
        Whether there are no zero points. FP8 has none.
    calibration : {"minmax", "percentile", "mse", "entropy"} or Calibration, default "minmax"
        How a range follows from values, as in `quantize`. With granularity ``"tensor"``, all but the first hold a
        weight in memory.
    scale_dtype : str, dtype or type, optional
        float32, float16 or bfloat16; by default that of the weight, as compressed-tensors has it.
    format : {"pack-quantized", "int-quantized", "float-quantized"}, optional
        How codes are stored. Only int8 has a choice: a byte each, ``"int-quantized"`` (the default), or packed in
        words, which is the form in which vLLM takes int8 weights with activations that stay floats.
    dynamic_activations : bool, default False
        Whether ``config.json`` asks for activations to be quantized too, token by token as they come: int8 that is
        not packed, and FP8.
    threads, only, skip, force, dry_run, follow_symlinks, rank, world, dask, ray, progress
        As in `cast_file`. `only` may also name weights that are not taken for those of linear layers, of two
        dimensions.

    Returns
    -------
    CastReport
        Per tensor: bytes, SQNR, values beyond the codes, values that became zero.

    Raises
    ------
    TypeError, ValueError, FileExistsError, OSError
        As in `cast_file`; ValueError also if there is nothing to quantize, if a model is quantized already, or if
        rows cannot be divided into groups.

    Notes
    -----
    Codes and scales are those of compressed-tensors 0.20: `quantize` with ``dialect="compressed_tensors"``. A weight
    is taken for that of a linear layer if it has two dimensions, its name ends in ``.weight``, and no part of the name
    speaks of an embedding, a head, a norm, a position, a router or an adapter. Whatever has two dimensions and stays
    is in the ``ignore`` list of the configuration.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> import narrowcast as nc
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> nc.save_file({"up_proj.weight": np.float32([[1, -2, 3, -4]])}, folder / "a.safetensors")
    >>> report = nc.quantize_file(folder / "a.safetensors", folder / "b.safetensors", "int8")
    >>> found = nc.load_file(folder / "b.safetensors")
    >>> found["up_proj.weight"], found["up_proj.weight_scale"]
    (array([[  32,  -64,   96, -127]], dtype=int8), array([[0.03137255]], dtype=float32))
    """
    scheme = _read_scheme(dtype, granularity, group_size, block_shape, symmetric, format, dynamic_activations)
    scale = None if scale_dtype is None else _formats.find(scale_dtype, "scale_dtype")[0].name
    if scale not in (None, *SCALE_DTYPES):
        raise TypeError(f"scale_dtype is {scale}; allowed are {', '.join(SCALE_DTYPES)}")
    spec = spec_of(scheme, calibration=calibration, scale_dtype=scale)  # says what is wrong with the rest
    scheme = replace(scheme, group_size=spec.group_size, block_shape=spec.block_shape)
    options = QuantizeOptions(
        scheme, Calibration.read(calibration), scale, patterns(only, "only"), patterns(skip, "skip")
    )
    return convert(src, dst, options, How(threads, force, dry_run, follow_symlinks, rank, world, dask, ray, progress))


def _read_scheme(
    dtype: FormatLike,
    granularity: str | None,
    group_size: int | None,
    block_shape: tuple[int, int] | None,
    symmetric: bool,
    format: str | None,
    dynamic_activations: bool,
) -> Scheme:
    try:
        codes = find_target(dtype, "dtype").name
    except TypeError:  # which allows what only arrays can be
        codes = repr(dtype)
    if codes not in FORMATS:
        raise TypeError(f"dtype is {codes}; allowed are {', '.join(FORMATS)}")
    if granularity is None:
        granularity = "channel" if codes.endswith("8") or codes == "float8_e4m3fn" else "group"
        granularity = "group" if group_size is not None else "block" if block_shape is not None else granularity
    if granularity not in STRATEGIES:
        raise ValueError(f"granularity is {granularity!r}; allowed are {', '.join(STRATEGIES)}")
    for name, value, wanted in (("group_size", group_size, "group"), ("block_shape", block_shape, "block")):
        if value is not None and granularity != wanted:
            raise ValueError(f"{name} is {value!r}, and granularity is {granularity!r}; allowed with {wanted!r} only")
    storage = FORMATS[codes][0] if format is None else format
    if storage not in FORMATS[codes]:
        raise ValueError(f"format is {storage!r}, and dtype is {codes}; allowed are {', '.join(FORMATS[codes])}")
    if dynamic_activations and storage == PACKED:
        raise ValueError(
            f"dynamic_activations is True, and format is {storage!r}; allowed are int8 and FP8, not packed"
        )
    if not isinstance(symmetric, bool):
        raise TypeError(f"symmetric is {symmetric!r}; allowed are True and False")
    return Scheme(
        codes=codes,
        strategy=granularity,
        symmetric=symmetric,
        storage=storage,
        group_size=(GROUP_SIZE if group_size is None else group_size) if granularity == "group" else None,
        block_shape=(block_shape or BLOCK_SHAPE) if granularity == "block" else None,
        activations=dynamic_activations,
    )


def dequantize_file(
    src: PathLike,
    dst: PathLike,
    dtype: FormatLike | None = None,
    *,
    threads: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    follow_symlinks: bool = False,
    rank: int = 0,
    world: int = 1,
    dask: str | None = None,
    ray: str | None = None,
    progress: Progress | None = None,
) -> CastReport:
    """Make floats of the quantized weights of a model in the format of compressed-tensors, whoever wrote it.

    Scales, zero points and shapes go, and so does what ``config.json`` says of quantization; all else is copied.

    Parameters
    ----------
    src : path
        A ``.safetensors`` file, or a directory with such files: of int1 to int8, packed or not, or of FP8. What the
        codes are is read from ``config.json`` beside the file, or from the metadata that `quantize_file` writes.
    dst : path
        The new file or directory, as for `cast_file`.
    dtype : str, dtype or type, optional
        The float format of the weights; by default that of their scales, which is what compressed-tensors makes.
    threads, force, dry_run, follow_symlinks, rank, world, dask, ray, progress
        As in `cast_file`.

    Returns
    -------
    CastReport
        Per tensor: its bytes.

    Raises
    ------
    TypeError, ValueError, FileExistsError, OSError
        As in `cast_file`; ValueError also if there are no quantized weights, FileFormatError if they are not what the
        configuration says.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> import narrowcast as nc
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> nc.save_file({"up_proj.weight": np.float32([[1, -2, 3, -4]])}, folder / "a.safetensors")
    >>> report = nc.quantize_file(folder / "a.safetensors", folder / "b.safetensors", "int8")
    >>> report = nc.dequantize_file(folder / "b.safetensors", folder / "c.safetensors", "bfloat16")
    >>> nc.load_file(folder / "c.safetensors")
    {'up_proj.weight': array([[1.00781, -2.01562, 3.01562, -3.98438]], dtype=bfloat16)}
    """
    to = None if dtype is None else _formats.find_float(dtype, "dtype")[0].name
    how = How(threads, force, dry_run, follow_symlinks, rank, world, dask, ray, progress)
    return convert(src, dst, DequantizeOptions(to), how)
