"""Best of N plans in the loop: a scorer of all that was tried, exported, and followed where it is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import fake_rollouts
import pytest
from expit_runs import FILE

import keystep
from keystep.data import DatasetError
from keystep.expit import ExpitConfig, expit
from keystep.expit.folder import Iteration
from keystep.expit.scoring import load_options, scorer_of
from keystep.expit.status import status_text
from keystep.files import sha256
from keystep.record.best_of_n import has_scorer
from keystep.record.plans_tried import plans_sha256

Make = Callable[..., ExpitConfig]
SCORER = """
[scorer]
steps = 20
validate_every = 10
batch_size = 16
hidden = [8]
threads = 1
"""
CHOOSING = """
[evaluation]
planner_candidates = 3
planner_score = "learned"
"""


def scored(iteration: Iteration) -> bool:
    return has_scorer(keystep.read_manifest(iteration.bundle))


def settings_of_evaluation(iteration: Iteration) -> dict[str, Any]:
    return dict(json.loads((iteration.path / "evaluation.json").read_text())["settings"])


def test_a_scorer_of_all_that_was_tried(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Iteration 0 has no plans that were tried, iteration 1 none that failed, iteration 2 both."""
    text = FILE + "planner_candidates = 3\n" + SCORER + CHOOSING
    with monkeypatch.context() as patch:
        patch.setenv(fake_rollouts.PERFECT, "1")
        assert len(expit(make_config(text, iterations=1)).success) == 2
    config = make_config(text)
    with monkeypatch.context() as patch:  # stopped in the training of the scorer
        patch.setattr("keystep.train.scorer._fit", lambda *_: None)
        assert expit(config).interrupted
    last = Iteration(config.output, 2)
    assert "controller" in last.done and "scorer" not in last.done and not last.scorer.exists()
    assert len(expit(config).success) == 3
    first, second, last = (Iteration(config.output, number) for number in range(3))
    assert "scorer" not in first.done and "no failures" in second.done["scorer"]["skipped"]
    for iteration in (first, second):
        assert not scored(iteration) and "planner_candidates" not in settings_of_evaluation(iteration)
    facts = last.done["scorer"]
    assert facts["plans_sha256"] == plans_sha256([second.tried, last.tried])
    assert facts["planner_sha256"] == last.done["planner"]["weights_sha256"]
    assert facts["weights_sha256"] == sha256(last.scorer / "model.safetensors")
    told = settings_of_evaluation(last)
    assert (
        last.scored and scored(last) and (told["planner_candidates"], told["planner_score"]) == (3, "learned")
    )
    assert load_options({"replan": True}, last.scored) == {"replan": True}  # settings of an older run
    text_of_status = status_text(config.output)
    assert "| scorer |" in text_of_status and "| none |" in text_of_status and "finished" in text_of_status
    refuses_what_is_not_the_run_s(config, make_config, last)


def refuses_what_is_not_the_run_s(config: ExpitConfig, make_config: Make, last: Iteration) -> None:
    with pytest.raises(DatasetError, match=r"expit.json: scorer: expected \{.* to go on, got None"):
        expit(make_config(FILE + "planner_candidates = 3\n"))
    weights = last.scorer / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(b"another")
    with pytest.raises(DatasetError, match=r"scorer/model.safetensors: expected what this run made"):
        expit(config)
    weights.write_bytes(kept)
    # A damaged set is no reason to go on without a scorer.
    (last.tried / "plans.json").write_text("[]")
    assert config.scorer is not None
    damaged = replace(config.scorer, dataset=(last.tried,))
    with pytest.raises(DatasetError, match=r"plans\.json"):
        scorer_of(damaged, last.planner, last.path / "other", lambda: False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FILE + CHOOSING, r"evaluation.planner_score: expected bundle or density, as there is no table"),
        (FILE + 'planner_candidates = 2\nplanner_score = "learned"', r"rollouts.planner_score: expected"),
        (FILE + "[evaluation]\nplanner_candidates = 300", r"evaluation.planner_candidates: expected 1..256"),
        (FILE + '[evaluation]\nplanner_score = "density"', r"planner_score: expected none .*'density'"),
        (FILE + '[evaluation]\nplanner_score = "best"', r"evaluation.planner_score: expected one of bundle"),
        (FILE + "[scorer]\nseed = 3", r"scorer.seed: expected one of"),
        (FILE + "[scorer]\nsteps = 0", r"scorer.steps: expected at least 1, got 0"),
        (
            FILE.replace("subgoals = 4", 'subgoals = 4\nsubgoal = "observation.images.static"') + SCORER,
            r"scorer: expected none for plans of images.*got one for observation.images.static",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_done(
    text: str, message: str, make_config: Make
) -> None:
    with pytest.raises(keystep.ArgumentError, match=message):
        make_config(text)
