"""nc.quantize as programs get it: the compiled entry, which does the plain calls of a prepared spec by itself.

It has the signature and documentation of the function in quantize.py and hands every other call on to that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from narrowcast import _config, _core, _formats
from narrowcast._astype import describe
from narrowcast._quant.array import QuantizedArray
from narrowcast._quant.quantize import quantize
from narrowcast._quant.spec import QuantSpec

if not TYPE_CHECKING:
    quantize = _core.make_quantize(
        describe(quantize),
        quantize,
        QuantSpec,
        QuantizedArray,
        _formats.float_sources(),
        _config.chosen_isa,
    )

__all__ = ["quantize"]
