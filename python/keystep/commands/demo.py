"""keystep demo"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

import keystep
from keystep import libraries
from keystep.bars import tracked
from keystep.commands.eval import FIRST_SEED, run
from keystep.commands.options import refuse_writers
from keystep.commands.plans import first_tasks, open_pictures
from keystep.commands.rerun_recording import record_episode
from keystep.commands.video import write_video
from keystep.evaluate.environments import ObservationReader, make_env
from keystep.evaluate.profile import profile
from keystep.evaluate.recording import record
from keystep.evaluate.rollout import reads_text, steps
from keystep.evaluate.settings import Evaluation
from keystep.evaluate.storyboard import frames
from keystep.export.verify import verify_bundle
from keystep.features import features_of
from keystep.files import check_outputs
from keystep.suites import suite_named
from keystep.suites.base import TASK
from keystep.suites.headless import missing_driver

VIDEO_SIZE = 384
SHIPPED = "franka3blocks-state.keystep"
DEFAULT_VIDEO = Path("demo.mp4")
TICKS_WITHOUT_WORLD = 640  # ten plans of the shipped policy or more


def main(
    bundle: Annotated[Path | None, tyro.conf.Positional] = None,
    episodes: int = 10,
    seed: int = FIRST_SEED,
    video: Path = DEFAULT_VIDEO,
    suite: str = "franka3blocks",
    rerun: Path | None = None,
) -> None:
    """Run the shipped policy closed-loop in simulation: success per task, latency, and a short video.

    Without a simulator it answers what its bundle recorded, and says what installs one.

    Args:
        bundle: its folder; the state hierarchy that keystep ships when not given.
        episodes: per task.
        seed: first env seed, and the seed of the policy's noise.
        video: where to write one episode of a task of each family; needs a Vulkan driver.
        suite: the simulated world of the policy's tasks.
        rerun: where to write the first episode for the viewer Rerun; needs rerun-sdk.
    """
    asked_for = video if video != DEFAULT_VIDEO else None  # the other needs a driver, and is not written else
    check_outputs(video=asked_for, rerun=rerun)
    bundle = shipped_bundle() if bundle is None else bundle
    refuse_writers(bundle)
    manifest = keystep.read_manifest(bundle)
    names = tuple(task["name"] for task in manifest["tasks"])
    open_policy = functools.partial(keystep.load, bundle, threads=1)
    try:
        evaluation = Evaluation(suite_named(suite).env_id, names, episodes, seed, suite=suite)
        report = run(open_policy, evaluation)
    except ImportError as error:  # of the simulator
        if asked_for is not None or rerun is not None:
            raise
        print(without_world(bundle, libraries.missing_module(error)))
        return
    latency = keystep.LatencyReport.from_dict(report.latency[0])
    print(f"\n{report}\n\nlatency ({report.description})\n{latency}")
    if reads_text(manifest):
        print(plan_latency(latency))
    if rerun is not None:
        record_episode(open_policy, evaluation, rerun)
    reason = missing_driver()
    if reason is None:
        write_video(video, film(bundle, seed, suite))
        print(f"\nvideo: {video}")
    else:
        print(f"\nstate mode, no video: no Vulkan driver ({reason}); scripts/install-vulkan.sh installs one")


def without_world(bundle: Path, missing: str) -> str:
    """What can be shown of a policy where there is no simulator: its golden cases answered here, and times.

    Raises:
        keystep.Error: an answer differs from the recorded one.
    """
    answers = verify_bundle(bundle)
    if not answers.ok:
        raise keystep.Error(f"{bundle}: expected the recorded answers, got others (keystep verify)")
    lines = (
        f"no simulation: {missing}",
        "without one, the policy answers the observations that its bundle recorded",
        f"\n{answers}\n\n{profile(bundle, TICKS_WITHOUT_WORLD, threads=1)}",
    )
    return "\n".join(lines)


def shipped_bundle() -> Path:
    """The bundle of the checkout, or the copy of it in an installed wheel."""
    folders = [root / "bundles" for root in (libraries.checkout(), Path(keystep.__file__).parent) if root]
    found = [folder / SHIPPED for folder in folders if (folder / SHIPPED).is_dir()]
    if not found:
        places = " or ".join(map(str, folders))
        raise keystep.ArgumentError(f"bundle: expected {SHIPPED} in {places}, found none; name its folder")
    return found[0]


def plan_latency(latency: keystep.LatencyReport) -> str:
    """What planning costs."""
    plan = latency.stages["plan"]
    return (
        f"{plan.count} plans, each in {plan.p50_us / 1e3:.1f} ms (median; 99 %: {plan.p99_us / 1e3:.1f} ms)"
    )


def film(bundle: Path, seed: int, suite: str) -> Iterator[np.ndarray]:
    """One episode of each family's first task as uint8 frames, 30 a second; with plans, if there are any."""
    with keystep.load(bundle, threads=1) as policy:
        tasks = tracked(first_tasks(policy.manifest), "rendering")
        if reads_text(policy.manifest):
            with open_pictures(suite, None, policy.manifest) as (env, pictures):
                for task in tasks:
                    yield from frames(record(policy, env, pictures, task, seed), pictures)
        else:
            seen = features_of(policy.manifest["observation"])
            size = {} if any(feature.is_image for feature in seen) else {"image_size": VIDEO_SIZE}
            options = {"render_mode": "rgb_array", **size}
            world = suite_named(suite)
            world.register()
            for env_id, group in groupby(tasks, lambda task: world.env_id.replace(TASK, task)):
                with closing(make_env(env_id, policy.manifest, options)) as env:
                    for task in group:
                        yield from watch(policy, env, task, seed, None if TASK in world.env_id else task)


def watch(policy: keystep.Runtime, env: Any, task: str, seed: int, told: str | None) -> Iterator[np.ndarray]:
    """One episode of a policy without a planner, every other step.

    Args:
        told: the task, to an environment that has several.
    """
    read = ObservationReader(policy.manifest)
    observation, _ = env.reset(seed=seed, options={"task": told} if told else None)
    policy.reset(task=task, seed=seed)
    yield env.render()
    for taken, step in enumerate(steps(policy.act, env, read, observation), start=1):
        if taken % 2 == 0 and not step.over:
            yield env.render()
