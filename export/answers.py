"""What a bundle answers on its golden cases, by every way to compute it: arrays by the names of golden.npz.

`actions` and `plan` are in physical units (images in 0..1), model outputs in network units.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import keystep
from keystep.export.golden_file import CANDIDATES, CONTINUED, DELAY, PREVIOUS
from keystep.export.onnx_policy import OnnxPolicy
from keystep.features import features_of

Arrays = dict[str, np.ndarray]


def onnx_outputs(onnx: OnnxPolicy, manifest: dict[str, Any], golden: Arrays) -> Arrays:
    """Of the networks alone, at the first denoise step: nothing for a controller of one step."""
    outputs = {"model_output": _each(onnx.first_output, golden)} if onnx.has_steps else {}
    if manifest["planner"]:
        outputs["plan.model_output"] = _each(onnx.first_plan_output, golden)
    if has_scorer(manifest):
        outputs["scores"] = _each(onnx.scores, golden)
    return outputs


def onnx_answers(onnx: OnnxPolicy, manifest: dict[str, Any], golden: Arrays) -> Arrays:
    """All of them."""
    answers = {"actions": _each(onnx.actions, golden)} | onnx_outputs(onnx, manifest, golden)
    if manifest["planner"]:
        answers["plan"] = _each(onnx.plan, golden)
    if CONTINUED in golden:
        answers[CONTINUED] = _each(onnx.continued, golden)
    if has_scorer(manifest):
        plans = answers["candidates"] = _each(onnx.candidates, golden)
        answers["scores"] = _each(lambda _, case: onnx.scores(golden, case, plans[case]), golden)
        answers["best score"] = answers["scores"].max(axis=1)
    return answers


def has_scorer(manifest: dict[str, Any]) -> bool:
    return bool(manifest["planner"]) and "scorer" in manifest["planner"]


def candidate_answers(path: Path, manifest: dict[str, Any], golden: Arrays, **options: Any) -> Arrays:
    """`candidates` and `scores`, of the networks' batch of all; `best score`: torch's, of the plan chosen."""
    found = []
    settings = {"planner_candidates": CANDIDATES, "planner_score": "learned"}
    with keystep.load(path, **settings, **options) as runtime:
        for case in range(len(golden["actions"])):
            runtime.reset(instruction=str(golden["text"][case]))
            newest = _newest(manifest, _view(golden, "observation", case))
            noise = _noise(golden, "candidates.noise", case)
            found.append(runtime.predict_candidates(newest, noise, as_float=True))
    key = manifest["planner"]["subgoal"]
    chosen = [golden["scores"][case][tried.chosen] for case, tried in enumerate(found)]
    return {
        "candidates": np.stack([tried.plans[key] for tried in found]),
        "scores": np.stack([tried.scores for tried in found]),
        "best score": np.array(chosen),
    }


def _each(answer: Callable[[Arrays, int], np.ndarray], golden: Arrays) -> np.ndarray:
    return np.stack([answer(golden, case) for case in range(len(golden["actions"]))])


def runtime_answers(
    path: Path, manifest: dict[str, Any], golden: Arrays, quantities: Sequence[str], **options: Any
) -> Arrays:
    """`actions` and `plan`, as wanted, in physical units (images in 0..1)."""
    answer = {"actions": _chunk, "plan": _plan, CONTINUED: _continued}
    with keystep.load(path, **options) as runtime:
        return {
            quantity: _each(functools.partial(answer[quantity], runtime, manifest), golden)
            for quantity in quantities
        }


def _plan(runtime: keystep.Runtime, manifest: dict[str, Any], golden: Arrays, case: int) -> np.ndarray:
    runtime.reset(instruction=str(golden["text"][case]))
    noise = _noise(golden, "plan.noise", case)
    newest = _newest(manifest, _view(golden, "observation", case))
    plan = runtime.predict_plan(newest, noise, as_float=True)
    return plan[manifest["planner"]["subgoal"]]


def _continued(runtime: keystep.Runtime, manifest: dict[str, Any], golden: Arrays, case: int) -> np.ndarray:
    delay = int(golden[DELAY][case])
    previous = np.ascontiguousarray(golden[PREVIOUS][case][:delay])
    return _chunk(runtime, manifest, golden, case, previous=previous, delay=delay, rule="trained")


def _chunk(
    runtime: keystep.Runtime, manifest: dict[str, Any], golden: Arrays, case: int, **continued: Any
) -> np.ndarray:
    """By the controller alone: of a hierarchy, a goal is handed in as every subgoal."""
    goal = _view(golden, "goal", case)
    if manifest["planner"]:
        repeats = manifest["planner"]["subgoals"]
        given = {key: np.repeat(value[None], repeats, axis=0) for key, value in goal.items()}
        runtime.reset(subgoals=given)
    else:
        task = manifest["tasks"][int(golden["task"][case])]["name"] if "task" in golden else None
        runtime.reset(task=task, goal=goal or None)
    newest = _seen(runtime, manifest, _view(golden, "observation", case))
    return runtime.predict_chunk(newest, _noise(golden, "noise", case), **continued)


def _seen(runtime: keystep.Runtime, manifest: dict[str, Any], frames: Arrays) -> Arrays:
    """The newest frames, after ticks with those before them, which the runtime keeps."""
    history = {feature.key: feature.history for feature in features_of(manifest["observation"])}
    ticks = max(history.values())

    def at(tick: int) -> Arrays:
        places = {key: max(0, tick - (ticks - kept)) for key, kept in history.items()}
        return {
            key: np.ascontiguousarray(value[places[key]]) if history[key] > 1 else value
            for key, value in frames.items()
        }

    for tick in range(ticks - 1):
        runtime.act(at(tick))
    return at(ticks - 1)


def _newest(manifest: dict[str, Any], frames: Arrays) -> Arrays:
    several = [feature.key for feature in features_of(manifest["observation"]) if feature.history > 1]
    return frames | {key: np.ascontiguousarray(frames[key][-1]) for key in several}


def _noise(golden: Arrays, name: str, case: int) -> np.ndarray | None:
    rows = golden[name][case] if name in golden else None
    return rows[0] if rows is not None and len(rows) == 1 else rows


def _view(golden: Arrays, view: str, case: int) -> Arrays:
    """Row `case` of `observation.*` or `goal.*`, with the keys of an observation."""
    names = [name for name in golden if name.startswith(f"{view}.")]
    return {name.replace(view, "observation", 1): np.ascontiguousarray(golden[name][case]) for name in names}


def torch_answers(
    checkpoint: Path,
    planner: Path | None,
    manifest: dict[str, Any],
    golden: Arrays,
    scorer: Path | None = None,
) -> Arrays:
    # These need torch, which a robot need not have.
    from keystep.export.golden import torch_answer, torch_candidates, torch_continued, torch_plan
    from keystep.export.levels import load_controller, load_planning, load_scoring

    changes, execute = _sampler_changes(manifest["sampler"]), manifest["chunk"]["execute"]
    controller = load_controller(checkpoint, changes, execute, resize=False)
    cases = range(len(golden["actions"]))
    answers = {"actions": np.stack([torch_answer(controller, golden, case)[0] for case in cases])}
    if CONTINUED in golden:
        answers[CONTINUED] = np.stack([torch_continued(controller, golden, case) for case in cases])
    if planner is not None:
        changes = _sampler_changes(manifest["planner"]["sampler"])
        planning = load_planning(planner, changes, True, controller)
        answers["plan"] = np.stack([torch_plan(planning, golden, case)[0] for case in cases])
        if scorer is not None:
            planning = replace(planning, scoring=load_scoring(scorer, planning))
            tried = [torch_candidates(planning, golden, case) for case in cases]
            answers["candidates"] = np.stack([plans for plans, _ in tried])
            answers["scores"] = np.stack([scores for _, scores in tried])
    return answers


def _sampler_changes(entry: dict[str, Any] | None) -> dict[str, Any]:
    return {} if entry is None else entry | {"betas": tuple(entry["betas"])}
