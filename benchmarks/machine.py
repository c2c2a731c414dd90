"""What a figure was measured on: processor, kernel, versions, commit."""

import functools
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from keystep.machine import describe_machine

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = (
    "keystep",
    "numpy",
    "torch",
    "diffusers",
    "transformers",
    "onnxruntime",
    "onnxruntime-openvino",
    "openvino",
)


@functools.cache  # the first call is at the start of the run: that is when the load average means something
def describe_run() -> dict[str, Any]:
    """The machine as everywhere in keystep, and what a comparison of speeds has to say beside."""
    return describe_machine() | {
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "governor": _governor(),
        "load_at_start": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": _git("rev-parse", "HEAD") or "unknown",
        # results of the run before are no change of what is measured
        "dirty": bool(_git("status", "--porcelain", "--", ".", ":(exclude)benchmarks/results")),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _governor() -> str:
    file = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return file.read_text().strip() if file.is_file() else "not readable"


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _git(*arguments: str) -> str:
    """Output of a reading git command; empty outside a repository."""
    command = ["git", "--no-optional-locks", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
