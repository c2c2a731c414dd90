"""Where a figure was measured: a number without its machine and commit is worth nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import keystep


def describe_machine() -> dict[str, Any]:
    """Processor, cores this process may use, kernel, Python, keystep's version and commit."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "keystep": keystep.__version__,
        "commit": _commit(),
    }


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
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Commit of the checkout this package runs from, "+" appended when it has changes; else None."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", str(Path(__file__)))
        return git("rev-parse", "--short=12", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None
