"""How predicates are combined, and the turns they measure."""

from __future__ import annotations

import numpy as np
from tabletop_changes import world
from tabletop_world import about

from keystep.suites.tabletop import conditions
from keystep.suites.tabletop.logic import All, Any, Not, Once, Order


def constant(*values):
    """Holds step by step as told."""
    left = iter(values)
    return conditions.Now(lambda now: next(left))


def run(predicate, steps):
    now = world()
    predicate.begin(now)
    return [predicate.update(now) for _ in range(steps)]


def test_all_any_and_not():
    for one in (False, True):
        for two in (False, True):
            assert run(All(constant(one), constant(two)), 1) == [one and two]
            assert run(Any(constant(one), constant(two)), 1) == [one or two]
        assert run(Not(constant(one)), 1) == [not one]


def test_every_part_sees_every_step():
    seen = []

    def note(now):
        seen.append(now)
        return False

    watch = conditions.Now(note)
    no, yes = conditions.Now(lambda now: False), conditions.Now(lambda now: True)
    for predicate in (All(no, watch), Any(yes, watch), Order(no, watch), Not(watch), Once(watch)):
        seen.clear()
        run(predicate, 3)
        assert len(seen) == 3


def test_once_remembers():
    assert run(Once(constant(0, 1, 0, 0)), 4) == [False, True, True, True]


def test_order_counts_parts_one_after_the_other():
    assert run(Order(constant(0, 1, 0, 0), constant(1, 0, 0, 1)), 4) == [False, False, False, True]
    assert run(Order(constant(1, 1), constant(1, 1)), 2) == [False, True]


def test_predicates_can_begin_again():
    predicate = Once(constant(1, 0, 0))
    run(predicate, 1)
    assert run(predicate, 1) == [False]


def test_rotation_agrees_with_rodrigues():
    rng = np.random.default_rng(0)
    for _ in range(50):
        axis, angle = rng.normal(size=3), rng.uniform(-np.pi, np.pi)
        axis /= np.linalg.norm(axis)
        cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        expected = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
        np.testing.assert_allclose(conditions.rotation(about(axis, angle)), expected, atol=1e-12)
