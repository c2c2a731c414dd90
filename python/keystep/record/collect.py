"""Collect demonstrations of a scripted expert or of the oracle of code into a dataset.

The content depends on the settings only: attempt k of a task is reset with the seed that its suite says
(`keystep.suites.base.Suite.tasks`), failures are dropped, and results are written in the order (task, seed)
whatever the number of processes. Stopping and resuming continues with the next seed of the first unfinished
task. A dataset can be resumed with other tasks: new ones are added, and those that are not named stay as they
are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from keystep.bars import progress_bar
from keystep.data.errors import DatasetError
from keystep.data.flush import FLUSH_EPISODES, FLUSH_SECONDS
from keystep.record.interrupts import Interrupts

if TYPE_CHECKING:  # else loaded when used: `keystep collect --help` needs none of it
    from keystep.suites.base import Frames, Source, Suite

Result = TypeVar("Result")

PRESETS: dict[str, dict[str, Any]] = {
    "none": {
        "expert_noise": (0.0,),
        "frames_after_success": None,
        "wander_frames": 0,
        "record": "expert",
        "stack_aligned_m": 0.02,
        "chained": 0,
        "held": 0,
    },
    "paper": {
        "expert_noise": (0.0,),
        "frames_after_success": None,
        "wander_frames": 0,
        "record": "executed",
        "stack_aligned_m": 0.02,
        "chained": 0,
        "held": 0,
    },
    "shipped": {
        "expert_noise": (0.0, 0.2, 0.4),
        "frames_after_success": None,
        "wander_frames": 12,
        "record": "executed",
        "stack_aligned_m": 0.006,
        "chained": 0,
        "held": 5,
    },
}
"""Of demonstrations, for `collect`."""
ENV_ID = "keystep/Franka3Blocks-v1"


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
    env_id: str | None = None,
    tasks: Sequence[str] | None = None,
    episodes: int = 100,
    seed: int = 0,
    obs_mode: Literal["state", "rgb", "state+rgb"] = "state",
    image_size: int = 96,
    processes: int = 1,
    resume: bool = True,
    expert_noise: tuple[float, ...] | None = None,
    frames_after_success: int | None = None,
    wander_frames: int | None = None,
    record: Literal["expert", "executed"] | None = None,
    stack_aligned_m: float | None = None,
    chained: int | None = None,
    held: int | None = None,
    grid: int | None = None,
    max_failures: int = 20,
    suite: str = "franka3blocks",
    preset: Literal["none", "paper", "shipped"] = "none",
    flush_seconds: float = FLUSH_SECONDS,
    flush_episodes: int = FLUSH_EPISODES,
    video: Literal["none", "h264", "av1"] = "none",
) -> CollectReport:
    """Write successful demonstrations to a LeRobotDataset v3.0 folder.

    The suite franka3blocks is demonstrated by its scripted expert; tabletop by the oracle, with the code it
    runs at every step. Only franka3blocks has env-id, expert-noise, frames-after-success, wander-frames,
    record, stack-aligned-m, chained and held; where they are not given, the preset says.

    Args:
        output: dataset folder, new or to be continued.
        env_id: Gymnasium environment, keystep/Franka3Blocks-v1 when not given; keystep/Franka3Blocks-bullet
            is the same world in PyBullet.
        tasks: names, collected in this order; all when None.
        episodes: successful demonstrations per task.
        seed: first seed; see the module for the others.
        obs_mode: "state", or "rgb" for PNG images (ManiSkill needs a Vulkan driver); of the tabletop suite
            "state" has the objects' poses, and "state+rgb" has both.
        image_size: height and width of images in pixels; has no effect without them.
        processes: simulators run in parallel.
        resume: continue the dataset at `output`; when false there must not be one.
        expert_noise: standard deviations, in action units, of Gaussian noise added to the executed movement.
            Attempt k of a task has the (k mod n)-th of the n values. None of the preset none: 0.
        frames_after_success: end every demonstration so many frames after its first success; None: 64 frames
            each, the arm returning to neutral (HD-ExpIt's D0). Flat policies want a small number, see
            rollout_expert.
        wander_frames: the hand drifts for up to so many first frames, see rollout_expert.
        record: the expert's action, or the perturbed one that was executed. Flat policies learn from the
            first how to recover; goal-conditioned controllers need the one that led to the goal.
        stack_aligned_m: how far off a cube is let go on another, metres; the original's: all that stacks may.
        chained: every so many-th attempt begins where the expert has just solved another task; 0: none.
        held: every so many-th attempt at a push begins where the expert has just lifted that cube, which it
            then pushes through the air; 0: none. From resets no policy would learn not to let go of it.
        grid: of the suite tabletop, in whose cells code says places; 32 when not given, in the paper 10.
        max_failures: give up after this many failures in a row.
        suite: the simulated world and its tasks: franka3blocks, tabletop, or a module with a `SUITE`.
        preset: of expert-noise, frames-after-success, wander-frames, record, stack-aligned-m, chained and
            held, of which none can be given then. paper: HD-ExpIt's D0, the plain expert from the first pose;
            shipped: noise, wandering starts, centred stacks and held cubes, for the shipped policies; none:
            the plain expert's actions, each can be given (`keystep.record.collect.PRESETS`).
        flush_seconds: a finished episode is on its way to the disk after so many seconds at the latest, so a
            killed job loses no others; earlier where writing takes no more than 2 % of the time. Episodes are
            finished in the order of their seeds.
        flush_episodes: or when so many wait in memory; also the episodes per data file.
        video: images go into mp4 files of this codec (PyAV; lossy) instead of PNG in the data files.

    Raises:
        DatasetError: bad settings, before anything is created; settings differ from those of the dataset, the
            disk is full, a simulator died, or the expert keeps failing. Earlier episodes stay readable.
        RuntimeError: images are asked for on a machine without a Vulkan driver.
    """
    from keystep.data.writer import check_flush
    from keystep.record.video import with_video
    from keystep.suites import suite_named

    try:
        world = suite_named(suite)
    except ValueError as error:
        raise DatasetError(str(error)) from None
    if obs_mode not in ("state", "rgb", "state+rgb"):
        raise DatasetError(f"obs_mode: expected state, rgb or state+rgb, got {obs_mode!r}")
    check_flush(flush_episodes, flush_seconds)
    special = {
        "env_id": env_id,
        "expert_noise": expert_noise,
        "frames_after_success": frames_after_success,
        "wander_frames": wander_frames,
        "record": record,
        "stack_aligned_m": stack_aligned_m,
        "chained": chained,
        "held": held,
        "grid": grid,
    }
    given = {name: value for name, value in special.items() if value is not None}
    source = world.source(tasks, seed, obs_mode, image_size, **_suite_options(world, given, preset, suite))
    return collect_from(
        source if video == "none" else with_video(source, video),
        output,
        episodes,
        processes,
        resume=resume,
        max_failures=max_failures,
        flush_seconds=flush_seconds,
        flush_episodes=flush_episodes,
    )


def _suite_options(suite: Suite, given: dict[str, Any], preset: str, told: str) -> dict[str, Any]:
    """What `suite.source` takes of `given` and of the preset. DatasetError for what would have no effect.

    Args:
        told: the suite as the user named it.
    """
    if preset not in PRESETS:
        raise DatasetError(f"preset: expected one of {', '.join(PRESETS)}, got {preset!r}")
    chosen = {"env_id": ENV_ID} | PRESETS[preset]
    refused = set(given) - suite.collect_options
    if preset != "none":
        refused |= set(given) & set(PRESETS[preset])
    for name in chosen | given:  # in the order of the signature
        if name in refused:
            known = name in suite.collect_options
            reason = f"preset {preset} chooses it" if known else f"suite {told} has no such option"
            raise DatasetError(f"{name}: expected none, as {reason}, got {given[name]!r}")
    if preset != "none" and not suite.collect_options & set(PRESETS[preset]):
        raise DatasetError(f"preset: expected none, as suite {told} has no such option, got {preset!r}")
    return {name: value for name, value in sorted((chosen | given).items()) if name in suite.collect_options}


def default_source(
    suite: Suite, tasks: Sequence[str] | None, obs_mode: str, image_size: int, **options: Any
) -> Source:
    """Demonstrations as `collect` makes them by default, of the `options` that the suite has."""
    given = {name: value for name, value in options.items() if name in suite.collect_options}
    return suite.source(tasks, 0, obs_mode, image_size, **_suite_options(suite, given, "none", suite.name))


def collect_from(
    source: Source,
    output: str | Path,
    episodes: int,
    processes: int = 1,
    *,
    resume: bool = True,
    max_failures: int = 20,
    flush_seconds: float = FLUSH_SECONDS,
    flush_episodes: int = FLUSH_EPISODES,
) -> CollectReport:
    """`collect` from any source; see there."""
    from keystep.data.writer import DatasetWriter
    from keystep.processes import Workers

    for name, value in (("episodes", episodes), ("processes", processes), ("max_failures", max_failures)):
        if value < 1:
            raise DatasetError(f"{name}: expected at least 1, got {value}")
    output = Path(output)
    if not resume and output.exists() and any(output.iterdir()):
        raise DatasetError(f"{output}: expected no dataset, found one; choose another folder, or resume")
    report = CollectReport()
    with (
        Interrupts() as interrupts,
        DatasetWriter(
            output, source.spec, flush_seconds=flush_seconds, flush_episodes=flush_episodes
        ) as writer,
        progress_bar() as progress,
        Workers(source.open_rollout, processes) as workers,
    ):
        done = _resume_points(source, output)
        bars = {
            task: progress.add_task(task, total=episodes, completed=kept) for task, (kept, _) in done.items()
        }
        for task, (kept, first_seed) in done.items():
            if kept >= episodes or interrupts.requested:
                continue
            results = workers.run((task, seed) for seed in itertools.count(first_seed, source.seed_stride))
            for seed, frames in _successes(task, results, report, max_failures, interrupts):
                writer.add_episode(
                    {key: frames[key] for key in source.spec.features},
                    task,
                    seed,
                    instruction=frames.get("instruction"),
                    extras=frames.get("extras"),
                )
                writer.flush_at_leisure()
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
    results: Iterable[tuple[tuple[str, int], Frames | None]],
    report: CollectReport,
    max_failures: int,
    interrupts: Interrupts,
) -> Iterator[tuple[int, Frames]]:
    """The successful results, counted in the report, until an interrupt."""
    failures = 0
    for (_, seed), frames in _while_running(task, results):
        report.attempts[task] = report.attempts.get(task, 0) + 1
        failures = 0 if frames else failures + 1
        if failures >= max_failures:
            raise DatasetError(f"{task}: expected a success, got {failures} failures in a row")
        if frames:
            report.successes[task] = report.successes.get(task, 0) + 1
            yield seed, frames
        if interrupts.requested:
            return


def _while_running(task: str, results: Iterable[Result]) -> Iterator[Result]:
    try:
        yield from results
    except BrokenProcessPool as error:
        raise DatasetError(f"{task}: expected simulators to keep running, but one died: {error}") from error


def _resume_points(source: Source, output: Path) -> dict[str, tuple[int, int]]:
    """Per task, the episodes already in the dataset and the seed to go on with."""
    from keystep.data.reader import DatasetReader

    points = {task: (0, source.first_seeds[task]) for task in source.spec.tasks}
    for episode in DatasetReader(output).episodes():
        assert episode.seed is not None
        if episode.task in points:
            points[episode.task] = (points[episode.task][0] + 1, episode.seed + source.seed_stride)
    return points
