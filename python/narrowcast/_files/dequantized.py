"""Which tensors of compressed-tensors files are quantized weights, and what they were quantized by.

What is made of them, piece by piece, is in quantized_tasks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final

from narrowcast._files import quantized, safetensors
from narrowcast._files.configuration import CONFIG_NAME, cast_config, config_beside
from narrowcast._files.container import FileFormatError, Source, Tensor, flaws_of, key_twice, shown
from narrowcast._files.crew import Plan, Task
from narrowcast._files.quantized import CODES, KEY, SCALE, SHAPE, WORDS, ZERO, Config, Scheme
from narrowcast._files.quantized_tasks import Dequantize, Place
from narrowcast._files.report import TensorReport
from narrowcast._files.stream import Copy

_SUFFIX: Final = ".safetensors"
_ENDS: Final = (WORDS, CODES, SCALE, ZERO, SHAPE, *quantized.ACTIVATION)
_ORDER: Final = ".weight_g_idx"
_STORED: Final = {"int8", "float8_e4m3fn"}
_SCALES: Final = ("float32", "bfloat16", "float16")
_ZEROS: Final = ("int8", "uint8", "int16", "int32")


@dataclass(frozen=True, slots=True)
class DequantizeOptions:
    """What weights are dequantized to; None: what their scales are."""

    to: str | None = None
    only: ClassVar[tuple[str, ...]] = ()
    skip: ClassVar[tuple[str, ...]] = ()
    from_format: ClassVar[None] = None
    joins_files: ClassVar[bool] = True  # scales may lie in another shard than their codes

    @property
    def format(self) -> str:
        """What a report calls the target."""
        return self.to or "float"

    @property
    def needs_plan(self) -> bool:
        """Whether a file is to be looked at before anything is written."""
        return True

    def check_result(self, source: Path, tensors: Sequence[TensorReport]) -> None:
        """Refuse to copy a whole model under another name."""
        if not any(tensor.targets for tensor in tensors):
            raise ValueError(f"{source} has no quantized weights: none of {WORDS} or {CODES} with {SCALE} beside it")

    def plan(self, path: Path, source: Source) -> Plan:
        """Return what becomes of a file."""
        becomes: dict[str, _Weight | Tensor] = {tensor.name: tensor for tensor in source.tensors}
        with flaws_of(str(path)):
            weights, dropped = _weights(path, source, self.to) if path.suffix == _SUFFIX else ([], set())
            for weight in weights:
                becomes[weight.places[0].tensor.name] = weight
                dropped |= {place.tensor.name for place in weight.places[1:]} | weight.dropped
        found = [item for name, item in becomes.items() if name not in dropped]
        targets = [item.target if isinstance(item, _Weight) else item for item in found]
        if len({target.name for target in targets}) < len(targets):
            twice = key_twice(target.name for target in targets)
            raise FileFormatError(f"{path}: the tensor {shown(twice)} is there already, beside its codes in words")

        def tasks(placed: Sequence[Tensor]) -> list[Task]:
            return [
                Dequantize(path, item.places, new, item.scheme) if isinstance(item, _Weight) else Copy(item, new)
                for item, new in zip(found, placed, strict=True)
            ]

        metadata = {key: text for key, text in source.metadata.items() if key != KEY}
        return Plan(targets, tasks, metadata if weights or dropped else None)

    def configure(self, path: Path, config: Any) -> bool:
        """Take from a configuration what it says of quantization."""
        changed = isinstance(config, dict) and config.pop(KEY, None) is not None
        return (self.to is not None and cast_config(config, self.to)) or changed


@dataclass(frozen=True, slots=True)
class _Weight:
    """A quantized weight, and what it becomes."""

    places: tuple[Place, ...]  # of codes, scales and, if there are, zero points and the shape
    scheme: Scheme
    target: Tensor
    dropped: frozenset[str]  # names of this file that go with it


class _Near:
    """The tensors of a file and, where these do not do, of the other files in its directory."""

    def __init__(self, path: Path, source: Source) -> None:
        self._path = path
        self._own = {tensor.name: Place(tensor) for tensor in source.tensors}
        self._others: dict[str, Place] | None = None

    def find(self, name: str) -> Place | None:
        """Return where a tensor lies."""
        return self._own.get(name) or self.find_elsewhere(name)

    def find_elsewhere(self, name: str) -> Place | None:
        """Return where a tensor lies in another file."""
        if self._others is None:
            self._others = {}
            for other in sorted(self._path.parent.glob(f"*{_SUFFIX}")):
                if other != self._path:
                    with closing(safetensors.open_source(other)) as source:
                        for tensor in source.tensors:
                            self._others.setdefault(tensor.name, Place(tensor, other))
        return self._others.get(name)

    def has_codes(self, module: str) -> bool:
        """Whether another file has a module's codes."""
        return any(self.find_elsewhere(module + end) is not None for end in (WORDS, CODES))


def _weights(path: Path, source: Source, to: str | None) -> tuple[list[_Weight], set[str]]:
    """Return the quantized weights whose codes are in a file, and names of what belongs to those of other files."""
    near, config = _Near(path, source), None
    names = {tensor.name: tensor for tensor in source.tensors}
    weights: list[_Weight] = []
    orphans: set[str] = set()
    for name, tensor in names.items():
        if name.endswith(_ORDER):
            raise FileFormatError(f"tensor {shown(name)} puts groups into another order, which is not known here")
        end = next((end for end in _ENDS if name.endswith(end)), None)
        if end is None:
            continue
        module = name.removesuffix(end)
        if end == WORDS or (end == CODES and tensor.format in _STORED):
            scale = near.find(module + SCALE)
            if scale is None and end == CODES:
                continue  # bytes that nobody has scaled
            config = config or _config_of(path, source)
            scheme = config.scheme_of(module)
            if scale is None or scheme is None or scheme.is_packed != (end == WORDS):
                raise FileFormatError(f"tensor {shown(name)} has no scale or is not what {KEY} says of it")
            weights.append(_weight(source, near, tensor, scale, module, scheme, to, names))
        elif end != CODES and not {module + WORDS, module + CODES} & names.keys() and near.has_codes(module):
            orphans.add(name)
    return weights, orphans


def _config_of(path: Path, source: Source) -> Config:
    beside = config_beside(path) or {}
    if beside.get(KEY) is not None:
        with flaws_of(str(path.parent / CONFIG_NAME)):
            return quantized.read_config(beside[KEY])
    if KEY not in source.metadata:
        raise FileFormatError(f"has quantized weights, and neither its metadata nor a {CONFIG_NAME} beside it says how")
    try:
        config = json.loads(source.metadata[KEY])
    except (RecursionError, ValueError) as error:  # the latter also for a number of thousands of digits
        raise FileFormatError(f"its metadata has a {KEY} that is not valid JSON ({error})") from None
    return quantized.read_config(config)


def _weight(
    source: Source,
    near: _Near,
    codes: Tensor,
    scale: Place,
    module: str,
    scheme: Scheme,
    to: str | None,
    names: Mapping[str, Tensor],
) -> _Weight:
    name = shown(module + CODES)
    if len(codes.shape) != 2:
        raise FileFormatError(f"{name} has codes of {len(codes.shape)} dimensions; known are 2")
    shape = near.find(module + SHAPE) if scheme.is_packed else None
    rows, columns = codes.shape
    if scheme.is_packed:
        if shape is None:
            raise FileFormatError(f"{name} has no {SHAPE}")
        rows, columns = shape.numbers(source)
        older = replace(scheme, has_gaps=True)
        if codes.shape[1] == older.words(columns) != scheme.words(columns):
            scheme = older
    if scale.tensor.format not in _SCALES:
        raise FileFormatError(
            f"tensor {shown(module + SCALE)} is {scale.tensor.dtype}; allowed are {', '.join(_SCALES)}"
        )
    try:
        target = safetensors.recast(Tensor(module + CODES, (rows, columns), "", None, 0), to or scale.tensor.format)
    except ValueError as error:
        raise FileFormatError(str(error)) from None
    wanted = scheme.parts(target, scale.tensor.format)
    zero = None if scheme.symmetric else near.find(module + ZERO)
    places = [place for place in (Place(codes), scale, zero, shape) if place is not None]
    found = {place.tensor.name: place.tensor for place in places}
    shapes = {part.name: part.shape for part in wanted}
    for part in wanted:
        there = found.get(part.name)
        fits = there is not None and (there.shape == part.shape or _is_same(there, part))
        if there is None or not fits or not _is_kind(part, there):
            what = "is missing" if there is None else f"is {there.dtype} of shape {there.shape}"
            raise FileFormatError(f"tensor {shown(part.name)} {what}; {part.dtype} of shape {part.shape} is needed")
    # Rows are cut by the shape that a part has to have: of ones, a package may have written or left out any.
    cut = tuple(Place(place.tensor._replace(shape=shapes[place.tensor.name]), place.path) for place in places)
    dropped = frozenset(module + end for end in _ENDS if module + end in names) - {codes.name, target.name}
    return _Weight(cut, scheme, target, dropped)


def _is_same(there: Tensor, part: Tensor) -> bool:
    """Whether a tensor's shape is that of a part but for ones, which packages write or leave out."""
    return [n for n in there.shape if n != 1] == [n for n in part.shape if n != 1] and not part.name.endswith(
        (CODES, WORDS)
    )


def _is_kind(part: Tensor, there: Tensor) -> bool:
    """Whether a tensor holds what a part must."""
    if part.name.endswith(SCALE):
        return there.format in _SCALES
    if part.name.endswith(ZERO) and part.format == "int8":
        return there.format in _ZEROS
    return there.format == part.format
