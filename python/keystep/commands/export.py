"""keystep export"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


def main(
    checkpoint: Annotated[Path, tyro.conf.Positional],
    output: Annotated[Path, tyro.conf.Positional],
    planner: Path | None = None,
    scorer: Path | None = None,
    precision: Literal["fp32", "bf16", "int8"] = "fp32",
    name: str | None = None,
    execute: int | None = None,
    kind: str | None = None,
    inference_steps: int | None = None,
    eta: float | None = None,
    guidance: float | None = None,
    timestep_rule: str | None = None,
    planner_kind: str | None = None,
    planner_steps: int | None = None,
    planner_guidance: float | None = None,
    replan: bool = True,
    plan_ahead: int | None = None,
    resize: bool = False,
    reply_tokens: int | None = None,
    context: int | None = None,
    constrained: bool = False,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Compile a training checkpoint into a bundle; the folder appears whole or not at all.

    Args:
        checkpoint: folder of a controller, written by `keystep train controller`; or of a planner that writes
            code, written by `keystep train code-planner`, which takes precision (fp32 or int8), name, resize,
            seed, overwrite, and reply_tokens, context and constrained.
        output: the bundle's folder, NAME.keystep.
        planner: folder of a planner, written by `keystep train planner`: makes a subgoal policy.
        scorer: folder of a scorer, written by `keystep train scorer`: chooses between the planner's plans
            where the runtime is asked for several (`planner_candidates`).
        precision: of the U-Nets' weights for the native engine; fp32 can be run in all three, bf16 in int8.
            Of a planner that writes code those of its decoder, whose graph has them.
        name: of the bundle; the folder's when not given.
        execute: actions taken of each chunk; as trained when not given, at most what a subgoal is held for.
        kind: sampler, ddpm or ddim for a network of diffusion; this and the next four as trained by default.
        inference_steps: denoise steps.
        eta: 0 deterministic .. 1 like DDPM; ddim only.
        guidance: lambda of classifier-free guidance.
        timestep_rule: which training time-steps are visited: leading, trailing, linspace or hd_expit.
        planner_kind: the planner's sampler; this and the next two are as trained when not given.
        planner_steps: denoise steps of a plan.
        planner_guidance: lambda of the planner's guidance; an episode may choose another.
        replan: plan again when all subgoals are used up.
        plan_ahead: in async mode a plan is asked for so many actions before the old one is used up, at most
            what a subgoal is held for; as many as plans and chunks take when not given.
        resize: let the runtime resize images of another size.
        reply_tokens: of a planner that writes code: most tokens of a reply, 96 when not given.
        context: and of a prompt with its reply; as trained when not given.
        constrained: replies of a planner that writes code are code of its API unless a session is told
            otherwise (docs/constrained.md).
        seed: of the golden inputs and noise.
        overwrite: replace a bundle that is there.
    """
    from keystep.export.bundle import export_bundle

    changes = {
        "kind": kind,
        "inference_steps": inference_steps,
        "eta": eta,
        "guidance": guidance,
        "timestep_rule": timestep_rule,
        "reply_tokens": reply_tokens,
        "context": context,
    }
    plan_changes = {"kind": planner_kind, "inference_steps": planner_steps, "guidance": planner_guidance}
    path = export_bundle(
        checkpoint,
        output,
        planner=planner,
        scorer=scorer,
        precision=precision,
        name=name,
        execute=execute,
        overwrite=overwrite,
        seed=seed,
        replan=replan,
        plan_ahead=plan_ahead,
        resize=resize,
        constrained=constrained,
        planner_sampler=_given(plan_changes),
        **_given(changes),
    )
    size = sum(file.stat().st_size for file in path.iterdir())
    print(f"{path}: {size / 1e6:.2f} MB; check it with: keystep verify {path}")


def _given(changes: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in changes.items() if value is not None}
