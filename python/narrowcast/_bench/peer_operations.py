"""Other libraries on integer codes: the numpy expression, torch, onnxruntime, and the FBGEMM that torch brings along.

Each is given the buffers of the operation and one thread. What a library does not have is written as its users write
it, temporaries and all; for numpy there is a second version, which makes none. What would be another operation is left
out, but for FBGEMM's rows, whose codes are unsigned and whose zero is a bias: they are timed and not compared.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from .formats import Array
from .operation_work import Work
from .operations import GROUP, LARGE, Operation
from .peer import Cast

FBGEMM = "fbgemm"
IN_PLACE = "numpy in place"


def prepare(name: str, work: Work) -> dict[str, Cast]:
    """Return what the library has for an operation, by the name to show; compared are results that are not None."""
    makers: dict[str, Callable[[Work], dict[str, Cast | None]]] = {
        "numpy": _numpy,
        "torch": lambda work: {"torch": _torch(work), FBGEMM: _fbgemm(work)},
        "onnxruntime": lambda work: {"onnxruntime": _onnxruntime(work)},
    }
    made = makers[name](work) if name in makers else {}
    return {name: cast for name, cast in made.items() if cast is not None}


def _boxes(operation: Operation, values: Any) -> Any:
    """View rows as rows of groups."""
    return values.reshape(len(values), -1, GROUP) if operation.granularity == "group" else values


def _ends(operation: Operation) -> tuple[int, int]:
    return -(1 << operation.bits - 1), (1 << operation.bits - 1) - 1


def _largest(operation: Operation) -> float:
    return 127 if operation.bits == 8 else 7.5


# -- numpy ---------------------------------------------------------------------------------------------------------


def _numpy(work: Work) -> dict[str, Cast | None]:
    """Return the expression, and what it becomes if its author is careful with memory (which takes as much again)."""
    op = work.operation
    if op.section == "pack":
        return {"numpy": _as_returned(_numpy_pack(work))}
    quantizes = op.section == "quantize"
    plain = (_numpy_quantize if quantizes else _numpy_dequantize)(work)
    if op.count > LARGE:
        return {"numpy": _as_returned(plain)}
    careful = (_numpy_quantize_into if quantizes else _numpy_dequantize_into)(work)
    return {"numpy": _as_returned(plain), IN_PLACE: Cast(careful, lambda: work.out)}


def _as_returned(run: Callable[[], Array]) -> Cast:
    return Cast(run, run)


def _numpy_quantize(work: Work) -> Callable[[], Array]:
    op, x, given = work.operation, _boxes(work.operation, work.x), work.each
    low, high, largest = *_ends(op), np.float32(_largest(op))

    def run() -> Array:
        scale = given if op.given else np.abs(x).max(axis=-1, keepdims=True) / largest
        codes: Array = np.clip(np.rint(x / scale), low, high).astype(np.int8).reshape(work.x.shape)
        return codes[:, 0::2] & 15 | codes[:, 1::2] << 4 if op.packed else codes

    return run


def _numpy_quantize_into(work: Work) -> Callable[[], object]:
    op, x, out, scale = work.operation, _boxes(work.operation, work.x), work.out, work.each
    low, high, largest = *_ends(op), np.float32(_largest(op))
    room = np.empty(x.shape, np.float32)
    codes = np.empty(work.x.shape, np.int8) if op.packed else out

    def run() -> None:
        if not op.given:
            np.abs(x, out=room)
            np.divide(room.max(axis=-1, keepdims=True), largest, out=scale)
        np.divide(x, scale, out=room)
        np.rint(room, out=room)
        np.clip(room, low, high, out=room)
        np.copyto(_boxes(op, codes), room, casting="unsafe")
        if op.packed:
            np.bitwise_or(codes[:, 0::2] & 15, codes[:, 1::2] << 4, out=out.view(np.int8))

    return run


def _numpy_dequantize(work: Work) -> Callable[[], Array]:
    op, x, scale, dtype = work.operation, work.x.view(np.int8), work.each, work.out.dtype

    def run() -> Array:
        codes = np.stack([x << 4 >> 4, x >> 4], axis=-1).reshape(work.out.shape) if op.packed else x
        values: Array = (_boxes(op, codes) * scale).reshape(work.out.shape)
        return values.astype(dtype, copy=False)

    return run


def _numpy_dequantize_into(work: Work) -> Callable[[], object]:
    op, x, out, scale = work.operation, work.x.view(np.int8), work.out, work.each
    codes = np.empty(out.shape, np.int8) if op.packed else x
    values = out if op.target == "float32" else np.empty(out.shape, np.float32)

    def run() -> None:
        if op.packed:
            np.right_shift(x << 4, 4, out=codes[:, 0::2])
            np.right_shift(x, 4, out=codes[:, 1::2])
        np.multiply(_boxes(op, codes), scale, out=_boxes(op, values))
        if values is not out:
            np.copyto(out, values, casting="unsafe")

    return run


def _numpy_pack(work: Work) -> Callable[[], Array]:
    """Shift and join columns of codes; 3 and 6 bits, which cross bytes, by way of numpy's bits."""
    op, x, out = work.operation, work.x, work.out
    width, many = op.bits, 8 // op.bits
    places = np.arange(width, dtype=np.uint8)
    if op.target == "packed":
        if width in (3, 6):
            return lambda: np.packbits((x[:, None] >> places) & 1, bitorder="little")

        def pack() -> Array:
            np.copyto(out, x[::many])
            for k in range(1, many):
                np.bitwise_or(out, x[k::many] << (k * width), out=out)
            return out

        return pack
    if width in (3, 6):

        def unpack_bits() -> Array:
            codes: Array = (np.unpackbits(x, bitorder="little").reshape(-1, width) << places).sum(1, dtype=np.uint8)
            return codes

        return unpack_bits

    def unpack() -> Array:
        for k in range(many):
            np.bitwise_and(x >> (k * width), (1 << width) - 1, out=out[k::many])
        return out

    return unpack


# -- torch ---------------------------------------------------------------------------------------------------------


def _torch(work: Work) -> Cast | None:
    torch: Any = import_module("torch")
    op = work.operation
    if op.section == "pack":
        return None
    if op.section == "dequantize":
        return _torch_dequantize(torch, work)
    return _torch_given(torch, work) if op.given else _torch_computed(torch, work)


def _torch_given(torch: Any, work: Work) -> Cast | None:
    """Take torch's own quantized tensors, where this version still has them."""
    x, scale = torch.from_numpy(work.x), torch.from_numpy(work.scale)
    if work.operation.granularity == "tensor":
        one = float(scale)

        def run() -> Any:
            return torch.quantize_per_tensor(x, one, 0, torch.qint8)
    else:
        rows, zeros = scale.reshape(-1), torch.zeros(scale.numel(), dtype=torch.int64)

        def run() -> Any:
            return torch.quantize_per_channel(x, rows, zeros, 0, torch.qint8)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that they are to be removed
            run()
    except (AttributeError, RuntimeError, NotImplementedError):
        return None
    return Cast(run, lambda: run().int_repr().numpy())


def _torch_computed(torch: Any, work: Work) -> Cast:
    op, x = work.operation, _boxes(work.operation, torch.from_numpy(work.x))
    low, high, largest = *_ends(op), _largest(op)

    def run() -> Any:
        scale = x.abs().amax(-1, keepdim=True) / largest
        codes = (x / scale).round_().clamp_(low, high).to(torch.int8).reshape(work.x.shape)
        return codes[:, 0::2] & 15 | codes[:, 1::2] << 4 if op.packed else codes

    return Cast(run, lambda: run().numpy())


def _torch_dequantize(torch: Any, work: Work) -> Cast:
    op, x, scale = work.operation, torch.from_numpy(work.x.view(np.int8)), torch.from_numpy(work.each)
    dtype, carrier = getattr(torch, op.target), getattr(torch, f"int{8 * work.out.itemsize}")

    def run() -> Any:
        codes = torch.stack([x << 4 >> 4, x >> 4], dim=-1).reshape(work.out.shape) if op.packed else x
        return (_boxes(op, codes) * scale).reshape(work.out.shape).to(dtype)

    return Cast(run, lambda: run().view(carrier).numpy().view(work.out.dtype))


def _fbgemm(work: Work) -> Cast | None:
    """FloatOrHalfToFused8BitRowwiseQuantizedSBFloat, under the name that torch gives it."""
    op = work.operation
    if op.section != "quantize" or op.granularity != "row" or op.given:
        return None
    torch: Any = import_module("torch")
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        return None
    x, prepack = torch.from_numpy(work.x), torch.ops.quantized.embedding_bag_byte_prepack
    return Cast(lambda: prepack(x), lambda: work.out)


# -- onnxruntime ---------------------------------------------------------------------------------------------------


def _onnxruntime(work: Work) -> Cast | None:
    from .peer_onnx import linear_binding

    op = work.operation
    if op.section == "pack" or (op.section == "quantize" and not op.given) or op.target == "bfloat16":
        return None
    assert work.scale is not None
    scale = work.scale.reshape({"tensor": (), "row": (-1,), "group": work.scale.shape}[op.granularity])
    group = GROUP if op.granularity == "group" else 0
    run = linear_binding(op.section, op.codes, work.x, scale, work.out, (len(work.x), op.count // len(work.x)), group)
    return None if run is None else Cast(run, lambda: work.out)
