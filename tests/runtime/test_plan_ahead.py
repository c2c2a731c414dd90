"""P: how many actions before the old plan is used up a new one is asked for, of the bundle and of loading."""

from __future__ import annotations

from typing import Any

import pytest
from stub_bundle import stub_observation
from subgoal_stub import STEPS, SUBGOALS, subgoal_changes

import keystep

TICKS = 80


def asked(make_stub: Any, bundle_says: int | None, **options: Any) -> list[int]:
    """At which consumed index each plan was asked for, in virtual time. One that takes nothing is there at
    the tick after the one that asked."""
    changes = subgoal_changes() if bundle_says is None else subgoal_changes(plan_ahead=bundle_says)
    time = keystep.VirtualTime(chunk=(1.0,))
    with make_stub(changes, mode="async", virtual_time=time, **options) as policy:
        policy.reset("lift_red", seed=2)
        begun, plans, indices = [0], 0, []
        for _ in range(TICKS):
            policy.act(stub_observation())
            seen = policy.telemetry()
            if seen.plans > plans:
                plans = seen.plans
                indices.append(begun[-2])
            begun.append(seen.consumed)
        return indices


@pytest.mark.parametrize("ahead", range(STEPS + 1))
def test_the_bundle_says_how_early_and_loading_says_otherwise(make_stub: Any, ahead: int) -> None:
    indices = asked(make_stub, None, plan_ahead=ahead)
    used_up = [SUBGOALS * STEPS * plan for plan in range(1, len(indices))]
    assert len(indices) > 4 and indices == [0, *(index - ahead for index in used_up)]
    assert asked(make_stub, ahead) == indices  # the bundle's
    assert asked(make_stub, (ahead + 1) % STEPS, plan_ahead=ahead) == indices  # loading's, above the bundle's


def test_where_nothing_is_said_it_is_as_many_as_plans_and_chunks_take(make_stub: Any) -> None:
    as_needed = asked(make_stub, None)
    assert as_needed == asked(make_stub, None, plan_ahead=-1) == asked(make_stub, 0, plan_ahead=-1)
    assert as_needed != asked(make_stub, 0)


@pytest.mark.parametrize("wrong", [-1, STEPS + 1, 1.5, None, "2"])
def test_what_is_no_number_of_actions_is_refused(make_stub: Any, wrong: object) -> None:
    with pytest.raises(keystep.BundleError, match=f"planner.plan_ahead: expected an integer in 0..{STEPS}"):
        make_stub(subgoal_changes(plan_ahead=wrong))
