"""Specs of every kind and results of them, and the comparison of dequantize with the function behind it."""

import ml_dtypes
import numpy as np

import narrowcast as nc
from entry_calls import agree
from narrowcast._quant.dequantize import dequantize as slow

BF16 = np.dtype(ml_dtypes.bfloat16)

# One for each way to share scales, to keep codes and to count from zero.
SPECS = {
    "tensor": nc.QuantSpec("int8"),
    "row": nc.QuantSpec("int8", granularity="row"),
    "group": nc.QuantSpec("int4", granularity="group", group_size=32),
    "short group": nc.QuantSpec("int8", granularity="group", group_size=24),
    "long group": nc.QuantSpec("int8", granularity="group", group_size=1 << 62),
    "group of rows": nc.QuantSpec("uint8", granularity="group", group_size=3, axis=0),
    "channel": nc.QuantSpec("int8", granularity="channel", axis=0),
    "channels": nc.QuantSpec("uint8", granularity="channel", axis=(-1, 0)),
    "block": nc.QuantSpec("float8_e4m3fn", granularity="block", block_shape=(3, 40)),
    "unsigned": nc.QuantSpec("uint8", granularity="row"),
    "middle": nc.QuantSpec("uint8", symmetric=True),
    "affine": nc.QuantSpec("int8", granularity="row", symmetric=False),
    "wide": nc.QuantSpec("uint16", granularity="row"),
    "odd width": nc.QuantSpec("int3", granularity="row"),
    "float6": nc.QuantSpec("float6_e2m3fn", granularity="row"),
    "packed": nc.QuantSpec("int4", granularity="group", group_size=32, layout="lsb"),
    "packed float6": nc.QuantSpec("float6_e3m2fn", granularity="row", layout="lsb"),
    "packed uint2": nc.QuantSpec("uint2", granularity="row", layout="lsb"),
    "scale_dtype": nc.QuantSpec("int8", granularity="row", scale_dtype="bfloat16"),
    "e8m0": nc.QuantSpec("float4_e2m1fn", granularity="group", group_size=32, scale_dtype="float8_e8m0fnu"),
    "narrow": nc.QuantSpec("int8", qmin=-127, qmax=127),
    "held": nc.QuantSpec("int8", scale=0.5),
    "sums": nc.QuantSpec("int8", granularity="row", row_sums=True),
    "percentile": nc.QuantSpec("int8", calibration="percentile"),
    "threads": nc.QuantSpec("int8", granularity="row", threads=2),
    "quanto": nc.QuantSpec("uint8", granularity="row", dialect="quanto"),
    "torch": nc.QuantSpec("uint8", granularity="row", dialect="torch"),
    "compressed_tensors": nc.QuantSpec("int8", granularity="row", dialect="compressed_tensors"),
    "llm_int8": nc.QuantSpec("int8", granularity="row", dialect="llm_int8", threshold=3.0),
}
# Those that only Python reads.
ODD_SPECS = {
    "fbgemm": nc.QuantSpec("uint8", granularity="row", dialect="fbgemm"),
    "msb_nibble": nc.QuantSpec("int4", granularity="row", layout="msb_nibble"),
    "gptq": nc.QuantSpec("uint4", granularity="channel", axis=1, layout="gptq"),
    "far axis": nc.QuantSpec("int8", granularity="channel", axis=10**30),
    "no such axis": nc.QuantSpec("int8", granularity="channel", axis=2),
    "an axis twice": nc.QuantSpec("int8", granularity="channel", axis=(0, -2)),
}


def values(shape=(8, 64), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


Q = {name: nc.quantize(values(), spec) for name, spec in SPECS.items()}
PLAIN = Q["row"]


def check(*arguments, out=None, **options):
    """Compare the entry with Python; return what came of it."""
    return agree((nc.dequantize, slow), *arguments, out=out, **options)
