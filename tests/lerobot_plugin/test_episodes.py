"""A batch of environments on one bundle, without LeRobot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep
from lerobot_policy_keystep.episodes import Episodes
from lerobot_policy_keystep.tasks import Tasks

BUNDLE = Path(__file__).parents[2] / "bundles/franka3blocks-state.keystep"
STATE, EXECUTE, SEED, STEPS = 26, 8, 3, 20
TEXTS = ["lift_red", "lift_blue", "Could you raise the crimson cube?"]


def states(count: int, steps: int = STEPS) -> np.ndarray:
    return np.random.default_rng(2).normal(0, 0.2, (count, steps, STATE)).astype(np.float32)


def seen(rows: np.ndarray) -> list[dict[str, np.ndarray]]:
    return [{"observation.state": row} for row in np.ascontiguousarray(rows)]


@pytest.fixture
def runtime() -> Iterator[keystep.Runtime]:
    with keystep.load(BUNDLE, threads=1) as runtime:
        yield runtime


def made(runtime: keystep.Runtime, **options: Any) -> Episodes:
    return Episodes(runtime, Tasks(runtime.manifest), SEED, **options)


def alone(runtime: keystep.Runtime, text: str, episode: int, rows: np.ndarray) -> np.ndarray:
    """What the runtime itself does."""
    about = {"instruction": text} if " " in text else {"task": text}
    with runtime.session() as session:
        session.reset(seed=SEED, episode=episode, **about)
        return np.stack([session.act({"observation.state": row}) for row in rows])


def test_actions_are_the_runtimes_for_each_environment(runtime: keystep.Runtime) -> None:
    rows = states(3)
    episodes = made(runtime)
    actions = np.stack([episodes.act(seen(rows[:, step]), TEXTS) for step in range(STEPS)], axis=1)
    assert actions.shape == (3, STEPS, 7) and actions.dtype == np.float32
    for number, text in enumerate(TEXTS):
        assert (actions[number] == alone(runtime, text, number, rows[number])).all(), text


def test_the_batch_says_nothing_about_an_episode(runtime: keystep.Runtime) -> None:
    """Four episodes: two at a time, or one after the other."""
    rows = states(4)
    found = {}
    for together in (2, 1):
        episodes, parts = made(runtime), []
        for first in range(0, 4, together):
            episodes.begin()
            episodes.begin()  # LeRobot may reset twice
            some = rows[first : first + together]
            parts.append(
                [episodes.act(seen(some[:, step]), ["lift_red"] * together) for step in range(STEPS)]
            )
        found[together] = np.concatenate(parts, axis=1)
    assert (found[1] == found[2]).all()
    assert not (found[1][:, 0] == found[1][:, 1]).all(), "episodes differ"


def test_a_new_text_begins_an_episode_there(runtime: keystep.Runtime) -> None:
    rows = states(2, 6)
    episodes = made(runtime)
    for step in range(3):
        episodes.act(seen(rows[:, step]), ["lift_red", "lift_red"])
    later = [episodes.act(seen(rows[:, step]), ["lift_red", "push_red_left"]) for step in range(3, 6)]
    later = np.stack(later, axis=1)
    assert (later[0] == alone(runtime, "lift_red", 0, rows[0])[3:]).all()
    assert (later[1] == alone(runtime, "push_red_left", 2, rows[1, 3:])).all()


def test_an_unknown_text_changes_nothing(runtime: keystep.Runtime) -> None:
    rows = states(1, 3)
    episodes = made(runtime)
    first = episodes.act(seen(rows[:, 0]), ["lift_red"])
    with pytest.raises(keystep.ArgumentError, match="task: expected"):
        episodes.act(seen(rows[:, 1]), [""])
    second = episodes.act(seen(rows[:, 1]), ["lift_red"])
    assert (np.stack([first[0], second[0]]) == alone(runtime, "lift_red", 0, rows[0])[:2]).all()


@pytest.mark.filterwarnings("ignore::keystep.runtime.TextWarning")
def test_a_text_that_is_refused_takes_no_number(runtime: keystep.Runtime) -> None:
    """Though an episode beside it had begun."""
    rows = states(2, 1)[:, 0]
    episodes = made(runtime)
    with pytest.raises(keystep.ArgumentError):
        episodes.act(seen(rows), ["lift_red", "word " * 2000])
    actions = episodes.act(seen(rows), ["lift_red", "lift_blue"])
    for number, text in enumerate(["lift_red", "lift_blue"]):
        assert (actions[number] == alone(runtime, text, number, rows[number : number + 1])[0]).all(), text


def test_what_was_computed_is_dropped(runtime: keystep.Runtime) -> None:
    rows = states(1, 4)
    episodes = made(runtime)
    before = [episodes.act(seen(rows[:, step]), ["lift_red"])[0] for step in range(2)]
    episodes.interrupt()
    after = episodes.act(seen(rows[:, 2]), ["lift_red"])[0]
    kept = alone(runtime, "lift_red", 0, rows[0])
    assert (np.stack(before) == kept[:2]).all() and not (after == kept[2]).all()


def test_chunks_are_those_of_a_server(runtime: keystep.Runtime) -> None:
    rows = states(2, 3)
    texts = ["lift_red", "lift_blue"]
    episodes = made(runtime)
    chunks = [episodes.chunks(seen(rows[:, step]), texts) for step in range(3)]
    assert chunks[0].shape == (2, 8, 7) and chunks[0].dtype == np.float32
    action = runtime.manifest["action"]
    for number, text in enumerate(texts):
        with runtime.session() as session:
            session.reset(task=text, seed=SEED, episode=number)
            for step, row in enumerate(rows[number]):
                served = session.serve_chunk([{"observation.state": row}], consumed=step * EXECUTE)
                expected = served.rows.clip(*(np.array(action[name], np.float32) for name in ("min", "max")))
                assert (chunks[step][number] == expected).all(), (text, step)


def test_a_chunk_continues_what_is_left(runtime: keystep.Runtime) -> None:
    rows = states(1, 2)
    episodes = made(runtime)
    old = episodes.chunks(seen(rows[:, 0]), ["lift_red"])
    filled = np.concatenate([old[0, 3:], np.zeros((4, 7), np.float32)])  # as LeRobot fills what is short
    new = episodes.chunks(seen(rows[:, 1]), ["lift_red"], previous=filled, ahead=2)
    assert np.allclose(new[0, :2], old[0, 3:5], atol=1e-6), "what is executed meanwhile stays"
    with pytest.raises(keystep.ArgumentError, match=r"prev_chunk_left_over: expected \(1, rows, 7\)"):
        episodes.chunks(seen(rows[:, 1]), ["lift_red"], previous=np.zeros((4, 6)))


def test_one_way_and_one_batch_at_a_time(runtime: keystep.Runtime) -> None:
    rows = states(2, 1)[:, 0]
    episodes = made(runtime)
    episodes.act(seen(rows), ["lift_red"] * 2)
    with pytest.raises(keystep.ArgumentError, match="environments: expected 2, as since reset, got 1"):
        episodes.act(seen(rows[:1]), ["lift_red"])
    with pytest.raises(keystep.ArgumentError, match="predict_action_chunk: expected select_action"):
        episodes.chunks(seen(rows), ["lift_red"] * 2)
    episodes.begin()
    assert episodes.chunks(seen(rows[:1]), ["lift_red"]).shape == (1, 8, 7)


def test_what_does_not_fit_is_the_runtimes_line(runtime: keystep.Runtime) -> None:
    with pytest.raises(keystep.ArgumentError, match=r"observation.state: expected .*26"):
        made(runtime).act([{"observation.state": np.zeros(7, np.float32)}], ["lift_red"])


def test_a_robot_that_never_waits_still_has_a_first_action() -> None:
    """Asynchronous, and nothing to hold but the last action: there is none yet."""
    with keystep.load(BUNDLE, threads=1, mode="async", underrun="fault") as runtime:
        episodes = made(runtime)
        rows = states(1, 4)
        actions = [episodes.act(seen(rows[:, step]), ["lift_red"]) for step in range(4)]
        assert np.isfinite(actions).all()
        assert not (np.diff(actions, axis=0) == 0).all(), "of the policy, not a hold"
        with pytest.raises(keystep.ArgumentError, match="predict_action_chunk: expected select_action"):
            episodes.chunks(seen(rows[:, 0]), ["lift_red"])
