"""The policies that are measured: random weights, three U-Net sizes, kept in build/benchmark-cases.

A case folder holds `checkpoint/` (for torch) and `bundle.keystep/` (for the rest), made of the same weights.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import REPOSITORY

FOLDER = REPOSITORY / "build" / "benchmark-cases"
# U-Net sizes by channels per level. Horizon 16, action (7,), state (26,), condition 512, 10 DDIM steps.
SIZES = {"small": (128, 256, 384), "medium": (256, 512, 1024), "paper": (512, 1024, 2048)}


def prepare_case(size: str) -> Path:
    """The case's folder; exported first if it is missing or older than the code that exports it."""
    if size not in SIZES:
        raise ValueError(f"size: expected one of {', '.join(SIZES)}, got {size!r}")
    case = FOLDER / f"{size}-{_source_digest()}"
    if not case.exists():
        print(f"exporting the {size} policy to {case.relative_to(REPOSITORY)}", flush=True)
        # in a process of its own: torch and the weights must not stay in the memory of the one that measures
        subprocess.run([sys.executable, "-m", "benchmarks.cases", size], cwd=REPOSITORY, check=True)
    return case


def load_torch_policy(case: Path) -> tuple[Any, Any, Any]:
    """(DiffusionPolicy, Normalizer, SamplerConfig) of a case."""
    from keystep.models import load_policy

    policy, checkpoint = load_policy(case / "checkpoint")
    return policy, checkpoint.normalizer(), policy.config.sampler


def _source_digest() -> str:
    """Of everything that decides what an exported case looks like."""
    digest = hashlib.sha256()
    for folder in ("export", "python/keystep/models"):
        for file in sorted((REPOSITORY / folder).glob("*.py")):
            digest.update(file.name.encode() + file.read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()[:12]


def _export(size: str) -> None:
    from keystep.export.bundle import export_bundle
    from keystep.models import PolicyConfig, SamplerConfig, random_checkpoint

    # diffusers' (and LeRobot's) default rule: it starts where alpha-bar is not yet so small that the rounding
    # errors of an untrained network are multiplied by thousands
    sampler = SamplerConfig(timestep_rule="leading")
    config = PolicyConfig(
        down_dims=SIZES[size], horizon=16, step_dim=256, condition_features=512, sampler=sampler
    )
    for old in FOLDER.glob(f"{size}-*"):
        shutil.rmtree(old)
    case = FOLDER / f"{size}-{_source_digest()}"
    unfinished = FOLDER / f"unfinished-{case.name}"
    shutil.rmtree(unfinished, ignore_errors=True)
    random_checkpoint(unfinished / "checkpoint", config)
    export_bundle(unfinished / "checkpoint", unfinished / "bundle.keystep", form="both", name=size)
    unfinished.rename(case)


if __name__ == "__main__":
    _export(sys.argv[1])
