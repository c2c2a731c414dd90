"""The oracle's programs: valid code, and, done by a robot that makes no mistakes, each solves its task."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tabletop_world import PerfectRobot

from keystep.code.executor import Executor
from keystep.code.grammar import parse
from keystep.code.language import ACTIONS, Call
from keystep.code.outcome import Outcome
from keystep.suites.tabletop.oracle.programs import PROGRAMS, program, render
from keystep.suites.tabletop.tasks import TASKS

SEEDS = range(20)
CALLS = {
    "Pick": 2, "PlaceOnTop": 4, "PlaceNextTo": 4, "Rotate": 3, "ThrowAt": 3, "ThrowToTopple": 3, "Touch": 2,
    "Push": 2, "Topple": 2, "PickPlaceOnTop": 4, "PickPlaceNextTo": 4, "FollowOrder": 8,
    "FollowOrderRestore": 12, "Neighbour": 8, "NovelAdjective": 4, "NovelNoun": 4, "NovelNounAdjective": 4,
    "RotateRestore": 7, "RotateSymmetry": 6, "ThrowOnto": 3, "PushToTarget": 2, "Swap": 12,
    "SwapByPushing": 6, "SwapRotate": 12,
}  # fmt: skip
"""Without `done()`; of the tasks whose number of blocks does not vary."""


def scenario_of(task, seed):
    return TASKS[task].build(np.random.default_rng(seed))


def run(task, seed, steps=slice(None)):
    """Executes the rendered key-steps and returns the robot afterwards."""
    scenario = scenario_of(task, seed)
    robot = PerfectRobot(scenario)
    executor = Executor(robot)
    for template in program(task, scenario)[steps]:
        result = executor.run(render(template, robot.references()))
        assert result.outcome is Outcome.SUCCESS, result.reason
    return robot


def test_every_task_has_a_program():
    assert list(PROGRAMS) == list(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_every_key_step_is_valid_code_with_one_action_at_its_end(task):
    for seed in SEEDS:
        scenario = scenario_of(task, seed)
        templates = program(task, scenario)
        for template in templates:
            statements = parse(render(template, PerfectRobot(scenario).references()))
            actions = [one for one in statements if isinstance(one, Call) and one.function in ACTIONS]
            assert actions == [statements[-1]], template
        assert [template for template in templates if "done" in template] == [templates[-1]] == ["done()"]


@pytest.mark.parametrize("task", TASKS)
def test_a_program_done_without_mistakes_solves_the_task(task):
    for seed in SEEDS:
        assert run(task, seed).solved, seed


@pytest.mark.parametrize("task", TASKS)
def test_a_program_that_stops_early_does_not_solve_the_task(task):
    for seed in SEEDS:
        length = len(program(task, scenario_of(task, seed)))
        for stop in range(length - 1):
            assert not run(task, seed, slice(stop)).solved, (seed, stop)


@pytest.mark.parametrize("task", ["ReverseStack", "SingleStack"])
def test_the_other_order_of_a_stack_does_not_solve_the_task(task):
    other = {"ReverseStack": "SingleStack", "SingleStack": "ReverseStack"}[task]
    for seed in SEEDS:
        scenario = scenario_of(task, seed)
        robot = PerfectRobot(scenario)
        executor = Executor(robot)
        for template in program(other, scenario):
            executor.run(render(template, robot.references()))
        assert not robot.solved


def test_numbers_of_calls_are_those_of_the_traces():
    for task in TASKS:
        calls = [len(program(task, scenario_of(task, seed))) - 1 for seed in SEEDS]
        if task in CALLS:
            assert set(calls) == {CALLS[task]}, task
        assert min(calls) >= 2 and max(calls) <= 16, task


def test_a_key_step_uses_only_poses_stored_before():
    for task in TASKS:
        stored: set[str] = set()
        for template in program(task, scenario_of(task, 0)):
            for line in template.splitlines():
                used, new = (
                    re.findall(r"pose_dict\['(\w+)'\]", line),
                    re.match(r"pose_dict\['(\w+)'\] = ", line),
                )
                assert set(used[1:] if new else used) <= stored, template
                stored |= {new.group(1)} if new else set()


def test_render_puts_references_in():
    references = {"A": "get_actor('red cube')", "S": ["get_actor('x')", "get_actor('y', actor_pos=(1, 2))"]}
    assert render("pick({A})", references) == "pick(get_actor('red cube'))"
    assert render("pick({S[1]})", references) == "pick(get_actor('y', actor_pos=(1, 2)))"
    expected = "topple_structure([get_actor('x'), get_actor('y', actor_pos=(1, 2))])"
    assert render("topple_structure([{S}])", references) == expected


@pytest.mark.parametrize("template", ["pick({B})", "pick({A[0]})", "pick({S[2]})"])
def test_render_refuses_what_it_has_no_reference_for(template):
    with pytest.raises(ValueError, match=re.escape(template[5:-1])):
        render(template, {"A": "get_actor('red cube')", "S": ["get_actor('x')", "get_actor('y')"]})


def test_an_unknown_task_has_no_program():
    with pytest.raises(ValueError, match=r"task: expected one of Pick, .*, got 'Fly'"):
        program("Fly", scenario_of("Pick", 0))
