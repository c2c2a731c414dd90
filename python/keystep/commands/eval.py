"""keystep eval"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import tyro

import keystep
from keystep.evaluate.machine import write_json
from keystep.evaluate.report import EvaluationReport
from keystep.evaluate.rollout import Evaluation, OpenPolicy, Worker, evaluate


def main(
    bundle: Annotated[Path, tyro.conf.Positional],
    env: str = "keystep/Franka3Blocks-v0",
    tasks: tuple[str, ...] = (),
    episodes: int = 100,
    seed: int = 0,
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
        reference: a training checkpoint: evaluate it through the slow PyTorch reference instead, same seeds and noise.
        json: also write the results to this file.
    """
    names = tasks or tuple(task["name"] for task in keystep.read_manifest(bundle)["tasks"])
    if reference is None:
        open_policy: OpenPolicy = functools.partial(
            keystep.load, bundle, provider=provider, threads=threads, inference_steps=inference_steps
        )
    else:
        open_policy = functools.partial(open_reference, reference, inference_steps, threads)
    report = run(open_policy, Evaluation(env, names, episodes, seed), processes)
    print(report)
    for latency in report.latency[:1]:
        print(f"\nlatency of one process ({report.description}):\n{keystep.LatencyReport.from_dict(latency)}")
    if json is not None:
        write_json(json, report.to_dict())


def open_reference(checkpoint: Path, inference_steps: int, threads: int):  # type: ignore[no-untyped-def]
    """The PyTorch reference policy; a module-level function, so that it can be sent to other processes."""
    import torch

    from keystep.models import ReferencePolicy

    torch.set_num_threads(max(threads, 1))
    return ReferencePolicy(checkpoint, inference_steps=inference_steps)


def run(open_policy: OpenPolicy, evaluation: Evaluation, processes: int = 1) -> EvaluationReport:
    """Say what it will cost, then evaluate under a progress bar."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    total = evaluation.episodes * len(evaluation.tasks)
    print(f"{total} episodes ({evaluation.episodes} of {len(evaluation.tasks)} tasks): {cost(open_policy, evaluation)}")
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
    return f"at most {seconds / 60:.1f} min of computing ({step * 1e3:.1f} ms a step, at most {steps} steps an episode)"
