"""The policies that are measured, kept in build/benchmark-cases; of random weights, but for the shipped one.

A case folder holds `bundle.keystep/` and what torch loads, made of the same weights: `checkpoint/`, or
`planner/` and `controller/` of a hierarchy.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.machine import REPOSITORY

FOLDER = REPOSITORY / "build" / "benchmark-cases"
# U-Net sizes by channels per level. Horizon 16, action (7,), state (26,), condition 512, 10 DDIM steps.
SIZES = {"small": (128, 256, 384), "medium": (256, 512, 1024), "paper": (512, 1024, 2048)}
# What one of width and horizon does to the cost, the other as above: cases `width-64`, `horizon-4`, ..
WIDTHS, HORIZONS = (64, 128, 256, 512), (4, 8, 16, 32, 64)


def prepare_case(name: str) -> Path:
    """The case's folder; exported first if it is missing or older than the code that exports it."""
    if name not in EXPORTERS:
        raise ValueError(f"case: expected one of {', '.join(EXPORTERS)}, got {name!r}")
    case = _folder(name)
    if not case.exists():
        print(f"exporting the {name} policy to {case.relative_to(REPOSITORY)}", flush=True)
        # in a process of its own: torch and the weights must not stay in the memory of the one that measures
        subprocess.run([sys.executable, "-m", "benchmarks.cases", name], cwd=REPOSITORY, check=True)
    return case


def prepare_shipped_hierarchy() -> Path | None:
    """The shipped bundle beside the checkpoints it was made of; None where these are not."""
    parts = {
        "bundle.keystep": REPOSITORY / "bundles" / "franka3blocks-state.keystep",
        "planner": REPOSITORY / "checkpoints" / "state-planner",
        "controller": REPOSITORY / "checkpoints" / "state-controller",
    }
    if not all(path.exists() for path in parts.values()):
        return None
    case = FOLDER / "shipped"
    shutil.rmtree(case, ignore_errors=True)
    case.mkdir(parents=True)
    for name, path in parts.items():
        (case / name).symlink_to(path)
    return case


def load_torch_policy(case: Path) -> tuple[Any, Any, Any]:
    """(DiffusionController, Normalizer, SamplerConfig) of a case."""
    from keystep.models import load_policy

    policy, checkpoint = load_policy(case / "checkpoint")
    return policy, checkpoint.normalizer(), policy.config.sampler


def _folder(name: str) -> Path:
    return FOLDER / f"{name}-{_source_digest()}"


def _source_digest() -> str:
    """Of everything that decides what an exported case looks like."""
    digest = hashlib.sha256()
    for folder in ("export", "python/keystep/models"):
        for file in sorted((REPOSITORY / folder).rglob("*.py")):
            digest.update(file.name.encode() + file.read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()[:12]


def _export(name: str) -> None:
    """The case appears whole or not at all."""
    case = _folder(name)
    for old in FOLDER.glob(f"{name}-*"):
        shutil.rmtree(old)
    unfinished = FOLDER / f"unfinished-{case.name}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    EXPORTERS[name](unfinished)
    unfinished.rename(case)


def _export_flat(case: Path, name: str, down_dims: tuple[int, ...], horizon: int = 16) -> None:
    from keystep.export.bundle import export_bundle
    from keystep.models import DiffusionConfig, SamplerConfig, random_checkpoint

    # diffusers' (and LeRobot's) default rule: it starts where alpha-bar is not yet so small that the rounding
    # errors of an untrained network are multiplied by thousands
    sampler = SamplerConfig(timestep_rule="leading")
    config = DiffusionConfig(
        down_dims=down_dims,
        horizon=horizon,
        execute=min(8, horizon),
        step_dim=256,
        condition_features=512,
        sampler=sampler,
    )
    random_checkpoint(case / "checkpoint", config)
    export_bundle(case / "checkpoint", case / "bundle.keystep", name=name)


def _export_unet_70m(case: Path) -> None:
    """70 M parameters of U-Net behind a ResNet-18 of 11 M: a camera of 96 x 96 and the state, 16 actions."""
    from keystep.export.bundle import export_bundle
    from keystep.models import DiffusionConfig, camera_feature, random_checkpoint, state_feature

    config = DiffusionConfig(
        observation=(state_feature(26), camera_feature("static", 96, 96)),
        down_dims=SIZES["medium"],
        horizon=16,
        execute=8,
        step_dim=256,
        condition_features=512,
    )
    random_checkpoint(case / "checkpoint", config)
    export_bundle(case / "checkpoint", case / "bundle.keystep", name="unet-70m")


def _export_act(case: Path) -> None:
    """HD-ExpIt's ACT: a 96 x 96 camera and its goal, no state."""
    from keystep.export.bundle import export_bundle
    from keystep.models import ACT_PRESETS, camera_feature, random_checkpoint

    config = replace(ACT_PRESETS["act"], observation=(camera_feature("static", 96, 96),))
    random_checkpoint(case / "checkpoint", config)
    export_bundle(case / "checkpoint", case / "bundle.keystep", name="act")


def _export_hierarchy(case: Path, images: bool) -> None:
    """Presets `small` or `small-rgb` of planner and controller, the default text encoder."""
    from keystep.export.bundle import export_bundle
    from keystep.models import (
        PLANNER_PRESETS,
        PRESETS,
        camera_feature,
        make_model,
        random_checkpoint,
        save_checkpoint,
    )
    from keystep.models.checkpoint import TEXT_ENCODER
    from keystep.models.text import load_text_encoder

    seen: dict[str, Any] = {"observation": (camera_feature("static", 64, 64),)} if images else {}
    preset = replace(PRESETS["small-rgb" if images else "small"], goal="observation", **seen)
    controller = random_checkpoint(case / "controller", preset)
    encoder = load_text_encoder()
    text: dict[str, Any] = {"text_tokens": encoder.tokens, "text_width": encoder.width}
    config = replace(PLANNER_PRESETS["small-rgb" if images else "small"], **text)
    # random_checkpoint seeded torch: these weights are the same every time, too
    save_checkpoint(case / "planner", replace(controller, config=config), make_model(config).state_dict())
    encoder.save(case / "planner" / TEXT_ENCODER)
    export_bundle(
        case / "controller",
        case / "bundle.keystep",
        planner=case / "planner",
        planner_sampler={"guidance": 0.5},
    )


EXPORTERS: dict[str, Callable[[Path], None]] = {
    **{size: partial(_export_flat, name=size, down_dims=dims) for size, dims in SIZES.items()},
    **{
        f"width-{width}": partial(
            _export_flat, name=f"width-{width}", down_dims=(width, 2 * width, 4 * width)
        )
        for width in WIDTHS
    },
    **{
        f"horizon-{horizon}": partial(
            _export_flat, name=f"horizon-{horizon}", down_dims=SIZES["small"], horizon=horizon
        )
        for horizon in HORIZONS
    },
    "unet-70m": _export_unet_70m,
    "act": _export_act,
    "state-hierarchy": partial(_export_hierarchy, images=False),
    "image-hierarchy": partial(_export_hierarchy, images=True),
}

if __name__ == "__main__":
    _export(sys.argv[1])
