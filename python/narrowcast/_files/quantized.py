"""How a weight is stored in quantized form: what the compressed-tensors format calls its arrays and its configuration.

The words and shapes are those of compressed-tensors 0.20 (vllm-project/compressed-tensors: quantization/quant_args.py,
compressors/), which transformers and vLLM read. Nothing here reads or writes files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from narrowcast._files import safetensors
from narrowcast._files.container import MAX_BYTES, FileFormatError, Tensor, shown

METHOD: Final = "compressed-tensors"
KEY: Final = "quantization_config"  # of config.json, and of the metadata of a file made here
STRATEGIES: Final = ("tensor", "channel", "group", "block")

PACKED: Final = "pack-quantized"
STORED: Final = ("naive-quantized", "int-quantized", "float-quantized")  # a byte per code; three names of one thing

# The tensors that belong to one weight, by the ends of their names.
CODES: Final = ".weight"
WORDS: Final = ".weight_packed"
SCALE: Final = ".weight_scale"
ZERO: Final = ".weight_zero_point"
SHAPE: Final = ".weight_shape"
# What an activation was quantized with: of no use to a weight that is not.
ACTIVATION: Final = (".input_scale", ".input_zero_point", ".output_scale", ".output_zero_point")

_PACKED_ZEROS: Final = ("channel", "group")  # compressors/pack_quantized: PACK_ZP_STRATS
_MOST_GROUPS: Final = 1000


@dataclass(frozen=True, slots=True)
class Scheme:
    """How the codes of a weight are made and where they are.

    Attributes
    ----------
    codes : str
        The dtype of the codes: "int1" to "int8", "float8_e4m3fn".
    strategy : str
        What shares a scale: a word of compressed-tensors.
    symmetric : bool
        Whether there are no zero points.
    storage : str
        The format of compressed-tensors: whether codes are packed in words of 32 bits.
    group_size : int or None
        For "group": neighbours in a row.
    block_shape : tuple of int or None
        For "block": rows and columns.
    activations : bool
        Whether servers are told to quantize activations, token by token.
    has_gaps : bool
        Whether no code goes on in the next word: so compressed-tensors packed before 0.18, and nothing is written here.
    """

    codes: str
    strategy: str
    symmetric: bool
    storage: str
    group_size: int | None = None
    block_shape: tuple[int, int] | None = None
    activations: bool = False
    has_gaps: bool = False

    @property
    def layout(self) -> str:
        """The layout of packed codes, as `pack` calls it."""
        return "compressed_tensors_pre018" if self.has_gaps else "compressed_tensors"

    def words(self, count: int) -> int:
        """Return how many words of 32 bits this many codes take."""
        return -(-count // (32 // self.bits)) if self.has_gaps else -(-count * self.bits // 32)

    @property
    def bits(self) -> int:
        """Width of a code."""
        return 8 if self.is_float else int(self.codes.removeprefix("int"))

    @property
    def is_float(self) -> bool:
        """Whether codes are floats."""
        return self.codes.startswith("float")

    @property
    def is_packed(self) -> bool:
        """Whether codes lie densely in words."""
        return self.storage == PACKED

    @property
    def packs_zero_points(self) -> bool:
        """Whether zero points do so too: not those of whole tensors and of blocks."""
        return self.is_packed and not self.symmetric and self.strategy in _PACKED_ZEROS

    def box(self, rows: int, columns: int) -> tuple[int, int]:
        """Return the rows and columns that share a scale in a weight of this shape."""
        boxes = {
            "tensor": (rows, columns),
            "channel": (1, columns),
            "group": (1, self.group_size or columns),
            "block": self.block_shape or (rows, columns),
        }
        return boxes[self.strategy]

    def scales(self, rows: int, columns: int) -> tuple[int, ...]:
        """Return the shape of a weight's scales."""
        if self.strategy == "tensor":
            return (1,)
        if self.strategy == "channel":
            return rows, 1
        high, wide = self.box(rows, columns)
        return -(-rows // high), -(-columns // wide)

    def parts(self, weight: Tensor, scale: str) -> list[Tensor]:
        """Return the tensors that take a weight's place, with scales of the format given, in the package's order."""
        module = weight.name.removesuffix(CODES)
        rows, columns = weight.shape
        scales = self.scales(rows, columns)
        if not self.is_packed:
            found = [(CODES, weight.shape, self.codes if self.is_float else "int8"), (SCALE, scales, scale)]
        else:
            found = [
                (WORDS, (rows, self.words(columns)), "int32"),
                (SCALE, scales, scale),
                (SHAPE, (2,), "int64"),
            ]
        if not self.symmetric:
            packed = (self.words(scales[0]), *scales[1:])
            found.append((ZERO, packed, "int32") if self.packs_zero_points else (ZERO, scales, "int8"))
        return [safetensors.recast(Tensor(module + end, shape, "", None, 0), format_) for end, shape, format_ in found]

    def as_config(self, targets: Sequence[str], ignore: Sequence[str]) -> dict[str, Any]:
        """Return what config.json says of it."""
        kind = "float" if self.is_float else "int"
        weights: dict[str, Any] = {
            "num_bits": self.bits,
            "type": kind,
            "symmetric": self.symmetric,
            "strategy": self.strategy,
            "group_size": self.group_size,
            "dynamic": False,
        }
        if self.block_shape is not None:
            weights["block_structure"] = list(self.block_shape)
        tokens = {"num_bits": self.bits, "type": kind, "symmetric": True, "strategy": "token", "dynamic": True}
        group = {
            "targets": list(targets),
            "weights": weights,
            "input_activations": tokens if self.activations else None,
            "output_activations": None,
            "format": self.storage,
        }
        return {
            "quant_method": METHOD,
            "format": self.storage,
            "quantization_status": "compressed",
            "config_groups": {"group_0": group},
            "ignore": list(ignore),
        }

    def __str__(self) -> str:
        """Return what a report calls it."""
        size = {"group": f" {self.group_size}", "block": " {}x{}".format(*(self.block_shape or (0, 0)))}
        return f"{self.codes} {self.strategy}{size.get(self.strategy, '')}"


@dataclass(frozen=True)
class Config:
    """What a configuration says of a model's weights: the scheme of each module."""

    by_name: Mapping[str, Scheme] = field(default_factory=dict)
    by_pattern: Sequence[tuple[re.Pattern[str], Scheme]] = ()
    by_class: Scheme | None = None  # of all others: only one class is of weights

    def scheme_of(self, module: str) -> Scheme | None:
        """Return the scheme of a module, as compressed-tensors finds it: by name, by pattern, by class."""
        if module in self.by_name:
            return self.by_name[module]
        return next((scheme for pattern, scheme in self.by_pattern if pattern.match(module)), self.by_class)


def read_config(config: Any) -> Config:
    """Read a ``quantization_config``; FileFormatError if it says what is not known here."""
    if not isinstance(config, dict) or config.get("quant_method") != METHOD:
        method = config.get("quant_method") if isinstance(config, dict) else config
        raise FileFormatError(f"its {KEY} is of {shown(method)}; known is {METHOD}")
    if config.get("quantization_status", "compressed") != "compressed":
        raise FileFormatError(f"its weights are not compressed but {shown(config['quantization_status'])}")
    groups = config.get("config_groups")
    if not isinstance(groups, dict) or not 0 < len(groups) <= _MOST_GROUPS:
        raise FileFormatError(f"its {KEY} has no config_groups")
    names: dict[str, Scheme] = {}
    patterns: list[tuple[re.Pattern[str], Scheme]] = []
    of_class: Scheme | None = None
    for name, group in groups.items():
        try:
            if group["weights"] is None:
                continue  # of activations only
            scheme = _read_group(group, config.get("format"))
            for target in group["targets"]:
                if target.startswith("re:"):
                    patterns.append((re.compile(target[3:]), scheme))
                elif target[:1].isupper():
                    of_class = of_class or scheme
                else:
                    names[target] = scheme
        except FileFormatError as error:
            raise FileFormatError(f"its {KEY}, {shown(name)}: {error}") from None
        except (AttributeError, KeyError, TypeError, ValueError, re.error) as error:
            raise FileFormatError(f"its {KEY}, {shown(name)}, is none of compressed-tensors ({error!r})") from None
    return Config(names, patterns, of_class)


def _read_group(group: Any, storage: Any) -> Scheme:
    storage = group.get("format") or storage
    if storage != PACKED and storage not in STORED:
        raise FileFormatError(f"the format {shown(storage)} is not known; known are {', '.join((PACKED, *STORED))}")
    weights = group["weights"]
    bits, kind, symmetric = weights.get("num_bits", 8), weights.get("type", "int"), weights.get("symmetric", True)
    size, block = weights.get("group_size"), weights.get("block_structure")
    strategy = weights.get("strategy") or ("tensor" if size is None else "group" if size > 0 else "channel")
    if strategy not in STRATEGIES:
        raise FileFormatError(f"the strategy {shown(strategy)} is not known; known are {', '.join(STRATEGIES)}")
    if type(bits) is not int or type(symmetric) is not bool:
        raise FileFormatError(f"num_bits is {shown(bits)} and symmetric {shown(symmetric)}")
    if not (1 <= bits <= 8 if kind == "int" else kind == "float" and bits == 8 and storage != PACKED):
        raise FileFormatError(f"weights of {bits} bits and type {shown(kind)} are not known as {storage}")
    if kind == "float" and not symmetric:
        raise FileFormatError("weights that are floats and not symmetric are not known")
    if strategy == "group" and not _is_extent(size):
        raise FileFormatError(f"group_size is {shown(size)}")
    if strategy == "block" and not (isinstance(block, list) and len(block) == 2 and all(map(_is_extent, block))):
        raise FileFormatError(f"block_structure is {shown(block)}")
    return Scheme(
        codes="float8_e4m3fn" if kind == "float" else f"int{bits}",
        strategy=strategy,
        symmetric=symmetric,
        storage=storage,
        group_size=size if strategy == "group" else None,
        block_shape=(block[0], block[1]) if strategy == "block" else None,
    )


def _is_extent(value: Any) -> bool:
    return type(value) is int and 0 < value <= MAX_BYTES
