"""The commands ``narrowcast quantize`` and ``narrowcast dequantize``: their arguments. All else is as for a cast."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from narrowcast._files import progress
from narrowcast._files.cli import add_common, add_names, add_paths, common, run
from narrowcast._files.quantized import STRATEGIES
from narrowcast._files.quantized_entry import SCALE_DTYPES, dequantize_file, quantize_file
from narrowcast._files.report import CastReport
from narrowcast._quant.collectors import METHODS, Calibration

if TYPE_CHECKING:
    from narrowcast._files.cli import Commands

_SOURCE: Final = "a .safetensors file, or a directory"
_ENDS: Final = (
    " The result appears whole or not at all. A directory that was interrupted is kept beside its place, and the same "
    "command goes on with it. Exit status: 0 done, 2 anything else, 130 interrupted."
)
_QUANTIZE: Final = (
    "Quantize the weights of the linear layers of a model, into the format of compressed-tensors, which transformers "
    "and vLLM load; embeddings, heads and norms stay." + _ENDS
)
_DEQUANTIZE: Final = (
    "Make floats of the quantized weights of a model in the format of compressed-tensors, whoever wrote it." + _ENDS
)


def add_quantize(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("quantize", help="quantize a model's weights", description=_QUANTIZE)
    add_paths(parser, _SOURCE)
    parser.add_argument("--to", metavar="CODES", required=True, help="int4, int8, float8_e4m3fn; also int1 to int7")
    parser.add_argument(
        "--granularity", choices=STRATEGIES, help="what shares a scale; default: group below 8 bits, else channel"
    )
    parser.add_argument("--group-size", type=int, metavar="N", help="neighbours in a row; default 128")
    parser.add_argument("--block-shape", type=int, nargs=2, metavar=("ROWS", "COLUMNS"), help="default 128 128")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--symmetric", action="store_true", default=True, help="without zero points; the default")
    form.add_argument("--asymmetric", dest="symmetric", action="store_false", help="with zero points")
    parser.add_argument(
        "--calibration", choices=tuple(METHODS), default="minmax", help="how a range follows from values"
    )
    parser.add_argument("--percentile", type=float, metavar="P", help="of --calibration percentile; default 99.999")
    parser.add_argument("--scale-dtype", choices=SCALE_DTYPES, help="default: that of the weight")
    parser.add_argument(
        "--format",
        choices=("pack-quantized", "int-quantized", "float-quantized"),
        help="how codes are stored; only int8 has a choice, packed or (the default) int-quantized",
    )
    parser.add_argument(
        "--dynamic-activations", action="store_true", help="ask servers to quantize activations, token by token"
    )
    add_names(parser, "quantize")
    add_common(parser)
    parser.set_defaults(run=run, convert=_quantize)


def add_dequantize(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("dequantize", help="make floats of a quantized model", description=_DEQUANTIZE)
    add_paths(parser, _SOURCE)
    parser.add_argument("--to", metavar="FORMAT", help="a float format; default: that of the scales")
    add_common(parser)
    parser.set_defaults(run=run, convert=_dequantize)


def _quantize(options: argparse.Namespace) -> CastReport:
    keywords = common(options)
    calibration = Calibration(options.calibration, percentile=options.percentile)
    with progress.shown(options.quiet or options.dry_run, "quantizing") as shown:
        return quantize_file(
            options.source,
            options.target,
            options.to,
            granularity=options.granularity,
            group_size=options.group_size,
            block_shape=options.block_shape,
            symmetric=options.symmetric,
            calibration=calibration,
            scale_dtype=options.scale_dtype,
            format=options.format,
            dynamic_activations=options.dynamic_activations,
            only=options.only,
            skip=options.skip,
            progress=shown,
            **keywords,
        )


def _dequantize(options: argparse.Namespace) -> CastReport:
    keywords = common(options)
    with progress.shown(options.quiet or options.dry_run, "dequantizing") as shown:
        return dequantize_file(options.source, options.target, options.to, progress=shown, **keywords)


__all__: Final = ["add_dequantize", "add_quantize", "run"]
