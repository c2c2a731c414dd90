"""Best of N plans: the plan that C++ follows is the one that the slow reference takes, whatever runs it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep

pytest.importorskip("torch")

import torch
from hierarchy_fixture import CONTROLLERS, PLAN_ACTIONS, PLANNERS, live, world, write_checkpoint, write_pair

from keystep.commands.inspect import summary
from keystep.export.bundle import export_bundle
from keystep.export.manifest import ExportError
from keystep.export.verify import verify_bundle
from keystep.models import CheckpointError, ScorerConfig, load_scorer, save_checkpoint
from keystep.models.reference_hierarchy import ReferenceHierarchy, best_of, density

TOLERANCE = 1e-5
FOLLOWED = (
    1e-3  # untrained networks magnify rounding, plan after plan; other candidates are 0.1 away and more
)
PAIRS = {"state": ("state", "state"), "without dropout": ("without dropout", "state")}
PAIRS |= {"images": ("images", "images")}
SEED = 5  # of the planner: what a scorer knows of its normalisation


def scorer_config(planner: str, **changes: Any) -> ScorerConfig:
    known = PLANNERS[planner]
    config = ScorerConfig(
        observation=known.observation,
        subgoals=known.subgoals,
        text_tokens=known.text_tokens,
        text_width=known.text_width,
        hidden=(32, 16),
    )
    return replace(config, **changes)


class Made:
    """(planner, controller, scorer or None, bundle) by the pair's name."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self.factory = factory
        self.made: dict[str, tuple[Path, Path, Path | None, Path]] = {}

    def __call__(self, pair: str) -> tuple[Path, Path, Path | None, Path]:
        if pair not in self.made:
            folder = self.factory.mktemp("candidates")
            planner, controller = write_pair(folder, *PAIRS[pair])
            scorer = None
            if pair != "images":
                scorer = write_checkpoint(folder / "scorer", scorer_config(PAIRS[pair][0]), SEED)  # type: ignore[arg-type]
            bundle = export_bundle(
                controller, folder / "x.keystep", planner=planner, scorer=scorer, resize=True
            )
            self.made[pair] = planner, controller, scorer, bundle
        return self.made[pair]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory)


CASES = [
    ("state", "learned", "native"),
    ("state", "learned", "onnxruntime"),
    ("state", "density", "native"),
    ("without dropout", "learned", "onnxruntime"),
    ("images", "density", "onnxruntime"),
]


@pytest.mark.parametrize(("pair", "score", "engine"), CASES)
def test_the_reference_follows_the_same_plans(pair: str, score: str, engine: str, made: Made) -> None:
    planner, controller, scorer, bundle = made(pair)
    options = {"planner_candidates": 5, "planner_score": score, "engine": engine}
    reference = ReferenceHierarchy(
        planner, controller, candidates=5, scorer=scorer if score == "learned" else None
    )
    chosen = set()
    with keystep.load(bundle, threads=1, **options) as runtime:
        for seed in (3, 4):
            episodes = []
            for policy in (runtime, reference):
                policy.reset(instruction="Lift the red block.", seed=seed, episode=1)
                episodes.append(live(policy, world(PAIRS[pair][1], seed), PLAN_ACTIONS + 2))
            (actions, plans), (wanted, imagined) = episodes
            np.testing.assert_allclose(actions, wanted, atol=FOLLOWED, rtol=0)
            assert np.abs(plans.astype(np.float64) - imagined).max() <= (1 if pair == "images" else FOLLOWED)
            tried = runtime.candidates()
            assert tried is not None and reference.scores is not None
            np.testing.assert_allclose(tried.scores, reference.scores.numpy(), atol=FOLLOWED)
            (key,) = tried.plans
            np.testing.assert_array_equal(tried.plans[key][tried.chosen], runtime.plan()[key])  # type: ignore[index]
            chosen.add(tried.chosen)
        assert runtime.latency().stages["score"].count == runtime.latency().plans == 4
        assert runtime.latency().allocations == 0
    assert chosen != {0}  # that the first is followed proves nothing


def test_what_is_no_number_is_never_the_reference_s_choice() -> None:
    """As of the runtime: such a plan has the score NaN, and the others are compared without it."""
    plans = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 3, 2)))
    others = density(plans[1:])
    for bad in (torch.nan, torch.inf):
        plans[0, 1, 1] = bad
        scores = density(plans)
        assert scores[0].isnan() and torch.equal(scores[1:], others)
        assert best_of(scores) == 1 + int(others.argmax())
    assert best_of(torch.tensor([torch.nan, -2.0, -1.0, -1.0])) == 2
    assert best_of(torch.tensor([torch.nan])) == 0  # a single plan is compared with nothing


@pytest.mark.parametrize(
    ("pair", "engine"), [("state", "native"), ("state", "onnxruntime"), ("images", "auto")]
)
@pytest.mark.parametrize("guidance", [0.5, 0.0])
def test_a_plan_does_not_depend_on_those_beside_it(
    pair: str, engine: str, guidance: float, made: Made
) -> None:
    """Bit for bit by our own kernels; ONNX Runtime's products round otherwise in larger batches."""
    bundle = made(pair)[-1]
    seen = world(PAIRS[pair][1], 1).observe()
    found = []
    for count in (1, 3, 8):
        settings: dict[str, Any] = {"planner_candidates": count, "planner_sampler": "ddpm"}
        settings |= {"planner_score": "density"} if count > 1 else {}
        with keystep.load(bundle, threads=1, engine=engine, **settings) as runtime:
            runtime.reset("task_0", seed=2, guidance=guidance)
            (plans,) = runtime.predict_candidates(seen, as_float=True).plans.values()
            found.append(plans)
    assert np.abs(found[2][1] - found[2][0]).max() > 0.1
    for plans in found[:2]:
        if engine == "native":
            np.testing.assert_array_equal(plans, found[2][: len(plans)])
        np.testing.assert_allclose(plans, found[2][: len(plans)], atol=TOLERANCE, rtol=0)


def test_noise_of_all_candidates_can_be_given(made: Made) -> None:
    bundle = made("state")[-1]
    seen, shape = world("state", 1).observe(), (PLANNERS["state"].subgoals, 26)
    noise = np.stack([keystep.noise(shape, 9, 0, 0x80000000, candidate << 24) for candidate in range(3)])
    with keystep.load(bundle, threads=1, planner_candidates=3) as runtime:
        runtime.reset("task_0", seed=9)
        drawn = runtime.predict_candidates(seen)
        given = runtime.predict_candidates(seen, noise)
        assert runtime.candidates() is None
        np.testing.assert_array_equal(drawn.plans["observation.state"], given.plans["observation.state"])
        best = runtime.predict_plan(seen, noise)["observation.state"]
        np.testing.assert_array_equal(best, drawn.plans["observation.state"][drawn.chosen])
        with pytest.raises(
            keystep.ArgumentError, match=r"noise: expected shape \(3, 4, 26\) or \(K, 3, 4, 26\)"
        ):
            runtime.predict_plan(seen, noise[0])


def test_verify_compares_scores(made: Made) -> None:
    planner, controller, scorer, bundle = made("state")
    report = verify_bundle(bundle, controller, planner, scorer=scorer)
    assert report.ok, str(report)
    rows = {(row.ours, row.reference, row.quantity) for row in report.comparisons}
    for ours in ("C++ runtime", "native fp32"):
        assert {(ours, "golden (torch)", name) for name in ("candidates", "scores", "best score")} <= rows
    assert ("ONNX from Python", "golden (torch)", "scores") in rows
    assert ("C++ runtime", "torch (checkpoint)", "scores") in rows
    assert (
        "learned, by a scorer that was never trained"
        in summary(bundle, keystep.read_manifest(bundle)).values()
    )


def test_another_scorer_is_another_policy(made: Made, tmp_path: Path) -> None:
    planner, controller, scorer, bundle = made("state")
    assert scorer is not None
    model, checkpoint, encoder = load_scorer(scorer)
    weights = model.state_dict()
    weights["layers.0.weight"] = weights["layers.0.weight"] * 1.1
    save_checkpoint(tmp_path / "other", checkpoint, weights)
    encoder.save(tmp_path / "other" / "text_encoder")
    report = verify_bundle(bundle, controller, planner, scorer=tmp_path / "other")
    assert {row.quantity for row in report.different} == {"scores"}


REFUSED = [
    (
        {"subgoals": 8},
        SEED,
        r"scorer: expected the planner's 4 observation\.state of \(26,\), of equal names",
    ),
    ({}, SEED + 1, r"scorer\.normalization: expected the planner's \(min_max, statistics of its dataset\)"),
]


@pytest.mark.parametrize(("changes", "seed", "message"), REFUSED)
def test_scorers_of_other_plans_are_refused(
    changes: dict[str, Any], seed: int, message: str, made: Made, tmp_path: Path
) -> None:
    planner, controller, _, _ = made("state")
    scorer = write_checkpoint(tmp_path / "scorer", scorer_config("state", **changes), seed)  # type: ignore[arg-type]
    with pytest.raises(ExportError, match=message):
        export_bundle(controller, tmp_path / "x.keystep", planner=planner, scorer=scorer)
    assert not (tmp_path / "x.keystep").exists()


def test_what_is_no_scorer_is_refused(made: Made, tmp_path: Path) -> None:
    planner, controller, scorer, bundle = made("state")
    with pytest.raises(CheckpointError, match="kind: expected a scorer, got planner"):
        export_bundle(controller, tmp_path / "x.keystep", planner=planner, scorer=planner)
    flat = write_checkpoint(tmp_path / "flat", replace(CONTROLLERS["state"], goal="none"))  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="scorer: expected none for a policy without planner"):
        export_bundle(flat, tmp_path / "x.keystep", scorer=scorer)
    with pytest.raises(keystep.ArgumentError, match=r"planner_candidates: expected 1\.\.256, got 0"):
        keystep.load(bundle, planner_candidates=0)
    with pytest.raises(ValueError, match=r"scorer\.observation: expected a vector"):
        scorer_config("images")
