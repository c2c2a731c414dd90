"""keystep fig10"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

import keystep
from keystep.bars import progress_bar
from keystep.commands import reference as references
from keystep.commands.eval import FIRST_SEED, seconds_text, task_names
from keystep.commands.options import EnvOptions, Kind, OutputOptions, PolicyOptions, refuse_writers
from keystep.evaluate.planner_speed import SpeedReport, compare_samplers
from keystep.evaluate.plots import speed_figure
from keystep.evaluate.rollout import Policy, Worker
from keystep.evaluate.settings import Evaluation
from keystep.evaluate.tables import speed_markdown
from keystep.record.interrupts import Interrupts


@dataclass(frozen=True)
class SpeedOptions(EnvOptions):
    """What is measured."""

    reference: tuple[Path, Path] | None = None
    """Checkpoints of planner and controller: their PyTorch reference answers the same observations."""
    ddpm: tuple[int, ...] = (100,)
    """Numbers of denoise steps; the first of all samplers is what the others are compared with."""
    ddim: tuple[int, ...] = (10, 30, 50, 70)
    """Numbers of denoise steps."""
    controller: Kind = "ddpm"
    """The controller's sampler under every one of the planner's; ddpm, as in the paper."""
    controller_steps: int = 0
    """Its denoise steps; 0: all training steps with ddpm (the paper: 100), else as the bundle says."""
    tasks: tuple[str, ...] = ()
    """Names; all of the bundle's when empty."""
    episodes: int = 10
    """Per task."""
    reference_episodes: int = 1
    """Per task, that the reference takes part in."""
    seed: int = FIRST_SEED
    """First env seed, and the seed of the policy's noise."""
    threads: int = 2
    """Threads inside an operator, of runtime and reference."""
    provider: str = "cpu"
    """cpu, openvino, cuda or tensorrt."""


def main(
    bundle: Annotated[Path, tyro.conf.Positional],
    speed: Annotated[SpeedOptions, tyro.conf.arg(name="")],
    output: Annotated[OutputOptions, tyro.conf.arg(name="")],
) -> None:
    """HD-ExpIt's Figure 10: time per action and success by the planner's sampler, the controller on DDPM.

    All samplers play the same episodes in one interleaved run, each opened once. Ctrl-C writes what is done.

    Args:
        bundle: folder of a subgoal bundle.
    """
    refuse_writers(bundle)
    manifest = keystep.read_manifest(bundle)
    if manifest["family"] != "subgoal":
        raise keystep.ArgumentError(f"family: expected subgoal, got {manifest['family']!r}")
    kind, steps = controller_sampler(manifest, speed.controller, speed.controller_steps)
    common = PolicyOptions(
        provider=speed.provider, threads=speed.threads, sampler=kind, inference_steps=steps
    )
    variants = samplers(common, speed.ddpm, speed.ddim)
    runtimes: dict[str, Policy] = {name: options.opener(bundle)() for name, options in variants.items()}
    slow: dict[str, Policy] = {}
    if speed.reference is not None:
        slow = {name: references.opener(speed.reference, bundle, variants[name])() for name in variants}
    tasks = speed.tasks or task_names(manifest)
    evaluation = Evaluation(tasks=tasks, episodes=speed.episodes, seed=speed.seed, **speed.env_settings())
    report = run(runtimes, slow, evaluation, speed.reference_episodes)
    report.settings.update(bundle=bundle.name, threads=speed.threads, provider=speed.provider)
    report.settings["controller"] = f"{kind.upper()} {steps}" if steps else "without a sampler"
    markdown = speed_markdown(report)
    print(f"\n{markdown}")
    output.write(report.to_dict(), markdown, functools.partial(speed_figure, report))
    if report.count < len(evaluation.jobs):
        raise KeyboardInterrupt


def controller_sampler(manifest: dict[str, Any], kind: Kind, steps: int) -> tuple[Kind, int]:
    """The controller's sampler and its number of steps, for all rows; ("bundle", 0) of one without (ACT)."""
    own = manifest["sampler"]
    if own is None:
        if kind not in ("ddpm", "bundle") or steps:  # the default counts as not given
            raise keystep.ArgumentError("controller: expected one that has a sampler, got one without")
        return "bundle", 0
    if kind == "ddpm":
        return kind, steps or own["train_steps"]
    return own["kind"] if kind == "bundle" else kind, steps or own["inference_steps"]


def samplers(
    options: PolicyOptions, ddpm: tuple[int, ...], ddim: tuple[int, ...]
) -> dict[str, PolicyOptions]:
    """How to open the bundle for each sampler of the planner, by its name."""
    if not ddpm and not ddim:
        raise keystep.ArgumentError("ddpm, ddim: expected at least one sampler, got none")
    return {
        **{f"DDPM {steps}": replace(options, planner_sampler="ddpm", planner_steps=steps) for steps in ddpm},
        **{f"DDIM {steps}": replace(options, planner_sampler="ddim", planner_steps=steps) for steps in ddim},
    }


def run(
    runtimes: dict[str, Policy], slow: dict[str, Policy], evaluation: Evaluation, reference_episodes: int
) -> SpeedReport:
    """Say what it will cost, then measure under a progress bar; a Ctrl-C ends it after this episode."""
    jobs = len(evaluation.jobs)
    estimate = cost(runtimes, slow, evaluation, reference_episodes)
    print(f"{jobs} episodes of {len(runtimes)} samplers: {estimate}")
    reports = []
    with Interrupts() as interrupts, progress_bar() as progress:
        bar = progress.add_task("episodes", total=jobs)
        for report in compare_samplers(runtimes, slow, evaluation, reference_episodes):
            reports.append(report)
            progress.advance(bar)
            if interrupts.requested:
                break
    return reports[-1]


def cost(
    runtimes: dict[str, Policy], slow: dict[str, Policy], evaluation: Evaluation, reference_episodes: int
) -> str:
    """An estimate, measured over a plan of each policy."""
    worker = Worker(next(iter(runtimes.values())), evaluation)
    shares = [(policy, evaluation.episodes) for policy in runtimes.values()]
    shares += [(policy, min(reference_episodes, evaluation.episodes)) for policy in slow.values()]
    seconds, steps = 0.0, worker.max_episode_steps
    try:
        if steps is None:
            return "--max-episode-steps limits an episode, the environment does not"
        for policy, episodes in shares:
            worker.policy = policy
            seconds += worker.seconds_per_step() * steps * episodes * len(evaluation.tasks)
    finally:
        worker.close()
    return f"about {seconds_text(seconds)}, if no episode is solved before its {steps} steps are over"
