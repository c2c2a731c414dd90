"""keystep convert"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


def main(
    program: Annotated[Literal["lerobot"], tyro.conf.Positional],
    checkpoint: Annotated[str, tyro.conf.Positional],
    output: Annotated[Path, tyro.conf.Positional],
    revision: str | None = None,
    rate_hz: float = 30.0,
    bounds: Literal["none", "data"] = "none",
    execute: int | None = None,
    resize: bool = False,
    precision: Literal["fp32", "bf16", "int8"] = "fp32",
    name: str | None = None,
    kind: str | None = None,
    inference_steps: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Make a bundle of a policy that another program trained; the folder appears whole or not at all.

    Of LeRobot those of ACT and diffusion (docs/convert.md). Nothing of it needs to be installed.

    Args:
        program: which one trained it.
        checkpoint: folder with config.json and model.safetensors, or a hub id OWNER/NAME.
        output: the bundle's folder, NAME.keystep.
        revision: of the hub id: branch, tag or commit.
        rate_hz: how often it acts; LeRobot's checkpoints do not say, and its recorder's default is 30.
        bounds: of actions: none, as in LeRobot, or the least and greatest of its data.
        execute: actions taken of each chunk; n_action_steps when not given.
        resize: let the runtime resize images of another size.
        precision: of the U-Net's weights for the native engine; fp32 can be run in all three, bf16 in int8.
        name: of the bundle; the folder's when not given.
        kind: sampler, ddpm or ddim; as trained when not given.
        inference_steps: denoise steps; as trained when not given.
        seed: of the golden inputs and noise.
        overwrite: replace a bundle that is there.
    """
    from keystep.export.convert.lerobot.convert import convert_lerobot

    changes: dict[str, Any] = {"kind": kind, "inference_steps": inference_steps}
    made = convert_lerobot(
        checkpoint,
        output,
        revision=revision,
        rate_hz=rate_hz,
        bounds=bounds,
        execute=execute,
        resize=resize,
        precision=precision,
        name=name,
        overwrite=overwrite,
        seed=seed,
        **{field: value for field, value in changes.items() if value is not None},
    )
    size = sum(file.stat().st_size for file in made.path.iterdir())
    print(f"{made.path}: {size / 1e6:.2f} MB; check it with: keystep verify {made.path}")
    for note in made.notes:
        print(f"  {note}")
