"""Benchmarks that fix their episodes, see `keystep.suites.base.FixedStarts`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from keystep.evaluate.rollout import reads_text
from keystep.evaluate.settings import Evaluation
from keystep.suites import suite_named
from keystep.suites.base import fixed_starts


def of_benchmark(evaluation: Evaluation, manifest: dict[str, Any]) -> Evaluation:
    """With the episodes, the limit and the sentences of the suite's benchmark, if the suite is one.

    A limit or sentences that the evaluation has already stay. Environments that are not the suite's own are
    evaluated by seeds.

    Raises:
        ArgumentError: what the benchmark needs is not there.
    """
    suite = suite_named(evaluation.suite)
    if evaluation.env != suite.env_id:
        return evaluation
    starts = fixed_starts(suite, evaluation.protocol, evaluation.env_kwargs)
    if starts is None:
        return evaluation
    told = evaluation.instructions
    if not told and reads_text(manifest):
        told = {task: starts.instructions[task] for task in evaluation.tasks if task in starts.instructions}
    limit = evaluation.max_episode_steps or starts.max_steps
    return replace(evaluation, starts=starts, max_episode_steps=limit, instructions=told)
