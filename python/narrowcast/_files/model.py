"""Directories of a model: which files there are, what their index and configuration say, and what becomes of these.

Nothing is cast or written here.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from narrowcast import _formats
from narrowcast._files.container import FileFormatError
from narrowcast._files.single import is_tensor_file

MANIFEST: Final = "narrowcast.json"  # in every directory made here

# "tensors" are cast, "file" copied; the others are rewritten once all tensors are done.
Kind: TypeAlias = Literal["tensors", "file", "index", "config"]

_INDEX_SUFFIX: Final = ".index.json"
_CONFIG_NAME: Final = "config.json"
_DTYPE_KEYS: Final = ("torch_dtype", "dtype")
_LARGEST_JSON: Final = 100_000_000  # bytes; an index of a million tensors has about as many
# What torch calls the formats that it names in another way; it has no name for the others of 6 bits.
_TORCH_NAMES: Final = {"float4_e2m1fn": "float4_e2m1fn_x2", "tfloat32": "float32"}
_NO_TORCH_NAME: Final = frozenset(
    ("float6_e2m3fn", "float6_e3m2fn", "float8_e4m3", "float8_e3m4", "float8_e4m3b11fnuz")
)


class Item(NamedTuple):
    """A file of the directory."""

    path: str  # relative, with slashes
    kind: Kind
    size: int
    mtime_ns: int


def scan(root: Path, *, follow_symlinks: bool) -> list[Item]:
    """List the files of a directory, sorted by path; refuse links that lead out of it."""
    items: list[Item] = []
    real_root = Path(os.path.realpath(root))
    for path in _walk(root, real_root, follow_symlinks, frozenset()):
        name = path.relative_to(root).as_posix()
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError(f"{path} is neither a file nor a directory")
        if name != MANIFEST:
            items.append(Item(name, _kind(path), facts.st_size, facts.st_mtime_ns))
    return sorted(items)


def _walk(directory: Path, root: Path, follow_symlinks: bool, above: frozenset[str]) -> Iterator[Path]:
    real = os.path.realpath(directory)
    if real in above:
        raise ValueError(f"{directory} is a link to a directory that it lies in")
    with os.scandir(directory) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.is_symlink() and not follow_symlinks:
                target = Path(os.path.realpath(path))
                if not target.is_relative_to(root):
                    raise ValueError(
                        f"{path} is a link out of the directory, to {target}; links are followed with follow_symlinks "
                        "(--follow-symlinks)"
                    )
            if not path.exists():
                raise FileNotFoundError(2, "a link to nothing", str(path))
            if entry.is_dir():
                yield from _walk(path, root, follow_symlinks, above | {real})
            else:
                yield path


def _kind(path: Path) -> Kind:
    if is_tensor_file(path):
        return "tensors"
    if path.name.endswith(_INDEX_SUFFIX):
        return "index"
    return "config" if path.name == _CONFIG_NAME else "file"


def read_json(path: Path) -> Any:
    """Read a JSON file; FileFormatError if it is none, or too large to be believed."""
    if path.stat().st_size > _LARGEST_JSON:
        raise FileFormatError(f"{path}: larger than {_LARGEST_JSON} bytes, which no index or configuration is")
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: not valid JSON ({error})") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if any(key == other for other, _ in pairs[:i]))
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def weight_map(root: Path, item: Item) -> dict[str, str]:
    """Return which file of the directory each tensor of an index lies in, as paths relative to the directory.

    Empty if the index is not one of safetensors shards (PyTorch's own, of pickles).
    """
    path = root / item.path
    index = read_json(path)
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise FileFormatError(f"{path}: no index: it has no weight_map from tensors to files")
    found: dict[str, str] = {}
    above = PurePosixPath(item.path).parent
    for tensor, shard in shards.items():
        parts = PurePosixPath(shard)
        if not shard or parts.is_absolute() or ".." in parts.parts or "\\" in shard or ":" in shard:
            raise FileFormatError(f"{path}: the tensor {tensor!r} is said to lie in {shard!r}, out of the directory")
        found[tensor] = str(above / parts)
    if not all(is_tensor_file(Path(shard)) for shard in found.values()):
        return {}
    if not isinstance(index.get("metadata", {}), dict):
        raise FileFormatError(f"{path}: its metadata is no object")
    return found


def check_index(root: Path, item: Item, tensors: Mapping[str, set[str]]) -> None:
    """Refuse an index that names a file or a tensor that is not there; `tensors` are the names in each file."""
    for tensor, shard in weight_map(root, item).items():
        if shard not in tensors:
            raise FileFormatError(f"{root / item.path}: names the file {shard!r}, which is not there")
        if tensor not in tensors[shard]:
            raise FileFormatError(f"{root / item.path}: names the tensor {tensor!r} in {shard!r}, which has none such")


def rewritten(root: Path, item: Item, format: str, bytes_of: Callable[[str], int]) -> bytes:
    """Return the new bytes of an index or a configuration.

    Parameters
    ----------
    root : Path
        The directory that was cast.
    item : Item
        The file.
    format : str
        The target format.
    bytes_of : callable
        Bytes of all tensors in a file that was cast, by its path.
    """
    path = root / item.path
    old = path.read_bytes()
    if item.kind == "config":
        config = read_json(path)
        return _dumped(config) if _set_dtype(config, _torch_name(format)) else old
    shards = sorted(set(weight_map(root, item).values()))
    if not shards:
        return old
    index = read_json(path)
    index["metadata"] = {**index.get("metadata", {}), "total_size": sum(map(bytes_of, shards))}
    return _dumped(index)


def _torch_name(format: str) -> str | None:
    return None if format in _NO_TORCH_NAME else _TORCH_NAMES.get(format, format)


def _set_dtype(config: Any, name: str | None) -> bool:
    """Say the new dtype wherever a configuration names a float dtype, its parts' configurations included."""
    if name is None or not isinstance(config, dict):
        return False
    changed = False
    for key, value in config.items():
        if isinstance(value, dict):
            changed |= _set_dtype(value, name)
        elif key in _DTYPE_KEYS and isinstance(value, str) and _is_float(value.removeprefix("torch.")):
            config[key] = ("torch." if value.startswith("torch.") else "") + name
            changed = True
    return changed


def _is_float(name: str) -> bool:
    row = _formats.BY_NAME.get(name.removesuffix("_x2"))
    return row is not None and row.is_float


def _dumped(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
