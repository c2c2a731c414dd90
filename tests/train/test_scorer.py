"""A scorer learns what decides, on contexts it never saw; sets of plans that teach nothing are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from keystep.cli import run
from keystep.data.errors import DatasetError
from keystep.models import PLANNER_PRESETS, load_planner, load_scorer, random_checkpoint, state_feature
from keystep.record.plans_tried import PlansWriter, TriedPlans, read_plans
from keystep.train.scorer import prepared, train_scorer
from keystep.train.scorer_config import ScorerTraining
from keystep.train.scorer_data import ScorerData, auc, auc_of_task, metrics, split_contexts

KEY = "observation.state"
PLANNER = replace(PLANNER_PRESETS["tiny"], subgoals=4, observation=(state_feature(5),))


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planner")
    random_checkpoint(folder, PLANNER)
    return folder


def write(folder: Path, planner: Path, *, outcome: Any = None, tasks: int = 2, contexts: int = 60) -> Path:
    """Five plans from each context; one succeeds that ends where the context says, x to the right of it."""
    _, checkpoint, _ = load_planner(planner)
    entry = checkpoint.normalizer().entries[KEY]
    low, high = (np.array(entry[end]) for end in ("min", "max"))
    feature = PLANNER.feature.to_dict() | {"normalization": {"mode": "identity"}}
    manifest = {"planner": {"subgoal": KEY, "subgoals": 4}, "observation": [feature], "family": "subgoal"}
    rng = np.random.default_rng(0)
    with PlansWriter(folder, manifest) as writer:
        for context in range(contexts):
            task = f"task_{context % tasks}"
            seen = rng.uniform(-1, 1, 5)
            for trial in range(5):
                plan = seen + rng.normal(0, 0.5, (4, 5))
                good = bool(plan[-1, 0] > seen[0]) if outcome is None else outcome(task, trial)
                physical = [((x + 1) / 2 * (high - low) + low).astype(np.float32) for x in (plan, seen)]
                writer.add(
                    {KEY: physical[0]},
                    {KEY: physical[1]},
                    task=task,
                    text=f"Do task {context % tasks}.",
                    success=good,
                    context=f"reset {context}",
                    trial=trial,
                )
    return folder


def settings(folder: Path, planner: Path, output: Path, **changes: Any) -> ScorerTraining:
    config = ScorerTraining((folder,), planner, output, steps=600, batch_size=64, hidden=(32,), threads=1)
    return replace(config, **changes)


def test_it_learns_what_decides(planner: Path, tmp_path: Path) -> None:
    plans = write(tmp_path / "plans", planner)
    result = train_scorer(settings(plans, planner, tmp_path / "scorer"))
    assert result is not None and result.metrics["auc"] > 0.8 and result.metrics["auc_within_contexts"] > 0.8
    assert result.metrics["contexts"] == 12 and result.metrics["train_plans"] == 240
    model, checkpoint, encoder = load_scorer(tmp_path / "scorer")
    assert checkpoint.provenance["metrics"]["auc"] == result.metrics["auc"]
    # What is stored is what was measured.
    tried = read_plans(plans)
    held_out = split_contexts(tried, 0.2, 0)
    chosen = np.array([seen.tobytes() in held_out for seen in tried.observations])
    logits = model(*prepared(tried, checkpoint, encoder)).detach().numpy()
    again = metrics(logits[chosen], tried, np.flatnonzero(chosen))
    assert again["auc"] == pytest.approx(result.metrics["auc"])


def test_a_state_is_on_one_side_whatever_its_contexts_are_called() -> None:
    """Collections start from equal states under other names, and for other tasks."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(30, 3)).astype(np.float32)
    rows = rng.integers(0, 30, 400)
    tasks = tuple(f"task_{number}" for number in rng.integers(0, 3, 400))
    names = tuple(f"replayed-{number}" for number in range(400))
    tried = TriedPlans(
        None,  # type: ignore[arg-type]
        tasks, tasks, names, tasks, np.arange(400), states[rows], states[rows][:, None], rows > 9,
    )  # fmt: skip
    held_out = split_contexts(tried, 0.2, 0)
    data = ScorerData(tried, held_out)
    sides = [
        {state.tobytes() for state in tried.observations[side]} for side in (data.training, data.validation)
    ]
    assert not sides[0] & sides[1] and sides[1] == held_out and 6 <= len(held_out) <= 12
    assert held_out == split_contexts(tried, 0.2, 0) != split_contexts(tried, 0.2, 1)


def test_what_is_no_scorer_is_not_overwritten(planner: Path, tmp_path: Path) -> None:
    plans = write(tmp_path / "plans", planner, contexts=20)
    before = (planner / "model.safetensors").read_bytes()
    with pytest.raises(DatasetError, match=r"output: expected .* got .*planner0?, of a planner"):
        train_scorer(settings(plans, planner, planner, steps=5))
    with pytest.raises(DatasetError, match=r"output: expected a new folder, .* got .*plans"):
        train_scorer(settings(plans, planner, plans, steps=5))
    assert (planner / "model.safetensors").read_bytes() == before and read_plans(plans)
    for steps in (5, 6):  # an earlier scorer may go
        result = train_scorer(settings(plans, planner, tmp_path / "scorer", steps=steps))
        assert result is not None
    assert train_scorer(settings(plans, planner, tmp_path / "none"), lambda: True) is None
    assert not (tmp_path / "none").exists()


def test_equal_settings_give_equal_weights(planner: Path, tmp_path: Path) -> None:
    plans = write(tmp_path / "plans", planner, contexts=20)
    for name in ("a", "b"):
        train_scorer(settings(plans, planner, tmp_path / name, steps=50))
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second


def test_sets_that_teach_nothing_are_refused(planner: Path, tmp_path: Path) -> None:
    plans = write(tmp_path / "good", planner, outcome=lambda task, trial: True, contexts=8)
    with pytest.raises(
        DatasetError, match=r"task_0: no failures in 20 plans; task_1: no failures in 20 plans"
    ):
        train_scorer(settings(plans, planner, tmp_path / "scorer"))
    plans = write(tmp_path / "mixed", planner, outcome=lambda task, trial: task == "task_0", contexts=8)
    with pytest.raises(
        DatasetError, match=r"task_0: no failures in 20 plans; task_1: no successes in 20 plans"
    ):
        train_scorer(settings(plans, planner, tmp_path / "scorer"))
    plans = write(tmp_path / "one", planner, contexts=1, tasks=1)
    with pytest.raises(DatasetError, match=r"validation: expected successes and failures in its contexts"):
        train_scorer(settings(plans, planner, tmp_path / "scorer"))
    assert not (tmp_path / "scorer").exists()


def test_a_task_without_failures_is_noted(
    planner: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = write(
        tmp_path / "plans", planner, outcome=lambda task, trial: task == "task_0" or trial > 2, contexts=20
    )
    command = ["train", "scorer", "--dataset", str(plans), "--planner", str(planner), "--output"]
    assert run([*command, str(tmp_path / "scorer"), "--steps", "20", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert "note: task_0: no failures in 50 plans" in out and "AUC" in out


def test_plans_of_another_planner_are_refused(planner: Path, tmp_path: Path) -> None:
    plans = write(tmp_path / "plans", planner, contexts=4)
    other = tmp_path / "other"
    random_checkpoint(other, replace(PLANNER, subgoals=8))
    with pytest.raises(DatasetError, match=r"dataset: expected 8 subgoals observation\.state"):
        train_scorer(settings(plans, other, tmp_path / "scorer"))


def test_auc_counts_pairs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = rng.integers(0, 5, 30).astype(float)  # with ties
        success = rng.random(30) < 0.4
        pairs = [
            1.0 if good > bad else 0.5 if good == bad else 0.0
            for good in scores[success]
            for bad in scores[~success]
        ]
        assert auc(scores, success) == pytest.approx(np.mean(pairs))
    assert auc(np.zeros(3), np.ones(3, bool)) is None


def test_tasks_alone_tell_nothing_of_plans_of_one_task(planner: Path, tmp_path: Path) -> None:
    tried = read_plans(
        write(tmp_path / "plans", planner, outcome=lambda task, trial: task == "task_0" or trial > 2)
    )
    every = np.arange(len(tried))
    of_one = every[[task == "task_1" for task in tried.tasks]]
    assert auc_of_task(tried, every, of_one) == 0.5
    whole = auc_of_task(tried, every, every)
    assert whole is not None and 0.5 < whole < 1
    # Pairs in a context, counted by hand: 30 contexts of task_1 with 2 successes and 3 failures each.
    found = metrics(np.zeros(len(tried)), tried, every)
    assert (found["pairs_within_contexts"], found["auc_within_contexts"]) == (30 * 6, 0.5)


def test_calibrated_odds_have_no_calibration_error() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 50_000)
    success = rng.random(50_000) < 1 / (1 + np.exp(-logits))
    texts = ("t",) * 50_000
    empty = np.zeros((50_000, 1, 1), np.float32)
    tried = TriedPlans(
        None,  # type: ignore[arg-type]
        texts, texts, texts, texts, np.arange(50_000), empty[:, 0], empty, success,
    )  # fmt: skip
    every = np.arange(50_000)
    assert metrics(logits, tried, every)["calibration_error"] < 0.01
    assert metrics(3 * logits, tried, every)["calibration_error"] > 0.05
