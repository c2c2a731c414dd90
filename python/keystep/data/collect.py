"""Collect demonstrations of the scripted expert into a dataset.

The content depends on the settings only: attempt k of task j (numbered as in `keystep.envs.TASKS`, ten tasks)
is reset with `seed + 10 k + j`, failures are dropped, and results are written in the order (task, seed)
whatever the number of processes. Stopping and resuming continues with the next seed of the first unfinished
task.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from keystep.data.interrupts import Interrupts
from keystep.data.layout import DatasetError, Feature, image_feature
from keystep.data.reader import DatasetReader
from keystep.data.workers import Frames, Rollout, Workers
from keystep.data.writer import DatasetSpec, DatasetWriter


@dataclass(frozen=True)
class Source:
    """Where demonstrations come from, and what the dataset says about it.

    Attributes:
        spec: of the dataset.
        open_rollout: makes the rollout function, once in every process; picklable.
        first_seeds: of each task.
        seed_stride: distance of consecutive seeds of a task.
    """

    spec: DatasetSpec
    open_rollout: Callable[[], Rollout]
    first_seeds: dict[str, int]
    seed_stride: int


@dataclass(frozen=True)
class Perturbation:
    """How demonstrations differ from the plain expert; the arguments of `collect`."""

    expert_noise: tuple[float, ...]
    frames_after_success: int | None
    wander_frames: int
    record: Literal["expert", "executed"] = "expert"


@dataclass
class CollectReport:
    """What a collection did.

    Attributes:
        episodes: in the dataset now.
        attempts, successes: per task, of this run.
        interrupted: stopped by Ctrl-C; call again to continue.
    """

    episodes: int = 0
    attempts: dict[str, int] = field(default_factory=dict)
    successes: dict[str, int] = field(default_factory=dict)
    interrupted: bool = False


def collect(
    output: Path,
    env_id: str = "keystep/Franka3Blocks-v0",
    tasks: Sequence[str] | None = None,
    episodes: int = 100,
    seed: int = 0,
    obs_mode: Literal["state", "rgb"] = "state",
    image_size: int = 96,
    processes: int = 1,
    resume: bool = True,
    expert_noise: tuple[float, ...] = (0.0,),
    frames_after_success: int | None = None,
    wander_frames: int = 0,
    record: Literal["expert", "executed"] = "expert",
    max_failures: int = 20,
) -> CollectReport:
    """Write successful demonstrations of the scripted expert to a LeRobotDataset v3.0 folder.

    Args:
        output: dataset folder, new or to be continued.
        env_id: Gymnasium environment with the interface of Franka-3Blocks.
        tasks: names; all when None.
        episodes: successful demonstrations per task.
        seed: first seed; see the module for the others.
        obs_mode: "state", or "rgb" to add PNG images (needs a Vulkan driver).
        image_size: height and width of images in pixels, rgb only.
        processes: simulators run in parallel.
        resume: continue the dataset at `output`; when false there must not be one.
        expert_noise: standard deviations, in action units, of Gaussian noise added to the executed movement.
            Attempt k of a task has the (k mod n)-th of the n values.
        frames_after_success: end every demonstration so many frames after its first success; None: 64 frames
            each, the arm returning to neutral (HD-ExpIt's D0). Flat policies want a small number, see
            rollout_expert.
        wander_frames: the hand drifts for up to so many first frames, see rollout_expert.
        record: the expert's action, or the perturbed one that was executed. Flat policies learn from the
            first how to recover; goal-conditioned controllers need the one that led to the goal.
        max_failures: give up after this many failures in a row.

    Raises:
        DatasetError: the settings differ from those of the dataset, the disk is full, a simulator died, or
            the expert keeps failing. Episodes written before stay readable.
    """
    if obs_mode not in ("state", "rgb"):
        raise DatasetError(f"obs_mode: expected state or rgb, got {obs_mode!r}")
    if record not in ("expert", "executed"):
        raise DatasetError(f"record: expected expert or executed, got {record!r}")
    if not expert_noise or min(expert_noise) < 0:
        raise DatasetError(f"expert_noise: expected values of at least 0, got {expert_noise}")
    perturbation = Perturbation(tuple(expert_noise), frames_after_success, wander_frames, record)
    source = simulated(env_id, tasks, seed, obs_mode, image_size, perturbation)
    return collect_from(source, output, episodes, processes, resume=resume, max_failures=max_failures)


def simulated(
    env_id: str,
    tasks: Sequence[str] | None,
    seed: int,
    obs_mode: str,
    image_size: int,
    perturbation: Perturbation,
) -> Source:
    """The scripted expert on Franka-3Blocks as a source of demonstrations."""
    from keystep.envs import TASKS, layout

    names = list(TASKS) if tasks is None else list(tasks)
    for name in names:
        if name not in TASKS:
            raise DatasetError(f"tasks: expected some of {', '.join(TASKS)}, got {name!r}")
    features = {"observation.state": Feature("float32", (len(layout.STATE_NAMES),), layout.STATE_NAMES)}
    if obs_mode == "rgb":
        features["observation.images.static"] = image_feature(image_size, image_size)
    features["action"] = Feature("float32", (len(layout.ACTION_NAMES),), layout.ACTION_NAMES)
    action = {
        "names": list(layout.ACTION_NAMES),
        "units": list(layout.ACTION_UNITS),
        "min": layout.ACTION_LOW.tolist(),
        "max": layout.ACTION_HIGH.tolist(),
        "rate_limit": None,
        "hold": layout.ACTION_HOLD.tolist(),
    }
    how = {
        "env_id": env_id,
        "obs_mode": obs_mode,
        "seed": seed,
        "expert_noise": list(perturbation.expert_noise),
        "frames_after_success": perturbation.frames_after_success,
        "wander_frames": perturbation.wander_frames,
        "record": perturbation.record,
        "action": action,
    }
    instructions = {name: TASKS[name].instruction for name in names}
    return Source(
        DatasetSpec(layout.CONTROL_RATE_HZ, features, instructions, "franka_panda", how),
        functools.partial(open_simulator, env_id, obs_mode, image_size, seed, perturbation),
        {name: seed + list(TASKS).index(name) for name in names},
        len(TASKS),
    )


def open_simulator(
    env_id: str,
    obs_mode: str,
    image_size: int,
    first_seed: int,
    perturbation: Perturbation,
) -> Rollout:
    """Make the environment and return the rollout function on it."""
    import gymnasium

    from keystep.envs import TASKS  # also registers the environment
    from keystep.envs.demonstrations import DEMONSTRATION_FRAMES, rollout_expert

    # Perturbed experts may need longer; episodes that end at success can afford it.
    limit = DEMONSTRATION_FRAMES if perturbation.frames_after_success is None else 2 * DEMONSTRATION_FRAMES

    def rollout(task: str, seed: int) -> Frames | None:
        attempt = (seed - first_seed) // len(TASKS)
        noise = perturbation.expert_noise[attempt % len(perturbation.expert_noise)]
        ending, wander = perturbation.frames_after_success, perturbation.wander_frames
        return rollout_expert(env, task, seed, limit, noise, ending, wander, perturbation.record)

    env = gymnasium.make(env_id, obs_mode=obs_mode, image_size=image_size)
    return rollout


def collect_from(
    source: Source,
    output: str | Path,
    episodes: int,
    processes: int = 1,
    *,
    resume: bool = True,
    max_failures: int = 20,
    flush_episodes: int = 50,
) -> CollectReport:
    """`collect` from any source; see there."""
    for name, value in (("episodes", episodes), ("processes", processes), ("max_failures", max_failures)):
        if value < 1:
            raise DatasetError(f"{name}: expected at least 1, got {value}")
    output = Path(output)
    if not resume and output.exists() and any(output.iterdir()):
        raise DatasetError(f"{output}: expected no dataset, found one; choose another folder, or resume")
    report = CollectReport()
    with (
        Interrupts() as interrupts,
        _progress() as progress,
        DatasetWriter(output, source.spec, flush_episodes=flush_episodes) as writer,
        Workers(source.open_rollout, processes) as workers,
    ):
        done = _resume_points(source, output)
        bars = {
            task: progress.add_task(task, total=episodes, completed=kept) for task, (kept, _) in done.items()
        }
        for task, (kept, first_seed) in done.items():
            if kept >= episodes or interrupts.requested:
                continue
            results = workers.run(task, itertools.count(first_seed, source.seed_stride))
            for seed, frames in _successes(task, results, report, max_failures, interrupts):
                writer.add_episode({key: frames[key] for key in source.spec.features}, task, seed)
                kept += 1
                progress.update(bars[task], completed=kept)
                if kept == episodes:
                    break
            results.close()
        report.interrupted = interrupts.requested
        report.episodes = writer.episodes
    return report


def _successes(
    task: str,
    results: Iterable[tuple[int, Frames | None]],
    report: CollectReport,
    max_failures: int,
    interrupts: Interrupts,
) -> Iterator[tuple[int, Frames]]:
    """The successful results, counted in the report, until an interrupt."""
    failures = 0
    for seed, frames in results:
        report.attempts[task] = report.attempts.get(task, 0) + 1
        failures = 0 if frames else failures + 1
        if failures >= max_failures:
            raise DatasetError(f"{task}: expected a success, got {failures} failures in a row")
        if frames:
            report.successes[task] = report.successes.get(task, 0) + 1
            yield seed, frames
        if interrupts.requested:
            return


def _resume_points(source: Source, output: Path) -> dict[str, tuple[int, int]]:
    """Per task, the episodes already in the dataset and the seed to go on with."""
    points = {task: (0, source.first_seeds[task]) for task in source.spec.tasks}
    for episode in DatasetReader(output).episodes():
        assert episode.seed is not None
        points[episode.task] = (points[episode.task][0] + 1, episode.seed + source.seed_stride)
    return points


def _progress() -> Progress:
    """Bars on a terminal; nothing where there is none."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:>18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
