"""Codes of every kind, and pack and unpack as entries and as the functions behind them."""

import numpy as np

import narrowcast as nc
from narrowcast._quant import pack as python

PACK, UNPACK = (nc.pack, python.pack), (nc.unpack, python.unpack)
INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 9)]
KINDS = [*INTEGERS, "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"]


def own_dtype(kind):
    """The dtype of codes of that name; None where there is none."""
    return next((row.dtype for row in nc.formats() if row.name == row.dtype.name == kind), None)


def bits_of(kind):
    """The width of a code."""
    return next(int(digit) for digit in kind if digit.isdigit())


def ends_of(kind):
    """The smallest and the largest code."""
    low = -(1 << (bits_of(kind) - 1)) if kind.startswith("int") else 0
    return low, low + (1 << bits_of(kind)) - 1


def codes_of(kind, shape=(3, 16), seed=0):
    """Random codes, a byte each."""
    low, high = ends_of(kind)
    codes = np.random.default_rng(seed).integers(low, high + 1, shape)
    return codes.astype(np.int8 if low else np.uint8)


CODES = codes_of("uint4")
PACKED = python.pack(CODES, "uint4")
