"""The grid of the oracle's code: stored poses say their cells, and code without them still runs."""

from __future__ import annotations

import ast
import re
from itertools import islice

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
pytest.importorskip("mani_skill", reason="needs the extra 'sim'")

from keystep.code.grid import GRID, PAPER_GRID
from keystep.code.outcome import OracleError
from keystep.code.values import Actor
from keystep.suites.tabletop.environment import TabletopEnv
from keystep.suites.tabletop.oracle.api import Oracle
from keystep.suites.tabletop.oracle.episodes import References, programmed, run
from keystep.suites.tabletop.oracle.scene import LiveScene
from keystep.suites.tabletop.oracle.texts import FIRST_SEED, StillRobot, text_episode, text_episodes
from keystep.suites.tabletop.tasks import TASKS, task_named

SEED = 2


def test_a_stored_pose_says_its_cell_and_the_paper_has_a_coarser_one():
    env = TabletopEnv("Swap", terminate_on_success=False)
    for grid in (GRID, PAPER_GRID):
        oracle = Oracle(env, env.reset(seed=SEED)[0], grid=grid)
        found = References(oracle, env.scenario)
        body = env.scenario.roles["A"]
        name = env.scenario.bodies[body].thing.name
        assert found["A"] == f"get_actor({name!r})"
        assert found["A@"] == f"get_actor({name!r}, actor_pos={oracle.cell(body)})"
        column, row = ast.literal_eval(found["A+"])
        free = oracle.free_space(oracle.get_actor(name), near=(column, row))
        seen = oracle.scene.seen_at(body, free.array[None, :2])[0]
        assert np.abs(seen * grid - (column, row)).max() <= 1, "free space is where the code says"
        assert oracle.free_space(oracle.get_actor(name)).array == pytest.approx(free.array, abs=0.12)
    env.close()


@pytest.mark.parametrize(
    ("near", "problem"),
    [
        ((-1, -1), r"near: expected a cell, two numbers of 0 to 32, got \(-1, -1\)"),
        ((500, 3), r"near: expected a cell, two numbers of 0 to 32, got \(500, 3\)"),
        ((16, 33), r"near: expected a cell, two numbers of 0 to 32, got \(16, 33\)"),
        ((0, 0), r"near: expected room for .* near \(0, 0\), got some at \(\d+, \d+\)"),
    ],
)
def test_a_cell_that_cannot_be_meant_is_refused(near, problem):
    """A place is made of whatever a planner writes: what it made up must be seen."""
    scenario = task_named("Swap").build(np.random.default_rng(SEED))
    robot = StillRobot(scenario)
    body = scenario.roles["A"]
    actor = Actor(body, scenario.bodies[body].thing.name)
    with pytest.raises(OracleError, match=problem):
        robot.free_space(actor, near)
    free = robot.free_space(actor, robot.free_cell(body))
    assert free.array == pytest.approx(robot.free_space(actor).array, abs=0.12)


def test_no_text_puts_what_has_no_room_where_it_stands(monkeypatch):
    """A program that nobody can run is none to learn from; another scene takes its place."""
    whole = LiveScene.free_place
    full = {FIRST_SEED + list(TASKS).index("Swap")}
    seeds = []

    def build(name, seed, grid):
        seeds.append(seed)
        monkeypatch.setattr(LiveScene, "free_place", (lambda *_: None) if seed in full else whole)
        return text_episode(name, seed, grid)

    with monkeypatch.context() as patched:
        patched.setattr("keystep.suites.tabletop.oracle.texts.text_episode", build)
        found = list(islice(text_episodes(["Swap"]), 2))
    assert len(seeds) == 3 and [episode.seed for episode in found] == seeds[1:]
    assert not any("(-1, -1)" in code for episode in found for code in episode.keysteps)


def test_code_of_the_papers_grid_without_cells_of_poses_runs_as_before():
    """A dataset made before has such code, and the oracle still does it."""
    env = TabletopEnv("Swap", terminate_on_success=False)
    observation = env.reset(seed=SEED)[0]

    def keysteps(oracle):
        for code in programmed(oracle):
            yield re.sub(r", (actor_pos|near)=\([^)]*\)", "", code)

    episode = run(env, observation, keysteps, grid=PAPER_GRID)
    assert episode.success and not any("actor_pos" in code for code in episode.trace.codes)
    env.close()
