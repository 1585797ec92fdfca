"""torch tensors as arrays and back, sharing memory; torch is never imported here.

If torch has not been imported, no object can be a tensor. numpy has no name for bfloat16 and FP8, so tensors of these
cross as integers of the same width; which format their bits have is said by the tensor's dtype name.
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import numpy as np

Tensor: TypeAlias = Any  # torch.Tensor, which type checkers can only see where torch is installed
DType: TypeAlias = Any  # torch.dtype

# What numpy and every version of torch both have; the rest crosses as integers.
_SHARED = {"float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"}
_CARRIERS = {1: "uint8", 2: "int16", 4: "int32", 8: "int64"}


def is_tensor(x: object) -> bool:
    """Return whether x is a torch tensor."""
    tensor_type = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor_type is not None and isinstance(x, tensor_type)


def is_dtype(dtype: object) -> bool:
    """Return whether dtype is a torch dtype object."""
    return type(dtype).__module__ == "torch" and type(dtype).__name__ == "dtype"


def name_of(dtype: DType) -> str:
    """Return the name of a torch dtype: "float8_e4m3fn"."""
    return str(dtype).removeprefix("torch.")


def to_array(tensor: Tensor, argument: str) -> tuple[np.ndarray[Any, Any], str]:
    """Return the tensor's memory as an array of its item size, and the name of its dtype."""
    torch = sys.modules["torch"]
    if tensor.layout is not torch.strided or tensor.device.type != "cpu":
        place = f"{tensor.layout} tensor on {tensor.device}"
        raise ValueError(f"{argument} is a {place}; allowed are dense tensors on the CPU: call .to_dense() or .cpu()")
    if tensor.requires_grad:
        raise ValueError(f"{argument} requires a gradient, which no result has; pass {argument}.detach()")
    if tensor.is_neg() or tensor.is_conj():
        raise ValueError(f"{argument} has a lazy sign or conjugation; pass {argument}.resolve_neg().resolve_conj()")
    name = name_of(tensor.dtype)
    if name not in _SHARED:
        carrier = _CARRIERS.get(tensor.element_size())
        if carrier is None or tensor.is_complex() or tensor.is_quantized:
            raise TypeError(f"{argument} has dtype {tensor.dtype}, which is not converted")
        return tensor.view(getattr(torch, carrier)).numpy().view(f"u{tensor.element_size()}"), name
    return tensor.numpy(), name


def from_array(array: np.ndarray[Any, Any], name: str) -> Tensor:
    """Return the memory of an array as a tensor of torch's dtype of that name, or of codes if there is none."""
    torch: Any = sys.modules["torch"]
    if name in _SHARED:
        return torch.from_numpy(array)
    carrier = _CARRIERS[array.itemsize]
    tensor = torch.from_numpy(array.view(carrier))
    dtype = getattr(torch, name, None)
    return tensor.view(dtype) if dtype is not None else tensor
