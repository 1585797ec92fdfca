"""Expected bits of operations on integer codes, from plain numpy.

The formulas are onnxruntime's, whose arithmetic is the default; packed codes are numpy's packbits. Speed does not
matter here, and no code is shared with the package.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

from .formats import Array
from .operations import Operation

_SMALLEST_NORMAL = 2.0**-126


def expected_quantized(operation: Operation, x: Array, scale: Array) -> tuple[Array, Array]:
    """Return codes and scales: clamp(rint(x / scale)), a NaN the lowest code, the scale from the finite values.

    Its range is -127 to 127 for int8, -8 to 7 for int4; that of nothing but zeros is 1, as onnxruntime has it.
    """
    low, high = -(1 << operation.bits - 1), (1 << operation.bits - 1) - 1
    boxes = x.reshape(len(x), -1, operation.group or x.shape[-1])
    with np.errstate(all="ignore"):
        if operation.given:
            scale = scale.copy()
        else:
            largest = np.abs(np.where(np.isfinite(boxes), boxes, 0)).max(axis=-1).astype(np.float64)
            exact = 2 * largest / (2 * high if operation.bits == 8 else high - low)
            scale = np.where(exact < _SMALLEST_NORMAL, 1, exact).astype(np.float32)
        quotient = np.clip(np.rint(boxes / scale[..., None]), low, high)
        codes = np.where(np.isnan(boxes), low, quotient).astype(np.int8).reshape(x.shape)
    if operation.packed:
        codes = (codes[:, 0::2] & 15 | codes[:, 1::2] << 4).view(np.uint8)
    return codes, scale


def expected_values(operation: Operation, codes: Array, scale: Array) -> Array:
    """Return code * scale, computed in float32 and rounded to the target."""
    if operation.packed:
        signed = codes.view(np.int8)
        codes = np.stack([signed << 4 >> 4, signed >> 4], axis=-1).reshape(len(codes), -1)
    boxes = codes.reshape(len(codes), scale.shape[-1], -1)
    with np.errstate(all="ignore"):
        values = (boxes.astype(np.float32) * scale[..., None]).reshape(codes.shape)
        return values.astype(getattr(ml_dtypes, operation.target, None) or operation.target)


def expected_codes(operation: Operation, x: Array) -> Array:
    """Return codes packed, or packed codes taken apart: a dense stream of their low bits, the first in the lowest."""
    width = operation.bits
    if operation.target == "packed":
        return np.packbits((x[:, None] >> np.arange(width, dtype=np.uint8)) & 1, bitorder="little")
    bits = np.unpackbits(x, bitorder="little").reshape(-1, width)
    codes: Array = (bits << np.arange(width, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)
    return codes
