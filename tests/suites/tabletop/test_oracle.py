"""The oracle's queries: actors by name and place, free places, poses. Its calls: test_oracle_skills.py."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
pytest.importorskip("mani_skill", reason="needs the extra 'sim'")

from tabletop_scenes import LONG, RED, corners, cube, distance, move_body, stacked, stage, standing

from keystep.code.grid import GRID, PAPER_GRID
from keystep.code.language import API
from keystep.code.outcome import OracleError
from keystep.code.values import Pose
from keystep.suites.tabletop import TASKS, layout
from keystep.suites.tabletop.objects import area, block
from keystep.suites.tabletop.oracle.api import Actor, Oracle
from keystep.suites.tabletop.polygons import DIRECTIONS

TWINS = (cube("red", 0.42, -0.18), cube("red", 0.55, 0.15))


def test_the_oracle_has_the_functions_of_the_language():
    for name, function in API.items():
        parameters = list(inspect.signature(getattr(Oracle, name)).parameters.values())[1:]
        assert [one.name for one in parameters] == [one.name for one in function.parameters]
        required = [one.default is inspect.Parameter.empty for one in parameters]
        assert required == [one.required for one in function.parameters]


def test_another_environment_is_refused():
    import gymnasium

    with pytest.raises(TypeError, match="env: expected a TabletopEnv, got CartPoleEnv"):
        Oracle(gymnasium.make("CartPole-v1"), {})


# ---- get_actor


def test_an_actor_is_found_by_its_name(pair):
    oracle, red, blue = pair
    assert (red.body, red.name) == (0, "red cube") and (blue.body, blue.name) == (1, "blue cube")
    assert oracle.get_pose(red).array == pytest.approx(RED.position_m, abs=1e-3)
    assert oracle.get_pose(red).yaw == pytest.approx(RED.yaw_rad, abs=1e-3)
    with pytest.raises(OracleError, match="name: expected one of blue cube, red cube, got 'red hexagon'"):
        oracle.get_actor("red hexagon")


def test_of_two_alike_the_position_decides(env):
    oracle = stage(env, *TWINS)
    cells = [oracle.cell(body) for body in range(2)]
    assert cells[0] != cells[1]
    for body, (column, row) in enumerate(cells):
        assert oracle.get_actor("red cube", actor_pos=(column, row)).body == body
        assert oracle.get_actor("red cube", actor_pos=(column + 2, row - 2)).body == body
    with pytest.raises(OracleError, match=r"actor_pos: expected one of .* to tell red cubes apart") as caught:
        oracle.get_actor("red cube")
    assert all(str(place) in str(caught.value) for place in cells)
    for nowhere in ((0, 0), (-1, -1)):
        with pytest.raises(OracleError, match=r"actor_pos: expected a red cube near \(.*, but they are at"):
            oracle.get_actor("red cube", actor_pos=nowhere)


def test_of_two_in_the_same_cell_the_other_is_known(env):
    """Which one is meant may then follow from what the hand holds."""
    same = []
    for x in (0.44, 0.46, 0.48, 0.5, 0.52):
        low = cube("red", x, 0.1)
        oracle = stage(env, low, stacked(block("cube", "red", height_m=0.02), low))
        place, other = (oracle.cell(body) for body in range(2))
        same.append(place == other)
        actor = oracle.get_actor("red cube", actor_pos=place)
        assert {actor.body, *actor.alike} == ({0, 1} if place == other else {0})
    assert True in same and False in same


def test_the_position_of_the_only_one_does_not_matter(pair):
    oracle, *_ = pair
    for place in ((-1, -1), (0, 0), oracle.cell(1)):
        assert oracle.get_actor("red cube", actor_pos=place).body == 0


@pytest.mark.parametrize("grid", [PAPER_GRID, GRID, 7])
def test_cells_are_centres_of_boxes(env, grid):
    stage(env, *TWINS)
    oracle = Oracle(env, env.observation(), grid=grid)
    for body, box in enumerate(env.boxes()[:2]):
        centre = ((box[0] + box[2]) / 2 * grid, (box[1] + box[3]) / 2 * grid)
        assert oracle.cell(body) == tuple(round(float(value)) for value in centre)
    move_body(env, 0, (2.0, 0.0, -0.4))
    env.step(np.zeros(7))
    assert oracle.cell(0) == (-1, -1) and oracle.get_actor("red cube", actor_pos=(-1, -1)).body == 0


# ---- places


def a_crowd(env, seed):
    """A scene with many bodies, and one of its blocks."""
    rng = np.random.default_rng(seed)
    env.task = TASKS[str(rng.choice(["SortByTexture", "FollowOrder", "SingleStack", "NovelNoun"]))]
    env.max_episode_steps = LONG
    oracle = Oracle(env, env.reset(seed=seed)[0])
    blocks = [body for body in range(len(oracle.scene)) if oracle.scene.thing(body).kind == "block"]
    return oracle, int(rng.choice(blocks))


def footprints(oracle):
    return [
        corners(oracle.scene.thing(body), oracle.scene.position(body), oracle.scene.yaw(body))
        for body in range(len(oracle.scene))
    ]


def room_at(oracle, body, place):
    """To all bodies where they are now, itself included."""
    mine = corners(oracle.scene.thing(body), place, oracle.scene.yaw(body))
    return min(distance(mine, other) for other in footprints(oracle))


@pytest.mark.parametrize("seed", range(25))
def test_free_space_has_room(env, seed):
    oracle, body = a_crowd(env, seed)
    actor = Actor(body, oracle.scene.thing(body).name)
    (x_low, x_high), (y_low, y_high) = layout.WORKSPACE_X_M, layout.WORKSPACE_Y_M
    try:
        pose = oracle.free_space(actor)
    except OracleError as error:
        assert str(error) == f"free_space: expected room for {actor.name}, got none"
        grid = [(x, y) for x in np.arange(x_low, x_high, 0.04) for y in np.arange(y_low, y_high, 0.04)]
        assert max(room_at(oracle, body, place) for place in grid) < 0.05 * np.sqrt(2)
        return
    assert room_at(oracle, body, pose.position) > 0.0495, "its own place counts, too"
    assert pose.yaw == pytest.approx(oracle.scene.yaw(body))
    assert pose.position[2] == pytest.approx(oracle.scene.thing(body).height_m / 2)
    assert x_low <= pose.position[0] <= x_high + 1e-9 and y_low <= pose.position[1] <= y_high + 1e-9
    assert oracle.free_space(actor) == pose


@pytest.mark.parametrize("seed", range(25))
def test_free_space_beside_another_is_on_its_side_and_has_room(env, seed):
    oracle, body = a_crowd(env, seed)
    beside = (body + 1) % len(oracle.scene)
    actors = [Actor(one, oracle.scene.thing(one).name) for one in (body, beside)]
    others = [polygon for one, polygon in enumerate(footprints(oracle)) if one != body]
    size = max(0.05, np.mean([oracle.scene.thing(one).size_m[:2] for one in (body, beside)]))
    for direction, along in DIRECTIONS.items():
        try:
            pose = oracle.free_space_next_to(*actors, direction)
        except OracleError as error:
            assert "free_space_next_to: expected room for" in str(error) and direction in str(error)
            continue
        offset = (pose.array - oracle.scene.position(beside))[:2]
        assert 0.5 * size <= offset @ along <= 2.5 * size, "as the predicate wants it"
        assert abs(offset @ [-along[1], along[0]]) <= size
        mine = corners(oracle.scene.thing(body), pose.array, pose.yaw)
        assert min(distance(mine, other) for other in others) > 0.007
        assert oracle.free_space_next_to(*actors, direction) == pose


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_next_to_a_block_alone_there_is_room_on_every_side(env, direction):
    oracle = stage(env, RED, cube("blue", 0.48, 0.08))
    pose = oracle.free_space_next_to(oracle.get_actor("red cube"), oracle.get_actor("blue cube"), direction)
    axis, sign = {"left": (1, 1), "right": (1, -1), "front": (0, 1), "behind": (0, -1)}[direction]
    assert sign * (pose.position[axis] - (0.48, 0.08)[axis]) > 0.05


def test_other_directions_are_refused(pair):
    with pytest.raises(
        OracleError, match="direction: expected one of left, right, front, behind, got 'above'"
    ):
        pair[0].free_space_next_to(pair[1], pair[2], "above")


def test_a_full_table_has_no_free_space(env):
    carpets = [standing(area("blue", 0.3), 0.45, y) for y in (-0.3, 0.0, 0.3)]
    oracle = stage(env, cube("red", 0.45, 0.0), *carpets)
    with pytest.raises(OracleError, match="free_space: expected room for red cube, got none"):
        oracle.free_space(oracle.get_actor("red cube"))
    walls = [cube("blue", 0.5, 0.0), standing(block("cube", "green", 0.14), 0.5, 0.13)]
    oracle = stage(env, cube("red", 0.45, -0.15), *walls)
    with pytest.raises(OracleError, match="expected room for red cube left of blue cube, got none"):
        oracle.free_space_next_to(oracle.get_actor("red cube"), oracle.get_actor("blue cube"), "left")


def test_poses_are_turned_in_degrees_from_above(pair):
    oracle, *_ = pair
    pose = Pose((0.4, 0.1, 0.02), 0.5)
    assert oracle.rotate_z(pose, 90) == Pose(pose.position, 0.5 + np.pi / 2)
    assert oracle.rotate_z(oracle.rotate_z(pose, 200), -200).yaw == pytest.approx(0.5)
