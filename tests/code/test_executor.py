"""The executor: what runs, in which order, where it stops; and that refused text runs nothing at all."""

from __future__ import annotations

import re
from typing import Any

import pytest
from code_programs import ACTIONS, Program, Spy, programs, value
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keystep.code.executor import Executor
from keystep.code.grammar import CodeError, format_statements, parse
from keystep.code.outcome import CallResult, OracleError, Outcome

CUBE = value("get_actor", {"name": "red cube"})


def flat(program: Program) -> list[tuple[str, dict[str, Any]]]:
    return [call for calls in program.calls for call in calls]


def actions(calls: list[tuple[str, dict[str, Any]]]) -> tuple[str, ...]:
    return tuple(name for name, _ in calls if name in ACTIONS)


# ---- what runs


@given(programs())
@settings(max_examples=300, deadline=None)
def test_a_program_makes_its_calls_in_order(program: Program) -> None:
    spy = Spy()
    executor = Executor(spy)
    result = executor.run(program.text)
    assert repr(spy.log) == repr(flat(program))  # repr tells 1, 1.0 and True apart
    assert executor.pose_dict == program.poses()
    calls = actions(flat(program))
    assert (result.outcome, result.reason, result.line) == (Outcome.SUCCESS, "", None)
    assert (result.calls, result.steps) == (calls, 3 * len(calls))
    assert result.stored == tuple(pair[0] for pair in program.stores if pair)


@given(programs(), st.data())
@settings(max_examples=300, deadline=None)
def test_it_stops_at_the_first_call_that_fails(program: Program, data: st.DataObject) -> None:
    expected = flat(program)
    assume(expected)
    fails_at = data.draw(st.integers(0, len(expected) - 1))
    outcome = data.draw(st.sampled_from([Outcome.FAILURE, Outcome.TIMEOUT, None]))
    spy = Spy(fails_at, CallResult(outcome, "it fails here", 7) if outcome else None)
    executor = Executor(spy)
    result = executor.run(format_statements(parse(program.text)))  # a statement per line
    made = expected[: fails_at + 1]
    assert repr(spy.log) == repr(made)
    acted = outcome is not None and expected[fails_at][0] in ACTIONS
    assert result.outcome is (outcome if acted else Outcome.FAILURE)
    line = next(n for n in range(1, 9) if sum(map(len, program.calls[:n])) > fails_at)
    assert result.line == line
    assert re.fullmatch(rf"line {line}, column \d+: {expected[fails_at][0]}: it fails here", result.reason)
    assert result.calls == actions(made)
    assert result.steps == 3 * len(actions(made[:-1])) + (7 if acted else 0)
    assert executor.pose_dict == program.poses(line - 1)
    assert result.stored == tuple(pair[0] for pair in program.stores[: line - 1] if pair)


def test_the_paper_s_keysteps_run_one_after_another() -> None:
    spy = Spy()
    executor = Executor(spy)
    assert executor.run(
        "pose_dict['T'] = free_space_next_to("
        "get_actor('red cube'), get_actor('blue hexagon', (3, 4)), 'left')\n"
        "move3d(get_actor('red cube'))"
    ).calls == ("move3d",)
    assert executor.run(
        "pick(get_actor('red cube'))\nplace(get_actor('red cube'), pose_dict['T'])"
    ).calls == (
        "pick",
        "place",
    )
    hexagon = value("get_actor", {"name": "blue hexagon", "actor_pos": (3, 4)})
    target = value("free_space_next_to", {"actor": CUBE, "next_to_actor": hexagon, "direction": "left"})
    assert executor.pose_dict == {"T": target}
    assert spy.log[-1] == ("place", {"actor": CUBE, "pose": target})


def test_poses_outlive_a_text_and_names_do_not() -> None:
    executor = Executor(Spy(), {"given": ("a pose",)})
    assert executor.run("p = pose_dict['given']\npose_dict['T'] = p\npose_dict['T'] = rotate_z(p, 90)")
    assert executor.pose_dict == {
        "given": ("a pose",),
        "T": value("rotate_z", {"pose": ("a pose",), "angle": 90}),
    }
    with pytest.raises(CodeError, match="line 1, column 8: expected a name that an earlier line assigned"):
        executor.run("move3d(p)")


def test_a_given_pose_dict_is_not_changed() -> None:
    given_poses: dict[str, Any] = {}
    executor = Executor(Spy(), given_poses)
    executor.run("pose_dict['T'] = get_pose(get_actor('x'))")
    assert given_poses == {} and list(executor.pose_dict) == ["T"]


@pytest.mark.parametrize("text", ["", "# pick(get_actor('x'))", "\n"])
def test_comments_do_nothing(text: str) -> None:
    spy = Spy()
    result = Executor(spy).run(text)
    assert (result.outcome, result.calls, result.steps, spy.log) == (Outcome.SUCCESS, (), 0, [])


@given(programs(), st.data())
@settings(max_examples=100, deadline=None)
def test_an_interrupted_call_ends_its_text_which_is_no_failure(program: Program, data: st.DataObject) -> None:
    expected = flat(program)
    acting = [number for number, (name, _) in enumerate(expected) if name in ACTIONS]
    assume(acting)
    last = data.draw(st.sampled_from(acting))
    spy = Spy(last, CallResult(Outcome.SUCCESS, steps=2, interrupted=True))
    executor = Executor(spy)
    result = executor.run(format_statements(parse(program.text)))
    made = expected[: last + 1]
    assert repr(spy.log) == repr(made)
    assert (result.outcome, result.reason, result.line) == (Outcome.SUCCESS, "", None)
    assert result.interrupted and result.calls == actions(made)
    assert result.steps == 3 * (len(result.calls) - 1) + 2
    line = next(n for n in range(1, 9) if sum(map(len, program.calls[:n])) > last)
    assert executor.pose_dict == program.poses(line - 1)
    assert not Executor(Spy()).run(program.text).interrupted


# ---- what stops


def test_a_missing_pose_is_a_failure_that_names_the_known_ones() -> None:
    spy = Spy()
    executor = Executor(spy, {"A": 1, "B": 2})
    result = executor.run("done()\n\nmove3d(pose_dict['T'])\ndone()")
    assert result.outcome is Outcome.FAILURE
    assert result.reason == "line 3, column 8: pose_dict: expected 'A', 'B', got 'T'"
    assert (result.line, result.calls, result.steps) == (3, ("done",), 3)
    assert [name for name, _ in spy.log] == ["done"]
    assert "expected no key, got 'T'" in Executor(spy).run("move3d(pose_dict['T'])").reason


def test_a_pose_that_its_own_line_failed_to_store_is_missing() -> None:
    executor = Executor(Spy(fails_at=1))
    assert executor.run("pose_dict['T'] = get_pose(get_actor('x'))").outcome is Outcome.FAILURE
    assert executor.pose_dict == {}
    assert executor.run("move3d(pose_dict['T'])").outcome is Outcome.FAILURE


def test_a_query_that_fails_inside_several_lines_is_found_where_it_is() -> None:
    result = Executor(Spy(fails_at=1)).run("place_on(\n  get_actor('a'),\n  get_actor('b'),\n)")
    assert result.reason == "line 3, column 3: get_actor: it fails here"
    assert (result.line, result.calls) == (3, ())


def test_bugs_of_the_api_are_not_hidden() -> None:
    class Broken(Spy):
        def pick(self, actor: object) -> CallResult:
            raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        Executor(Broken()).run("pick(get_actor('x'))")


def test_an_action_may_refuse_by_an_error() -> None:
    result = Executor(Spy(fails_at=1, failure=OracleError())).run("pick(get_actor('x'))")
    assert (result.outcome, result.calls) == (Outcome.FAILURE, ("pick",))
    assert result.reason == "line 1, column 1: pick: it fails here"


# ---- refused text runs nothing


@given(programs(3), st.sampled_from(["", "\n"]), st.text(max_size=20))
@settings(max_examples=300, deadline=None)
def test_text_that_is_refused_runs_nothing(program: Program, gap: str, appended: str) -> None:
    spy = Spy()
    executor = Executor(spy, {"kept": 1})
    text = program.text + gap + appended
    try:
        parse(text)
    except CodeError as refused:
        with pytest.raises(CodeError, match=f"^{re.escape(str(refused))}$"):
            executor.run(text)
        assert spy.log == [] and executor.pose_dict == {"kept": 1}
    else:
        assert executor.run(text).outcome in (Outcome.SUCCESS, Outcome.FAILURE)


@given(programs(3), st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_programs_run_or_run_nothing(program: Program, data: st.DataObject) -> None:
    tokens = re.findall(r"\w+|'[^'\n]*'|\"[^\"\n]*\"|\s+|.", program.text)
    at = data.draw(st.integers(0, len(tokens)))
    new = data.draw(st.sampled_from(["", "pick", "(", ")", ",", "'", "0", "x", "\n", "=", "pose_dict['a']"]))
    tokens[at : at + data.draw(st.integers(0, 2))] = [new]
    spy = Spy()
    try:
        result = Executor(spy).run("".join(tokens))
    except CodeError:
        assert spy.log == []
    else:
        assert result.calls == actions(spy.log)
        assert result.outcome is Outcome.SUCCESS or result.line


@pytest.mark.parametrize("last", ["import os", "pick(x)", "done(", "f()", "done(); done()", "done().x", "é"])
def test_a_bad_last_line_stops_the_first(last: str) -> None:
    spy = Spy()
    with pytest.raises(CodeError, match="line 3, "):
        Executor(spy).run(f"done()\npick(get_actor('x'))\n{last}")
    assert spy.log == []
