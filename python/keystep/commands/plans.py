"""keystep plans"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

import keystep
from keystep.bars import tracked
from keystep.commands.eval import FIRST_SEED
from keystep.commands.options import PolicyOptions, refuse_writers
from keystep.commands.video import write_video
from keystep.evaluate.environments import make_env
from keystep.evaluate.recording import Recording, record
from keystep.evaluate.storyboard import frames, strip, title
from keystep.evaluate.worlds import warn_of_other_world
from keystep.files import replacing, write_json
from keystep.suites import suite_named
from keystep.suites.base import Pictures, check_seed


def main(
    bundle: Annotated[Path, tyro.conf.Positional],
    policy: Annotated[PolicyOptions, tyro.conf.arg(name="")],
    task: tuple[str, ...] = (),
    output: Path = Path("plans"),
    seed: int = FIRST_SEED,
    guidance: float | None = None,
    video: bool = True,
    suite: str = "franka3blocks",
    env: str | None = None,
) -> None:
    """Show what a planner imagines and what the controller makes of it.

    Writes for each task a strip of pictures (start, subgoals, and below what was seen at the end of each), a
    video of the episode with plan and timings, and the timings of every action as JSON. Subgoals that are
    states are drawn by the simulator, or schematically where there is no graphics driver.

    Args:
        bundle: folder of a subgoal bundle.
        task: names; the first of each family when empty.
        output: folder of the files TASK.png, TASK.mp4 and TASK.json.
        seed: env seed of the episode, and the seed of the policy's noise.
        guidance: of the planner, lambda; as the bundle says when not given.
        video: write the videos, too.
        suite: the simulated world, which makes the pictures.
        env: Gymnasium environment; the suite's when not given.
    """
    refuse_writers(bundle)
    check_seed(seed)
    manifest = keystep.read_manifest(bundle)
    if manifest["family"] != "subgoal":
        raise keystep.ArgumentError(f"family: expected subgoal, got {manifest['family']!r}")
    options: dict[str, Any] = {} if guidance is None else {"guidance": guidance}
    with policy.opener(bundle)() as runtime, open_pictures(suite, env, manifest) as (simulator, pictures):
        for name in tracked(task or first_tasks(manifest), "recording"):
            recording = record(runtime, simulator, pictures, name, seed, **options)
            write(recording, output, frames(recording, pictures) if video else None)
            print(f"{title(recording)}; {output / name}.png")


def first_tasks(manifest: dict[str, Any]) -> list[str]:
    """The first task of each family."""
    names = [entry["name"] for entry in manifest["tasks"]]
    return list({name.partition("_")[0]: name for name in reversed(names)}.values())[::-1]


@contextmanager
def open_pictures(suite: str, env_id: str | None, manifest: dict[str, Any]) -> Iterator[tuple[Any, Pictures]]:
    """The environment, and what makes pictures of it and of the planner's subgoals."""
    world = suite_named(suite)
    world.register()
    made = env_id or world.env_id
    env = make_env(made, manifest)
    warn_of_other_world(manifest, made)
    try:
        with world.pictures(
            lambda options: make_env(made, manifest, options), manifest["planner"]["subgoal"]
        ) as pictures:
            yield env, pictures
    finally:
        env.close()


def write(recording: Recording, folder: Path, film: Iterable[np.ndarray] | None) -> None:
    """TASK.png, TASK.mp4 and, last, TASK.json."""
    from PIL import Image

    with replacing(folder / f"{recording.task}.png") as (staged,):
        Image.fromarray(strip(recording)).save(staged, format="png")
    if film is not None:
        write_video(folder / f"{recording.task}.mp4", film)
    write_json(folder / f"{recording.task}.json", recording.to_dict())
