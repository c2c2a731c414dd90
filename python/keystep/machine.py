"""Where a figure was measured: a number without its machine and commit is worth nothing."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import keystep
from keystep.provenance import git_commit


def describe_machine() -> dict[str, Any]:
    """Processor, cores this process may use, kernel, Python, keystep's version and commit."""
    return {
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "keystep": keystep.__version__,
        "commit": git_commit(),
    }


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory_mb() -> float:
    """Peak resident memory of this process in MB (10^6 bytes); unlike getrusage, not inherited over exec."""
    return _status_kib("VmHWM") * 1024 / 1e6


def resident_memory_mb() -> float:
    """Resident memory of this process now, in MB (10^6 bytes)."""
    return _status_kib("VmRSS") * 1024 / 1e6


def _status_kib(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise keystep.Error(f"/proc/self/status: expected a line {field}, got none")


def _cpu_model() -> str:
    """Brand, family and model: the brand of a virtual processor does not tell generations apart."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    fields = {}
    for line in info.read_text().split("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        fields[key.strip()] = value.strip()
    name = fields.get("model name", platform.machine())
    return f"{name} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})"
