"""Directories of a model: which files there are, what their index and configuration say, and what becomes of these.

Nothing is cast or written here.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from narrowcast import _formats
from narrowcast._files.container import FileFormatError, key_twice
from narrowcast._files.single import is_tensor_file

MANIFEST: Final = "narrowcast.json"  # in every directory made here
_MANIFEST_KEYS: Final = frozenset(("job", "options", "files"))

# "tensors" are cast, "file" copied, "directory" made; the others are rewritten once all tensors are done.
Kind: TypeAlias = Literal["tensors", "file", "index", "config", "directory"]

_END_BYTES: Final = 1 << 16

_INDEX_SUFFIX: Final = ".index.json"
_SHARDS_SUFFIX: Final = ".safetensors.index.json"
_CONFIG_NAME: Final = "config.json"
_DTYPE_KEYS: Final = ("torch_dtype", "dtype")
_LARGEST_JSON: Final = 100_000_000  # bytes; an index of a million tensors has about as many
_QUANTIZATION_KEY: Final = "quantization_config"  # whose dtypes say how a quantizer computes
# The formats that a configuration can ask for: models are made with torch's default dtype set to it, which is one of
# these. By any other, FP8 among them, transformers loads nothing.
_DEFAULT_DTYPES: Final = {name: name for name in ("float64", "float32", "float16", "bfloat16")} | {
    "tfloat32": "float32"
}


class Item(NamedTuple):
    """A file or directory of the directory."""

    path: str  # relative, with slashes
    kind: Kind
    size: int
    mtime_ns: int
    ends: str  # see `facts`

    @property
    def facts(self) -> tuple[int, int, str]:
        """What tells this file from another of its name: size, time, and SHA-256 of its beginning and end."""
        return self.size, self.mtime_ns, self.ends


def facts(path: Path) -> tuple[int, int, str]:
    """Return the facts of a file as it is now.

    Archives and images give all files one time, and models of one architecture have files of the same sizes: the
    first and last 64 KiB tell them apart, and cost the same for a file of any size.
    """
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        digest = hashlib.sha256(file.read(_END_BYTES))
        file.seek(max(_END_BYTES, found.st_size - _END_BYTES))
        digest.update(file.read(_END_BYTES))
    return found.st_size, found.st_mtime_ns, digest.hexdigest()


def scan(root: Path, *, follow_symlinks: bool) -> list[Item]:
    """List the files and directories below a directory, sorted by path; refuse links that lead out of it."""
    items: list[Item] = []
    real_root = Path(os.path.realpath(root))
    for path in _walk(root, real_root, follow_symlinks, frozenset()):
        name = path.relative_to(root).as_posix()
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            items.append(Item(name, "directory", 0, 0, ""))
        elif not stat.S_ISREG(mode):
            raise ValueError(f"{path} is neither a file nor a directory")
        elif name != MANIFEST:
            items.append(Item(name, _kind(path), *facts(path)))
        elif not _is_manifest(path):
            raise ValueError(f"{path} has the name of the manifest that the result gets; rename it")
    return sorted(items)


def _is_manifest(path: Path) -> bool:
    try:
        found = read_json(path)
    except FileFormatError:
        return False
    return isinstance(found, dict) and found.keys() >= _MANIFEST_KEYS


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
            yield path
            if entry.is_dir():
                yield from _walk(path, root, follow_symlinks, above | {real})


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
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: not valid JSON ({error})") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = key_twice(key for key, _ in pairs)
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def weight_map(root: Path, item: Item) -> dict[str, str]:
    """Return which file of the directory each tensor of an index lies in, as paths relative to the directory.

    Empty if the index is not one of safetensors shards: PyTorch's own, of pickles, or one of anything else.
    """
    path = root / item.path
    try:
        index = read_json(path)
    except FileFormatError:
        if item.path.endswith(_SHARDS_SUFFIX):
            raise
        return {}
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if shards is None and not item.path.endswith(_SHARDS_SUFFIX):
        return {}
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


def rewritten(root: Path, item: Item, format: str, tensors: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """Return the new bytes of an index or a configuration.

    Parameters
    ----------
    root : Path
        The directory that was cast.
    item : Item
        The file.
    format : str
        The target format.
    tensors : Mapping of str to sequence of Mapping
        What became of the tensors of each file, by its path: `TensorReport.as_dict`.
    """
    path = root / item.path
    old = path.read_bytes()
    if item.kind == "config":
        name, config = _DEFAULT_DTYPES.get(format), read_json(path)
        below = PurePosixPath(item.path).parent
        was_cast = any(
            tensor["from"] != tensor["to"]
            for file, found in tensors.items()
            if PurePosixPath(file).is_relative_to(below)
            for tensor in found
        )
        return _dumped(config) if name is not None and was_cast and _set_dtype(config, name) else old
    shards = sorted(set(weight_map(root, item).values()))
    if not shards:
        return old
    index = read_json(path)
    total = sum(tensor["bytes_after"] for shard in shards for tensor in tensors[shard])
    index["metadata"] = {**index.get("metadata", {}), "total_size": total}
    return _dumped(index)


def _set_dtype(config: Any, name: str) -> bool:
    """Say the new dtype wherever a configuration names a float dtype, its parts' configurations included."""
    changed = False
    parts = [config]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts += part
        elif isinstance(part, dict):
            parts += [value for key, value in part.items() if key != _QUANTIZATION_KEY]
            for key in _DTYPE_KEYS:
                value = part.get(key)
                if isinstance(value, str) and _is_float(value.removeprefix("torch.")):
                    part[key] = ("torch." if value.startswith("torch.") else "") + name
                    changed = True
    return changed


def _is_float(name: str) -> bool:
    row = _formats.BY_NAME.get(name.removesuffix("_x2"))
    return row is not None and row.is_float


def _dumped(value: Any) -> bytes:
    try:
        return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can say only as it was said: "\\ud800"
        return (json.dumps(value, indent=2) + "\n").encode()
