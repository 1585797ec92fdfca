"""QuantizedArray: codes with their scales, zero points and spec, as `quantize` returns them.

A tuple with a few attributes; nothing is computed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from narrowcast import _core
from narrowcast._astype import describe
from narrowcast._formats import DType, FormatLike
from narrowcast._quant.dequantize_entry import dequantize
from narrowcast._quant.fbgemm import split_given
from narrowcast._quant.spec import QuantSpec


class _Parts(NamedTuple):
    codes: Any
    scale: Any
    zero_point: Any
    spec: QuantSpec


class QuantizedArray(_Parts):
    """Codes and what they mean: the tuple ``(codes, scale, zero_point, spec)``.

    Attributes
    ----------
    codes : ndarray or torch.Tensor
        In the shape of the values; packed codes are shorter along an axis.
    scale : ndarray or torch.Tensor
        One per box, in as many dimensions as the values: (N, 1) for the rows of a matrix.
    zero_point : ndarray, torch.Tensor or None
        int32, in the shape of `scale`; None for float codes and, unless one was given, symmetric signed ones. Where
        the dialect's zero is a float: quanto, float32, what is added to a value; fbgemm, the row's bias.
    spec : QuantSpec
    shape : tuple of int
        The shape of the values.
    dtype : numpy.dtype or str
        What dtype the values had.
    row_sums : ndarray, torch.Tensor or None
        int32 sums of the codes along the last axis, if they were asked for.
    outlier_columns : ndarray, torch.Tensor or None
        llm_int8 with a threshold: int64 indices of the columns that are left out, whose codes are 0.
    fused : ndarray, torch.Tensor or None
        fbgemm: the rows as FBGEMM keeps them, codes, scale and bias in one; `codes`, `scale` and `zero_point` are
        views of it.
    """

    shape: tuple[int, ...] | None = None
    dtype: DType | None = None
    row_sums: Any = None
    outlier_columns: Any = None
    fused: Any = None

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and zero points."""
        return sum(int(getattr(part, "nbytes", 0)) for part in self[:3])

    def dequantize(self, dtype: FormatLike = "float32", *, out: Any = None, threads: int | None = None) -> Any:
        """Return the values that the codes stand for: `narrowcast.dequantize` of this.

        Parameters
        ----------
        dtype : str, dtype or type, default "float32"
            A float format.
        out : ndarray or torch.Tensor, optional
            Where to write, in the shape of the values and the dtype asked for.
        threads : int, optional
            As in `quantize`.

        Returns
        -------
        ndarray or torch.Tensor
            The values in their shape; `out` itself if that was given.
        """
        codes, scale, zero_point, spec = self
        return dequantize(codes, scale, zero_point, dtype=dtype, spec=spec, shape=self.shape, out=out, threads=threads)

    def _replace(self, **parts: Any) -> QuantizedArray:
        """Return this with other parts; what follows from codes stays only if these do."""
        made: QuantizedArray = super()._replace(**parts)
        kept = ("shape", "dtype", "outlier_columns") if parts else tuple(self.__dict__)
        made.__dict__.update({name: value for name, value in self.__dict__.items() if name in kept})
        return made

    def __array__(self, *arguments: Any, **keywords: Any) -> NoReturn:
        raise TypeError(
            "a QuantizedArray is no array of numbers; its codes are in .codes, and .dequantize() gives the values"
        )

    def __repr__(self) -> str:
        scales = "x".join(map(str, getattr(self.scale, "shape", ()))) or "1"
        shape = "x".join(map(str, getattr(self.codes, "shape", ()) if self.shape is None else self.shape)) or "one"
        dtype = "" if self.dtype is None else f"{self.dtype} "
        return f"<QuantizedArray {shape} {dtype}as {self.spec!r}: {self.nbytes} bytes, {scales} scales>"

    def __reduce__(self) -> Any:
        parts: tuple[Any, ...] = tuple(self)
        if self.fused is not None:  # codes, scale and bias would become copies
            parts = (None, None, None, self.spec)
        return _remake, (parts, dict(self.__dict__))


if not TYPE_CHECKING:  # the compiled one, which hands on to that above what dequantize hands on
    QuantizedArray.dequantize = _core.make_dequantize_method(
        describe(QuantizedArray.dequantize), QuantizedArray.dequantize, QuantizedArray
    )


def _remake(parts: tuple[Any, Any, Any, QuantSpec], attributes: dict[str, Any]) -> QuantizedArray:
    fused = attributes.get("fused")
    if fused is not None:
        parts = (*split_given(fused, parts[3]._resolved.target), parts[3])
    made = QuantizedArray(*parts)
    made.__dict__.update(attributes)
    return made
