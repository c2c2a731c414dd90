"""Cubes that exchange their colours: the same actions do the renamed task, in both simulators."""

from __future__ import annotations

import numpy as np
import pytest
from simulators import BOTH

gymnasium = pytest.importorskip("gymnasium", reason="needs the extra 'sim' or 'bullet'")

from keystep.suites.franka3blocks import TASKS, layout  # noqa: E402
from keystep.suites.franka3blocks.expert import ScriptedExpert  # noqa: E402
from keystep.suites.franka3blocks.instructions import meaning  # noqa: E402
from keystep.suites.franka3blocks.symmetries import SYMMETRIES  # noqa: E402

STATE = "observation.state"


@pytest.fixture(scope="module", params=BOTH)
def env(request):
    env = gymnasium.make(request.param)
    yield env.unwrapped
    env.close()


def demonstration(env, task, seed):
    """The state after the reset, and the actions that solve it from there."""
    env.reset(seed=seed, options={"task": task})
    start, actions = env.get_state(), []
    expert = ScriptedExpert(env, seed=seed)
    while not env.success:
        assert len(actions) < 64, "the expert did not solve it; take another seed"
        actions.append(expert.act())
        env.step(actions[-1])
    return start, actions


def exchanged(start, symmetry):
    """The scene in which every cube has its new colour."""
    columns = np.array(symmetry.columns[STATE])[layout.CUBE_POSITIONS]
    order = (columns[::3] - layout.CUBE_POSITIONS.start) // 3
    task = symmetry.tasks[list(TASKS)[int(start["task"])]]
    cubes = {name: start[name][order] for name in ("cubes", "start_cubes")}
    return start | cubes | {"task": np.array(list(TASKS).index(task))}


def play(env, start, actions):
    seen = [env.set_state(start)[0][STATE]]
    seen += [env.step(action)[0][STATE] for action in actions]
    return np.stack(seen), env.success


@pytest.mark.parametrize("task, seed", [("lift_green", 3), ("push_blue_left", 5)])
def test_the_same_actions_do_the_renamed_task(env, task, seed):
    start, actions = demonstration(env, task, seed)
    seen, success = play(env, start, actions)
    assert success
    for symmetry in SYMMETRIES:
        other, success = play(env, exchanged(start, symmetry), actions)
        assert success, symmetry.tasks[task]
        # The solvers go through the bodies in their order, so that equal means nearly.
        np.testing.assert_allclose(other, seen[:, symmetry.columns[STATE]], atol=0.01)


def test_they_are_all_six_and_closed():
    columns = {symmetry.columns[STATE] for symmetry in SYMMETRIES}
    assert len(columns) == 6 and tuple(range(len(layout.STATE_NAMES))) in columns
    for one in SYMMETRIES:
        for two in SYMMETRIES:
            assert tuple(one.columns[STATE][column] for column in two.columns[STATE]) in columns


def test_a_renamed_task_means_the_renamed_colour_and_nothing_else():
    for symmetry in SYMMETRIES:
        assert sorted(symmetry.tasks.values()) == sorted(TASKS)
        colours = [symmetry.tasks[f"lift_{name}"].removeprefix("lift_") for name in layout.CUBES]
        for task, other in symmetry.tasks.items():
            meant = meaning(task)
            if meant["colour"] < len(colours):
                meant["colour"] = layout.CUBES.index(colours[meant["colour"]])
            assert meaning(other) == meant
