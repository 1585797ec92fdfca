"""onnxruntime as a peer: models of one node, run on one thread with inputs and output bound to the buffers.

A model is a dozen protobuf fields, written here by hand, so that the onnx package is not needed. The overflow rule of
casts is `saturate=0`, which is ours.
"""

from __future__ import annotations

from collections.abc import Callable
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
_CODE_TYPES = {"int8": 3, "int4": 22}
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
            self._sessions[key] = _session(self._ort, cast_model(_TYPES[source], _TYPES[target]))
        return self._sessions[key]


def _session(ort: Any, model: bytes) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def linear_binding(
    section: str, codes: str, x: Array, scale: Array, out: Array, shape: tuple[int, int], group: int
) -> Callable[[], object] | None:
    """Prepare QuantizeLinear or DequantizeLinear of rows; None if there is no such kernel.

    Parameters
    ----------
    section
        "quantize" or "dequantize".
    codes
        "int8", or "int4", which is packed.
    x, scale, out
        The buffers; `scale` has no dimension, one per row, or one per group of a row.
    shape
        Rows and elements of a row.
    group
        Elements that share a scale; 0: all of a row or of the array.
    """
    ort: Any = import_module("onnxruntime")
    number, code = _TYPES["float32"], _CODE_TYPES[codes]
    source, target = (number, code) if section == "quantize" else (code, number)
    try:
        session = _session(ort, linear_model(section, source, target, scale.ndim, group))
        binding = session.io_binding()
        binding.bind_input("x", "cpu", 0, source, shape, x.ctypes.data)
        binding.bind_input("scale", "cpu", 0, number, scale.shape, scale.ctypes.data)
        binding.bind_output("y", "cpu", 0, target, shape, out.ctypes.data)
        session.run_with_iobinding(binding)
    except Exception:  # as above
        return None
    return lambda: session.run_with_iobinding(binding)


def linear_model(section: str, source_type: int, target_type: int, scale_ndim: int, group: int) -> bytes:
    """Write an ONNX model `y = QuantizeLinear(x, scale)`, or DequantizeLinear, over matrices."""
    attributes = b""
    if scale_ndim:
        attributes += _integer_attribute("axis", 1 if group else 0)
    if group:
        attributes += _integer_attribute("block_size", group)
    if section == "quantize":
        attributes += _integer_attribute("output_dtype", target_type)
    name = {"quantize": "QuantizeLinear", "dequantize": "DequantizeLinear"}[section]
    node = _text(1, "x") + _text(1, "scale") + _text(2, "y") + _text(4, name) + attributes
    graph = _message(1, node) + _text(2, "linear") + _value(11, "x", source_type, ("n", "k"))
    graph += _value(11, "scale", _TYPES["float32"], ("n", "g")[:scale_ndim])
    graph += _value(12, "y", target_type, ("n", "k"))
    return _model(graph)


def cast_model(source_type: int, target_type: int) -> bytes:
    """Write an ONNX model `y = Cast(x)` over one-dimensional tensors."""
    attributes = _integer_attribute("to", target_type)
    if target_type >= _TYPES["float8_e4m3fn"]:
        attributes += _integer_attribute("saturate", 0)
    node = _text(1, "x") + _text(2, "y") + _text(4, "Cast") + attributes
    graph = _message(1, node) + _text(2, "cast") + _value(11, "x", source_type) + _value(12, "y", target_type)
    return _model(graph)


def _model(graph: bytes) -> bytes:
    return _number(1, _IR_VERSION) + _message(7, graph) + _message(8, _text(1, "") + _number(2, _OPSET))


def _integer_attribute(name: str, value: int) -> bytes:
    integer_kind = 2
    return _message(5, _text(1, name) + _number(3, value) + _number(20, integer_kind))


def _value(field: int, name: str, element_type: int, dimensions: tuple[str, ...] = ("n",)) -> bytes:
    shape = b"".join(_message(1, _text(2, dimension)) for dimension in dimensions)
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
