"""Plans of two iterations from equal contexts, beside what became of them (HD-ExpIt, Figure 11)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import keystep
from keystep.bars import tracked
from keystep.evaluate.environments import make_env
from keystep.evaluate.recording import Picture, Recording, record
from keystep.evaluate.settings import Evaluation, Job
from keystep.evaluate.storyboard import ACCENT as FAILED
from keystep.evaluate.storyboard import CAPTION, LARGE, MARGIN, strip, title
from keystep.expit.captions import caption
from keystep.expit.evaluating import evaluation_of, read_journal
from keystep.expit.finished import Evaluated, FinishedRun
from keystep.expit.played import EPISODES
from keystep.expit.scoring import load_options
from keystep.notebook import html_markdown, new_figure
from keystep.suites import suite_named
from keystep.suites.base import Pictures
from keystep.table_writer import markdown_table

SOLVED = (0, 110, 60)
DPI = 100  # of the picture: a pixel of a strip is about one of the file


@dataclass(frozen=True)
class PlanExample:
    """One context, played by both iterations.

    Attributes:
        seed: of the reset.
        recordings: before and after.
    """

    task: str
    seed: int
    job: Job
    recordings: tuple[Recording, Recording]

    def to_dict(self, numbers: tuple[int, int]) -> dict[str, Any]:
        """Without pictures."""
        told: dict[str, Any] = {"task": self.task, "seed": self.seed, "episode": self.job.episode}
        told["noise_seed"] = self.job.noise_seed
        for number, recording in zip(numbers, self.recordings, strict=True):
            told[f"iteration {number}"] = {
                "success": recording.success,
                "actions": len(recording.ticks),
                "plans": len(recording.plans),
            }
        return told


@dataclass(frozen=True)
class PlansReport:
    """Examples; printable, and drawn as strips: the first plan, and below what was reached.

    Attributes:
        numbers: the two iterations.
    """

    run: str
    numbers: tuple[int, int]
    examples: tuple[PlanExample, ...]
    caption: str

    def to_dict(self) -> dict[str, Any]:
        """All examples, for a JSON file."""
        examples = [example.to_dict(self.numbers) for example in self.examples]
        told = {"run": self.run, "iterations": list(self.numbers), "caption": self.caption}
        return told | {"examples": examples}

    def markdown(self) -> str:
        """A row per context."""
        names = [f"iteration {number}" for number in self.numbers]
        rows = [
            [example.task, str(example.seed), *(_told(recording) for recording in example.recordings)]
            for example in self.examples
        ]
        table = markdown_table(["plans from equal contexts", "seed of the reset", *names], rows)
        return f"{table}\n{self.caption}\n"

    def plot(self) -> Any:
        """A matplotlib figure: for every context two strips, before and after."""
        pictures = [self._framed(example) for example in self.examples]
        width = max(picture.shape[1] for picture in pictures)
        height = sum(picture.shape[0] for picture in pictures)
        figure = new_figure(width / DPI, height / DPI)
        figure.set_layout_engine("none")
        top = float(height)
        for picture in pictures:
            rows, columns = picture.shape[:2]
            top -= rows
            axes = figure.add_axes((0, top / height, columns / width, rows / height))
            axes.imshow(picture, interpolation="nearest", aspect="auto")
            axes.axis("off")
        return figure

    def _framed(self, example: PlanExample) -> Picture:
        """Before above after, each told which it is."""
        from PIL import Image, ImageDraw

        strips = []
        for number, recording in zip(self.numbers, example.recordings, strict=True):
            count = len(recording.plans)
            first = replace(recording, plans=recording.plans[:1], success=recording.success and count == 1)
            picture = strip(first)[2 * CAPTION :]  # below its own title
            head = Image.new("RGB", (picture.shape[1], 2 * CAPTION), "white")
            told = f"iteration {number}: {title(recording)}; the first of {count} plans"
            colour = SOLVED if recording.success else FAILED
            ImageDraw.Draw(head).text((MARGIN, MARGIN), told, colour, font_size=LARGE)
            strips += [np.asarray(head), picture]
        width = max(part.shape[1] for part in strips)
        padded = [
            np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=255) for part in strips
        ]
        return np.concatenate(padded)

    def _repr_html_(self) -> str:
        return html_markdown(self.markdown())


def plans_report(
    runs: Sequence[FinishedRun],
    numbers: Sequence[int] = (),
    tasks: Sequence[str] = (),
    each: int = 1,
) -> PlansReport:
    """Plans of an early and of a late iteration of one run, on episodes of its evaluation.

    Of every task the first episodes that the early iteration did not solve and the late one did; where there
    are none, the first that the early one did not solve, else the first.

    Args:
        runs: one.
        numbers: the two iterations; the first and the last when empty.
        tasks: names; the first of every family when empty.
        each: episodes of a task.

    Raises:
        ArgumentError: several runs, iterations that are not there, or an unknown task.
    """
    if len(runs) != 1:
        raise keystep.ArgumentError(f"folders: expected one run, got {len(runs)}")
    run, last = runs[0], len(runs[0].evaluated) - 1
    first_last = tuple(numbers) or (0, last)
    if len(first_last) != 2 or first_last[0] == first_last[1] or not set(first_last) <= set(range(last + 1)):
        got = ", ".join(map(str, first_last))
        raise keystep.ArgumentError(f"iterations: expected two of 0 to {last}, got {got}")
    before, after = (run.evaluated[number] for number in first_last)
    evaluation = evaluation_of(run.settings, before.folder.bundle)
    if evaluation.starts is not None:
        raise keystep.ArgumentError(f"suite: expected one with resets by seed, got {evaluation.suite}")
    chosen = tasks or [names[0] for names in run.families.values()]
    for task in chosen:
        if task not in evaluation.tasks:
            known = ", ".join(evaluation.tasks)
            raise keystep.ArgumentError(f"task: expected some of {known}, got {task!r}")
    jobs = [job for task in chosen for job in example_jobs(before, after, evaluation, task, each)]
    parts = [_recorded(run, part, evaluation, jobs) for part in (before, after)]
    examples = tuple(
        PlanExample(job.tasks[0], evaluation.reset_seed(job), job, (early, late))
        for job, early, late in zip(jobs, *parts, strict=True)
    )
    told = caption(runs, [before.result, after.result])
    return PlansReport(run.path.name, (before.number, after.number), examples, told)


def example_jobs(
    before: Evaluated, after: Evaluated, evaluation: Evaluation, task: str, count: int
) -> list[Job]:
    """Episodes of a task that show what became better; see `plans_report`."""
    early, late = (
        {result.job: result.success for result in read_journal(part.folder.path / EPISODES)}
        for part in (before, after)
    )
    jobs = [job for job in evaluation.jobs if job.tasks == (task,)]
    ranks = {job: (early.get(job, False) or not late.get(job, False), early.get(job, False)) for job in jobs}
    return sorted(jobs, key=lambda job: ranks[job])[:count]


def _recorded(
    run: FinishedRun, part: Evaluated, evaluation: Evaluation, jobs: Sequence[Job]
) -> list[Recording]:
    bundle = part.folder.bundle
    told = {} if evaluation.guidance is None else {"guidance": evaluation.guidance}
    options = load_options(run.settings["evaluation"], part.folder.scored)
    found = []
    with (
        keystep.load(bundle, threads=1, **options) as policy,
        _open_world(evaluation, policy.manifest) as (env, pictures),
    ):
        for job in tracked(jobs, f"iteration {part.number}"):
            seed, noise = evaluation.reset_seed(job), job.noise_seed
            found.append(
                record(
                    policy,
                    env,
                    pictures,
                    job.tasks[0],
                    seed,
                    noise_seed=noise,
                    episode=job.episode,
                    **told,
                )
            )
    return found


@contextmanager
def _open_world(evaluation: Evaluation, manifest: dict[str, Any]) -> Iterator[tuple[Any, Pictures]]:
    """The environment of the evaluation, and what makes pictures of it and of subgoals."""
    suite = suite_named(evaluation.suite)
    suite.register()
    limit, kwargs = evaluation.max_episode_steps, evaluation.env_kwargs
    env = make_env(evaluation.env, manifest, kwargs, max_episode_steps=limit)
    try:
        with suite.pictures(
            lambda options: make_env(evaluation.env, manifest, {**kwargs, **options}),
            manifest["planner"]["subgoal"],
        ) as pictures:
            yield env, pictures
    finally:
        env.close()


def _told(recording: Recording) -> str:
    end = "solved" if recording.success else "not solved"
    return f"{end}, {len(recording.ticks)} actions, {len(recording.plans)} plans"
