"""nc.dequantize as programs get it: the compiled entry, which does the plain calls of a prepared spec by itself.

It has the signature and documentation of the function in dequantize.py and hands every other call on to that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from narrowcast import _config, _core, _formats
from narrowcast._astype import describe
from narrowcast._quant.dequantize import dequantize
from narrowcast._quant.params import INT32
from narrowcast._quant.spec import QuantSpec

if not TYPE_CHECKING:
    dequantize = _core.make_dequantize(
        describe(dequantize),
        dequantize,
        QuantSpec,
        _formats.targets(),
        {row.code: row.dtype for row in _formats.FORMATS},
        [*_formats.float_sources(), (INT32.dtype, INT32.code)],
        _config.chosen_isa,
    )

__all__ = ["dequantize"]
