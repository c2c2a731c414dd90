"""P: how many actions before the old plan is used up a new one is asked for, of the bundle and of loading."""

from __future__ import annotations

from typing import Any

import pytest
from stub_bundle import stub_observation
from subgoal_stub import STEPS, subgoal_changes

import keystep

TICKS = 80


def asked(make_stub: Any, bundle_says: int | None, **options: Any) -> list[int]:
    """After which actions a plan was there; in virtual time, where it takes nothing."""
    changes = subgoal_changes() if bundle_says is None else subgoal_changes(plan_ahead=bundle_says)
    time = keystep.VirtualTime(chunk=(1.0,))
    with make_stub(changes, mode="async", virtual_time=time, **options) as policy:
        policy.reset("lift_red", seed=2)
        plans, indices = 0, []
        for _ in range(TICKS):
            policy.act(stub_observation())
            seen = policy.telemetry()
            if seen.plans > plans:
                plans = seen.plans
                indices.append(seen.consumed)
        return indices


def test_the_bundle_says_how_early_and_loading_says_otherwise(make_stub: Any) -> None:
    by_option = {ahead: asked(make_stub, None, plan_ahead=ahead) for ahead in (0, 1, STEPS)}
    assert len({tuple(indices) for indices in by_option.values()}) == 3
    for ahead, indices in by_option.items():
        assert len(indices) > 4
        assert asked(make_stub, ahead) == indices  # the bundle's
        assert asked(make_stub, STEPS - 1, plan_ahead=ahead) == indices  # loading's, above the bundle's
    assert by_option[0][3] > by_option[1][3] > by_option[STEPS][3]  # the greater P, the earlier
    as_needed = asked(make_stub, None)
    assert asked(make_stub, 0, plan_ahead=-1) == as_needed == asked(make_stub, None, plan_ahead=-1)


@pytest.mark.parametrize("wrong", [-1, STEPS + 1, 1.5, None, "2"])
def test_what_is_no_number_of_actions_is_refused(make_stub: Any, wrong: object) -> None:
    with pytest.raises(keystep.BundleError, match=f"planner.plan_ahead: expected an integer in 0..{STEPS}"):
        make_stub(subgoal_changes(plan_ahead=wrong))
