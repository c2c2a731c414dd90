"""Rollouts of the shipped policy in the simulator, and the states they start from and end in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

pytest.importorskip("mani_skill", reason="needs the extra 'sim'")

from keystep.cli import run
from keystep.data import DatasetError, DatasetReader
from keystep.data.check import check_dataset
from keystep.record.collect import collect
from keystep.record.contexts import Contexts, KeptState, kept_states
from keystep.record.plans_tried import read_plans
from keystep.record.player import RolloutPlayer
from keystep.record.rollouts import RolloutSettings, collect_rollouts
from keystep.suites import suite_named
from keystep.suites.franka3blocks.environment import Franka3BlocksEnv
from keystep.suites.states import SUCCESS_STATE, end_state, start_from

BUNDLE = Path(__file__).parents[2] / "bundles/franka3blocks-state.keystep"
SUITE = suite_named("franka3blocks")
PUSHES = ("push_red_left", "push_blue_right")


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    import gymnasium

    SUITE.register()
    made = gymnasium.make(SUITE.env_id, terminate_on_success=False)
    yield made.unwrapped
    made.close()


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("demonstrations") / "d"
    collect(output, tasks=["lift_red", "stack"], episodes=2, seed=3)
    return output


def test_demonstrations_keep_the_state_of_their_first_success(
    demonstrations: Path, env: Franka3BlocksEnv
) -> None:
    reader = DatasetReader(demonstrations)
    states = kept_states([demonstrations], SUITE.env_id, SUCCESS_STATE)
    for kept, episode in zip(states, reader.episodes(), strict=True):
        env.reset(seed=episode.seed, options={"task": episode.task})
        for action in reader.read_episode(episode, ["action"])["action"]:
            if env.step(action)[4]["success"]:
                break
        assert end_state(env) == kept.state


def test_demonstrations_keep_the_state_they_end_in(demonstrations: Path, env: Franka3BlocksEnv) -> None:
    assert check_dataset(demonstrations) == []
    reader = DatasetReader(demonstrations)
    for kept, episode in zip(kept_states([demonstrations], SUITE.env_id), reader.episodes(), strict=True):
        env.reset(seed=episode.seed, options={"task": episode.task})
        for action in reader.read_episode(episode, ["action"])["action"]:
            env.step(action)
        assert end_state(env) == kept.state
        state = {name: value.tolist() for name, value in env.get_state().items()}
        start_from(env, kept.state, "push_red_left")
        again = {name: value.tolist() for name, value in env.get_state().items()}
        moving = ("joints", "joint_velocities", "drive_targets", "cubes")
        assert {name: again[name] for name in moving} == {name: state[name] for name in moving}
        assert again["elapsed_steps"] == 0 and env.task.name == "push_red_left"
        assert again["start_cubes"] == [row[:3] for row in state["cubes"]]


def test_only_the_cubes(demonstrations: Path, env: Franka3BlocksEnv) -> None:
    kept = kept_states([demonstrations], SUITE.env_id)[0].state
    env.reset(seed=5)
    home = env.get_state()
    start_from(env, kept, "lift_green", ("cubes",))
    state = env.get_state()
    assert np.array_equal(state["joints"], home["joints"])
    assert state["cubes"].tolist() == kept["state"]["cubes"]


@pytest.mark.parametrize(
    ("world", "problem"),
    [
        ({"simulator": "sapien 1.0"}, r"expected a state of keystep/Franka3Blocks-v1 \(sapien .*got one of "
                                      r"keystep/Franka3Blocks-v1 \(sapien 1.0\)"),
        ({"env_id": "keystep/Franka3Blocks-v0"}, ".*got one of keystep/Franka3Blocks-v0"),
    ],
)  # fmt: skip
def test_a_state_of_another_world_is_refused(env: Any, world: dict[str, str], problem: str) -> None:
    env.reset(seed=0)
    kept = end_state(env)
    assert kept is not None
    other = {**kept, "world": kept["world"] | world}
    with pytest.raises(ValueError, match=problem):
        start_from(env, other, "stack")
    player = RolloutPlayer(BUNDLE, RolloutSettings(trials=1))
    contexts = Contexts(SUITE, PUSHES, 0, [KeptState("0" * 64, 7, other)])
    with pytest.raises(DatasetError, match="push_red_left: episode 7: end_state: " + problem):
        player.run(contexts.context("push_red_left", "replayed", 0))


def test_a_stack_that_stands_is_left_out(demonstrations: Path) -> None:
    kept = kept_states([demonstrations], SUITE.env_id)
    player = RolloutPlayer(BUNDLE, RolloutSettings(trials=1, max_steps=10, min_steps=5))
    contexts = Contexts(SUITE, ["stack"], 0, [state for state in kept if state.episode >= 2])
    results = [player.run(contexts.context("stack", "replayed", number)) for number in range(2)]
    assert all(result.solved_at_start and not result.attempts for result in results)


@pytest.mark.parametrize("origin", ["end", "success"])
def test_rollouts_are_what_the_policy_did(
    demonstrations: Path, tmp_path: Path, env: Franka3BlocksEnv, origin: Literal["end", "success"]
) -> None:
    settings = RolloutSettings(
        tasks=PUSHES, reset_per_task=2, replayed_per_task=1, max_contexts=6, trials=3, replay_from=origin
    )
    report = collect_rollouts(
        BUNDLE, tmp_path / "d", settings, replay=[demonstrations], tried=tmp_path / "tried"
    )
    tried = read_plans(tmp_path / "tried")
    assert len(tried) == report.rollouts
    assert tried.success.sum() == report.episodes, "one success of a context is kept, and ends its trials"
    assert set(tried.tasks) == set(PUSHES) and not np.isnan(tried.plans).any()
    assert check_dataset(tmp_path / "d") == []
    reader = DatasetReader(tmp_path / "d")
    assert reader.features == DatasetReader(demonstrations).features
    assert report.episodes == len(reader) >= 2, "too few successes to see anything"
    kept = kept_states([demonstrations], SUITE.env_id, f"{origin}_state")
    contexts = Contexts(SUITE, PUSHES, 0, kept)
    for episode in reader.episodes():
        place = episode.extras["context"]
        context = contexts.context(episode.task, place["kind"], place["number"])
        assert context.seed == episode.seed
        if context.state is None:
            observation, _ = env.reset(seed=context.seed, options={"task": episode.task})
        else:
            observation, _ = start_from(env, context.state, episode.task)
        frames, solved, first = reader.read_episode(episode), [], None
        for seen, action in zip(frames["observation.state"], frames["action"], strict=True):
            assert np.array_equal(seen, observation["observation.state"])
            observation, *_, info = env.step(action)
            solved.append(info["success"])
            first = first or (end_state(env) if info["success"] else None)
        assert first == episode.extras["success_state"]
        assert sum(solved) > settings.success_frames and settings.min_steps <= len(solved) <= 65
        earlier = solved[:-1]
        assert sum(earlier) <= settings.success_frames or len(earlier) < settings.min_steps
        assert end_state(env) == episode.extras["end_state"]
    again = collect_rollouts(BUNDLE, tmp_path / "e", settings, replay=[demonstrations], processes=2)
    assert again.counts == report.counts
    assert DatasetReader(tmp_path / "e").sha256() == reader.sha256()


def test_the_command(demonstrations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["rollouts", str(BUNDLE), str(tmp_path / "d"), "--tasks", "push_blue_right",
               "--reset-per-task", "2", "--replayed-per-task", "1", "--max-contexts", "2"]  # fmt: skip
    assert run([*command, "--replay", str(demonstrations)]) == 0
    printed = capsys.readouterr().out
    assert "push_blue_right" in printed and "rollouts in this run" in printed
    assert len(DatasetReader(tmp_path / "d")) > 0, "no success to be seen"
    assert run([*command, "--replay", str(demonstrations), "--trials", "2"]) == 2
    assert "rollouts.trials: expected 2 to resume, got 5" in capsys.readouterr().err
    assert run([*command, "--replay", str(tmp_path / "d")]) == 2
    assert "expected" in capsys.readouterr().err
    assert run([*command, "--planner-candidates", "-1"]) == 2


def test_a_dataset_without_states_cannot_be_replayed(tmp_path: Path) -> None:
    from fake_expert import fake_source

    from keystep.record.collect import collect_from

    collect_from(fake_source(), tmp_path / "d", 1)
    with pytest.raises(DatasetError, match="end_state: expected the episode's last state"):
        collect_rollouts(BUNDLE, tmp_path / "r", RolloutSettings(), replay=[tmp_path / "d"])
    with pytest.raises(DatasetError, match="success_state: expected the episode's first solved state"):
        settings = RolloutSettings(replay_from="success")
        collect_rollouts(BUNDLE, tmp_path / "r", settings, replay=[tmp_path / "d"])
    assert not (tmp_path / "r").exists()
