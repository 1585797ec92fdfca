"""Made-up models to cast: files and directories of float32 tensors, written and read back without narrowcast.

The shapes are those of a language model, the values normally distributed. What is timed with them: files.py.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np

import narrowcast as nc

from .check import MismatchError, difference
from .formats import Array, code_dtype
from .inputs import timed_block

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

WORDS = {"float32": "F32", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3"}  # safetensors' names
_LAYERS = 16


def language_model(size: int) -> Shapes:
    """Return names and shapes of tensors that take `size` bytes as float32, but for a row or two."""
    count = size // 4
    width = max(8, math.isqrt(count // 260) // 8 * 8)
    inner = width * 11 // 4
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(_LAYERS):
        name = f"model.layers.{layer}."
        shapes |= {f"{name}self_attn.{part}_proj.weight": (width, width) for part in "qkvo"}
        shapes |= {f"{name}mlp.{part}_proj.weight": (inner, width) for part in ("gate", "up")}
        shapes |= {f"{name}mlp.down_proj.weight": (width, inner)}
        shapes |= {f"{name}{part}_layernorm.weight": (width,) for part in ("input", "post_attention")}
    rest = max(2, (count - sum(map(math.prod, shapes.values()))) // width)
    return shapes | {"model.embed_tokens.weight": (rest // 2, width), "lm_head.weight": (rest - rest // 2, width)}


def small_tensors(number: int) -> Shapes:
    """Return names and shapes of as many tensors of 64 elements."""
    return {f"model.layers.{i // 10}.part.{i % 10}.weight": (8, 8) for i in range(number)}


def write_file(path: Path, shapes: Shapes) -> None:
    """Write a .safetensors file, to the disk and not only into the page cache, where it also is."""
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": WORDS["float32"], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    block = timed_block("float32", signed=True).tobytes()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, end, len(block)):
            file.write(block[: end - start])
        file.flush()
        os.fsync(file.fileno())  # so that nothing is written while others are timed


def write_directory(path: Path, shapes: Shapes, number: int) -> None:
    """Write as many shards of about one size."""
    parts: list[dict[str, tuple[int, ...]]] = [{} for _ in range(number)]
    load = [0] * number
    for name, shape in sorted(shapes.items(), key=lambda item: -math.prod(item[1])):
        least = load.index(min(load))
        parts[least][name] = shape
        load[least] += math.prod(shape)
    path.mkdir()
    for i, part in enumerate(parts, 1):
        write_file(path / f"model-{i:05}-of-{number:05}.safetensors", part)


def check_cast(source: Path, target: Path, dtype: str) -> None:
    """Compare every tensor of a file with its cast in memory; MismatchError if a name, shape, dtype or bit is wrong."""
    before, after = read_file(source), read_file(target)
    if list(before) != list(after):
        raise MismatchError(f"the file cast to {dtype} has other names, or in another order")
    for name, (_, shape, values) in before.items():
        word, found_shape, codes = after[name]
        if (word, found_shape) != (WORDS[dtype], shape):
            raise MismatchError(f"{name} is {word} of shape {found_shape}, not {WORDS[dtype]} of shape {shape}")
        x = values.view(np.float32)
        want = nc.astype(x, dtype).view(code_dtype(dtype))
        found = difference(codes.view(code_dtype(dtype)), want, x, dtype)
        if found.count:
            raise MismatchError(f"{name}, float32 -> {dtype} in a file: {found.count} elements; {found.example}")


def read_file(path: Path) -> dict[str, tuple[str, list[int], Array]]:
    """Return dtype, shape and bytes (mapped) of every tensor of a .safetensors file."""
    data = np.memmap(path, np.uint8, "r").view(np.ndarray)
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:start].tobytes())
    found = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        found[name] = entry["dtype"], entry["shape"], data[start + begin : start + end]
    return found
