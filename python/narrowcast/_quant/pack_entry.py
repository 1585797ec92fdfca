"""nc.pack and nc.unpack as programs get them: compiled entries, which do plain calls of the layout lsb by themselves.

They have the signatures and documentation of the functions in pack.py and hand every other call on to those.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from narrowcast import _config, _core
from narrowcast._astype import describe
from narrowcast._quant.layouts import PACKED_FLOATS, code_type
from narrowcast._quant.pack import pack, unpack

_INTEGERS: Final = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 9))
_KINDS: Final = dict(enumerate((code_type(name, "dtype") for name in (*_INTEGERS, *PACKED_FLOATS)), 1))
_WITH_DTYPE: Final = {number: kind for number, kind in _KINDS.items() if kind.dtype.name == kind.name}


def _names() -> dict[object, int]:
    """Return the number of each kind of code by everything that may name it in a call."""
    names: dict[object, int] = {sys.intern(kind.name): number for number, kind in _KINDS.items()}
    for number, kind in _WITH_DTYPE.items():
        names[kind.dtype] = names[kind.dtype.type] = number
    return names


if not TYPE_CHECKING:
    _RESULTS = {number: kind.dtype for number, kind in _KINDS.items()}
    _WIDTHS = {number: (kind.bits, kind.is_signed) for number, kind in _KINDS.items()}
    pack = _core.make_pack(
        describe(pack),
        pack,
        _names(),
        _RESULTS,
        [(kind.dtype, number) for number, kind in _WITH_DTYPE.items()],
        _WIDTHS,
        _config.chosen_isa,
    )
    unpack = _core.make_unpack(describe(unpack), unpack, _names(), _RESULTS, _WIDTHS, _config.chosen_isa)

__all__ = ["pack", "unpack"]
