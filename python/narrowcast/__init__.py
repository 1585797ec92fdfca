"""Every narrow number format, converted at memory speed, to the same bits everywhere.

The package is a thin layer over a compiled core. Start with `astype`; `formats`, `finfo` and `inspect` say what a
format holds; ``narrowcast --help`` is the command line.
"""

try:
    from narrowcast import _core
except ImportError as error:
    raise ImportError(
        f"narrowcast's compiled part could not be loaded ({error}); it is built by `pip install .` in the repository"
    ) from error

from typing import TYPE_CHECKING, Any

from narrowcast._arrays import as_buffer
from narrowcast._config import get_num_threads, isa, isas, set_num_threads, use_isa
from narrowcast._formats import Format, formats
from narrowcast._info import finfo, iinfo
from narrowcast._inspect import Inspection, inspect

if TYPE_CHECKING:
    from narrowcast._astype import astype
    from narrowcast._files.container import FileFormatError
    from narrowcast._files.entry import cast_file
    from narrowcast._files.memory import load_file, save_file
    from narrowcast._files.quantized_entry import dequantize_file, quantize_file
    from narrowcast._files.report import CastReport, TensorReport
    from narrowcast._quant.array import QuantizedArray
    from narrowcast._quant.calibrate import QParams, choose_qparams
    from narrowcast._quant.collectors import Calibration
    from narrowcast._quant.dequantize_entry import dequantize
    from narrowcast._quant.error import ErrorStats, cast_error, quantization_error
    from narrowcast._quant.layouts import Layout, layouts
    from narrowcast._quant.pack import repack
    from narrowcast._quant.pack_entry import pack, unpack
    from narrowcast._quant.quantize import fake_quantize
    from narrowcast._quant.quantize_entry import quantize
    from narrowcast._quant.scaler import LossScaler
    from narrowcast._quant.spec import QuantSpec
    from narrowcast._quant.unscale import unscale
else:
    from narrowcast._astype import make_entry

    astype = make_entry()

__version__: str = _core.version

# What few programs need and costs time to import: found when first asked for.
_LATER = {
    "quantize": "_quant.quantize_entry",
    "dequantize": "_quant.dequantize_entry",
    "fake_quantize": "_quant.quantize",
    "choose_qparams": "_quant.calibrate",
    "QuantSpec": "_quant.spec",
    "QuantizedArray": "_quant.array",
    "QParams": "_quant.calibrate",
    "Calibration": "_quant.collectors",
    "quantization_error": "_quant.error",
    "cast_error": "_quant.error",
    "ErrorStats": "_quant.error",
    "pack": "_quant.pack_entry",
    "unpack": "_quant.pack_entry",
    "repack": "_quant.pack",
    "layouts": "_quant.layouts",
    "Layout": "_quant.layouts",
    "unscale": "_quant.unscale",
    "LossScaler": "_quant.scaler",
    "cast_file": "_files.entry",
    "load_file": "_files.memory",
    "save_file": "_files.memory",
    "quantize_file": "_files.quantized_entry",
    "dequantize_file": "_files.quantized_entry",
    "CastReport": "_files.report",
    "TensorReport": "_files.report",
    "FileFormatError": "_files.container",
}

__all__ = [
    "astype",
    "quantize",
    "dequantize",
    "fake_quantize",
    "choose_qparams",
    "QuantSpec",
    "QuantizedArray",
    "QParams",
    "Calibration",
    "quantization_error",
    "cast_error",
    "ErrorStats",
    "pack",
    "unpack",
    "repack",
    "layouts",
    "Layout",
    "unscale",
    "LossScaler",
    "as_buffer",
    "finfo",
    "iinfo",
    "formats",
    "Format",
    "inspect",
    "Inspection",
    "isa",
    "isas",
    "use_isa",
    "set_num_threads",
    "get_num_threads",
    "load_file",
    "save_file",
    "cast_file",
    "quantize_file",
    "dequantize_file",
    "CastReport",
    "TensorReport",
    "FileFormatError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'narrowcast' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"narrowcast.{_LATER[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
