"""Which weights of a model are quantized, from names, shapes and config.json alone, and what config.json says then.

What is made of a weight, piece by piece, is in quantized_tasks; the way back is in dequantized.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Final

from narrowcast._files import safetensors
from narrowcast._files.configuration import CONFIG_NAME, config_beside
from narrowcast._files.container import Source, Tensor, key_twice, shown
from narrowcast._files.crew import Plan, Task
from narrowcast._files.quantized import CODES, KEY, Scheme
from narrowcast._files.quantized_tasks import Quantize
from narrowcast._files.report import TensorReport
from narrowcast._files.stream import Copy
from narrowcast._quant.collectors import Calibration

_SUFFIX: Final = ".safetensors"  # compressed-tensors has no other files
_SOURCES: Final = ("float64", "float32", "bfloat16", "float16")

# A name cannot say whether a weight is of a linear layer; it can say that it is not, or had better stay: embeddings and
# what shares its weight with one, norms, positions, routers of experts, adapters. One pattern for each part of a name.
# A linear layer that is left out by mistake is named in the configuration and works; an embedding that is quantized
# does not.
NOT_LINEAR: Final = (
    *("*emb*", "wte", "wpe", "shared", "*position*", "*relative_attention*"),
    *("lm_head", "embed_out", "predictions"),
    *("*norm*", "ln", "ln_*"),
    *("gate", "*router*", "*lora_*"),
)
_HEAD: Final = "lm_head"
# Models of transformers whose layers are Conv1D: their weights are transposed, and compressed-tensors passes them by.
_CONV1D: Final = ("clvp", "decision_transformer", "gpt2", "imagegpt", "openai-gpt")


def is_linear(name: str) -> bool:
    """Whether a tensor of this name and of two dimensions is taken for the weight of a linear layer."""
    return name.endswith(CODES) and not any(map(_says_otherwise, name.removesuffix(CODES).split(".")))


@lru_cache(4096)  # models have many names of few parts
def _says_otherwise(part: str) -> bool:
    return any(fnmatchcase(part.lower(), word) for word in NOT_LINEAR)


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """How weights are quantized, and which tensors are meant."""

    scheme: Scheme
    calibration: Calibration
    scale_dtype: str | None = None
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    from_format: ClassVar[None] = None
    joins_files: ClassVar[bool] = False  # whether one file is made of several

    @property
    def format(self) -> str:
        """What a report calls the target."""
        return str(self.scheme)

    @property
    def needs_plan(self) -> bool:
        """Whether a file is to be looked at before anything is written."""
        return True

    def check_result(self, source: Path, tensors: Sequence[TensorReport]) -> None:
        """Refuse to copy a whole model under another name."""
        if not any(tensor.targets for tensor in tensors):
            raise ValueError(
                f"{source} has no weights to quantize: floats of two dimensions whose names end in {CODES} and are not "
                f"those of embeddings or norms, in {_SUFFIX} files of a model; only (--only) names others"
            )

    def selects(self, tensor: Tensor) -> bool:
        """Whether this tensor is quantized: the weight of a linear layer, or whatever weight `only` names."""
        if (
            tensor.format not in _SOURCES
            or len(tensor.shape) != 2
            or not tensor.size
            or not tensor.name.endswith(CODES)
        ):
            return False
        if any(fnmatchcase(tensor.name, pattern) for pattern in self.skip):
            return False
        if self.only:
            return any(fnmatchcase(tensor.name, pattern) for pattern in self.only)
        return is_linear(tensor.name)

    def plan(self, path: Path, source: Source) -> Plan:
        """Return what becomes of a file."""
        becomes = self._becomes(path, source)

        def tasks(placed: Sequence[Tensor]) -> list[Task]:
            following = iter(placed)
            made: list[Task] = []
            for old, new in zip(source.tensors, becomes, strict=True):
                targets = [next(following) for _ in new]
                made.append(Copy(old, targets[0]) if new[0] is old else self._task(old, targets))
            return made

        targets = [part for parts in becomes for part in parts]
        if len(targets) == len(source.tensors):
            return Plan(targets, tasks)
        if len({part.name for part in targets}) < len(targets):
            twice = key_twice(part.name for part in targets)
            raise ValueError(f"{path}: the tensor {shown(twice)} is there already; a weight that is quantized needs it")
        return Plan(targets, tasks, {**source.metadata, KEY: json.dumps(self.scheme.as_config(["Linear"], []))})

    def configure(self, path: Path, config: Any) -> bool:
        """Say in a configuration how the weights beside it are quantized."""
        meant: list[str] = []
        left: list[str] = []
        for shard in sorted(path.parent.glob(f"*{_SUFFIX}")):
            with closing(safetensors.open_source(shard)) as source:
                for tensor, parts in zip(source.tensors, self._becomes(shard, source), strict=True):
                    if len(tensor.shape) == 2 and tensor.name.endswith(CODES):
                        (left if parts[0] is tensor else meant).append(tensor.name)
        if not meant or not isinstance(config, dict):
            return False
        ignore = [name.removesuffix(CODES) for name in left]
        if not any(name.split(".")[-2:-1] == [_HEAD] for name in [*meant, *left]):
            ignore.append(f"re:(.*[.])?{_HEAD}$")  # it shares the embedding's weight, and there is none of its own
        named = [name.removesuffix(CODES) for name in meant if not is_linear(name)]
        config[KEY] = self.scheme.as_config(["Linear", *named], ignore)
        return True

    def _task(self, source: Tensor, targets: Sequence[Tensor]) -> Quantize:
        return Quantize(source, targets, self.scheme, self.calibration, self.scale_dtype)

    def _becomes(self, path: Path, source: Source) -> list[list[Tensor]]:
        """Return what takes the place of each tensor: itself alone if it is not quantized."""
        is_meant = path.suffix == _SUFFIX and _is_meant(path, source)
        return [
            self._parts(path, tensor) if is_meant and self.selects(tensor) else [tensor] for tensor in source.tensors
        ]

    def _parts(self, path: Path, tensor: Tensor) -> list[Tensor]:
        columns, size = tensor.shape[1], self.scheme.group_size
        if size is not None and columns % size:
            raise ValueError(
                f"{path}: tensor {tensor.name!r} has rows of {columns} values, which are no groups of {size}; another "
                "group_size (--group-size) may fit, and skip (--skip) leaves a tensor as it is"
            )
        own = "float32" if tensor.format == "float64" else str(tensor.format)
        return self.scheme.parts(tensor, self.scale_dtype or own)


def _is_meant(path: Path, source: Source) -> bool:
    """Whether a file's weights are a model's: those beside a config.json that is none of a model stay."""
    config = config_beside(path)
    is_configured = config is not None and config.get(KEY) is not None
    if is_configured or KEY in source.metadata:
        where = path.parent / CONFIG_NAME if is_configured else path
        raise ValueError(f"{where}: says that the model is quantized already; dequantize it first")
    if config is None:
        return True
    if config.get("model_type") in _CONV1D:
        raise ValueError(
            f"{path.parent / CONFIG_NAME}: is of model_type {config['model_type']!r}, whose layers are Conv1D with "
            "transposed weights; compressed-tensors knows linear ones"
        )
    return "model_type" in config or "architectures" in config
