# The compiled module, as the package uses it. Nothing here is public: names, defaults, checks and documentation are
# narrowcast's own modules.
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, TypeAlias, TypedDict, type_check_only

import numpy as np
from typing_extensions import Buffer

version: str

ERROR_ARGUMENT: int
ERROR_FORMAT: int
ERROR_OVERLAP: int
ERROR_OVERFLOW: int
ERROR_ISA: int

REASON_FINITE: int
REASON_INFINITE: int
REASON_NAN: int
REASON_ZERO: int
REASON_NEGATIVE: int

@type_check_only
class Facts(TypedDict):
    """nc_format_info, field by field."""

    name: str
    id: str
    code: int
    is_float: bool
    storage_bytes: int
    bits: int
    sign_bits: int
    exponent_bits: int
    mantissa_bits: int
    bias: int
    has_inf: bool
    has_nan: bool
    has_zero: bool
    has_negative_zero: bool
    max_code: int
    min_code: int
    smallest_normal_code: int
    smallest_subnormal_code: int
    nan_code: int
    negative_nan_code: int
    inf_code: int

def formats() -> list[Facts]:
    """Every row of formats.def, in its order."""

def isas() -> list[tuple[str, bool]]:
    """Every instruction set of this build, best first, and whether this machine can run it."""

def default_isa() -> str:
    """NARROWCAST_ISA or the best one; ValueError if that variable names none that can run."""

def cpu_features() -> list[str]: ...
def get_threads() -> int:
    """The default number of threads; -1 while nobody has set one."""

def set_threads(threads: int) -> None: ...
def cast(
    x: np.ndarray[Any, Any],
    x_format: int,
    out: np.ndarray[Any, Any],
    out_format: int,
    rounding: int,
    overflow: int,
    seed: int,
    offset: int,
    threads: int,
    isa: str | None,
) -> tuple[int, int, int, float, str] | None:
    """nc_cast. None, or what nc_error says: status, reason, index, value, message."""

def compared_cast(
    x: np.ndarray[Any, Any],
    x_format: int,
    out: np.ndarray[Any, Any],
    out_format: int,
    rounding: int,
    overflow: int,
    seed: int,
    offset: int,
    isa: str | None,
) -> tuple[tuple[int, int, int, float, str] | None, tuple[int, int, float, float, float, float, int, int, int]]:
    """nc_cast on one thread, out of place: what cast returns, and what cast_error returns of its result.

    But for sum_error and max_error, which are 0 here.
    """

def cast_error(
    x: np.ndarray[Any, Any],
    x_format: int,
    out: np.ndarray[Any, Any],
    out_format: int,
    rounding: int,
    isa: str | None,
) -> tuple[int, int, float, float, float, float, int, int, int]:
    """nc_cast_error of x and its cast out; ValueError with its sentence.

    The fields of nc_error_sums: count, finite, sum_x2, sum_error2, sum_error, max_error, overflowed, became_zero,
    became_nan. Those of pieces add up, but for max_error.
    """

def layouts() -> list[tuple[str, int, tuple[int, ...], int, int, bool, int]]:
    """Every row of layouts.def, in its order.

    Name, code, widths, bits of a word, its owner's axis, whether signed codes are biased, and what the extent of later
    axes must be a multiple of.
    """

def packed_bytes(n: int, bits: int, layout: str = "lsb") -> int:
    """Bytes that a line of n codes takes; ValueError for a layout or a width that there is not."""

def layout_granule(bits: int, layout: str = "lsb") -> int:
    """How many codes fill whole words; 0 for a width that there is not."""

def pack(
    codes: Buffer | np.ndarray[Any, Any],
    packed: Buffer | np.ndarray[Any, Any],
    bits: int,
    layout: str = "lsb",
    *,
    is_signed: bool = False,
    check: bool = False,
    threads: int = 1,
    isa: str | None = None,
    extents: tuple[int, int] = (0, 0),
) -> None:
    """nc_pack: the low bits of each byte of codes into packed, whose size must be what all lines take.

    extents: codes along the layout's axis, and of all later axes; (0, 0): one line. check: OverflowError, with the flat
    index of the code as its `index`, for a code that does not fit, before anything is written. The last word is filled
    up with zeros, so the pieces of a long line of lsb are multiples of 8 codes; there packed may begin where codes
    begins.
    """

def unpack(
    packed: Buffer | np.ndarray[Any, Any],
    codes: Buffer | np.ndarray[Any, Any],
    bits: int,
    layout: str = "lsb",
    *,
    is_signed: bool = False,
    threads: int = 1,
    isa: str | None = None,
    extents: tuple[int, int] = (0, 0),
) -> None:
    """nc_unpack: as many codes as codes has bytes."""

def repack(
    packed: Buffer | np.ndarray[Any, Any],
    out: Buffer | np.ndarray[Any, Any],
    n: int,
    bits: int,
    from_layout: str,
    from_extents: tuple[int, int],
    to_layout: str,
    to_extents: tuple[int, int],
    *,
    is_signed: bool = False,
    threads: int = 1,
    isa: str | None = None,
) -> None:
    """nc_repack of n codes: what pack would give of what unpack gives."""

def unscale(
    arrays: Sequence[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int]],
    inv_scale: float,
    threads: int,
    isa: str | None,
) -> bool:
    """nc_unscale of (x, out, format) triples; out may be x. Whether any x has an element that is not finite.

    ValueError with the core's sentence.
    """

def make_astype(
    text: str,
    slow: Callable[..., Any],
    targets: Mapping[object, int],
    results: Mapping[int, np.dtype[Any]],
    sources: Sequence[tuple[np.dtype[Any], int]],
    roundings: Sequence[str],
    overflows: Sequence[str],
    isa: ContextVar[str | None],
) -> Any:
    """The fast entry: a builtin that does the plain case itself and hands every other call to slow unchanged.

    text is its signature and documentation as inspect reads them ("astype(x, /)\\n--\\n\\n..."). targets gives the
    format code of everything that may name a target, results the dtype of a new array per code, sources the code of
    each dtype that may come in. roundings and overflows are the names that the fast entry may handle, by code.
    """

def dialects() -> list[tuple[str, int, str, str, str, str]]:
    """Every row of dialects.def, in its order: name, code, quotient, zero, steps, nan."""

# dialect, format, bits, is_signed, qmin, qmax, symmetric, compute, layout, dynamic, scale_max: the fields of
# nc_quantize_options by these names.
_Options: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, int, float]
_Array: TypeAlias = np.ndarray[Any, Any]

def quantize(
    x: _Array,
    x_format: int,
    codes: _Array,
    codes_format: int,
    scale: _Array,
    scale_format: int,
    zero_point: _Array | None,
    zero_format: int,
    row_sums: _Array | None,
    block: tuple[int, ...] | None,
    opts: _Options,
    threads: int,
    isa: str | None,
) -> None:
    """nc_quantize. TypeError for a format and ValueError for all else that it refuses, with its sentence.

    Packed codes: codes_format is uint8. zero_format counts only with a zero_point. The same for the calls below.
    """

def dequantize(
    codes: _Array,
    codes_format: int,
    scale: _Array,
    scale_format: int,
    zero_point: _Array | None,
    zero_format: int,
    out: _Array,
    out_format: int,
    block: tuple[int, ...] | None,
    opts: _Options,
    threads: int,
    isa: str | None,
) -> None:
    """nc_dequantize."""

def fake_quantize(
    x: _Array,
    x_format: int,
    scale: _Array,
    scale_format: int,
    zero_point: _Array | None,
    zero_format: int,
    out: _Array,
    out_format: int,
    block: tuple[int, ...] | None,
    opts: _Options,
    threads: int,
    isa: str | None,
) -> None:
    """nc_fake_quantize."""

def range(  # noqa: A001
    x: _Array,
    x_format: int,
    low: _Array,
    high: _Array,
    block: tuple[int, ...] | None,
    threads: int,
    isa: str | None,
) -> None:
    """nc_range; low and high are float32."""

def choose_qparams(
    low: _Array,
    high: _Array,
    x_format: int,
    scale: _Array,
    scale_format: int,
    zero_point: _Array | None,
    zero_format: int,
    opts: _Options,
    isa: str | None = None,
) -> None:
    """nc_choose_qparams: ranges of any shape, all arrays of the same."""

def quantization_error(
    x: _Array,
    x_format: int,
    codes: _Array,
    codes_format: int,
    scale: _Array,
    scale_format: int,
    zero_point: _Array | None,
    zero_format: int,
    block: tuple[int, ...] | None,
    opts: _Options,
    isa: str | None,
) -> tuple[int, int, float, float, float, float, int, int, int]:
    """nc_quantization_error: what cast_error returns; overflowed counts what was clipped."""

# What quantize needs beyond the rest: computed options (None: for Python), scale_dtype, scale_format, zero_dtype (None:
# there are no zero points), zero_format, and held_scale and held_zero, arrays of one number that the spec itself has.
_Making: TypeAlias = tuple[
    _Options | None,
    np.dtype[Any],
    int,
    np.dtype[Any] | None,
    int,
    _Array | None,
    _Array | None,
]

def QuantPlan(  # noqa: N802
    given: _Options,
    granularity: int,
    extents: tuple[int, ...],
    threads: int,
    code_dtype: np.dtype[Any],
    carrier: np.dtype[Any],
    code_format: int,
    asked_scale: int,
    needs_zeros: bool,
    takes_zeros: bool,
    takes_float_zeros: bool,
    making: _Making | None,
) -> object:
    """What the entries of quantize and dequantize need to know of a QuantSpec, for its attribute _plan.

    given are the options of calls with a scale. granularity is 0 tensor, 1 row, 2 groups, with extents (size, axis),
    3 channels, with extents as their axes, 4 blocks, with extents as their sides. threads -1: the default. carrier is
    the builtin dtype that codes may also have. dequantize reads scales of the format asked_scale only (0: of all that
    scales may have), and zero points, if takes_zeros, as int32 or, if takes_float_zeros, as float32 and float16;
    needs_zeros: only with zero points. making None: quantize is for Python.
    """

def make_quantize(
    text: str,
    slow: Callable[..., Any],
    spec_type: type,
    array_type: type,
    sources: Sequence[tuple[np.dtype[Any], int]],
    isa: ContextVar[str | None],
) -> Any:
    """The fast entry: a builtin that does the calls of a QuantSpec with a _plan and hands every other one to slow.

    text as in make_astype; sources are float formats only. array_type is made of (codes, scale, zero_point, spec) and
    gets the attributes shape and dtype.
    """

def make_dequantize(
    text: str,
    slow: Callable[..., Any],
    spec_type: type,
    targets: Mapping[object, int],
    results: Mapping[int, np.dtype[Any]],
    sources: Sequence[tuple[np.dtype[Any], int]],
    isa: ContextVar[str | None],
) -> Any:
    """The fast entry: a builtin that does the calls of a QuantSpec with a _plan and hands every other one to slow.

    text, targets and results as in make_astype; sources are the dtypes of scales and zero points.
    """

def make_dequantize_method(text: str, slow: Callable[..., Any], array_type: type) -> Any:
    """The same as a method of array_type, a tuple of (codes, scale, zero_point, spec) with the attribute shape.

    Only after make_dequantize.
    """

def make_pack(
    text: str,
    slow: Callable[..., Any],
    names: Mapping[object, int],
    results: Mapping[int, np.dtype[Any]],
    sources: Sequence[tuple[np.dtype[Any], int]],
    widths: Mapping[int, tuple[int, bool]],
    isa: ContextVar[str | None],
) -> Any:
    """The fast entry: a builtin that does plain calls of the layout lsb and hands every other one to slow.

    text as in make_astype. names, results and sources are like targets, results and sources there, but for kinds of
    codes, which Python numbers from 1 on; widths gives the bits of each, and whether it is signed.
    """

def make_unpack(
    text: str,
    slow: Callable[..., Any],
    names: Mapping[object, int],
    results: Mapping[int, np.dtype[Any]],
    widths: Mapping[int, tuple[int, bool]],
    isa: ContextVar[str | None],
) -> Any:
    """The same for unpack."""
