"""Resets of an evaluation: shared by its tasks, or fresh for each."""

from __future__ import annotations

from pathlib import Path

import pytest

import keystep
from keystep.evaluate.parallel import Played, in_order, play
from keystep.evaluate.protocols import report
from keystep.evaluate.settings import EpisodeResult, Evaluation

TASKS = ("lift_red", "stack", "push_red_left")


def seeds(evaluation: Evaluation) -> list[int]:
    return [evaluation.reset_seed(job) for job in evaluation.jobs]


def test_fresh_resets_differ_for_every_task_and_episode() -> None:
    shared = Evaluation("any", TASKS, 4, seed=100)
    assert seeds(shared) == [100, 101, 102, 103] * 3
    fresh = Evaluation("any", TASKS, 4, seed=100, fresh_resets=True)
    assert len(set(seeds(fresh))) == 12
    assert min(seeds(fresh)) >= 100
    # A task's resets do not depend on which others are evaluated, nor on the number of episodes.
    alone = Evaluation("any", ("stack",), 6, seed=100, fresh_resets=True)
    assert seeds(alone)[:4] == seeds(fresh)[4:8]
    unknown = Evaluation("any", ("a", "b"), 4, seed=100, fresh_resets=True)
    assert sorted(seeds(unknown)) == list(range(100, 108))


def test_the_report_says_which(stub_bundle: Path) -> None:
    for fresh, error in ((False, None), (True, 0.25)):
        evaluation = Evaluation("any", ("a", "b"), 1, fresh_resets=fresh)
        results = [EpisodeResult(job, int(job.tasks == ("a",)), 3) for job in evaluation.jobs]
        made = report(evaluation, Played(in_order(results, evaluation), 0.0, machine={}))
        assert made.settings["resets"] == ("fresh" if fresh else "shared")
        assert (made.total.error is None) == (error is None)  # of one reset none is known


def test_episodes_that_were_played_are_not_played_again() -> None:
    evaluation = Evaluation("any", ("a", "b"), 2)
    results = [EpisodeResult(job, 1, 3) for job in evaluation.jobs]

    def never() -> keystep.Runtime:
        raise AssertionError

    with pytest.raises(AssertionError):
        play(never, evaluation, done=results[1:])
    played = play(never, evaluation, done=results[::-1])
    assert played.results == results
