"""keystep export"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from keystep.export.bundle import export_bundle


def main(
    checkpoint: Annotated[Path, tyro.conf.Positional],
    output: Annotated[Path, tyro.conf.Positional],
    form: Literal["denoise", "sample", "both"] = "denoise",
    name: str | None = None,
    execute: int | None = None,
    kind: Literal["ddpm", "ddim"] | None = None,
    inference_steps: int | None = None,
    eta: float | None = None,
    guidance: float | None = None,
    timestep_rule: Literal["leading", "trailing", "linspace", "hd_expit"] | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Compile a training checkpoint into a bundle; the folder appears whole or not at all.

    Args:
        checkpoint: folder written by `keystep train`.
        output: the bundle's folder, NAME.keystep.
        form: one graph per denoise step, the whole sample as one graph (deterministic samplers), or both.
        name: of the bundle; the folder's when not given.
        execute: actions taken of each chunk; as trained when not given.
        kind: sampler; this and the next four are as trained when not given.
        inference_steps: denoise steps.
        eta: 0 deterministic .. 1 like DDPM; ddim only.
        guidance: lambda of classifier-free guidance.
        timestep_rule: which training time-steps are visited.
        seed: of the golden inputs and noise.
        overwrite: replace a bundle that is there.
    """
    changes = {
        "kind": kind,
        "inference_steps": inference_steps,
        "eta": eta,
        "guidance": guidance,
        "timestep_rule": timestep_rule,
    }
    sampler = {field: value for field, value in changes.items() if value is not None}
    path = export_bundle(
        checkpoint, output, form=form, name=name, execute=execute, overwrite=overwrite, seed=seed, **sampler
    )
    size = sum(file.stat().st_size for file in path.iterdir())
    print(f"{path}: {size / 1e6:.2f} MB; check it with: keystep verify {path}")
