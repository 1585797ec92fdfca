"""astype: what its arguments mean, what is wrong with them, and every call that is not the plain case.

The plain case (a contiguous ndarray, a known dtype, nearest-even) never arrives here: the compiled entry, which has
this module's signature and documentation, does it alone and hands every other call on to `astype` below.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from narrowcast import _config, _core, _formats
from narrowcast._arrays import Source, read, read_out

Rounding: TypeAlias = Literal["nearest_even", "toward_zero", "up", "down", "nearest_away", "stochastic"]
Overflow: TypeAlias = Literal["ieee", "saturate", "raise"]

# By code, as in narrowcast.h; the fast entry does those before the last.
ROUNDINGS: Final = ("nearest_even", "toward_zero", "up", "down", "nearest_away", "stochastic")
OVERFLOWS: Final = ("ieee", "saturate", "raise")
ORDERS: Final = ("K", "C", "F", "A")


def astype(
    x: Any,
    /,
    dtype: _formats.FormatLike,
    *,
    copy: bool = True,
    order: Literal["K", "C", "F", "A"] = "K",
    out: Any = None,
    src_dtype: _formats.FormatLike | None = None,
    rounding: Rounding = "nearest_even",
    overflow: Overflow = "ieee",
    seed: int | None = None,
    offset: int = 0,
    threads: int | None = None,
) -> Any:
    """Convert numbers to another floating-point format, rounding each of them once.

    The bits of a result depend on its value, the two formats and the options below, and on nothing else. Any float,
    integer or bool format may come in; float formats come out.

    Parameters
    ----------
    x : array_like, torch.Tensor or buffer
        An ndarray of any shape, strides and byte order; a scalar or sequence; a dense torch tensor on the CPU; or,
        with `src_dtype`, any object with the buffer protocol.
    dtype : str, dtype or type
        The target: a name of `formats`, a numpy or ml_dtypes dtype or scalar type, or a torch dtype.
    copy : bool, default True
        False returns `x` itself if it already has the dtype and order.
    order : {"K", "C", "F", "A"}, default "K"
        Memory order of a new array, as in ``numpy.ndarray.astype``.
    out : ndarray, torch.Tensor or writable buffer, optional
        Where to write, in the shape of `x`: of the target's dtype, or of unsigned integers of the same width. It may
        be `x` itself, or an array that starts where `x` starts, if its items are no larger; any other overlap is
        refused.
    src_dtype : str, dtype or type, optional
        Read the bits of `x` as this format. The item size must match; a buffer becomes one-dimensional.
    rounding : str, default "nearest_even"
        ``"nearest_even"``, ``"nearest_away"``, ``"toward_zero"``, ``"up"``, ``"down"`` or ``"stochastic"``.
    overflow : {"ieee", "saturate", "raise"}, default "ieee"
        What becomes of values beyond the largest one. ``"ieee"``: infinity if the format has it, else NaN if it has
        that, else the largest value. ``"saturate"``: the largest value, for infinities too. ``"raise"``: an
        OverflowError before anything is written, also for infinities and NaN that the format lacks.
    seed : int, optional
        The key of the random numbers, 0 to 2**64 - 1; with ``rounding="stochastic"``, and only then.
    offset : int, default 0
        The index of the first element, so that parts of an array round as the whole does; stochastic only.
    threads : int, optional
        At most this many threads, 0 for one per core; by default what `get_num_threads` says, which is 1.

    Returns
    -------
    ndarray, scalar or torch.Tensor
        `out` if it was given. Else a tensor for a tensor, a scalar for a scalar, a masked array for a masked array, an
        ndarray for anything else. Formats that have no dtype there come as unsigned codes, tfloat32 as float32.

    Raises
    ------
    TypeError
        If a dtype is not one that is converted; a target of integers belongs to `quantize`.
    ValueError
        If an option has a value that is not allowed, or `out` does not fit.
    OverflowError
        With ``overflow="raise"``; it names the first such element.

    Notes
    -----
    For every pair of formats that numpy and ml_dtypes convert, the result equals theirs for all values but NaN, except
    that float64 and wide integers are rounded once where ml_dtypes rounds twice. NaN stays NaN, with its sign, where
    the target has NaN; -0 and subnormals are kept where the target has them. No warnings are issued.

    A sequence is first what ``numpy.asarray`` makes of it. Masked elements of a masked array are cast like the others,
    ``overflow="raise"`` sees them too, and `out` gets values but no mask.

    Examples
    --------
    >>> import numpy as np
    >>> import narrowcast as nc
    >>> x = np.array([0.1, 1.0, 300.0, 1e6], np.float32)
    >>> y = nc.astype(x, "float8_e4m3fn")
    >>> nc.astype(y, "float32").tolist()
    [0.1015625, 1.0, 288.0, nan]
    >>> y = nc.astype(x, "float8_e4m3fn", rounding="up", overflow="saturate")
    >>> nc.astype(y, "float32").tolist()
    [0.1015625, 1.0, 320.0, 448.0]
    >>> nc.astype(x, "float16", overflow="raise")
    Traceback (most recent call last):
    ...
    OverflowError: x[3] is 1000000.0, beyond the largest float16, 65504.0 (rounding is 'nearest_even')
    >>> codes = bytearray(4)
    >>> nc.astype(x, "float8_e5m2", out=codes)
    bytearray(b'.<]|')
    >>> nc.astype(codes, "float32", src_dtype="float8_e5m2").tolist()
    [0.09375, 1.0, 320.0, inf]
    """
    target, result_dtype = _formats.find_float(dtype, "dtype")
    modes = read_modes(rounding, overflow, seed, offset)
    workers = _config.get_num_threads() if threads is None else _config.check_threads(threads, "threads")
    _check_choice(order, ORDERS, "order")
    source = read(x, src_dtype)
    if out is not None:
        _cast(source, read_out(out, target, source.array.shape), target, modes, workers)
        return out
    if source.kind == "tensor" and not result_dtype.isnative:
        raise TypeError(f"dtype is {dtype!r}; tensors are in native byte order only")
    if not copy and source.format is target and _has_layout(source.array, result_dtype, order):
        return source.given if source.is_result else source.wrap(source.array.view(result_dtype), target)
    result = np.empty_like(source.array, dtype=result_dtype, order=order, subok=False)
    _cast(source, result, target, modes, workers)
    return source.wrap(result, target)


def make_entry() -> Callable[..., Any]:
    """Return the compiled entry: a builtin with the signature and documentation of `astype`."""
    entry: Callable[..., Any] = _core.make_astype(
        describe(astype),
        astype,
        _formats.targets(),
        {row.code: row.dtype for row in _formats.FORMATS},
        _formats.sources(),
        ROUNDINGS[:-1],
        OVERFLOWS[:-1],
        _config.chosen_isa,
    )
    return entry


def describe(function: Any) -> str:
    """Return the signature and documentation of a function as a builtin has them."""
    code, defaults = function.__code__, dict(function.__kwdefaults__ or {})
    names, positional = code.co_varnames, code.co_argcount
    if names[0] == "self":
        names = ("$self", *names[1:])
    before = names[positional - len(function.__defaults__ or ()) : positional]
    defaults |= dict(zip(before, function.__defaults__ or (), strict=True))
    only = code.co_posonlyargcount
    parameters = [*names[:only], *["/"] * (only > 0), *names[only:positional], "*"]
    parameters += names[positional : positional + code.co_kwonlyargcount]
    shown = [f"{name}={defaults[name]!r}" if name in defaults else name for name in parameters]
    return f"{function.__name__}({', '.join(shown)})\n--\n\n{function.__doc__}"


Modes: TypeAlias = tuple[int, int, int, int]


def read_modes(rounding: str, overflow: str, seed: int | None, offset: int) -> Modes:
    """Return rounding, overflow, seed and offset as the core wants them."""
    _check_choice(rounding, ROUNDINGS, "rounding")
    _check_choice(overflow, OVERFLOWS, "overflow")
    stochastic = rounding == "stochastic"
    if stochastic and seed is None:
        raise ValueError("seed is None; rounding='stochastic' needs a seed from 0 to 2**64 - 1")
    if not stochastic and seed is not None:
        raise ValueError(f"seed is {seed!r}; allowed with rounding='stochastic' only, and rounding is {rounding!r}")
    if stochastic and overflow == "raise":
        raise ValueError("overflow is 'raise'; allowed with rounding='stochastic' are ieee and saturate")
    first = _read_word(offset, "offset")
    if first and not stochastic:
        raise ValueError(f"offset is {first}; allowed with rounding='stochastic' only, and rounding is {rounding!r}")
    key = 0 if seed is None else _read_word(seed, "seed")
    return ROUNDINGS.index(rounding), OVERFLOWS.index(overflow), key, first


def _check_choice(given: object, allowed: tuple[str, ...], argument: str) -> None:
    if not isinstance(given, str) or given not in allowed:
        raise ValueError(f"{argument} is {given!r}; allowed are {', '.join(allowed)}")


def _read_word(value: int, argument: str) -> int:
    try:
        word = index(value)
    except TypeError:
        raise TypeError(f"{argument} is {value!r}; allowed are integers") from None
    if not 0 <= word < 1 << 64:
        raise ValueError(f"{argument} is {word}; allowed are 0 to 2**64 - 1")
    return word


def _has_layout(array: np.ndarray[Any, Any], dtype: _formats.DType, order: str) -> bool:
    flags = array.flags
    ordered = {"K": True, "C": flags.c_contiguous, "F": flags.f_contiguous, "A": flags.forc}[order]
    return ordered and array.dtype.isnative == dtype.isnative


def _cast(source: Source, out: np.ndarray[Any, Any], target: _formats.Format, modes: Modes, threads: int) -> None:
    failure = _core.cast(source.array, source.format.code, out, target.code, *modes, threads, _config.chosen_isa.get())
    if failure is None:
        return
    status, reason, position, value, message = failure
    if status == _core.ERROR_OVERFLOW:
        raise _overflow_error(source, target, ROUNDINGS[modes[0]], reason, position, value)
    raise (TypeError if status == _core.ERROR_FORMAT else ValueError)(message)


def _overflow_error(
    source: Source, target: _formats.Format, rounding: str, reason: int, position: int, value: float
) -> OverflowError:
    place = tuple(int(i) for i in np.unravel_index(position, source.array.shape))
    exact = source.format.dtype.kind in "iu" and not source.format.is_codes
    shown = repr(int(source.array[place]) if exact else value)
    return OverflowError(f"{name_element('x', place)} is {shown}, {say_why(target, rounding, reason)}")


def name_element(array: str, place: tuple[int, ...]) -> str:
    """Return "x[1, 2]", or "x" for the only element of an array without dimensions."""
    return f"{array}[{', '.join(map(str, place))}]" if place else array


def say_why(target: _formats.Format, rounding: str, reason: int) -> str:
    """Return why the target cannot hold a value: what comes after "x[3] is 1000000.0, "."""
    why = {
        _core.REASON_INFINITE: f"and {target.name} has no infinity",
        _core.REASON_NAN: f"and {target.name} has no NaN",
        _core.REASON_ZERO: f"and {target.name} has no zero",
        _core.REASON_NEGATIVE: f"and {target.name} has no negative values",
    }.get(reason)
    return why or f"beyond the largest {target.name}, {float(_largest(target))!r} (rounding is {rounding!r})"


def _largest(target: _formats.Format) -> float:
    code = np.array([target.max_code], f"u{target.storage_bytes}")
    return float(astype(code, "float64", src_dtype=target)[0])
