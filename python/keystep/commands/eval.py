"""keystep eval"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

import keystep
from keystep.bars import progress_bar
from keystep.commands import reference as references
from keystep.commands.eval_latency import LatencyOptions, LatencyRun, check_alone
from keystep.commands.options import (
    ActOptions,
    EnvOptions,
    OutputOptions,
    PolicyOptions,
    refuse_writers,
)
from keystep.commands.rerun_recording import record_episode
from keystep.evaluate.benchmark import of_benchmark
from keystep.evaluate.differences import difference_table, differences
from keystep.evaluate.environments import env_plan
from keystep.evaluate.parallel import Played, in_order
from keystep.evaluate.plots import report_figure
from keystep.evaluate.protocols import Report
from keystep.evaluate.protocols import report as report_of
from keystep.evaluate.protocols import run as run_protocol
from keystep.evaluate.report import EvaluationReport
from keystep.evaluate.rollout import OpenPolicy, Worker, check, reads_text
from keystep.evaluate.settings import CHAIN_LENGTH, UNNAMED, EpisodeResult, Evaluation
from keystep.evaluate.tables import report_markdown
from keystep.evaluate.worlds import other_world
from keystep.files import check_outputs
from keystep.machine import usable_cores
from keystep.record.bundles import bundle_digest
from keystep.suites import suite_named
from keystep.suites.base import Suite

FIRST_SEED = 10_000_000
"""Of evaluations: far from those of demonstrations (from 0; of the shipped policy, from 1,000,000)."""


@dataclass(frozen=True)
class ProtocolOptions(EnvOptions):
    """What is evaluated."""

    protocol: Literal["mtlc", "lh-mtlc"] = "mtlc"
    """mtlc: each task from equal resets; lh-mtlc: tasks in a row from one reset up to the first failure."""
    tasks: tuple[str, ...] = ()
    """Names, given to the environment's reset as options={"task": NAME}; all of the bundle's when empty."""
    episodes: int = 100
    """Per task, or chains; episode i starts from env seed `seed` + i."""
    chain_length: int = CHAIN_LENGTH
    """Tasks in a row of lh-mtlc."""
    seed: int = FIRST_SEED
    """First env seed, and the seed of the policy's noise."""
    noise_seeds: tuple[int, ...] = ()
    """Repeat all episodes with each of these seeds of the policy's noise; also shows the spread over them."""
    measure: str | None = None
    """A number of `info`, such as `coverage`, whose greatest value in each episode is reported too (mtlc)."""
    resets: Literal["shared", "fresh"] = "shared"
    """shared: the same for all tasks; fresh: others for every task, as HD-ExpIt evaluates; a benchmark with
    fixed starts refuses it."""
    subgoals: Literal["policy", "ground_truth"] = "policy"
    """ground_truth: from a demonstration of the expert from the same reset, instead of the planner."""
    guidance: float | None = None
    """Of the planner, lambda; as the bundle says when not given."""
    phrasing: Literal["canonical", "held_out"] = "canonical"
    """held_out: sentences that no training sentence equals. A benchmark has its own."""
    processes: int = 1
    """Simulators run in parallel."""

    def evaluation(self, manifest: dict[str, Any]) -> Evaluation:
        tasks = self.tasks or task_names(manifest)
        evaluation = Evaluation(
            tasks=tasks,
            episodes=self.episodes,
            seed=self.seed,
            noise_seeds=self.noise_seeds,
            chain_length=self.chain_length if self.protocol == "lh-mtlc" else 1,
            ground_truth=self.subgoals == "ground_truth",
            guidance=self.guidance,
            fresh_resets=self.resets == "fresh",
            measure=self.measure,
            **self.env_settings(),
        )
        evaluation = of_benchmark(evaluation, manifest)
        if evaluation.starts is not None and self.resets == "fresh":
            raise keystep.ArgumentError(f"resets: expected shared, as {evaluation.env} fixes them, got fresh")
        if self.phrasing == "held_out" and not evaluation.instructions:  # a benchmark's are held out
            told, kinds = held_out(suite_named(self.suite), tasks)
            evaluation = replace(evaluation, instructions=told, kinds=kinds)
        return evaluation


def task_names(manifest: dict[str, Any]) -> tuple[str, ...]:
    """The bundle's tasks, or one without a name for a policy that is told none."""
    names = tuple(task["name"] for task in manifest["tasks"])
    if not names and reads_text(manifest):
        raise keystep.ArgumentError("tasks: expected what the planner is told, as the bundle names no task")
    return names or (UNNAMED,)


def held_out(suite: Suite, tasks: tuple[str, ...]) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Sentences of each task that training never saw, and of which kinds they are."""
    try:
        return {task: suite.held_out(task) for task in tasks}, suite.held_out_kinds
    except KeyError as error:
        raise keystep.ArgumentError(f"phrasing: expected a task with paraphrases, got {error}") from None


def main(
    bundles: tyro.conf.Positional[tuple[Path, ...]],
    protocol: Annotated[ProtocolOptions, tyro.conf.arg(name="")],
    policy: Annotated[PolicyOptions, tyro.conf.arg(name="")],
    latencies: Annotated[LatencyOptions, tyro.conf.arg(name="")],
    output: Annotated[OutputOptions, tyro.conf.arg(name="")],
    act: Annotated[ActOptions, tyro.conf.arg(name="")],
    reference: tuple[Path, ...] = (),
    also_in: str | None = None,
    rerun: Path | None = None,
) -> object:
    """Run bundles closed-loop in simulation and count solved episodes, with Wilson 95 % intervals.

    Ctrl-C and errors leave the results of the episodes that were played.

    Args:
        bundles: folders, evaluated one after the other on the same episodes.
        reference: a training checkpoint (of a subgoal bundle two: planner, controller) to evaluate through
            the slow PyTorch reference instead, same seeds and noise.
        also_in: a second environment with the same tasks, such as another simulator: of one bundle the same
            episodes there, and the differences.
        rerun: then play the first episode of the first bundle once more, and write what it saw, planned and
            did to this file for the viewer Rerun.
    """
    if act.act == "oracle":
        from keystep.commands import eval_oracle

        others = {"reference": reference, "also_in": also_in, "rerun": rerun}
        eval_oracle.check_options(protocol, policy, latencies, output, **others)
        what = (protocol.suite, protocol.tasks, protocol.episodes, protocol.seed, protocol.processes)
        return eval_oracle.evaluate(bundles, *what, act.blind, output)
    if act.blind:
        raise keystep.ArgumentError("blind: expected act oracle beside it, got policy")
    if not bundles or (reference and len(bundles) > 1):
        raise keystep.ArgumentError(f"bundles: expected one or, without reference, more, got {len(bundles)}")
    if reference and rerun is not None:
        raise keystep.ArgumentError("rerun: expected none with reference, got one")
    if reference and protocol.subgoals == "ground_truth":
        raise keystep.ArgumentError("subgoals: expected policy with reference, got ground_truth")
    check_outputs(rerun=rerun)
    refuse_writers(*bundles)
    reports: dict[str, Report] = {}
    planned = [(bundle, *what) for bundle, what in zip(bundles, plan(bundles, protocol), strict=True)]
    if latencies.wanted:
        bundle, _, evaluation = planned[0]
        check_alone(bundles, evaluation, reference=reference, also_in=also_in, rerun=rerun)
        sweep = LatencyRun(latencies.cells(keystep.read_manifest(bundle)), output)
        sweep.play(
            policy.opener(bundle),
            lambda opener, keep: run(opener, evaluation, protocol.processes, keep),
            lambda report: with_settings(report, bundle, protocol, policy),
        )
        return None
    if also_in is not None:
        planned = in_two(planned, also_in)
    for bundle, name, evaluation in planned:
        open_policy = references.opener(reference, bundle, policy) if reference else policy.opener(bundle)
        name = str(bundle) if name in reports else name

        def keep(report: Report, name: str = name, bundle: Path = bundle) -> None:
            reports[name] = with_settings(report, bundle, protocol, policy)
            show(report, name)
            write(output, reports, also_in)

        keep(run(open_policy, evaluation, protocol.processes, keep))
    if rerun is not None:
        bundle, _, evaluation = planned[0]
        record_episode(policy.opener(bundle), evaluation, rerun)
    return None


Planned = tuple[Path, str, Evaluation]
"""A bundle, the name of its report, and what it is evaluated on."""


def in_two(planned: Sequence[Planned], also_in: str) -> list[Planned]:
    """The same in both environments, which the reports are named by. ArgumentError for what cannot be."""
    (bundle, _, evaluation), *more = planned
    if more:
        raise keystep.ArgumentError(f"bundles: expected one with also_in, got {len(planned)}")
    if evaluation.chain_length > 1 or evaluation.starts is not None:
        got = "fixed starts" if evaluation.starts is not None else "lh-mtlc"
        raise keystep.ArgumentError(f"protocol: expected mtlc by seeds with also_in, got {got}")
    if evaluation.env == also_in:
        raise keystep.ArgumentError(f"also_in: expected another environment than env, got {also_in}")
    env_plan(also_in, keystep.read_manifest(bundle), evaluation.env_kwargs)
    both = (evaluation, replace(evaluation, env=also_in))
    return [(bundle, one.env, one) for one in both]


def write(output: OutputOptions, reports: dict[str, Report], also_in: str | None) -> None:
    """All that there is by now; of two environments also the differences, once both were played."""
    found, markdown = results(reports), report_markdown(reports)
    complete = not any("unfinished" in report.settings for report in reports.values())
    if also_in in reports and complete:
        first, second = (report for report in reports.values() if isinstance(report, EvaluationReport))
        rows = differences(first, second)
        found["differences"] = [asdict(row) for row in rows]
        table = difference_table(rows)
        markdown = f"{markdown}\n{table}"
        print(f"\n{also_in} against {first.env}, equal seeds\n{table}")
    output.write(found, markdown, lambda: report_figure(reports))


def plan(bundles: Sequence[Path], protocol: ProtocolOptions) -> list[tuple[str, Evaluation]]:
    """The name of each bundle and what it is evaluated on; ArgumentError for what cannot be."""
    manifests = [keystep.read_manifest(bundle) for bundle in bundles]
    evaluations = [protocol.evaluation(manifest) for manifest in manifests]
    for manifest, evaluation in zip(manifests, evaluations, strict=True):
        check(manifest, evaluation)
        if evaluation.tasks != evaluations[0].tasks:
            raise keystep.ArgumentError(
                f"tasks: expected the same of every bundle, got others of {manifest['name']!r}; name them"
            )
    return [
        (manifest["name"], evaluation) for manifest, evaluation in zip(manifests, evaluations, strict=True)
    ]


def with_settings(report: Report, bundle: Path, protocol: ProtocolOptions, policy: PolicyOptions) -> Report:
    """The report with the options that made it, for the result file."""
    options = {"bundle": bundle.name, "bundle_sha256": bundle_digest(bundle)}
    options |= {"phrasing": protocol.phrasing, "replan": policy.replan}
    if other := other_world(keystep.read_manifest(bundle), report.env):
        options["other_world"] = other
    return replace(report, settings=report.settings | options | policy.load_options())


def results(reports: dict[str, Report]) -> dict[str, Any]:
    """Of one policy its report; of several, reports by name."""
    if len(reports) == 1:
        return next(iter(reports.values())).to_dict()
    return {"reports": {name: report.to_dict() for name, report in reports.items()}}


def show(report: Report, name: str) -> None:
    print(f"\n{name}\n{report}")
    for latency in report.latency[:1]:
        print(f"\nlatency of one process ({report.description}):\n{keystep.LatencyReport.from_dict(latency)}")


def run(
    open_policy: OpenPolicy,
    evaluation: Evaluation,
    processes: int = 1,
    keep: Callable[[Report], None] | None = None,
) -> Report:
    """Say what it will cost, then evaluate under a progress bar.

    Args:
        keep: given what was played before an error or Ctrl-C that ends the evaluation.
    """
    total = len(evaluation.jobs)
    what = f"chains of {evaluation.chain_length} of" if evaluation.chain_length > 1 else "episodes of"
    print(f"{total} {what} {len(evaluation.tasks)} tasks: {cost(open_policy, evaluation, processes)}")
    played: list[EpisodeResult] = []
    started = time.perf_counter()
    try:
        with progress_bar() as progress:
            bar = progress.add_task("episodes", total=total)

            def advance(result: EpisodeResult) -> None:
                played.append(result)
                progress.update(bar, advance=1, description=f"{result.task:<16}")

            return run_protocol(open_policy, evaluation, processes, advance)
    except (KeyboardInterrupt, Exception) as error:
        if played and keep is not None:
            seconds = time.perf_counter() - started
            report = report_of(evaluation, Played(in_order(played, evaluation), seconds))
            reason = str(error) or "interrupted"
            report.settings["unfinished"] = f"{len(played)} of {total} played, then: {reason}"
            keep(report)
        raise


def cost(open_policy: OpenPolicy, evaluation: Evaluation, processes: int = 1) -> str:
    """An estimate, measured on a few steps of one episode."""
    worker = Worker(open_policy(), evaluation)
    try:
        step = worker.seconds_per_step()
        demonstration = worker.seconds_per_demonstration()
        steps = worker.max_episode_steps
    finally:
        worker.close()
    if steps is None:
        return f"{step * 1e3:.1f} ms a step; --max-episode-steps limits an episode, the environment does not"
    tasks = sum(len(job.tasks) for job in evaluation.jobs)
    parallel = min(processes, usable_cores(), len(evaluation.jobs))
    seconds = (step * steps * tasks + demonstration * len(evaluation.jobs)) / parallel
    at_once = f", {parallel} at once" if parallel > 1 else ""
    return f"about {seconds_text(seconds)} ({step * 1e3:.1f} ms a step, {steps} steps if not solved{at_once})"


def seconds_text(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
