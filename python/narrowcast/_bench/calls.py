"""What a small call costs, and what the import costs."""

from __future__ import annotations

import subprocess
import sys

import ml_dtypes
import numpy as np

import narrowcast as nc

from .results import CallTime
from .timing import Contender, race

SMALL = 16
_IMPORT = """
import numpy, ml_dtypes, time
start = time.perf_counter()
import narrowcast
print(time.perf_counter() - start)
"""
_YARDSTICK = """
import time
start = time.perf_counter()
import numpy, ml_dtypes
print(time.perf_counter() - start)
"""


def small_calls(rounds: int = 40) -> list[CallTime]:
    """Time casts of 16 elements against numpy's ``x.astype(np.float16)``."""
    x = np.linspace(-2, 2, SMALL, dtype=np.float32)
    out = np.empty(SMALL, np.float16)
    half = np.float16
    fp8_out = np.empty(SMALL, ml_dtypes.float8_e4m3fn)
    fp8 = fp8_out.dtype
    astype = nc.astype
    numpy_call = Contender("x.astype(np.float16)", lambda: x.astype(half))
    ours = [
        Contender("new array, float16", lambda: astype(x, half)),
        Contender("out=, float16", lambda: astype(x, half, out=out)),
        Contender("new array, float8_e4m3fn", lambda: astype(x, fp8)),
        Contender("out=, float8_e4m3fn", lambda: astype(x, fp8, out=fp8_out)),
        Contender("new array, by name", lambda: astype(x, "float16")),
    ]
    race([numpy_call, *ours], rounds)
    return [CallTime(c.name, numpy_call.name, c.best, numpy_call.best, c.spread) for c in ours]


def import_time(rounds: int = 5) -> CallTime:
    """Time ``import narrowcast`` in fresh processes that have numpy and ml_dtypes already."""
    ours = [_in_fresh_process(_IMPORT) for _ in range(rounds)]
    yardstick = [_in_fresh_process(_YARDSTICK) for _ in range(rounds)]
    return CallTime("import narrowcast", "import numpy, ml_dtypes", min(ours), min(yardstick))


def _in_fresh_process(program: str) -> float:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)
