"""Actions relative to the state: bundles give what LeRobot's steps make absolute, chunk by chunk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lerobot_checkpoints import ACT, DIFFUSION, Player, edit, edit_pipeline, observations, write
from lerobot_episodes import ENVIRONMENT, STEPS, VECTORS, noise_of, play

import keystep

torch = pytest.importorskip("torch")

from keystep.export import ExportError  # noqa: E402
from keystep.export.convert.lerobot.convert import convert_lerobot  # noqa: E402
from keystep.export.verify import verify_bundle  # noqa: E402

Steps = list[dict[str, Any]]
NAMES = ["shoulder.pos", "Left_Gripper.pos"]
DEVIATIONS = {"VISUAL": "IDENTITY", "STATE": "MIN_MAX", "ACTION": "MEAN_STD", "ENV": "MEAN_STD"}


def step(name: str, **config: Any) -> dict[str, Any]:
    return {"registry_name": name, "config": config}


def relative(folder: Path, name: str = "relative_actions_processor", **config: Any) -> None:
    """As LeRobot writes it: before the normaliser, after the unnormaliser."""
    before = step(name, **({"enabled": True, "exclude_joints": [], "action_names": None} | config))
    edit_pipeline(folder, "policy_preprocessor", lambda steps: steps.insert(3, before))
    after = step("absolute_actions_processor", enabled=True)
    edit_pipeline(folder, "policy_postprocessor", lambda steps: steps.insert(1, after))


class RelativePlayer(Player):
    """Every row of a chunk is taken back by the state that the chunk was made at, one value after the other.

    Averages are of what comes out: of absolute actions.
    """

    def __init__(self, model: Any, noise: Any, moved: list[bool]) -> None:
        super().__init__(model, noise)
        self.moved = moved
        self.network, model.chunk = model.chunk, self._absolute

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        self.state = observation["observation.state"]
        return super().act(observation)

    def _absolute(self, frames: Any, noise: Any) -> Any:
        rows = super()._scaled("action", self.network(frames, noise), inverse=True)
        for row in rows[0]:
            for place, moves in enumerate(self.moved):
                if moves:
                    row[place] = row[place] + float(self.state[place])
        return rows

    def _scaled(self, key: str, value: Any, inverse: bool = False) -> Any:
        return value if inverse else super()._scaled(key, value)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[bool]]] = {
    "diffusion, two frames": (DIFFUSION, {}, [True, True]),
    "diffusion, one absolute": (
        DIFFUSION | VECTORS | {"normalization_mapping": DEVIATIONS},
        {"exclude_joints": ["gripper"], "action_names": NAMES},
        [True, False],
    ),
    "ACT": (ACT | VECTORS, {"exclude_joints": ["SHOULDER.pos", ""], "action_names": NAMES}, [False, True]),
    "ACT, temporal ensembling": (
        ACT | VECTORS | {"temporal_ensemble_coeff": 0.3, "n_action_steps": 1},
        {"name": "delta_actions_processor"},
        [True, True],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bundle_gives_absolute_actions(case: str, tmp_path: Path) -> None:
    config, settings, moved = CASES[case]
    model = write(tmp_path / "checkpoint", config)
    relative(tmp_path / "checkpoint", **settings)
    made = convert_lerobot(str(tmp_path / "checkpoint"), tmp_path / "new.keystep")
    manifest = keystep.read_manifest(made.path)
    places = [place if moves else None for place, moves in enumerate(moved)]
    assert manifest["action"]["relative"] == {"feature": "observation.state", "values": places}
    assert f"{sum(moved)} of 2 actions are relative to observation.state" in " ".join(made.notes)
    assert verify_bundle(made.path).ok
    noise = noise_of(manifest)
    player = RelativePlayer(model, lambda: next(noise), moved)
    theirs = np.stack([player.act(seen) for seen in observations(config, STEPS)])
    ours = play(made.path, config)
    allowed = 1e-4 * np.ptp(theirs, axis=0) + 1e-6 * np.abs(theirs).max(axis=0)
    assert (np.abs(ours - theirs) <= allowed).all(), np.abs(ours - theirs).max(axis=0) / allowed


def test_a_renamed_state(tmp_path: Path) -> None:
    config = ACT | VECTORS
    model = write(tmp_path / "checkpoint", config)
    renamed = {"rename_map": {"observation.joints": "observation.state"}}
    edit_pipeline(
        tmp_path / "checkpoint", "policy_preprocessor", lambda steps: steps[0].update(config=renamed)
    )
    relative(tmp_path / "checkpoint")
    bundle = convert_lerobot(str(tmp_path / "checkpoint"), tmp_path / "new.keystep").path
    entry = keystep.read_manifest(bundle)["action"]["relative"]
    assert entry == {"feature": "observation.joints", "values": [0, 1]}
    player = RelativePlayer(model, lambda: [], [True, True])
    theirs = np.stack([player.act(seen) for seen in observations(config, STEPS)])
    ours = play(bundle, config, {"observation.joints": "observation.state"})
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", [{"enabled": False}, {"exclude_joints": ["pos"], "action_names": NAMES}])
def test_steps_that_do_nothing(settings: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "checkpoint", ACT | VECTORS)
    relative(tmp_path / "checkpoint", **settings)
    if not settings.get("enabled", True):
        edit_pipeline(tmp_path / "checkpoint", "policy_postprocessor", lambda steps: steps.pop(1))
    bundle = convert_lerobot(str(tmp_path / "checkpoint"), tmp_path / "new.keystep").path
    assert "relative" not in json.loads((bundle / "manifest.json").read_text())["action"]


def before(change: Callable[[Steps], Any]) -> Callable[[Path], None]:
    return lambda folder: edit_pipeline(folder, "policy_preprocessor", change)


def after(change: Callable[[Steps], Any]) -> Callable[[Path], None]:
    return lambda folder: edit_pipeline(folder, "policy_postprocessor", change)


def configured(**config: Any) -> Callable[[Path], None]:
    return before(lambda steps: steps[3]["config"].update(config))


RENAMING = step("rename_observations_processor", rename_map={"observation.x": "observation.state"})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (configured(enabled=False), "steps[1].config.enabled: expected false, or relative_actions_processor"),
        (after(lambda steps: steps.pop(1)), "expected false, or absolute_actions_processor enabled, too"),
        (before(lambda steps: steps.pop(3)), "false, or relative_actions_processor enabled, too, got True"),
        (configured(exclude_joints=["gripper"]), "steps[3].config.action_names: expected the names of the 2"),
        (configured(exclude_joints="gripper"), "steps[3].config.exclude_joints: expected a list of texts"),
        (configured(exclude_joints=["a"], action_names=["a"]), "action_names: expected 2 names, got ['a']"),
        (configured(exclude_joints=["a"], action_names=["a", 3]), "action_names: expected a list of texts"),
        (configured(enabled="yes"), "steps[3].config.enabled: expected true or false, got 'yes'"),
        (configured(frame="hand"), "steps[3].config.frame: expected a field of relative_actions_processor"),
        (after(lambda steps: steps[1]["config"].update(exclude_joints=[])), "expected a field of absolute"),
        (before(lambda steps: steps.append(steps.pop(3))), "the state before it is normalised, got 'after'"),
        (after(lambda steps: steps.insert(0, steps.pop(1))), "after they are unnormalised, got 'before'"),
        (before(lambda steps: steps.append(steps[3])), "expected one step that makes actions relative, got"),
        (after(lambda steps: steps.append(steps[1])), "expected one step that makes actions absolute, got"),
        (before(lambda steps: steps.insert(4, RENAMING)), "renaming before actions are made relative"),
        (before(lambda steps: steps[3].update(registry_name="ee_relative_actions_processor")),
         "steps[3].registry_name: expected rename_observations_processor"),
        (before(lambda steps: steps.append(step("absolute_actions_processor", enabled=True))),
         "registry_name: expected"),
    ],
)  # fmt: skip
def test_what_is_not_exactly_known_is_refused(change: Any, told: str, tmp_path: Path) -> None:
    write(tmp_path / "checkpoint", ACT | VECTORS)
    relative(tmp_path / "checkpoint")
    change(tmp_path / "checkpoint")
    with pytest.raises(ExportError) as error:
        convert_lerobot(str(tmp_path / "checkpoint"), tmp_path / "new.keystep")
    assert told in str(error.value)
    assert not (tmp_path / "new.keystep").exists()


def test_a_state_that_is_not_there_or_too_short(tmp_path: Path) -> None:
    write(tmp_path / "none", ACT | VECTORS)
    edit(tmp_path / "none", input_features=ENVIRONMENT)
    write(
        tmp_path / "short", ACT | VECTORS | {"output_features": {"action": {"type": "ACTION", "shape": [4]}}}
    )
    told = {
        "none": "config.json: input_features: expected observation.state, which actions are relative to",
        "short": "input_features.observation.state.shape: expected 4 values or more",
    }
    for name, message in told.items():
        relative(tmp_path / name)
        with pytest.raises(ExportError) as error:
            convert_lerobot(str(tmp_path / name), tmp_path / "new.keystep")
        assert message in str(error.value)


def test_bounds_of_relative_actions_are_not_those_of_actions(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint", ACT | VECTORS)
    relative(tmp_path / "checkpoint")
    with pytest.raises(ExportError, match=r"bounds: expected none \(the checkpoint's min and max are of rel"):
        convert_lerobot(str(tmp_path / "checkpoint"), tmp_path / "new.keystep", bounds="data")


def test_the_steps_of_lerobot_itself(tmp_path: Path) -> None:
    """What it makes absolute is what `action.relative` says, whichever names are excluded."""
    steps = pytest.importorskip(
        "lerobot.processor.relative_action_processor",
        reason="LeRobot 0.5 or newer is not installed (scripts/compare-lerobot-policies.sh has 0.4.4)",
    )
    from keystep.export.convert.fields import Fields
    from keystep.export.convert.lerobot.relative import RelativeSteps
    from keystep.export.convert.lerobot.source import Given
    from keystep.export.relative import anchor_of
    from keystep.models import state_feature

    rng = np.random.default_rng(0)
    for excluded in ([], ["gripper"], ["GRIP"], ["shoulder.pos", "left"], ["nothing"], [""]):
        theirs = steps.RelativeActionsProcessorStep(True, excluded, [*NAMES])
        back = steps.AbsoluteActionsProcessorStep(True, theirs)
        ours = RelativeSteps()
        ours.remember(Fields(json.loads(json.dumps(theirs.get_config()))), False)
        ours.add(Fields(json.loads(json.dumps(back.get_config()))), True)
        given = (Given("observation.state", "STATE", (3,)), Given("action", "ACTION", (2,)))
        entry = ours.entry(given[:1], given[1], {"observation.state": "observation.state"})
        state = rng.normal(size=(1, 3)).astype(np.float32)
        theirs({"observation": {"observation.state": torch.from_numpy(state)}})
        rows = rng.normal(size=(1, 5, 2)).astype(np.float32)
        wanted = back({"action": torch.from_numpy(rows)})["action"].numpy()
        made = rows + anchor_of(entry, [state_feature(3)], {"observation.state": state}, 0)
        np.testing.assert_array_equal(made, wanted)
