"""JSON files of a model: indices and configurations, read with suspicion and written so that all names survive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from narrowcast._files.container import FileFormatError, key_twice

_LARGEST: Final = 100_000_000  # bytes; an index of a million tensors has about as many


def read_json(path: Path) -> Any:
    """Read a JSON file; FileFormatError if it is none, or too large to be believed."""
    if path.stat().st_size > _LARGEST:
        raise FileFormatError(f"{path}: larger than {_LARGEST} bytes, which no index or configuration is")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: not valid JSON ({error})") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = key_twice(key for key, _ in pairs)
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def dumped(value: Any) -> bytes:
    """Return the bytes of a JSON file."""
    try:
        return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can say only as it was said: "\\ud800"
        return (json.dumps(value, indent=2) + "\n").encode()
