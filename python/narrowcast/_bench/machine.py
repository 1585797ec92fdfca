"""What the numbers belong to: processor, caches, instruction sets, versions, and how busy the machine is."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import narrowcast as nc
from narrowcast import _core

_PACKAGES = ("numpy", "ml_dtypes", "torch", "numkong", "onnxruntime", "jax", "jaxlib")


def describe() -> dict[str, Any]:
    """Describe this machine as plain data."""
    return {
        "cpu": _cpu_model(),
        "cores": _usable_cores(),
        "features": " ".join(_core.cpu_features()),
        "isas": list(nc.isas()),
        "isa": nc.isa(),
        "caches": _caches(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "narrowcast": nc.__version__,
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
        "load": _load(),
    }


def lines(machine: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the description as (label, text) lines."""
    caches = ", ".join(f"{level} {size}" for level, size in machine["caches"].items())
    versions = ", ".join(f"{name} {found}" for name, found in machine["versions"].items())
    shown = [
        ("CPU", f"{machine['cpu']}, {machine['cores']} cores usable"),
        ("features", machine["features"]),
        ("instruction sets", ", ".join(machine["isas"]) + f" (in use: {machine['isa']})"),
        ("caches", caches),
        ("memory", f"{machine['memory_gb']:.0f} GB" if machine["memory_gb"] else ""),
        ("system", f"{machine['system']}, Python {machine['python']}"),
        ("versions", f"narrowcast {machine['narrowcast']}, {versions}"),
        ("load", "" if machine["load"] is None else f"{machine['load']:.2f}"),
    ]
    return [(label, text) for label, text in shown if text]


def is_busy(machine: dict[str, Any]) -> bool:
    """Return whether something else was running when the benchmark began."""
    return machine["load"] is not None and machine["load"] > 0.5


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    return platform.processor() or platform.machine()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _caches() -> dict[str, str]:
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind = (index / "type").read_text().strip()
            level = (index / "level").read_text().strip()
            size = (index / "size").read_text().strip()
        except OSError:
            continue
        if kind != "Instruction":
            found[f"L{level}"] = size
    return found


def _memory_gb() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):
        return 0.0


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
