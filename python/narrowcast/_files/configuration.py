"""What a model's config.json says of the dtype of its weights, and what it says after a conversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from narrowcast import _formats
from narrowcast._files.json_file import read_json

CONFIG_NAME: Final = "config.json"
QUANTIZATION_KEY: Final = "quantization_config"  # whose dtypes say how a quantizer computes

_DTYPE_KEYS: Final = ("torch_dtype", "dtype")
# The formats that a configuration can ask for: models are made with torch's default dtype set to it, which is one of
# these. By any other, FP8 among them, transformers loads nothing.
_DEFAULT_DTYPES: Final = {name: name for name in ("float64", "float32", "float16", "bfloat16")} | {
    "tfloat32": "float32"
}


def cast_config(config: Any, format: str) -> bool:
    """Say the new dtype wherever a configuration names a float dtype, its parts' configurations included.

    Returns whether it did: not where nothing names one, and not for a format that no configuration can ask for.
    """
    name = _DEFAULT_DTYPES.get(format)
    changed = False
    parts = [config] if name is not None else []
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts += part
        elif isinstance(part, dict):
            parts += [value for key, value in part.items() if key != QUANTIZATION_KEY]
            for key in _DTYPE_KEYS:
                value = part.get(key)
                if isinstance(value, str) and _is_float(value.removeprefix("torch.")):
                    part[key] = f"{'torch.' if value.startswith('torch.') else ''}{name}"
                    changed = True
    return changed


def _is_float(name: str) -> bool:
    row = _formats.BY_NAME.get(name.removesuffix("_x2"))
    return row is not None and row.is_float


def config_beside(path: Path) -> dict[str, Any] | None:
    """Return the configuration in a file's directory; None if there is none."""
    place = path.parent / CONFIG_NAME
    if not place.is_file():
        return None
    config = read_json(place)
    return config if isinstance(config, dict) else {}
