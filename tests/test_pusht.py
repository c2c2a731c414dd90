"""examples/pusht: the model of the T, and the laws of the demonstrations."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gym_pusht", reason="gym-pusht is not installed")
pytest.importorskip("pyarrow")
gymnasium = pytest.importorskip("gymnasium")

EXAMPLE = Path(__file__).parents[1] / "examples/pusht"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.syspath_prepend(EXAMPLE)
    return importlib.import_module


def test_the_outline_is_the_environments(example):
    env, tee = example("demonstrations").make_env(), example("tee")
    seen, info = env.reset(seed=3)
    theirs = seen["environment_state"].reshape(8, 2)
    ours = tee.corners(info["block_pose"])
    apart = np.linalg.norm(theirs[:, None] - ours, axis=2).min(axis=1)
    # Both rectangles' corners: where the stem begins is a corner of the outline, too.
    assert apart.max() < 1e-6
    body = env.unwrapped.block
    assert (body.moment, body.mass, tuple(body.center_of_gravity)) == (tee.INERTIA, 1.0, tuple(tee.CENTRE))
    assert tee.error(tee.corners(tee.GOAL)) == 0


def test_a_push_in_the_model_is_one_in_the_environment(example):
    """Straight pushes onto the outline, of which the T moves: pixels that the model is off at its corners."""
    env, tee, search = example("demonstrations").make_env(), example("tee"), example("search")
    rng, off, moved = np.random.default_rng(0), [], []
    for place in range(0, len(search.POINTS), 4):
        asked = [300.0, 300.0, rng.uniform(-np.pi, np.pi)]
        _, info = env.reset(options={"reset_to_state": [20.0, 20.0, *asked]})
        pose = info["block_pose"]  # not what was asked for: gym-pusht keeps a law of older data
        way = tee.turned(-search.NORMALS[place], pose[2] + rng.uniform(-0.35, 0.35))
        contact = tee.placed(search.POINTS[place] + search.NORMALS[place] * tee.RADIUS, pose)
        start = contact - way * search.GAP
        _, info = env.reset(options={"reset_to_state": [*start, *asked]})
        expected, last = pose[None], info["pos_agent"]
        for step in range(12):
            *_, info = env.step(start + way * 8.0 * min(step + 1, 8))
            for share in np.linspace(0.1, 1.0, 10):
                expected = tee.pushed(expected, (last + share * (info["pos_agent"] - last))[None])
            last = info["pos_agent"]
        there = tee.corners(info["block_pose"])
        off.append(np.linalg.norm(tee.corners(expected[0]) - there, axis=1).mean())
        moved.append(np.linalg.norm(tee.corners(pose) - there, axis=1).mean())
    assert min(moved) > 20 and np.median(off) < 2 and max(off) < 8, (moved, off)


class Watched(gymnasium.Wrapper):
    """Keeps how the last episode began, and what was done in it."""

    def reset(self, **options):
        self.began, self.done = options, []
        return self.env.reset(**options)

    def step(self, action):
        self.done.append(action.copy())
        return self.env.step(action)


def test_a_demonstration_is_what_the_environment_does(example):
    """What was done from its start gives to the bit what was recorded, up to the first success."""
    demonstrations = example("demonstrations")
    watched, again = Watched(demonstrations.make_env()), demonstrations.make_env()
    solved = 0
    for seed in range(4):
        frames = demonstrations.demonstrate(watched, seed)
        if frames is None:
            continue
        solved += 1
        assert (watched.began["options"] is None) == (seed % 2 == 0)
        seen, info = again.reset(**watched.began)
        for number, action in enumerate(watched.done):
            for key, name in demonstrations.SEEN.items():
                assert np.array_equal(frames[key][number], seen[name].astype(np.float32)), (seed, number)
            assert not info["is_success"]
            seen, *_, info = again.step(action)
        assert info["is_success"] and info["coverage"] > 0.95
        assert len(frames["action"]) == len(watched.done)
    assert solved >= 2


def test_actions_are_a_steady_hands(example):
    """Recorded is where the hand should go: smoothly, within bounds; done is that and the shaking."""
    demonstrations = example("demonstrations")
    watched = Watched(demonstrations.make_env())
    for seed in range(2):
        actions = demonstrations.demonstrate(watched, seed)["action"]
        assert actions.dtype == np.float32 and actions.min() >= 0 and actions.max() <= 512
        assert np.linalg.norm(np.diff(actions, axis=0), axis=1).max() < 45
        shaken = np.abs(actions - np.array(watched.done))
        assert 1.0 < shaken[:40].mean() < demonstrations.SHAKE and shaken.max() < 5 * demonstrations.SHAKE
        assert shaken[-3:].max() < 4.0, "near the goal it is steady"


def test_starts_are_within_the_walls_and_touch_nothing(example):
    demonstrations, tee = example("demonstrations"), example("tee")
    env, rng, poses = demonstrations.make_env(), np.random.default_rng(5), []
    for _ in range(20):
        _, info = env.reset(options={"reset_to_state": demonstrations.elsewhere(rng)})
        first = info["block_pose"]
        *_, info = env.step(info["pos_agent"].astype(np.float32))
        assert np.allclose(info["block_pose"], first, atol=1e-3)
        corners = tee.corners(first)
        assert corners.min() > demonstrations.WALLS[0] - 1 and corners.max() < demonstrations.WALLS[1] + 1
        poses.append(first)
    assert np.ptp(np.array(poses)[:, :2], axis=0).min() > 200


def test_collecting_goes_on_where_it_stopped(example, tmp_path):
    demonstrations = example("demonstrations")
    for episodes in (1, 2):
        demonstrations.main(tmp_path / "parts", episodes)
    demonstrations.main(tmp_path / "whole", 2)
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.parquet"))
    assert files
    for file in files:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes(), file


def test_the_dataset_in_memory_can_be_copied(example):
    """As it is for other processes; in LeRobot's environment."""
    pytest.importorskip("lerobot", reason="LeRobot is not installed")
    empty = object.__new__(example("train").InMemory)
    assert vars(copy.copy(empty)) == {}
