"""Which calls of the core a quantization takes.

One, where each box of values is a stretch of memory or scales are given; else ranges first, from the core or from a
calibration, then scales, then codes. Where results go is in outputs.py.
"""

from __future__ import annotations

from narrowcast import _config, _core
from narrowcast._arrays import Array
from narrowcast._quant import params
from narrowcast._quant.call import Call
from narrowcast._quant.outputs import Outputs
from narrowcast._quant.params import Params
from narrowcast._quant.ranges import find_ranges
from narrowcast._quant.resolved import unpacked
from narrowcast._quant.spec import DEFAULTS


def run(whole: Call, given: Params | None, outputs: Outputs) -> Params:
    """Write codes and row sums; return the scales and zero points."""
    call, resolved = whole, whole.spec._resolved
    if call.spec.threshold:
        call = outputs.leave_out_columns(whole)
    codes = outputs.codes_for_core(whole)
    if not call.array.size:
        return given or compute(whole)
    fused = given is None and _is_one_pass(call, codes, outputs.row_sums is not None)
    used = compute(call) if given is None and not fused else given
    if used is None:
        used = params.allocate(resolved, whole.source.format, call.boxes)
    options = resolved.computed if fused else resolved.given
    if not outputs.is_packed_by_core:
        options = unpacked(options)
    _core.quantize(
        call.array,
        call.source.format.code,
        codes,
        outputs.code_format,
        *used.for_core(),
        outputs.row_sums,
        call.block,
        options,
        call.threads,
        _config.chosen_isa.get(),
    )
    return used


def run_fake(call: Call, given: Params | None, out: Array) -> None:
    """Write the values that codes would stand for."""
    if call.array.size:
        call.put_on_grid(given or compute(call), out, call.source.format.code)


def compute(call: Call) -> Params:
    """Return scales and zero points from the values, by the spec's calibration."""
    low, high = find_ranges(call)
    return params.choose(call.spec._resolved, low, high, call.source.format)


def _is_one_pass(call: Call, codes: Array, sums: bool) -> bool:
    """Whether the core computes scales on its way: each box is a stretch of the last axis, or all there is."""
    if call.spec.calibration != DEFAULTS["calibration"]:
        return False
    if all(extent == 1 for extent in call.block[:-1]):
        return True
    whole = call.block == call.array.shape and not sums
    return bool(whole and call.array.flags.c_contiguous and codes.flags.c_contiguous)
