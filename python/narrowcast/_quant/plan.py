"""The plan of a spec: what the compiled entry needs to quantize without asking Python anything.

A spec has one if its calls are the core's one fused pass, or a pass with one scale that the call gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from narrowcast._quant.spec import QuantSpec


def make_plan(spec: QuantSpec) -> Any:
    """Return a QuantPlan of the core, or None if only Python can do what the spec asks for."""
    return None
