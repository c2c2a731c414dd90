"""The grid of the oracle's code: stored poses say their cells, and code without them still runs."""

from __future__ import annotations

import ast
import re

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
pytest.importorskip("mani_skill", reason="needs the extra 'sim'")

from keystep.code.grid import GRID, PAPER_GRID
from keystep.suites.tabletop.environment import TabletopEnv
from keystep.suites.tabletop.oracle.api import Oracle
from keystep.suites.tabletop.oracle.episodes import References, programmed, run

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
