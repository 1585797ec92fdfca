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
else:
    from narrowcast._astype import make_entry

    astype = make_entry()

__version__: str = _core.version

# What few programs need and costs time to import: found when first asked for.
_LATER = {
    "cast_file": "entry",
    "load_file": "memory",
    "save_file": "memory",
    "quantize_file": "quantized_entry",
    "dequantize_file": "quantized_entry",
    "CastReport": "report",
    "TensorReport": "report",
    "FileFormatError": "container",
}

__all__ = [
    "astype",
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

    found = getattr(import_module(f"narrowcast._files.{_LATER[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
