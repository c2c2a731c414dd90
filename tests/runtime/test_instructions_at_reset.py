"""What an episode is about: a task by name, any sentence as an instruction, or subgoals; never a slip."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from subgoal_stub import STATE_KEY, subgoal_changes, zeros

import keystep

SHIPPED = Path(__file__).parents[2] / "bundles/franka3blocks-state.keystep"
UNSEEN = "Could you raise the crimson cube?"
STATE = {STATE_KEY: np.zeros(26, np.float32)}


@pytest.fixture(scope="module")
def shipped():
    with keystep.load(SHIPPED, threads=1) as policy:
        yield policy


def actions(policy, observation, **about):
    policy.reset(seed=3, **about)
    return np.stack([policy.act(observation) for _ in range(3)])


@pytest.mark.parametrize(
    ("task", "nearest"),
    [
        ("lift_redd", "lift_red"),
        ("LIFT_RED", "lift_red"),
        ("lift red", "lift_red"),
        ("push_red_rigth", "push_red_right"),
        ("stck", "stack"),
        ("Lift the red block", None),  # a sentence, not that of the task
        (UNSEEN, None),
        (" ", None),
        ("x" * 100_000, None),
    ],
)
def test_a_mistyped_task_is_refused(shipped, task, nearest):
    wanted = actions(shipped, STATE, task="stack")
    shipped.reset(task="stack", seed=3)
    first = shipped.act(STATE)
    with pytest.raises(
        keystep.ArgumentError, match=r"task: expected one of lift_red, .*instruction"
    ) as caught:
        shipped.reset(task=task)
    assert nearest is None or f"nearest: '{nearest}'" in str(caught.value)
    assert len(str(caught.value)) < 600
    np.testing.assert_array_equal([first, shipped.act(STATE)], wanted[:2])  # the episode before goes on
    shipped.reset()
    with pytest.raises(keystep.ArgumentError, match="task: expected one of lift_red"):
        shipped.act(STATE | {"task": task})


def test_a_task_by_name_or_its_own_instruction(shipped):
    named = actions(shipped, STATE, task="lift_red")
    for same in ({"task": "Lift the red block."}, {"instruction": "Lift the red block."}):
        np.testing.assert_array_equal(named, actions(shipped, STATE, **same))
    shipped.reset(seed=3)
    np.testing.assert_array_equal(named[0], shipped.act(STATE | {"task": "lift_red"}))
    assert (named != actions(shipped, STATE, task="stack")).any()


def test_any_sentence_is_an_instruction(shipped):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = actions(shipped, STATE, instruction=UNSEEN)
    assert (told != actions(shipped, STATE, task="lift_red")).any()
    shipped.reset(instruction=UNSEEN, seed=3)
    np.testing.assert_array_equal(
        told[0], shipped.act(STATE | {"task": UNSEEN})
    )  # as LeRobot's loops repeat it
    with pytest.raises(keystep.ArgumentError, match="task: expected 'Could you raise"):
        shipped.act(STATE | {"task": "lift_red"})
    shipped.reset(instruction="Lift the red block.")
    shipped.act(STATE | {"task": "lift_red"})


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"task": "stack", "instruction": UNSEEN}, "instruction: expected none beside a task"),
        ({"instruction": ""}, "instruction: expected a sentence, got ''"),
        ({"instruction": " \n"}, "instruction: expected a task or an instruction, got white space only"),
        ({"instruction": "\udcff"}, "instruction: expected UTF-8"),
        ({"instruction": 3}, "instruction: expected a str or None, got int"),
        ({"instruction": b"lift"}, "instruction: expected a str or None, got bytes"),
        ({"instruction": "lift\0"}, "instruction: expected text, got a NUL at 4"),
        ({"instruction": "a" * 2000}, "instruction: expected at most 1000 bytes, got 2000"),
    ],
)
@pytest.mark.filterwarnings("ignore::keystep.TextWarning")
def test_what_is_no_instruction(shipped, about, message):
    with pytest.raises(keystep.ArgumentError, match=message):
        shipped.reset(**about)


@pytest.mark.parametrize(
    "instruction",
    ["Hebe den roten Block hoch", "lft_redd", "grasp foo bar", "赤いブロックを持ち上げて", "?!"],
)
def test_a_sentence_of_unknown_words_is_doubted(shipped, instruction):
    with pytest.warns(
        keystep.TextWarning, match="instruction: expected words of which the text encoder"
    ) as seen:
        shipped.reset(instruction=instruction)
    assert seen[0].filename == __file__
    with keystep.load(SHIPPED, threads=1, strict_text=True) as strict:
        with pytest.raises(keystep.ArgumentError, match="instruction: expected words of which"):
            strict.reset(instruction=instruction)
        strict.reset(instruction=UNSEEN)
        strict.reset(task="lift_red")
        strict.reset()
        assert strict.act(STATE | {"task": "stack"}).shape == (7,)


def test_a_doubt_raised_as_an_error_leaves_the_episode(shipped):
    wanted = actions(shipped, STATE, task="stack")
    shipped.reset(task="stack", seed=3)
    first = shipped.act(STATE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(keystep.TextWarning):
            shipped.reset(instruction="grasp foo bar")
    np.testing.assert_array_equal([first, shipped.act(STATE)], wanted[:2])


def test_subgoals_need_no_task(make_stub, observation):
    policy = make_stub(subgoal_changes())
    policy.reset(subgoals={STATE_KEY: zeros(3, 4)}, seed=1)
    alone = policy.act(observation)
    with pytest.raises(
        keystep.PolicyError, match="task: expected a task or an instruction given to reset"
    ) as no_text:
        policy.predict_plan(observation)
    assert no_text.value.status == "not_reset"
    policy.reset(task="lift_red", subgoals={STATE_KEY: zeros(3, 4)}, seed=1)
    np.testing.assert_array_equal(alone, policy.act(observation))
    policy.predict_plan(observation)


def test_without_a_planner_an_instruction_is_that_of_a_task(make_stub, observation):
    policy = make_stub()
    named = actions(policy, observation, task="push_red_left")
    told = actions(policy, observation, instruction="Push the red block to the left.")
    np.testing.assert_array_equal(named, told)
    with pytest.raises(keystep.ArgumentError, match="instruction: expected that of a task, word for word"):
        policy.reset(instruction="Push the red block to the left")


def test_without_known_tasks_there_are_instructions(make_stub, observation):
    policy = make_stub(subgoal_changes() | {"tasks": []})
    policy.reset(instruction="no task is known")
    policy.act(observation)
    for about in ({}, {"task": "lift"}):
        with pytest.raises(keystep.ArgumentError, match="task: expected"):
            policy.reset(**about)
