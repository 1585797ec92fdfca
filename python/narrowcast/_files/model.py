"""Directories of a model: which files there are, what their index and configuration say, and what becomes of these.

Nothing is cast or written here.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from narrowcast._files.configuration import CONFIG_NAME
from narrowcast._files.container import FileFormatError
from narrowcast._files.json_file import dumped, read_json
from narrowcast._files.single import Conversion, is_tensor_file

MANIFEST: Final = "narrowcast.json"  # in every directory made here
_MANIFEST_KEYS: Final = frozenset(("job", "options", "files"))

# "tensors" are cast, "file" copied, "directory" made; the others are rewritten once all tensors are done.
Kind: TypeAlias = Literal["tensors", "file", "index", "config", "directory"]

_END_BYTES: Final = 1 << 16

_INDEX_SUFFIX: Final = ".index.json"
_SHARDS_SUFFIX: Final = ".safetensors.index.json"


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
    return "config" if path.name == CONFIG_NAME else "file"


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


def rewritten(root: Path, item: Item, options: Conversion, tensors: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """Return the new bytes of an index or a configuration.

    Parameters
    ----------
    root : Path
        The directory that was converted.
    item : Item
        The file.
    options : Conversion
        What was done.
    tensors : Mapping of str to sequence of Mapping
        What became of the tensors of each file, by its path: `TensorReport.as_dict`.
    """
    path = root / item.path
    old = path.read_bytes()
    if item.kind == "config":
        config = read_json(path)
        below = PurePosixPath(item.path).parent
        files = [found for file, found in tensors.items() if PurePosixPath(file).is_relative_to(below)]
        if not any(tensor["from"] != tensor["to"] for found in files for tensor in found):
            return old
        return dumped(config) if options.configure(path, config) else old
    where = weight_map(root, item)
    if not where:
        return old
    index = read_json(path)
    found = [tensor for shard in sorted(set(where.values())) for tensor in tensors[shard]]
    index["metadata"] = {**index.get("metadata", {}), "total_size": sum(tensor["bytes_after"] for tensor in found)}
    index["weight_map"] = _renamed(index["weight_map"], found)
    return dumped(index)


def _renamed(where: Mapping[str, str], tensors: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Put the tensors that were made into the place of the first of those that they were made of."""
    made = {tensor.get("sources", (tensor["name"],))[0]: tensor.get("targets", (tensor["name"],)) for tensor in tensors}
    return {new: shard for old, shard in where.items() for new in made.get(old, ())}
