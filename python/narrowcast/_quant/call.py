"""One call: its spec and its values, read and checked; what is to become of them is in passes.py."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from narrowcast import _config, _core
from narrowcast._arrays import Array, Source, read
from narrowcast._astype import astype
from narrowcast._quant import params
from narrowcast._quant.boxes import Shape, count_boxes
from narrowcast._quant.params import Params
from narrowcast._quant.resolved import unpacked
from narrowcast._quant.spec import DEFAULTS, QuantSpec
from narrowcast._quant.target import find_target


def read_spec(spec: Any, options: dict[str, Any]) -> QuantSpec:
    """Return a prepared spec as it is, or one made of a dtype and options; options that contradict are refused."""
    if isinstance(spec, QuantSpec):
        for name, value in options.items():
            if value is not DEFAULTS[name] and not _is_default(value, name):
                raise ValueError(
                    f"{name} is {value!r}, and spec is a QuantSpec, which holds it; use spec.replace({name}=...)"
                )
        return spec
    try:
        return _make_spec(spec, **options)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return _make_spec.__wrapped__(spec, **options)


@lru_cache(maxsize=256, typed=True)
def _make_spec(spec: Any, **options: Any) -> QuantSpec:
    find_target(spec, "spec")
    return QuantSpec(spec, **options)


def _is_default(value: Any, name: str) -> bool:
    default = DEFAULTS[name]
    if name == "calibration":
        return bool(value == default.method)
    return type(value) is type(default) and bool(value == default)


def workers_of(spec: QuantSpec, threads: int | None) -> int:
    """Return how many threads a call may use: its own argument, the spec's, or the default."""
    if threads is not None:
        return _config.check_threads(threads, "threads")
    return _config.get_num_threads() if spec.threads is None else spec.threads


class Call(NamedTuple):
    """One call: the values, in one dimension at least, and what is to become of them."""

    spec: QuantSpec
    source: Source
    array: Array
    block: Shape
    boxes: Shape
    threads: int

    @classmethod
    def read(cls, x: Any, spec: QuantSpec, threads: int | None) -> Call:
        """Read the values and all that depends on their shape alone."""
        workers = workers_of(spec, threads)
        source = read(x, None)
        if source.kind == "masked" and np.ma.is_masked(x):
            raise ValueError("x has masked elements, which would count in ranges; fill them, as x.filled(0) does")
        if not source.format.is_float:
            raise TypeError(
                f"x has dtype {source.format.name}, an integer format; allowed are the float formats that "
                "narrowcast.formats() lists"
            )
        _check_sums(spec, source.array.shape)
        array = source.array if source.array.ndim else source.array.reshape(1)
        block = spec._resolved.partition.block(array.shape)
        return cls(spec, source, array, block, count_boxes(array.shape, block), workers)

    @property
    def ends_on_byte(self) -> bool:
        """Whether packed codes of the last axis fill their bytes."""
        last: int = self.array.shape[-1]
        return last * self.spec._resolved.target.bits % 8 == 0

    def read_params(self, scale: Any, zero_point: Any) -> Params | None:
        """Return the scales and zero points that came with the call or the spec; None if they are to be computed."""
        if scale is None and zero_point is None:
            held = self.spec._held
            return None if held is None else params.spread_held(held, self.boxes)
        if scale is None:
            scale = self.spec.scale
        if scale is not None:
            return params.read_given(self.spec._resolved, scale, zero_point, self.boxes)
        if zero_point is not None:
            raise ValueError("zero_point is given, and scale is None; allowed with a given scale only")
        return None

    def put_on_grid(self, used: Params, out: Array, out_format: int) -> None:
        """Let the core write the values that codes would stand for."""
        _core.fake_quantize(
            self.array,
            self.source.format.code,
            *used.for_core(),
            out,
            out_format,
            self.block,
            unpacked(self.spec._resolved.given),
            self.threads,
            _config.chosen_isa.get(),
        )


def _check_sums(spec: QuantSpec, shape: Shape) -> None:
    """Refuse sums of codes that int32 may not hold."""
    target = spec._resolved.target
    if spec.row_sums and shape and shape[-1] * max(map(abs, target.ends)) >= 1 << 31:
        raise ValueError(
            f"row_sums is True, and the last axis has {shape[-1]} codes of {target.name}; int32 may not hold their sum"
        )


def widen(array: Array) -> Array:
    """Return values as float32."""
    return array if array.dtype == np.float32 else np.asarray(astype(array, "float32"))
