"""The balance scale weighs: equal loads level it, a wrong share takes it to its stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from tabletop_scenes import set_scene

from keystep.suites.tabletop import layout, predicates
from keystep.suites.tabletop.environment import TabletopEnv
from keystep.suites.tabletop.objects import SHAPES, Body, block
from keystep.suites.tabletop.tasks import common
from keystep.suites.tabletop.tasks.l2 import HEIGHT_STEP_M

pytest.importorskip("mani_skill")
STILL = np.array([0, 0, 0, 0, 0, 0, 1.0])


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    made = TabletopEnv("BalanceScale", terminate_on_success=False)
    yield made
    made.close()


def load(env: TabletopEnv, shape: str, sides: Sequence[Sequence[float]], off_m: float = 0.0) -> None:
    """Blocks of these heights on the left and the right plate, stacked, for three seconds."""
    plates = [Body(thing, position) for thing, position in common.plates()]
    bodies = list(plates)
    for plate, heights in zip(plates, sides, strict=True):
        x, y, _ = plate.position_m
        top = layout.PLATE_HEIGHT_M + layout.PLATE_SIZE_M[2] / 2
        for height in heights:
            thing = block(shape, "red", height_m=height)
            bodies.append(Body(thing, (x, y + off_m, top + height / 2)))
            top += height
    blocks = tuple(range(2, len(bodies)))
    set_scene(env, *bodies, predicate=predicates.balanced(blocks, (0, 1)))
    for _ in range(3 * layout.CONTROL_RATE_HZ):
        env.step(STILL)


def angle_deg(env: TabletopEnv) -> float:
    return float(np.rad2deg(env.simulation.scale.angle_rad()))


@pytest.mark.parametrize(("sides", "sign"), [([[0.04], []], 1), ([[], [0.04]], -1)])
def test_a_block_on_one_plate_takes_the_beam_to_its_stop(env, sides, sign) -> None:
    load(env, "cube", sides)
    assert abs(angle_deg(env)) == pytest.approx(np.rad2deg(layout.SCALE_LIMIT_RAD), abs=0.3)
    loaded, empty = (0, 1) if sign > 0 else (1, 0)
    assert env.world.positions[loaded][2] < env.world.positions[empty][2]
    assert not env.success


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_loads_balance(env, shape) -> None:
    load(env, shape, [[0.05], [0.02, 0.03]])
    assert env.success and abs(angle_deg(env)) < 2


@pytest.mark.parametrize("shape", SHAPES)
def test_loads_a_little_off_the_middle_still_balance(env, shape) -> None:
    load(env, shape, [[0.06], [0.06]], off_m=0.003)
    assert env.success


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lighter", [0, 1])
def test_the_least_wrong_share_does_not_balance(env, shape, lighter) -> None:
    """The sums of heights are even numbers of steps, so a wrong share is two steps off or more."""
    sides = [[0.04], [0.04 + 2 * HEIGHT_STEP_M]]
    load(env, shape, sides[::-1] if lighter else sides)
    assert not env.success


def test_a_hand_on_a_plate_does_not_count(env) -> None:
    load(env, "cube", [[0.04], [0.04]])
    assert env.success
    env.simulation.contacts.begin_step()
    env.simulation.contacts._pairs |= {(0, "arm"), ("arm", 0)}
    assert not env.scenario.predicate.update(env.world)
