"""keystep eval"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import tyro

import keystep
from keystep.evaluate.report import EvaluationReport
from keystep.evaluate.rollout import Evaluation, OpenPolicy, Worker, evaluate
from keystep.files import write_json

FIRST_SEED = 10_000_000
"""Of evaluations: far from those of demonstrations (from 0; of the shipped policy, from 1,000,000)."""


def main(
    bundle: Annotated[Path, tyro.conf.Positional],
    env: str = "keystep/Franka3Blocks-v0",
    tasks: tuple[str, ...] = (),
    episodes: int = 100,
    seed: int = FIRST_SEED,
    processes: int = 1,
    threads: int = 1,
    provider: str = "cpu",
    inference_steps: int = 0,
    reference: Path | None = None,
    json: Path | None = None,
) -> None:
    """Run a bundle closed-loop in simulation and count solved episodes per task, with Wilson 95 % intervals.

    Args:
        bundle: the bundle's folder.
        env: Gymnasium environment.
        tasks: names; all of the bundle's when empty.
        episodes: per task; episode i starts from env seed `seed` + i.
        seed: first env seed, and the seed of the policy's noise.
        processes: simulators run in parallel.
        threads: threads inside an operator.
        provider: cpu, openvino, cuda or tensorrt.
        inference_steps: denoise steps; 0: as the bundle says.
        reference: a training checkpoint to evaluate through the slow PyTorch reference, same seeds and noise.
        json: also write the results to this file.
    """
    manifest = keystep.read_manifest(bundle)
    names = tasks or tuple(task["name"] for task in manifest["tasks"])
    if reference is None:
        open_policy: OpenPolicy = functools.partial(
            keystep.load, bundle, provider=provider, threads=threads, inference_steps=inference_steps
        )
    else:
        open_policy = functools.partial(Reference, reference, manifest, inference_steps, threads)
    report = run(open_policy, Evaluation(env, names, episodes, seed), processes)
    print(report)
    for latency in report.latency[:1]:
        print(f"\nlatency of one process ({report.description}):\n{keystep.LatencyReport.from_dict(latency)}")
    if json is not None:
        write_json(json, report.to_dict())


class Reference:
    """The PyTorch reference policy, with the manifest of the bundle it is compared with."""

    description = "PyTorch eager, diffusers"

    def __init__(
        self, checkpoint: Path, manifest: dict[str, Any], inference_steps: int, threads: int
    ) -> None:
        import torch

        from keystep.models.reference import ReferencePolicy

        torch.set_num_threads(max(threads, 1))
        sampler = {**manifest["sampler"], "betas": tuple(manifest["sampler"]["betas"])}
        sampler["inference_steps"] = inference_steps or sampler["inference_steps"]
        self._policy = ReferencePolicy(checkpoint, execute=manifest["chunk"]["execute"], **sampler)
        self.manifest = manifest
        self.reset = self._policy.reset
        self.act = self._policy.act


def run(open_policy: OpenPolicy, evaluation: Evaluation, processes: int = 1) -> EvaluationReport:
    """Say what it will cost, then evaluate under a progress bar."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    total = evaluation.episodes * len(evaluation.tasks)
    print(f"{total} episodes of {len(evaluation.tasks)} tasks: {cost(open_policy, evaluation)}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("episodes", total=total)
        return evaluate(
            open_policy,
            evaluation.env,
            evaluation.tasks,
            evaluation.episodes,
            evaluation.seed,
            processes,
            on_episode=lambda result: progress.update(bar, advance=1, description=f"{result.task:<16}"),
        )


def cost(open_policy: OpenPolicy, evaluation: Evaluation) -> str:
    """An upper bound, measured on a few steps of one episode."""
    worker = Worker(open_policy(), evaluation)
    try:
        step = worker.seconds_per_step()
        steps = worker.max_episode_steps
    finally:
        worker.close()
    seconds = step * steps * evaluation.episodes * len(evaluation.tasks)
    bound = f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
    return f"at most {bound} ({step * 1e3:.1f} ms a step, {steps} steps an episode)"
