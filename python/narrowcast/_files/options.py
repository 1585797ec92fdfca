"""What a cast of files was asked to do: checked once, the same for every file, and the identity of a resumed job."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from operator import index
from pathlib import Path
from typing import Any, ClassVar

from narrowcast import _astype, _formats
from narrowcast._astype import Overflow, Rounding
from narrowcast._files.configuration import cast_config
from narrowcast._files.container import Tensor
from narrowcast._files.report import TensorReport
from narrowcast._formats import FormatLike


@dataclass(frozen=True, slots=True)
class CastOptions:
    """A target format, how values are rounded into it, and which tensors are meant."""

    format: str
    rounding: Rounding = "nearest_even"
    overflow: Overflow = "ieee"
    seed: int | None = None
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    from_format: str | None = None
    joins_files: ClassVar[bool] = False  # whether one file may be made of several

    def __post_init__(self) -> None:
        _astype.read_modes(self.rounding, self.overflow, self.seed, 0)

    def selects(self, tensor: Tensor) -> bool:
        """Whether this tensor is cast: a float format, named by `only` (if given) and not by `skip`."""
        if tensor.format is None or not _formats.BY_NAME[tensor.format].is_float:
            return False
        return self.names(tensor.name)

    def names(self, name: str) -> bool:
        """Whether `only` and `skip` mean a tensor of this name."""
        if self.only and not any(fnmatchcase(name, pattern) for pattern in self.only):
            return False
        return not (self.skip and any(fnmatchcase(name, pattern) for pattern in self.skip))

    @property
    def needs_plan(self) -> bool:
        """Whether a file is to be looked at before it is cast: whether patterns name anything."""
        return bool(self.only or self.skip)

    def configure(self, path: Path, config: Any) -> bool:
        """Say the target in a configuration beside or above tensors that were cast; return whether that changed it."""
        return cast_config(config, self.format)

    def check_result(self, source: Path, tensors: Sequence[TensorReport]) -> None:
        """Refuse what would come of it: nothing, here."""

    def key(self, name: str) -> int:
        """Return the random key of a tensor, so that its values do not depend on the file it lies in.

        The first 8 bytes of SHA-256 over the seed (8 bytes) and the name (UTF-8), both integers little-endian; 0
        where nothing is random.
        """
        if self.seed is None:
            return 0
        digest = hashlib.sha256(self.seed.to_bytes(8, "little") + name.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "little")


def make_options(
    dtype: FormatLike,
    rounding: Rounding,
    overflow: Overflow,
    seed: int | None,
    only: str | Sequence[str],
    skip: str | Sequence[str],
    from_format: FormatLike | None,
) -> CastOptions:
    """Check the arguments that the public functions share."""
    source = None if from_format is None else _formats.find(from_format, "from_format")[0].name
    target = _formats.find_float(dtype, "dtype")[0].name
    _astype.read_modes(rounding, overflow, seed, 0)
    key = None if seed is None else index(seed)  # numpy's integers too, as what they are in JSON
    return CastOptions(target, rounding, overflow, key, patterns(only, "only"), patterns(skip, "skip"), source)


def patterns(given: object, argument: str) -> tuple[str, ...]:
    """Return patterns of names, given as one or as several."""
    if isinstance(given, str):
        return (given,)
    found = tuple(given) if isinstance(given, Iterable) else (given,)
    for pattern in found:
        if not isinstance(pattern, str):
            raise TypeError(f"{argument} is {given!r}; allowed are a pattern of names, a str, and a sequence of such")
    return found
