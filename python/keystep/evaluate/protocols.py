"""The protocols, all through the loop that is deployed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keystep.evaluate.chains import ChainReport, chain_report
from keystep.evaluate.parallel import OnEpisode, Played, play
from keystep.evaluate.report import EvaluationReport, task_report
from keystep.evaluate.rollout import OpenPolicy, Policy
from keystep.evaluate.settings import CHAIN_LENGTH, Evaluation

Report = EvaluationReport | ChainReport


def evaluate(
    policy: Policy | OpenPolicy,
    env_id: str,
    tasks: Sequence[str],
    episodes: int = 100,
    seed: int = 0,
    processes: int = 1,
    on_episode: OnEpisode | None = None,
    **settings: Any,
) -> EvaluationReport:
    """MTLC: run `episodes` episodes of each task and count the solved ones.

    Args:
        policy: an open policy, or a picklable function that opens one (needed for more than one process).
        on_episode: called after each episode, in order of completion.
        settings: further fields of `Evaluation`: noise_seeds, ground_truth, guidance, instructions.

    Raises:
        ArgumentError: unknown task, no episodes, settings that the policy cannot serve, or an open policy
            with several processes.
    """
    evaluation = Evaluation(env_id, tuple(tasks), episodes, seed, **settings)
    return task_report(evaluation, play(policy, evaluation, processes, on_episode))


def evaluate_chains(
    policy: Policy | OpenPolicy,
    env_id: str,
    tasks: Sequence[str],
    chains: int = 100,
    seed: int = 0,
    processes: int = 1,
    on_episode: OnEpisode | None = None,
    *,
    length: int = CHAIN_LENGTH,
    **settings: Any,
) -> ChainReport:
    """LH-MTLC: `length` different tasks in a row from one reset, for `chains` resets; else as `evaluate`.

    The environment must have `set_task(name)`, which starts a task from the scene as it stands.
    """
    evaluation = Evaluation(env_id, tuple(tasks), chains, seed, chain_length=length, **settings)
    return chain_report(evaluation, play(policy, evaluation, processes, on_episode))


def run(
    policy: Policy | OpenPolicy,
    evaluation: Evaluation,
    processes: int = 1,
    on_episode: OnEpisode | None = None,
) -> Report:
    """Whichever of the two `evaluation` asks for."""
    return report(evaluation, play(policy, evaluation, processes, on_episode))


def report(evaluation: Evaluation, played: Played) -> Report:
    """Of the protocol; also of only some of its episodes."""
    return (chain_report if evaluation.chain_length > 1 else task_report)(evaluation, played)
