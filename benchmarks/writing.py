"""Planners that write code, at run time: a call that goes on and a key-step, beside transformers' `generate`.

    python -m benchmarks.writing                                  # taught by heart: minutes of teaching first
    python -m benchmarks.writing --bundle writer.keystep --checkpoint writer --task Swap
    python -m benchmarks.writing --presets state --rounds 3 --keep build/benchmark-cases/writing

Every contender is shown the same episode, step by step; they take turns in shuffled order. With `--bundle`
it is one of the suite tabletop that the planner plays with the oracle; `--checkpoint` has the same weights
for `generate`, and is exported in both precisions. Bars: a step that goes on 8x faster than `generate`, 8 ms,
a key-step 12 ms (medians of `tiny`, draft), 1.2x from an empty memory to 240 tokens, 200 us of our own from
a key-step to the first denoise step.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tyro

import keystep
from benchmarks.harness import Contender, interleave, write_result
from benchmarks.machine import REPOSITORY, describe_run
from benchmarks.programs import build, run_json
from benchmarks.taught_planner import known_episode, taught_planner
from benchmarks.writing_episodes import Asked, Episode, Timed, recorded_episode
from benchmarks.writing_generate import Generate
from benchmarks.writing_report import Measured, Planner, report
from keystep.export.code_bundle import export_code_bundle, load_code_planning
from keystep.export.code_manifest import REPLY_TOKENS
from keystep.libraries import find_onnxruntime

PRECISIONS = ("fp32", "int8")
WARM_UP_STEPS = 8
WAYS = ("draft", "early_stop", "greedy")


@dataclass(frozen=True)
class Options:
    presets: tuple[str, ...] = ("tiny", "state")
    """Taught here, one after the other; without --bundle."""
    bundle: Path | None = None
    """A planner to measure in their place."""
    checkpoint: Path | None = None
    """What the bundle was made of: then `generate` is measured, too, and both precisions."""
    task: str = "Swap"
    """Of the suite tabletop, whose episode the planner of --bundle is shown."""
    seed: int = 10_000_000
    """Of its scene."""
    most_steps: int = 300
    """Of that episode, the first ones."""
    rounds: int = 10
    """Episodes of each contender."""
    threads: tuple[int, ...] = (1, 2)
    calls: int = 25
    """Of the episode that is taught; 25 make more than 240 tokens of memory."""
    teaching: int = 360
    """Steps of the optimizer."""
    reactions: int = 2000
    """Key-steps that the controller is timed on, in lockstep and asynchronous; 0: none."""
    keep: Path | None = None
    """Folder in which checkpoints and bundles are kept, and found by the next run; else they are deleted."""
    output: Path = REPOSITORY / "benchmarks" / "results" / "writing.json"
    """The JSON result; a Markdown report is written beside it."""


def main(options: Options) -> None:
    """Measures, and writes the result."""
    describe_run()
    with _folder(options) as folder:
        planners = [_measured(planner, options) for planner in _planners(folder, options)]
        reactions = _reactions(planners[0], options)
        told = report(planners, reactions)
    print(told)
    settings = {name: _plain(value) for name, value in asdict(options).items()}
    samples = {
        one.planner.name: {name: timed.to_dict() for name, timed in one.timed.items()} for one in planners
    }
    write_result(options.output, "writing", settings, {"planners": samples, "reactions": reactions}, told)


@contextmanager
def _folder(options: Options) -> Iterator[Path]:
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        yield options.keep
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _planners(folder: Path, options: Options) -> Iterator[Planner]:
    """One after the other."""
    if options.bundle is not None:
        whole = recorded_episode(options.bundle, options.task, options.seed)
        episode = replace(whole, observations=whole.observations[: options.most_steps])
        if options.checkpoint is None:
            precision = keystep.read_manifest(options.bundle)["planner"]["weights"]["precision"]
            yield Planner(options.bundle.name, "given", episode, {precision: options.bundle}, None)
        else:
            shutil.rmtree(folder / "given", ignore_errors=True)
            yield _exported(options.bundle.name, "given", episode, options.checkpoint, folder / "given")
        return
    for preset in options.presets:
        episode = _taught(folder / preset, preset, options)
        yield _exported(preset, "taught by heart", episode, folder / preset, folder)


def _taught(checkpoint: Path, preset: str, options: Options) -> Episode:
    told = checkpoint.with_suffix(".taught")
    wanted = f"{options.calls} calls, {options.teaching} steps"
    if not told.exists() or told.read_text() != wanted:
        for old in checkpoint.parent.glob(f"{preset}-*.keystep"):
            shutil.rmtree(old)
        taught_planner(checkpoint, preset, options.calls, options.teaching)
        told.write_text(wanted)
    return known_episode(checkpoint, options.calls)


def _exported(name: str, weights: str, episode: Episode, checkpoint: Path, folder: Path) -> Planner:
    bundles = {precision: folder / f"{name}-{precision}.keystep" for precision in PRECISIONS}
    for precision, bundle in bundles.items():
        if not bundle.exists():
            export_code_bundle(checkpoint, bundle, precision=precision)
    return Planner(name, weights, episode, bundles, load_code_planning(checkpoint, REPLY_TOKENS))


def _measured(planner: Planner, options: Options) -> Measured:
    """All contenders in turn."""
    asked: dict[str, Asked] = {}
    for threads in options.threads:
        if planner.planning is not None:
            for keep, name in ((False, "generate"), (True, "generate, memory kept")):
                asked[f"{threads}, fp32, {name}"] = Generate(planner.planning, threads, keep)
        for precision, bundle in planner.bundles.items():
            for way in WAYS:
                loaded = keystep.load(bundle, way=way, threads=threads, every=1)
                assert isinstance(loaded, keystep.CodeRuntime)
                asked[f"{threads}, {precision}, {way}"] = loaded
                if way == "draft":
                    asked[f"{threads}, {precision}, draft, prepared"] = loaded.session()
    timed = {name: Timed() for name in asked}
    contenders = {name: _contender(name, asked[name], timed[name], planner.episode) for name in asked}
    warm_up = replace(planner.episode, observations=planner.episode.observations[:WARM_UP_STEPS])
    for name in asked:
        Timed().play(asked[name], warm_up, prepare=False)
    interleave(contenders, options.rounds, seed=0, label=f"episodes of {planner.name}")
    return Measured(planner, timed)


def _contender(name: str, planner: Asked, timed: Timed, episode: Episode) -> Contender:
    return lambda _: timed.play(planner, episode, name.endswith("prepared"))


def _reactions(measured: Measured, options: Options) -> dict[str, Any]:
    """From key-steps to the first denoise step, in C++: a planner in the loop beside a controller."""
    if not options.reactions:
        return {}
    os.environ["KEYSTEP_ONNXRUNTIME"] = str(find_onnxruntime())
    manifest = next(iter(measured.planner.bundles.values())) / "manifest.json"
    return run_json(build("key_step"), manifest, options.reactions)


def _plain(value: Any) -> Any:
    return value.name if isinstance(value, Path) else value


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
