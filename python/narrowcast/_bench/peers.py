"""Other libraries that cast, each behind the same small door.

A peer gets the very buffers of the case and one thread. It is asked to write into the given output; one that cannot
makes its own, and is timed with that. Its result is checked like ours, and a difference is shown beside its time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from .formats import Array, numpy_dtype
from .peer import Cast, Peer


class Numpy:
    """numpy's own casts, and those that ml_dtypes registers with it."""

    name = "numpy"
    package = "ml_dtypes"
    allocates = False

    def prepare(self, source: str, target: str, x: Array, out: Array) -> Cast | None:
        """See `Peer`."""
        source_dtype, target_dtype = numpy_dtype(source), numpy_dtype(target)
        if source_dtype is None or target_dtype is None or "tfloat32" in (source, target):
            return None
        values, result = x.view(source_dtype), out.view(target_dtype)
        if not np.can_cast(source_dtype, target_dtype, "unsafe"):
            return None
        return Cast(lambda: np.copyto(result, values, casting="unsafe"), lambda: out)


class Torch:
    """PyTorch on one thread: ``out.copy_(x)``."""

    name = "torch"
    package = "torch"
    allocates = False

    def __init__(self) -> None:
        self._torch: Any = import_module("torch")
        self._torch.set_num_threads(1)

    def prepare(self, source: str, target: str, x: Array, out: Array) -> Cast | None:
        """See `Peer`."""
        source_dtype, target_dtype = (getattr(self._torch, name, None) for name in (source, target))
        if not (isinstance(source_dtype, self._torch.dtype) and isinstance(target_dtype, self._torch.dtype)):
            return None
        values, result = self._tensor(x, source_dtype), self._tensor(out, target_dtype)
        try:
            result.copy_(values)
        except (RuntimeError, NotImplementedError):
            return None
        return Cast(lambda: result.copy_(values), lambda: out)

    def _tensor(self, codes: Array, dtype: Any) -> Any:
        integer = codes.view(f"i{codes.itemsize}")
        return self._torch.from_numpy(integer).view(dtype)


_NUMKONG_NAMES = {
    **{name: name for name in ("float64", "float32", "float16", "bfloat16")},
    "float8_e4m3fn": "e4m3",
    "float8_e5m2": "e5m2",
    "float6_e2m3fn": "e2m3",
    "float6_e3m2fn": "e3m2",
}


class NumKong:
    """NumKong, the successor of SimSIMD: ``numkong.astype(x, dtype, out=out)``."""

    name = "numkong"
    package = "numkong"
    allocates = False

    def __init__(self) -> None:
        self._numkong: Any = import_module("numkong")

    def prepare(self, source: str, target: str, x: Array, out: Array) -> Cast | None:
        """See `Peer`."""
        if source not in _NUMKONG_NAMES or target not in _NUMKONG_NAMES:
            return None
        dtype = _NUMKONG_NAMES[target]
        values = self._view(x, _NUMKONG_NAMES[source])
        result = self._view(out, dtype)
        astype = self._numkong.astype
        try:
            astype(values, dtype, out=result)
        except (TypeError, ValueError, NotImplementedError):
            return None
        return Cast(lambda: astype(values, dtype, out=result), lambda: out)

    def _view(self, codes: Array, dtype: str) -> Any:
        address = codes.ctypes.data
        return self._numkong.from_pointer(address, codes.shape, dtype, strides=codes.strides, owner=codes)


class Jax:
    """JAX on the CPU, compiled, on one thread. It makes its own output."""

    name = "jax"
    package = "jax"
    allocates = True

    def __init__(self) -> None:
        os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        self._jax: Any = import_module("jax")

    def prepare(self, source: str, target: str, x: Array, out: Array) -> Cast | None:
        """See `Peer`."""
        source_dtype, target_dtype = numpy_dtype(source), numpy_dtype(target)
        if source_dtype is None or target_dtype is None or {"tfloat32", "float64"} & {source, target}:
            return None
        if not x.flags.c_contiguous:
            return None
        try:
            values = self._jax.device_put(x.view(source_dtype))
            cast = self._jax.jit(lambda value: value.astype(target_dtype))
            result = cast(values).block_until_ready()
        except (TypeError, ValueError, NotImplementedError, RuntimeError):
            return None
        return Cast(lambda: cast(values).block_until_ready(), lambda: np.asarray(result).view(out.dtype))


def _onnxruntime() -> Peer:
    from .peer_onnx import OnnxRuntime

    return OnnxRuntime()


_MAKERS: dict[str, Callable[[], Peer]] = {
    "numpy": Numpy,
    "torch": Torch,
    "numkong": NumKong,
    "onnxruntime": _onnxruntime,
    "jax": Jax,
}
NAMES = tuple(_MAKERS)
FILE_PEER = "safetensors.torch"  # casts files: load_file, .to(dtype), save_file
LABELS = {
    "numpy": "numpy + ml_dtypes",
    "torch": "torch",
    "numkong": "NumKong",
    "onnxruntime": "onnxruntime",
    "fbgemm": "FBGEMM in torch",
}


@dataclass(frozen=True)
class Found:
    """The peers of this machine: those that were imported, and what to type for the others."""

    present: tuple[Peer, ...]
    versions: dict[str, str]
    absent: dict[str, str]


def find(wanted: tuple[str, ...] = NAMES) -> Found:
    """Import every wanted peer that is installed."""
    present: list[Peer] = []
    versions: dict[str, str] = {}
    absent: dict[str, str] = {}
    for name in wanted:
        try:
            peer = _MAKERS[name]()
            versions[name] = version(peer.package)
        except (ImportError, PackageNotFoundError):
            absent[name] = f"pip install {name}"
            continue
        present.append(peer)
    return Found(tuple(present), versions, absent)
