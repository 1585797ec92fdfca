"""onnxruntime as a peer: a model of one Cast node, run on one thread with input and output bound to the buffers.

The model is a dozen protobuf fields, written here by hand, so that the onnx package is not needed. The overflow rule is
`saturate=0`, which is ours.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .formats import Array
from .peer import Cast

# TensorProto.DataType of the ONNX specification.
_TYPES = {
    "float32": 1,
    "float16": 10,
    "float64": 11,
    "bfloat16": 16,
    "float8_e4m3fn": 17,
    "float8_e4m3fnuz": 18,
    "float8_e5m2": 19,
    "float8_e5m2fnuz": 20,
}
_IR_VERSION = 10
_OPSET = 21


class OnnxRuntime:
    """ONNX Runtime's CPU provider on one thread."""

    name = "onnxruntime"
    package = "onnxruntime"
    allocates = False

    def __init__(self) -> None:
        self._ort: Any = import_module("onnxruntime")
        self._sessions: dict[tuple[str, str], Any] = {}

    def prepare(self, source: str, target: str, x: Array, out: Array) -> Cast | None:
        """See `narrowcast._bench.peers.Peer`."""
        if source not in _TYPES or target not in _TYPES or not x.flags.c_contiguous:
            return None
        try:
            session = self._session(source, target)
            binding = session.io_binding()
            binding.bind_input("x", "cpu", 0, _TYPES[source], x.shape, x.ctypes.data)
            binding.bind_output("y", "cpu", 0, _TYPES[target], out.shape, out.ctypes.data)
            session.run_with_iobinding(binding)
        except Exception:  # its exception types have no other base in common; all mean "no such cast"
            return None
        return Cast(lambda: session.run_with_iobinding(binding), lambda: out)

    def _session(self, source: str, target: str) -> Any:
        key = (source, target)
        if key not in self._sessions:
            options = self._ort.SessionOptions()
            options.intra_op_num_threads = 1
            options.inter_op_num_threads = 1
            options.log_severity_level = 4
            self._sessions[key] = self._ort.InferenceSession(
                cast_model(_TYPES[source], _TYPES[target]), options, providers=["CPUExecutionProvider"]
            )
        return self._sessions[key]


def cast_model(source_type: int, target_type: int) -> bytes:
    """Write an ONNX model `y = Cast(x)` over one-dimensional tensors."""
    attributes = _integer_attribute("to", target_type)
    if target_type >= _TYPES["float8_e4m3fn"]:
        attributes += _integer_attribute("saturate", 0)
    node = _text(1, "x") + _text(2, "y") + _text(4, "Cast") + attributes
    graph = _message(1, node) + _text(2, "cast") + _value(11, "x", source_type) + _value(12, "y", target_type)
    return _number(1, _IR_VERSION) + _message(7, graph) + _message(8, _text(1, "") + _number(2, _OPSET))


def _integer_attribute(name: str, value: int) -> bytes:
    integer_kind = 2
    return _message(5, _text(1, name) + _number(3, value) + _number(20, integer_kind))


def _value(field: int, name: str, element_type: int) -> bytes:
    shape = _message(1, _text(2, "n"))
    tensor = _number(1, element_type) + _message(2, shape)
    return _message(field, _text(1, name) + _message(2, _message(1, tensor)))


def _varint(value: int) -> bytes:
    groups = []
    while True:
        groups.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(groups)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())
