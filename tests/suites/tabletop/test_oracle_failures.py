"""How the oracle's calls fail: always with a result and a reason, never by an exception or by hanging."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
pytest.importorskip("mani_skill", reason="needs the extra 'sim'")

from scipy.spatial.transform import Rotation
from tabletop_scenes import BLUE, LONG, RED, cube, move_body, stacked, stage, standing

from keystep.code.language import API
from keystep.code.outcome import CallResult, Outcome
from keystep.code.values import Pose
from keystep.suites.tabletop import TASKS
from keystep.suites.tabletop.objects import area, block
from keystep.suites.tabletop.oracle import api
from keystep.suites.tabletop.oracle.api import Actor, Oracle

OFF_TABLE_M = (0.5, 0.0, -0.4)
FAR = Pose((0.95, 0.0, 0.02))


def fails(result, reason):
    assert isinstance(result, CallResult)
    assert result.outcome is Outcome.FAILURE and reason in result.reason, result
    assert "\n" not in result.reason


def works(result):
    assert result.outcome is Outcome.SUCCESS, result.reason


# ---- the gripper


def test_what_needs_a_held_block_fails_without(pair):
    oracle, red, blue = pair
    pose = oracle.get_pose(blue)
    for result in (
        oracle.place(red, pose), oracle.place_on(red, blue), oracle.rotate(red, 45), oracle.throw(red, blue),
    ):  # fmt: skip
        fails(result, "gripper: expected red cube, got nothing")
        assert result.steps == 0
    works(oracle.pick(blue))
    fails(oracle.place(red, pose), "gripper: expected red cube, got blue cube")


def test_what_needs_an_empty_gripper_fails_with_a_block_in_it(pair):
    oracle, red, blue = pair
    works(oracle.pick(red))
    for result in (
        oracle.pick(blue), oracle.pick(red), oracle.push(blue, Pose((0.5, 0.0, 0.02))),
        oracle.touch(blue, push=True), oracle.touch(blue, topple=True),
    ):  # fmt: skip
        fails(result, "gripper: expected empty, got red cube")
    assert oracle.env.world.grasped(0)


@pytest.mark.parametrize(("often", "outcome"), [(1, Outcome.SUCCESS), (9, Outcome.FAILURE)])
def test_a_block_that_slips_away_as_the_fingers_close_is_tried_again(env, often, outcome):
    grippers, closings = [1.0], []

    def away(seen, action):
        if action[6] == -1.0 and grippers[-1] == 1.0:
            closings.append(env.elapsed_steps)
            if len(closings) <= often:
                move_body(env, 0, (0.5, 0.12 * (-1) ** len(closings), 0.02))
        grippers.append(float(action[6]))

    oracle = stage(env, RED, on_step=away)
    result = oracle.pick(oracle.get_actor("red cube"))
    assert result.outcome is outcome and env.world.grasped(0) == (often == 1)
    assert len(closings) == (2 if often == 1 else 3)
    if outcome is Outcome.FAILURE:
        fails(result, "red cube: expected it between the fingers, but the gripper is empty")


def test_what_is_too_wide_or_lies_is_not_grasped(env):
    wide = standing(block("cube", "green", 0.08), 0.5, -0.15)
    oracle = stage(env, wide, standing(block("cube", "blue", 0.03, 0.1), 0.5, 0.0))
    green, blue = oracle.get_actor("green cube"), oracle.get_actor("blue cube")
    fails(oracle.pick(green), "green cube: expected sides that the gripper spans")
    on_its_side = Rotation.from_euler("x", 90, degrees=True).as_quat(scalar_first=True)
    move_body(env, 1, (0.5, 0.0, 0.016), on_its_side)
    env.step(np.append(np.zeros(6), 1.0))
    fails(oracle.pick(blue), "blue cube: expected it upright, but it lies on its side")
    works(oracle.move3d(blue))
    assert np.linalg.norm(env.simulation.hand_pose()[0][:2] - [0.5, 0.0]) < 0.01


def test_areas_are_neither_grasped_nor_pushed(env):
    oracle = stage(env, standing(area("red", 0.1), 0.5, 0.15))
    red = oracle.get_actor("red area")
    works(oracle.move3d(red))
    for result in (
        oracle.pick(red), oracle.push(red, Pose((0.5, 0.0, 0.0))), oracle.touch(red, push=True),
        oracle.touch(red, topple=True),
    ):  # fmt: skip
        fails(result, "red area: expected a block")
        assert result.steps == 0
    works(oracle.touch(red))


# ---- out of reach, off the table, no room


def test_what_is_out_of_reach_is_said_before_anything_moves(env):
    oracle = stage(env, RED, cube("blue", 0.9, 0.0))
    red, blue = oracle.get_actor("red cube"), oracle.get_actor("blue cube")
    for result in (
        oracle.move3d(blue), oracle.move3d(FAR), oracle.pick(blue), oracle.touch(blue), oracle.push(red, FAR),
        oracle.touch(blue, push=True), oracle.touch(blue, topple=True),
        oracle.push(blue, oracle.get_pose(red)),
        oracle.move3d(Pose((0.1, 0.0, 0.02))), oracle.move3d(Pose((-0.5, 0.0, 0.02))),
    ):  # fmt: skip
        fails(result, "expected within reach of the hand, got 0.")
        assert result.steps == 0
    works(oracle.pick(red))
    for result in (oracle.place(red, FAR), oracle.place_on(red, blue)):
        fails(result, "expected within reach of the hand, got 0.9")
    fails(oracle.throw(red, Pose((1.5, 0.0, 0.0))), "target: expected")
    assert env.world.grasped(0), "still held"


def test_what_has_fallen_off_the_table_is_said(pair):
    oracle, red, blue = pair
    env = oracle.env
    works(oracle.move3d(red))
    move_body(env, 0, OFF_TABLE_M)
    env.step(np.zeros(7))
    for result in (
        oracle.move3d(red), oracle.pick(red), oracle.touch(red), oracle.touch(red, push=True),
        oracle.touch(red, topple=True), oracle.push(red, oracle.get_pose(blue)),
        oracle.topple_structure([blue, red]),
    ):  # fmt: skip
        fails(result, "red cube: expected on the table, but it has fallen off")
        assert result.steps == 0
    works(oracle.pick(blue))
    fails(oracle.place_on(blue, red), "red cube: expected on the table, but it has fallen off")


@pytest.mark.parametrize("step", [1, 6, 12, 16])
def test_a_block_that_falls_off_while_something_is_done_to_it_is_a_failure(env, step):
    def fall(seen, action):
        if env.elapsed_steps == step:
            move_body(env, 0, OFF_TABLE_M)

    for name, arguments in (("pick", ()), ("push", (Pose((0.5, 0.2, 0.02)),)), ("touch", (False, True))):
        oracle = stage(env, RED, BLUE, on_step=fall)
        result = getattr(oracle, name)(oracle.get_actor("red cube"), *arguments)
        if result.steps < step:
            continue  # it was done before
        assert result.outcome is Outcome.FAILURE and result.reason and result.steps < api.CALL_STEPS


def test_a_full_area_takes_no_more(env):
    square = standing(area("yellow", 0.12), 0.52, 0.1)
    full = [cube("blue", 0.52 + x, 0.1 + y) for x in (-0.03, 0.03) for y in (-0.03, 0.03)]
    oracle = stage(env, RED, square, *full)
    red, target = oracle.get_actor("red cube"), oracle.get_actor("yellow area")
    works(oracle.pick(red))
    for result in (oracle.place_on(red, target), oracle.move3d(target)):
        fails(result, "yellow area: expected room on it for red cube, got none")
    assert env.world.grasped(0)


def test_touch_cannot_push_and_topple_at_once(pair):
    fails(pair[0].touch(pair[1], push=True, topple=True), "touch: expected push or topple, got both")


def test_a_stack_of_what_lies_apart_needs_no_toppling(pair):
    oracle, red, blue = pair
    works(oracle.move3d(red))
    result = oracle.topple_structure([red, blue])
    works(result)
    assert result.steps == 1, "a step of its own in the trace"


# ---- time


CALLS = {
    "move3d": lambda oracle, red, blue: oracle.move3d(blue),
    "pick": lambda oracle, red, blue: oracle.pick(blue),
    "touch": lambda oracle, red, blue: oracle.touch(blue),
    "push": lambda oracle, red, blue: oracle.push(blue, oracle.get_pose(red)),
    "done": lambda oracle, red, blue: oracle.done(),
    "place": lambda oracle, red, blue: oracle.place(red, Pose((0.5, 0.0, 0.02))),
    "place_on": lambda oracle, red, blue: oracle.place_on(red, blue),
    "rotate": lambda oracle, red, blue: oracle.rotate(red, 60),
    "throw": lambda oracle, red, blue: oracle.throw(red, Pose((0.85, 0.0, 0.0))),
    "topple_structure": lambda oracle, red, blue: oracle.topple_structure(
        [blue, oracle.get_actor("green cube")]
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_time_runs_out_for_every_call(env, call, monkeypatch):
    bodies = (RED, BLUE, stacked(block("cube", "green"), BLUE))
    oracle = stage(env, *bodies)
    red, blue = (Actor(body, bodies[body].thing.name) for body in range(2))
    if call in ("place", "place_on", "rotate", "throw"):
        works(oracle.pick(red))
    monkeypatch.setattr(api, "CALL_STEPS", 3)
    result = CALLS[call](oracle, red, blue)
    assert (result.outcome, result.steps) == (Outcome.TIMEOUT, 3)
    assert result.reason == f"{call}: expected to end within the call's 3 steps"
    monkeypatch.undo()
    env.max_episode_steps = env.elapsed_steps + 2
    result = CALLS[call](oracle, red, blue)
    assert (result.outcome, result.steps) == (Outcome.TIMEOUT, 2)
    assert result.reason == f"{call}: expected to end within the episode's {env.max_episode_steps} steps"
    assert CALLS[call](oracle, red, blue).steps == 0, "the episode is over"


# ---- whatever happens

ACTIONS = tuple(name for name, function in API.items() if function.is_action)


def mischief(rng, env):
    """Moves a block somewhere at two random times."""
    when = set(rng.integers(0, 80, 2).tolist())

    def act(seen, action):
        body = int(rng.integers(len(env.scenario.bodies)))
        if env.elapsed_steps not in when or env.scenario.bodies[body].thing.kind != "block":
            return
        turn = Rotation.random(rng=rng) if rng.integers(2) else Rotation.identity()
        places = (OFF_TABLE_M, rng.uniform((0.1, -0.6, 0.02), (1.0, 0.6, 0.3)), (1.5, 0.0, 0.5))
        move_body(env, body, places[rng.integers(3)], turn.as_quat(scalar_first=True))

    return act


def any_arguments(rng, oracle, action):
    """Of the right types, mostly not sensible."""

    def actor():
        body = int(rng.integers(len(oracle.scene)))
        return Actor(body, oracle.scene.thing(body).name)

    def pose():
        place = (
            rng.uniform((0, -0.6, -0.1), (1, 0.6, 0.3)) if rng.integers(2) else oracle.get_pose(actor()).array
        )
        return Pose(tuple(map(float, place)), float(rng.uniform(-9, 9)))

    makers = {
        "actor": actor, "pose": pose, "number": lambda: float(rng.uniform(-1e6, 1e6)),
        "bool": lambda: bool(rng.integers(2)),
        "list of actors": lambda: [actor() for _ in range(rng.integers(4))],
    }  # fmt: skip
    return [makers[str(rng.choice(one.types))]() for one in API[action].parameters]


@pytest.mark.parametrize("seed", range(40))
def test_every_call_ends_in_a_result(env, seed):
    rng = np.random.default_rng(seed)
    env.task, env.max_episode_steps = TASKS[str(rng.choice(list(TASKS)))], LONG
    oracle = Oracle(env, env.reset(seed=seed)[0], mischief(rng, env))
    for _ in range(5):
        action = str(rng.choice(ACTIONS if rng.integers(3) else ["pick"]))
        before = env.elapsed_steps
        result = getattr(oracle, action)(*any_arguments(rng, oracle, action))
        assert isinstance(result, CallResult) and result.steps == env.elapsed_steps - before <= api.CALL_STEPS
        assert (result.reason == "") == (result.outcome is Outcome.SUCCESS) and "\n" not in result.reason
        assert all(np.isfinite(seen).all() for seen in oracle.motion.observation.values())
