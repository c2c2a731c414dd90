"""One policy in two environments on equal seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")

from eval_runs import run, state_bundle

from keystep import cli
from keystep.evaluate.differences import difference_table, differences
from keystep.evaluate.parallel import Played
from keystep.evaluate.report import EvaluationReport, task_report
from keystep.evaluate.settings import EpisodeResult, Evaluation

SHIPPED = Path(__file__).parents[2] / "bundles" / "franka3blocks-state.keystep"


def report(solved: dict[str, list[bool]], noise_seeds: tuple[int, ...] = ()) -> EvaluationReport:
    """Of resets solved or not; with several noise seeds each solves the same ones."""
    episodes = len(next(iter(solved.values())))
    evaluation = Evaluation("any", tuple(solved), episodes, noise_seeds=noise_seeds)
    results = [EpisodeResult(job, int(solved[job.tasks[0]][job.episode]), 1) for job in evaluation.jobs]
    return task_report(evaluation, Played(results, 0.0, machine={}))


def test_rows_and_intervals() -> None:
    first = report({"lift_a": [True] * 20, "stack": [True] * 10 + [False] * 10})
    second = report({"lift_a": [True] * 20, "stack": [True] * 5 + [False] * 15})
    rows = {row.name: row for row in differences(first, second)}
    assert rows["stack"].difference == pytest.approx(-0.25) and rows["all"].difference == pytest.approx(
        -0.125
    )
    for row in rows.values():
        assert row.interval is not None
        low, high = row.interval
        assert -1 <= low <= row.difference <= high <= 1
    assert rows["lift_a"].interval is not None and rows["lift_a"].interval[0] < -0.1  # 20 of 20 is no proof
    assert "| **all** | 75.0 % | 62.5 % | -12.5 (" in difference_table(list(rows.values()))


def test_newcombes_published_example() -> None:
    """56 of 70 against 48 of 80: 0.2000, 95 % 0.0524 to 0.3339 (Newcombe 1998, Table II, method 10)."""
    first = report({"a": [True] * 48 + [False] * 32})
    second = report({"a": [True] * 56 + [False] * 14})
    (row, *_) = differences(first, second)
    assert row.difference == pytest.approx(0.2) and row.interval is not None
    np.testing.assert_allclose(row.interval, (0.0524, 0.3339), atol=5e-5)


def test_swapping_turns_the_signs() -> None:
    rng = np.random.default_rng(3)
    one, other = (
        {"a": list(rng.random(30) < share), "b": list(rng.random(30) < share)} for share in (0.4, 0.8)
    )
    for seeds in ((), (1, 2)):
        there = differences(report(one, seeds), report(other, seeds))
        back = differences(report(other, seeds), report(one, seeds))
        for first, second in zip(there, back, strict=True):
            assert first.difference == pytest.approx(-second.difference)
            assert first.interval is not None and second.interval is not None
            np.testing.assert_allclose(
                first.interval, [-bound for bound in second.interval[::-1]], atol=1e-12
            )


def test_eval_in_both_simulators(tmp_path: Path, capsys: Any) -> None:
    for package in ("mani_skill", "pybullet"):
        pytest.importorskip(package, reason="needs both simulators")
    both = ("--env", "keystep/Franka3Blocks-bullet", "--also-in", "keystep/Franka3Blocks-v1")
    short = ("--episodes", "1", "--tasks", "lift_red", "push_red_left", "--max-episode-steps", "3")
    files = ("--json", str(tmp_path / "r.json"), "--markdown", str(tmp_path / "r.md"))
    status, out, err = run(capsys, SHIPPED, *both, *short, *files)
    assert status == 0, err
    found = json.loads((tmp_path / "r.json").read_text())
    assert list(found["reports"]) == [both[1], both[3]]
    assert [row["name"] for row in found["differences"]] == ["lift_red", "push_red_left", "all"]
    assert "keystep/Franka3Blocks-v1 against keystep/Franka3Blocks-bullet, equal seeds" in out
    assert "difference in points" in (tmp_path / "r.md").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--also-in", "x/Y-v0", "--env", "x/Y-v0"),
            "also_in: expected another environment than env, got x/Y-v0",
        ),
        (
            ("--also-in", "x/Y-v0", "--protocol", "lh-mtlc", "--chain-length", "2"),
            "mtlc by seeds with also_in",
        ),
    ],
)
def test_what_cannot_be_compared(tmp_path: Path, capsys: Any, options: tuple[str, ...], words: str) -> None:
    status, _, err = run(capsys, state_bundle(tmp_path / "p.keystep"), *options)
    assert status == 2 and words in err


def test_one_bundle_at_a_time(tmp_path: Path, capsys: Any) -> None:
    bundles = [str(state_bundle(tmp_path / f"{name}.keystep")) for name in "ab"]
    assert cli.run(["eval", *bundles, "--also-in", "x/Y-v0"]) == 2
    assert "bundles: expected one with also_in, got 2" in capsys.readouterr().err
