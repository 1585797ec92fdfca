"""QuantSpec: everything that says how numbers become codes, checked once and then only read.

What depends on the array (its shape, scales that came with it, where results go) is checked in each call. What the
dialects' words mean is the core's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, Final, Self

from narrowcast import _config, _core, _formats
from narrowcast._formats import FormatLike
from narrowcast._quant.boxes import Granularity, Partition
from narrowcast._quant.checks import (
    MOST,
    check_bool,
    check_choice,
    read_dtype,
    read_index,
    read_number,
    read_numbers,
    read_positive,
)
from narrowcast._quant.collectors import Calibration
from narrowcast._quant.params import Params, read_held
from narrowcast._quant.plan import find_making, make_plan
from narrowcast._quant.resolved import SCALE_DTYPES, Options, Resolved
from narrowcast._quant.target import DIALECTS, LAYOUTS, LSB, Target, find_target

COMPUTE_DTYPES: Final = ("float32", "float16", "bfloat16")

# Dialects that are one form of quantization, and the codes that they make.
_ONLY: Final[dict[str, tuple[str, ...]]] = {"fbgemm": ("uint8", "uint4", "uint2"), "llm_int8": ("int8",)}
_ROWS_ONLY: Final = ("fbgemm", "llm_int8")
_ABOVE_ZERO: Final = ("vllm", "quanto")  # a symmetric scale is the magnitude over the largest code


class _Prepared:
    """What the calls read of a spec; not among the fields, which are the arguments."""

    __slots__ = ("_held", "_plan", "_resolved")
    _resolved: Resolved
    _held: Params | None  # scale and zero_point
    _plan: Any  # what the compiled entries read; see plan.py


@dataclass(frozen=True, slots=True, repr=False)
class QuantSpec(_Prepared):
    """How numbers become codes: what `quantize` takes, checked once; frozen, hashable, picklable.

    Parameters
    ----------
    dtype : str, dtype or type, default "int8"
        The codes: ``int1`` to ``int8``, ``uint1`` to ``uint8``, ``int16``, ``uint16``, or a float8, float6 or float4
        format.
    granularity : {"tensor", "row", "channel", "group", "block"}, default "tensor"
        What shares a scale: everything; a row (all of the last axis); a channel (one index of `axis`); `group_size`
        neighbours along an axis; a block of the last two axes.
    axis : int or tuple of int, optional
        ``"channel"``: the axis or axes that keep a scale per index. ``"group"``: the axis along which groups run, by
        default the last.
    group_size : int, optional
        Elements of a group; the last one of an axis may be shorter.
    block_shape : (int, int), optional
        Rows and columns of a block; those at the edges may be smaller.
    scale : float or sequence of float, optional
        Scales to use instead of computed ones. Arrays of more than one dimension belong to the call.
    zero_point : int, float or sequence, optional
        The zero points that belong to `scale`.
    symmetric : bool, optional
        Whether zero is the middle code. By default True for signed and float codes, False for unsigned ones; a
        dialect that has one form only has that.
    qmin, qmax : int, optional
        The smallest and the largest code in use, by default all that the dtype has.
    calibration : str or Calibration, default "minmax"
        How a range follows from values.
    scale_dtype : str, dtype or type, optional
        float32, float16, bfloat16 or float8_e8m0fnu. By default float32, or what the dialect says.
    scale_max : float, optional
        Computed scales are at most this.
    layout : str, optional
        Codes are packed in this layout; by default there is one code per item.
    dialect : str, default "onnx"
        Whose arithmetic: onnx, torch, torchao, compressed_tensors, vllm, quanto, fbgemm, llm_int8.
    compute_dtype : str, dtype or type, optional
        What each step is rounded to: float32, float16 or bfloat16. By default what the dialect says.
    threshold : float, default 0.0
        llm_int8: columns with a magnitude of at least this are outliers; 0: there are none.
    row_sums : bool, default False
        Whether sums of codes along the last axis are wanted.
    threads : int, optional
        As in `quantize`.

    Raises
    ------
    TypeError, ValueError
        With one sentence on the first argument that is wrong.

    Examples
    --------
    >>> import narrowcast as nc
    >>> spec = nc.QuantSpec("int4", granularity="group", group_size=128, layout="lsb")
    >>> spec
    QuantSpec('int4', granularity='group', group_size=128, layout='lsb')
    >>> spec.replace(group_size=32) == nc.QuantSpec("int4", granularity="group", group_size=32, layout="lsb")
    True
    """

    dtype: FormatLike = "int8"
    _: KW_ONLY
    granularity: Granularity = "tensor"
    axis: int | tuple[int, ...] | None = None
    group_size: int | None = None
    block_shape: tuple[int, int] | None = None
    scale: Any = None
    zero_point: Any = None
    symmetric: bool | None = None
    qmin: int | None = None
    qmax: int | None = None
    calibration: str | Calibration = "minmax"
    scale_dtype: FormatLike | None = None
    scale_max: float | None = None
    layout: str | None = None
    dialect: str = "onnx"
    compute_dtype: FormatLike | None = None
    threshold: float = 0.0
    row_sums: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        target = find_target(self.dtype, "dtype")
        self._set("dtype", target.name)
        partition = Partition.read(self.granularity, self.axis, self.group_size, self.block_shape)
        for name, value in partition._asdict().items():
            self._set(name, value)
        check_choice(self.dialect, tuple(DIALECTS), "dialect")
        for name in ("qmin", "qmax"):
            self._set(name, _read_end(self, name, target))
        self._set("calibration", Calibration.read(self.calibration))
        for name, allowed in (("scale_dtype", SCALE_DTYPES), ("compute_dtype", COMPUTE_DTYPES)):
            self._set(name, read_dtype(getattr(self, name), name, allowed))
        if self.scale_max is not None:
            self._set("scale_max", read_positive(self.scale_max, "scale_max"))
        self._set("threshold", _read_threshold(self))
        for name in ("symmetric", "row_sums"):
            check_bool(getattr(self, name), name, name == "symmetric")
        if self.row_sums and target.is_float:
            raise ValueError(f"row_sums is True; allowed with integer codes only, and dtype is {target.name}")
        if self.layout is not None:
            _check_layout(self, target)
        if self.threads is not None:
            self._set("threads", _config.check_threads(self.threads, "threads"))
        _check_dialect(self, target)
        self._set("scale", read_numbers(self.scale, "scale"))
        self._set("zero_point", read_numbers(self.zero_point, "zero_point"))
        if self.zero_point is not None and self.scale is None:
            raise ValueError(f"zero_point is {self.zero_point!r}, and scale is None; allowed with a given scale only")
        self._set("_resolved", _resolve(self, target, partition))
        self._set("_held", read_held(self._resolved, self.scale, self.zero_point))
        self._set("_plan", _make_plan(self))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def replace(self, **changes: Any) -> Self:
        """Return a spec with some of its arguments changed, checked again."""
        unknown = changes.keys() - set(NAMES)
        if unknown:
            raise TypeError(f"{min(unknown)} is not an argument of QuantSpec; allowed are {', '.join(NAMES)}")
        return type(self)(**({name: getattr(self, name) for name in NAMES} | changes))

    def changed(self) -> dict[str, Any]:
        """Return the arguments that are not their defaults."""
        return {name: value for name, default in DEFAULTS.items() if (value := getattr(self, name)) != default}

    def __repr__(self) -> str:
        shown = {name: repr(value) for name, value in self.changed().items()}
        if "calibration" in shown:
            shown["calibration"] = Calibration.read(self.calibration).shown
        return f"QuantSpec({', '.join([repr(self.dtype), *(f'{name}={text}' for name, text in shown.items())])})"

    def __reduce__(self) -> tuple[Callable[..., QuantSpec], tuple[str, dict[str, Any]]]:
        return _remake, (str(self.dtype), self.changed())


NAMES: Final = tuple(one.name for one in fields(QuantSpec))
DEFAULTS: Final[dict[str, Any]] = {one.name: one.default for one in fields(QuantSpec) if one.name != "dtype"} | {
    "calibration": Calibration()
}


def _remake(dtype: str, changed: dict[str, Any]) -> QuantSpec:
    return QuantSpec(dtype, **changed)


def _make_plan(spec: QuantSpec) -> Any:
    """Return what the compiled entries read, or None if only Python can do what the spec asks for."""
    computes = spec.scale is None and spec.calibration == Calibration()
    plain = not spec.threshold and not spec.row_sums
    making = find_making(spec._resolved, spec._held, computes) if plain else None
    return make_plan(spec._resolved, making, spec.threads)


def _resolve(spec: QuantSpec, target: Target, partition: Partition) -> Resolved:
    dialect = DIALECTS[spec.dialect]
    symmetric = _is_symmetric(spec, target)
    float_zero = dialect.zero == "shift" and not symmetric
    scale = None if spec.scale_dtype is None else _formats.BY_NAME[str(spec.scale_dtype)]
    compute = None if spec.compute_dtype is None else _formats.BY_NAME[str(spec.compute_dtype)]
    low, high = (0, 0) if target.is_float else target.ends
    chosen = spec.qmin is not None or spec.qmax is not None
    first, last = (low if spec.qmin is None else spec.qmin), (high if spec.qmax is None else spec.qmax)
    if symmetric and target.is_signed and not first <= 0 <= last:
        raise ValueError(f"qmin is {first}, and qmax is {last}; allowed with symmetric signed codes are ends around 0")
    above = last if target.is_signed else (last - first) // 2  # codes above the middle one
    if symmetric and not target.is_float and not above and spec.dialect in _ABOVE_ZERO:
        name = f"{target.name} from {first} to {last}"
        raise ValueError(f"dialect is {spec.dialect!r}, whose symmetric codes need some above zero; {name} has none")
    packed = spec.layout is not None or (spec.dialect == "fbgemm" and target.bits < 8)
    given: Options = (
        dialect.code,
        target.format,
        target.bits,
        int(target.is_signed),
        first if chosen else 0,
        last if chosen else 0,
        int(symmetric),
        0 if compute is None else compute.code,
        LSB if packed and spec.layout in (None, "lsb") else 0,
        0,
        spec.scale_max or 0.0,
    )
    computed: Options = (*given[:9], 1, given[10])
    has_zero = not symmetric or not target.is_signed
    return Resolved(
        target, partition, dialect, symmetric, float_zero, has_zero, scale, compute, packed, spec.layout or "lsb",
        given, computed,
    )  # fmt: skip


def _is_symmetric(spec: QuantSpec, target: Target) -> bool:
    only = True if target.is_float or spec.dialect == "llm_int8" else False if spec.dialect == "fbgemm" else None
    if only is None:
        return target.is_signed if spec.symmetric is None else spec.symmetric
    if spec.symmetric is not None and spec.symmetric is not only:
        why = f"dtype is {target.name}" if target.is_float else f"dialect is {spec.dialect!r}"
        raise ValueError(f"symmetric is {spec.symmetric}, and {why}; allowed is {only}")
    return only


def _check_dialect(spec: QuantSpec, target: Target) -> None:
    if spec.dialect == "torch" and spec.compute_dtype is not None and str(spec.compute_dtype) != "float32":
        raise ValueError(f"compute_dtype is {spec.compute_dtype!s}, and dialect is 'torch'; allowed is float32")
    only = _ONLY.get(spec.dialect)
    if only is not None and target.name not in only:
        raise ValueError(f"dtype is {target.name}, and dialect is {spec.dialect!r}; allowed are {', '.join(only)}")
    if spec.dialect in _ROWS_ONLY and spec.calibration != Calibration():
        raise ValueError(f"calibration is {spec.calibration}, and dialect is {spec.dialect!r}; allowed is 'minmax'")
    if spec.dialect in _ROWS_ONLY and spec.granularity != "row":
        raise ValueError(f"granularity is {spec.granularity!r}, and dialect is {spec.dialect!r}; allowed is 'row'")
    if spec.dialect == "quanto" and not target.is_float and spec.symmetric not in (None, target.is_signed):
        raise ValueError(
            f"symmetric is {spec.symmetric}, and dialect is 'quanto'; allowed are True with signed codes and False "
            "with unsigned ones"
        )


def _check_layout(spec: QuantSpec, target: Target) -> None:
    check_choice(spec.layout, tuple(LAYOUTS), "layout")
    if target.bits > 8:
        raise ValueError(f"layout is {spec.layout!r}, and dtype is {target.name}; allowed are codes of up to 8 bits")
    if spec.dialect == "fbgemm":
        raise ValueError(f"layout is {spec.layout!r}, and dialect is 'fbgemm', which has its own; allowed is None")
    try:
        _core.packed_bytes(0, target.bits, str(spec.layout))
    except ValueError:
        raise ValueError(
            f"layout is {spec.layout!r}, and dtype is {target.name}; this layout has no codes of {target.bits} bits"
        ) from None


def _read_end(spec: QuantSpec, name: str, target: Target) -> int | None:
    value = getattr(spec, name)
    if value is None:
        return None
    if target.is_float:
        raise ValueError(f"{name} is {value!r}; allowed with integer codes only, and dtype is {target.name}")
    end, (low, high) = read_index(value, name), target.ends
    if not low <= end <= high:
        raise ValueError(f"{name} is {end}; allowed with {target.name} are {low} to {high}")
    first = low if spec.qmin is None else spec.qmin
    if name == "qmax" and end <= first:
        raise ValueError(f"qmax is {end}; allowed are integers above qmin, {first}")
    if name == "qmin" and end == high:
        raise ValueError(f"qmin is {end}; allowed are integers below qmax, {high}")
    return end


def _read_threshold(spec: QuantSpec) -> float:
    threshold = read_number(spec.threshold, "threshold", "finite numbers from 0", lambda number: 0 <= number <= MOST)
    if threshold and spec.dialect != "llm_int8":
        raise ValueError(f"threshold is {spec.threshold!r}; allowed with dialect='llm_int8' only")
    return threshold
