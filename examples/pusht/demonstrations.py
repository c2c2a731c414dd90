"""Demonstrations of gym-pusht as a LeRobotDataset v3.0: a search pushes the T to its goal.

    python examples/pusht/demonstrations.py demonstrations --episodes 800

Attempt k is played in the environment itself, from `reset(seed=k)`; every second one begins elsewhere, also
with the T at a wall, where a policy may bring it that no reset would. Actions are where the pusher is to go,
as a hand with a mouse would lead it: on straight lines, at a limited speed, 10 times a second. The hand
shakes, and what is recorded is where it should have gone, so that a policy learns to come back (DART, Laskey
et al. 2017).

Stopped or killed, the same command goes on; the data depend on the arguments alone.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import search
import tee
import tyro

from keystep.data import Column, DatasetError, DatasetSpec
from keystep.record.collect import collect_from
from keystep.suites.base import Frames, Rollout, Source

ENV = "gym_pusht/PushT-v0"
TASK = {"push": "Push the T to its goal."}
MOST_STEPS = 200
"""Of a demonstration: those that the search has to finish with many small pushes are left out."""
BEFORE, AFTER = (8.0, 3), (1.5, 6)
"""Of a push: how near the pusher must come to its start and end, in pixels, and the steps that it gets."""
SHAKE, SHARE, SLOWNESS = 6.0, 0.1, 0.8
"""Deviation of the hand: at most in pixels, at most as a share of `tee.error`; what a step keeps of it."""
WALLS = (12.0, 500.0)
KEYPOINTS = tuple(f"{axis}{corner}" for corner in range(8) for axis in "xy")
FEATURES = {
    "observation.state": Column("float32", (2,), ("x", "y")),
    "observation.environment_state": Column("float32", (16,), KEYPOINTS),
    "action": Column("float32", (2,), ("x", "y")),
}
SEEN = {"observation.state": "agent_pos", "observation.environment_state": "environment_state"}


def make_env() -> Any:
    import gym_pusht  # noqa: F401  registers the environment
    import gymnasium

    seen = "environment_state_agent_pos"
    return gymnasium.make(ENV, MOST_STEPS, disable_env_checker=True, obs_type=seen)


def demonstrate(env: Any, seed: int) -> Frames | None:
    """The frames of one episode until it is solved; None where it is not, or not soon.

    Args:
        seed: 0 or more.
    """
    rng = np.random.default_rng(seed)
    options = {"reset_to_state": elsewhere(rng)} if seed % 2 else None
    seen, info = env.reset(seed=seed, options=options)
    now, shake = dict(info), np.zeros(2)
    frames: dict[str, list[np.ndarray]] = {key: [] for key in FEATURES}
    for target in targets(now):
        action = np.clip(target, 0.0, 512.0).astype(np.float32)
        for key, name in SEEN.items():
            frames[key].append(seen[name])
        frames["action"].append(action)
        steady = min(SHAKE, SHARE * tee.error(tee.corners(now["block_pose"])))
        shake = SLOWNESS * shake + np.sqrt(1 - SLOWNESS**2) * rng.normal(size=2)
        done = np.clip(action + steady * shake, 0.0, 512.0).astype(np.float32)
        seen, _, terminated, truncated, info = env.step(done)
        now.update(info)
        if terminated or truncated:
            break
    if not now["is_success"]:
        return None
    return {key: np.asarray(values, np.float32) for key, values in frames.items()}


def elsewhere(rng: np.random.Generator) -> list[float]:
    """A start (5,) for `reset_to_state`: the T anywhere within the walls, the pusher beside it."""
    while True:
        centre, angle = rng.uniform(*WALLS, 2), rng.uniform(-np.pi, np.pi)
        pose = np.array([*(centre - tee.turned(tee.CENTRE, np.array(angle))), angle])
        pusher, corners = rng.uniform(30.0, 480.0, 2), tee.corners(pose)
        inside = corners.min() > WALLS[0] and corners.max() < WALLS[1]
        if inside and tee.distance(tee.seen_from(pusher, pose)) > tee.RADIUS + 5.0:
            # gym-pusht turns the T about its centre of gravity, after it was put there without a turn.
            return [*pusher, *(centre - tee.CENTRE), angle]


def targets(now: dict[str, Any]) -> Iterator[np.ndarray]:
    """Where the pusher is to go (2,), step by step, until no push helps.

    Args:
        now: the environment's `info`, brought up to date between steps.
    """
    while True:
        pose, pusher = now["block_pose"], now["pos_agent"]
        try:
            push = search.best(pose, pusher)
        except ValueError:
            return
        yield from along(search.way_around(pose, pusher, push), search.APPROACH_SPEED)
        yield from waiting(push.start, now, *BEFORE)
        yield from along(np.stack([push.start, push.end]), search.PUSH_SPEED)
        yield from waiting(push.end, now, *AFTER)


def along(points: np.ndarray, speed: float) -> Iterator[np.ndarray]:
    """Places on the way through points (K, 2), at most `speed` apart."""
    for start, end in itertools.pairwise(points):
        count = max(1, int(np.ceil(np.linalg.norm(end - start) / speed)))
        for step in range(1, count + 1):
            yield start + (end - start) * (step / count)


def waiting(place: np.ndarray, now: dict[str, Any], near: float, most: int) -> Iterator[np.ndarray]:
    """The place until the pusher is `near`, at most so often."""
    for _ in range(most):
        if np.linalg.norm(place - now["pos_agent"]) <= near:
            return
        yield place


def open_rollout() -> Rollout:
    env = make_env()
    return lambda _, seed: demonstrate(env, seed)


def main(
    output: Annotated[Path, tyro.conf.Positional], episodes: int = 800, seed: int = 0, processes: int = 1
) -> None:
    """Collects, or goes on collecting.

    Args:
        output: the dataset, a folder.
        episodes: solved ones; others are left out.
        seed: of the first attempt.
        processes: simulators at once.
    """
    if seed < 0:
        raise DatasetError(f"seed: expected 0 or more, got {seed}")
    spec = DatasetSpec(10, FEATURES, TASK, "pusht", {"env": ENV, "seed": seed})
    report = collect_from(
        Source(spec, open_rollout, {"push": seed}, 1), output, episodes, processes, flush_episodes=200
    )
    solved, tried = report.successes.get("push", 0), report.attempts.get("push", 0)
    print(f"{report.episodes} episodes in {output}; of {tried} attempts now {solved} were solved")
    if report.interrupted:
        raise SystemExit("interrupted; the same command goes on")


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except (DatasetError, ImportError) as error:
        sys.exit(f"error: {error}")
