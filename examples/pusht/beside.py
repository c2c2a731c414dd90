"""LeRobot's policy and its bundle on the same episodes with the same noise: their actions, and their times.

    python examples/pusht/beside.py CHECKPOINT BUNDLE --episodes 5   # in LeRobot's environment, with keystep

LeRobot's policy acts, between its own pipelines; the bundle is shown the same and compared. One thread each,
in turn at every step, so that whatever else the machine does happens to both; where it does much, the time
of the processor tells more than the clock. It ends with an error where their actions are not the same.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import gym_pusht  # noqa: F401  registers the environment
import gymnasium
import numpy as np
import torch
from lerobot.envs.utils import preprocess_observation
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot.policies.factory import make_pre_post_processors

import keystep
from keystep.bars import tracked

ENV = "gym_pusht/PushT-v0"
SEED = 10_000_000
EQUAL = 1e-4
"""Of the span of the actions: how far they may be apart."""
SEEN = {"observation.state": "agent_pos", "observation.environment_state": "environment_state"}


class Theirs:
    """LeRobot's policy between its pipelines, which draws the noise that the runtime would."""

    def __init__(self, checkpoint: Path) -> None:
        self._policy = DiffusionPolicy.from_pretrained(checkpoint).eval()
        self._before, self._after = make_pre_post_processors(self._policy.config, pretrained_path=checkpoint)
        self._drawn = (0, 0, 0)
        torch.randn = self._noise  # type: ignore[assignment]

    def reset(self, seed: int, episode: int) -> None:
        self._policy.reset()
        self._drawn = (seed, episode, 0)

    def act(self, seen: dict[str, np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            action = self._policy.select_action(self._before(preprocess_observation(seen)))
        return np.asarray(self._after(action).numpy()[0])

    def _noise(self, *_: Any, size: tuple[int, ...], **__: Any) -> torch.Tensor:
        seed, episode, chunk = self._drawn
        self._drawn = (seed, episode, chunk + 1)
        return torch.from_numpy(keystep.noise(tuple(size[1:]), seed, episode, chunk)[None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--episodes", type=int, default=5)
    options = parser.parse_args()
    if options.episodes < 1:
        parser.error(f"--episodes: expected 1 or more, got {options.episodes}")
    if not (options.checkpoint / "config.json").is_file():
        parser.error(f"checkpoint: expected a folder with config.json, got {options.checkpoint}")
    torch.set_num_threads(1)
    try:
        with keystep.load(options.bundle, threads=1) as ours:
            played = play(Theirs(options.checkpoint), ours, options.episodes)
            execute = ours.manifest["chunk"]["execute"]
    except (keystep.Error, OSError) as error:
        sys.exit(f"error: {error}")
    report(*played, execute)


def play(theirs: Theirs, ours: keystep.Runtime, episodes: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Actions (T, 2, A), LeRobot's first, times (T, 2, 2) in ms, and where episodes begin."""
    env = gymnasium.make(ENV, obs_type="environment_state_agent_pos", disable_env_checker=True)
    actions: list[tuple[np.ndarray, np.ndarray]] = []
    seconds: list[np.ndarray] = []
    firsts: list[int] = []
    for episode in tracked(range(episodes), "episodes"):
        seen, _ = env.reset(seed=SEED + episode)
        theirs.reset(SEED, episode)
        ours.reset(seed=SEED, episode=episode)
        over = False
        firsts.append(len(actions))
        while not over:
            began = now()
            action = theirs.act(seen)
            between = now()
            same = ours.act({key: seen[name].astype(np.float32) for key, name in SEEN.items()})
            seconds.append(np.stack([between - began, now() - between]))
            actions.append((action, same))
            seen, _, terminated, truncated, _ = env.step(action)
            over = terminated or truncated
    env.close()
    return np.array(actions), 1e3 * np.array(seconds), firsts


def now() -> np.ndarray:
    """Seconds by the clock, and of this process's own work."""
    return np.array([time.perf_counter(), time.process_time()])


def report(actions: np.ndarray, ms: np.ndarray, firsts: list[int], execute: int) -> None:
    """Of what `play` gives; SystemExit where actions differ."""
    span = np.ptp(actions[:, 0], axis=0)
    worst = np.abs(actions[:, 0] - actions[:, 1]).max(axis=0)
    print(f"{len(firsts)} episodes, {len(actions)} actions that span {span.round(1)}")
    print(f"greatest difference {worst}, {(worst / span).max():.1e} of the span")
    chunks = np.concatenate([episode[::execute] for episode in np.split(ms, firsts[1:])])
    for unit, times, made in zip(("clock", "processor"), ms.T, chunks.T, strict=True):
        for name, all_of, some in zip(("LeRobot", "keystep"), times, made, strict=True):
            middle, late = np.percentile(some, (50, 99))
            told = f"a chunk of {execute} p50 {middle:.2f} ms, p99 {late:.2f} ms"
            print(f"{unit:>9}, {name}: {all_of.mean():.2f} ms an action in the mean, {told}")
    print(
        "ratio of the mean times: {:.1f} by the clock, {:.1f} by processor".format(
            *np.divide(*ms.mean(axis=0))
        )
    )
    if not (worst <= EQUAL * span).all():
        sys.exit(f"expected actions that differ by at most {EQUAL:g} of the span")


if __name__ == "__main__":
    main()
