"""Episodes of the oracle in every task: the same again, traces, training texts, counts of calls."""

from __future__ import annotations

import ast
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
pytest.importorskip("mani_skill", reason="needs the extra 'sim'")

from keystep.code.dialogue import human_text, parse_human, parse_reply, planner_examples
from keystep.code.grammar import CodeError, format_statements, parse
from keystep.code.language import ACTIONS, Call
from keystep.code.outcome import Outcome
from keystep.code.trace import (
    Memory,
    check_trace,
    codes_from_segments,
    comment,
    extract_memory_info,
    segments,
)
from keystep.suites.tabletop import TASKS
from keystep.suites.tabletop.environment import TabletopEnv
from keystep.suites.tabletop.oracle.api import Oracle
from keystep.suites.tabletop.oracle.episodes import References, play, run
from keystep.suites.tabletop.oracle.programs import program

SEED = 2


@pytest.fixture(scope="module", params=list(TASKS))
def task(request):
    return request.param


@cache
def recorded(task, seed=SEED):
    """An episode, its actions and what was seen before each of them."""
    env = TabletopEnv(task, terminate_on_success=False)
    seen, actions = [], []

    def note(observation, action):
        seen.append(observation)
        actions.append(action)

    episode = play(env, seed, note)
    env.close()
    return SimpleNamespace(episode=episode, seen=seen, actions=np.array(actions), env=env)


def codes_of(episode):
    return episode.trace.codes, episode.trace.keysteps


def keysteps(episode):
    return [code for code, first in zip(episode.trace.codes, episode.trace.keysteps, strict=True) if first]


# ---- the same again


def test_the_same_seed_is_played_the_same_bit_for_bit(task):
    """In another environment, after something else happened there."""
    first = recorded(task)
    env, actions = TabletopEnv(task, terminate_on_success=False), []
    env.reset(seed=SEED + 1)
    for _ in range(10):
        env.step(env.action_space.sample())
    again = play(env, SEED, lambda seen, action: actions.append(action))
    np.testing.assert_array_equal(np.array(actions), first.actions)
    assert codes_of(again) == codes_of(first.episode)
    assert (again.success, again.result, again.calls) == (
        first.episode.success, first.episode.result, first.episode.calls,
    )  # fmt: skip
    env.close()


def test_actions_are_within_bounds_and_every_step_is_seen(task):
    found = recorded(task)
    assert found.actions.dtype == np.float32 and found.actions.shape == (found.episode.steps, 7)
    assert (np.abs(found.actions) <= 1).all() and np.isfinite(found.actions).all()
    assert len(found.seen) == len(found.episode.trace.codes) == found.episode.steps <= TASKS[task].max_steps
    assert all(found.env.observation_space.contains(seen) for seen in found.seen)


def test_the_oracle_solves_every_task(task):
    """At one of the first seeds; how often it does is measured, not tested."""
    assert any(recorded(task, seed).episode.success for seed in (SEED, 0, 1, 3, 4))


def test_a_program_that_came_to_its_end_says_so(task):
    episode = recorded(task).episode
    if episode.result.outcome is Outcome.SUCCESS:
        assert episode.reason == "" and episode.calls[-1] == "done"
    else:
        assert episode.reason.startswith("line ") and episode.calls[-1] != "done" and not episode.success


# ---- code


def test_every_key_step_is_code_with_one_action_and_canonical(task):
    for code in keysteps(recorded(task).episode):
        statements = parse(code)
        actions = [one for one in statements if isinstance(one, Call) and one.function in ACTIONS]
        assert len(actions) == 1 and statements[-1] is actions[0]
        assert parse(format_statements(statements)) == statements
        assert parse(comment(code)) == ()


def test_the_trace_is_one_and_calls_are_counted(task):
    episode = recorded(task).episode
    trace = episode.trace
    check_trace(trace.codes, trace.keysteps)
    assert (trace.codes, trace.keysteps) == codes_from_segments(segments(trace.codes, trace.keysteps))
    calls = [ast.parse(code).body[-1].value.func.id for code in keysteps(episode)]
    assert calls == episode.calls
    assert episode.api_calls == sum(call != "done" for call in calls)
    assert episode.names == [body.thing.name for body in TASKS[task].build(np_random(SEED)).bodies]


def np_random(seed):
    from gymnasium.utils.seeding import np_random

    return np_random(seed)[0]


def test_key_steps_are_those_of_the_program(task):
    found = recorded(task)
    templates = program(task, TASKS[task].build(np_random(SEED)))
    codes = keysteps(found.episode)
    assert len(codes) <= len(templates)
    for template, code in zip(templates, codes, strict=False):
        assert template.count("\n") == code.count("\n")
        assert [line.split("(")[0].split(" =")[0] for line in code.split("\n")] == [
            line.split("(")[0].split(" =")[0] for line in template.split("\n")
        ]


# ---- training texts


@pytest.mark.parametrize("requests", [False, True])
def test_the_training_texts_of_a_trace_rebuild_it(task, requests):
    """Replies are parsed and remembered as at run time; what the next question shows is this memory."""
    episode = recorded(task).episode
    codes, starts = episode.trace.codes, episode.trace.keysteps
    examples = planner_examples(episode.prompt, codes, starts, requests)
    plain = [example for example in examples if not parse_human(example.human).wants_keystep]
    assert [example.step for example in plain] == list(range(episode.steps))
    memory, rebuilt = Memory(), []
    for example in plain:
        assert example.human == human_text(episode.prompt, memory.instructions)
        assert parse_human(example.human) == (episode.prompt, tuple(memory.instructions), False)
        reply = parse_reply(example.assistant)
        assert reply.keystep == example.keystep == memory.update(example.assistant)
        assert bool(reply.statements) == reply.keystep
        rebuilt.append((reply.code, reply.keystep))
    assert rebuilt == list(zip(codes, starts, strict=True))
    asked = [example for example in examples if parse_human(example.human).wants_keystep]
    assert [example.assistant for example in asked] == (keysteps(episode) if requests else [])


def test_memory_info_keeps_what_stores_poses(task):
    codes = keysteps(recorded(task).episode)
    wanted = [code for code in codes if any(line.startswith("pose_dict[") for line in code.split("\n"))]
    assert extract_memory_info(codes) == "\n".join(wanted)


# ---- parts


@pytest.mark.parametrize("task_name", ["Swap", "SortByTexture", "StackTopple"])
def test_the_code_that_is_shown_does_the_same(task_name):
    """The key-steps of a trace, run as text, make the same actions as the program did."""
    found = recorded(task_name)
    env, actions, results = TabletopEnv(task_name, terminate_on_success=False), [], []
    episode = run(
        env,
        env.reset(seed=SEED)[0],
        lambda oracle: keysteps(found.episode),
        lambda seen, action: actions.append(action),
        results.append,
    )
    np.testing.assert_array_equal(np.array(actions), found.actions)
    assert codes_of(episode) == codes_of(found.episode)
    assert [call for result in results for call in result.calls] == episode.calls and results[
        -1
    ] == episode.result
    env.close()


def test_references_tell_alike_objects_apart():
    env = TabletopEnv("RotateSymmetry", terminate_on_success=False)
    for seed in range(5):
        oracle = Oracle(env, env.reset(seed=seed)[0])
        found = References(oracle, env.scenario)
        for role, bodies in env.scenario.roles.items():
            several = [bodies] if isinstance(bodies, int) else list(bodies)
            codes = [found[role]] if isinstance(bodies, int) else found[role]
            for body, code in zip(several, codes, strict=True):
                (get_actor,) = ast.parse(code).body
                name = get_actor.value.args[0].value
                place = [ast.literal_eval(keyword.value) for keyword in get_actor.value.keywords]
                alike = [one for one in env.scenario.bodies if one.thing.name == name]
                assert len(place) == (len(alike) > 1)
                assert oracle.get_actor(name, *place).body == body
    env.close()


def test_an_episode_stops_at_the_first_key_step_that_fails():
    env = TabletopEnv("Pick", terminate_on_success=False)
    observation = env.reset(seed=0)[0]
    name, results = env.scenario.bodies[0].thing.name, []
    codes = (
        f"move3d(get_actor({name!r}))",
        f"place(get_actor({name!r}), get_pose(get_actor({name!r})))",
        "done()",
    )
    episode = run(env, observation, lambda oracle: codes, on_result=results.append)
    assert episode.result.outcome is Outcome.FAILURE and episode.calls == ["move3d", "place"]
    assert "place: gripper: expected" in episode.reason and not episode.success
    assert [result.outcome for result in results] == [Outcome.SUCCESS, Outcome.FAILURE]
    assert keysteps(episode) == [codes[0]], "the second took no control step"
    env.close()


def test_code_that_takes_no_step_belongs_to_the_next_in_the_trace():
    env = TabletopEnv("Pick", terminate_on_success=False)
    observation = env.reset(seed=0)[0]
    codes = (
        f"pose_dict['A'] = get_pose(get_actor({env.scenario.bodies[0].thing.name!r}))",
        "move3d(pose_dict['A'])",
    )
    episode = run(env, observation, lambda oracle: codes)
    assert keysteps(episode) == ["\n".join(codes)]
    env.close()


def test_code_that_is_refused_is_an_error():
    env = TabletopEnv("Pick", terminate_on_success=False)
    observation = env.reset(seed=0)[0]
    with pytest.raises(CodeError, match="line 1"):
        run(env, observation, lambda oracle: ["import os"])
    assert env.elapsed_steps == 0
    env.close()


def test_an_episode_that_is_too_short_is_a_time_out():
    env = TabletopEnv("Swap", terminate_on_success=False, max_episode_steps=30)
    episode = play(env, SEED)
    assert (episode.result.outcome, episode.success, episode.steps) == (Outcome.TIMEOUT, False, 30)
    assert "expected to end within the episode's 30 steps" in episode.reason
    check_trace(episode.trace.codes, episode.trace.keysteps)
    env.close()


def test_an_environment_that_ends_with_success_is_refused():
    """A program may solve its task before its end, and must go on."""
    env = TabletopEnv("Pick", terminate_on_success=True)
    with pytest.raises(ValueError, match="env: expected terminate_on_success=False"):
        play(env, SEED)
    env.close()
