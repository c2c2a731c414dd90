"""Stand-ins for policies, run by the stub engine: no graph in them computes anything, but their chunks tell.

`marked` ones have actions (index, tick, goal): the row that belongs to the consumed index `index` of a chunk
that was made of the observation of tick `tick` for the goal `goal`. `gated` ones have chunks of noise, narrow
bounds and rate limits.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

import keystep
from keystep.features import Feature

Kind = Literal["marked", "marked-plans", "gated"]
KINDS: tuple[Kind, ...] = ("marked", "marked-plans", "gated")
STATE = DIM = 3
SUBGOALS = 3
MARK_HOLD = -1.0
"""Of every value of a marked bundle: no index, no tick."""

_WIDE, _GOALS = 1e8, 1e6


def write_stand_in(
    folder: Path,
    kind: Kind,
    *,
    horizon: int,
    execute: int,
    steps_per_subgoal: int,
    history: int,
    holds_last: bool,
    max_delay: int,
) -> Path:
    """A bundle in the new folder `folder`.

    Args:
        steps_per_subgoal: of plans ("marked-plans").
        history: frames that the network sees ("gated").
        holds_last: actions are absolute: the last one stands, and there is no value to hold ("gated").
        max_delay: that the controller was trained to continue ("gated"); 0: none.
    """
    folder.mkdir(parents=True)
    identity = {"mode": "identity"}
    names = ("x", "y", "z")
    state = Feature("observation.state", "vector", (STATE,), names=names, history=history).to_dict()
    chunk: dict[str, Any] = {"horizon": horizon, "execute": execute, "start": 0, "merge": "consumed_index"}
    manifest: dict[str, Any] = {
        "format": "keystep-bundle",
        "version": 5,
        "name": kind,
        "family": "flat",
        "control_rate_hz": 60.0,
        "observation": [state | {"normalization": identity}],
        "goal": "none",
        "tasks": [{"name": name, "instruction": f"{name.capitalize()} it."} for name in ("lift", "push")],
        "action": _action(kind, holds_last),
        "chunk": chunk | ({"max_delay": max_delay} if max_delay else {}),
        "planner": None,
        "sampler": None,
        "unet": None,
        "graphs": _gated_graphs(horizon, history, max_delay) if kind == "gated" else _act(kind, horizon),
        "golden": {"file": "golden.npz"},
        "provenance": {"keystep_version": keystep.__version__},
    }
    if kind == "gated":
        manifest["sampler"] = keystep.SamplerSpec(inference_steps=2).as_dict()
    if kind == "marked-plans":
        manifest |= {"family": "subgoal", "goal": "text", "planner": _planner(steps_per_subgoal)}
        manifest["graphs"] |= _planner_graphs()
    _write(folder, manifest)
    return folder


def _action(kind: Kind, holds_last: bool) -> dict[str, Any]:
    bound = 1.0 if kind == "gated" else _WIDE
    hold = 0.0 if kind == "gated" else MARK_HOLD
    statistics = {"mode": "min_max", "min": [-1.0] * DIM, "max": [1.0] * DIM}
    return {
        "names": ["index", "tick", "goal"] if kind != "gated" else ["x", "y", "z"],
        "units": ["1"] * DIM,
        "min": [-bound] * DIM,
        "max": [bound] * DIM,
        "rate_limit": [0.1] * DIM if kind == "gated" else None,
        "hold": {"mode": "last"} if holds_last else {"mode": "values", "values": [hold] * DIM},
        "normalization": statistics if kind == "gated" else {"mode": "identity"},
    }


def _tensor(name: str, shape: list[int], role: str = "", dtype: str = "float32") -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": shape, "role": role or name}


def _act(kind: Kind, horizon: int) -> dict[str, Any]:
    goal = [_tensor("goal.state", [1, STATE])] if kind == "marked-plans" else []
    task = [] if goal else [_tensor("task", [1], dtype="int64")]
    inputs = [_tensor("observation.state", [1, STATE]), *goal, *task]
    return {"act": {"inputs": inputs, "outputs": [_tensor("actions", [1, horizon, DIM])]}}


def _gated_graphs(horizon: int, history: int, max_delay: int) -> dict[str, Any]:
    frames = [1, history] if history > 1 else [1]
    film = _tensor("film", [1, 2], "condition")
    seen = [_tensor("observation.state", [*frames, STATE]), _tensor("task", [1], dtype="int64")]
    step = [_tensor("sample", [1, horizon, DIM]), _tensor("timestep", [1], dtype="int64"), film]
    if max_delay:
        step.append(_tensor("prefix_mask", [1, horizon, 1]))
    return {
        "encode": {"inputs": seen, "outputs": [film]},
        "denoise": {"inputs": step, "outputs": [_tensor("model_output", [1, horizon, DIM])]},
    }


def _planner(steps_per_subgoal: int) -> dict[str, Any]:
    sampler = keystep.SamplerSpec(
        inference_steps=2, prediction="v_prediction", timestep_rule="hd_expit", clip_sample=False
    )
    return {
        "subgoals": SUBGOALS,
        "steps_per_subgoal": steps_per_subgoal,
        "replan": True,
        "guided": False,
        "subgoal": "observation.state",
        # So wide that what the observation counts is next to nothing in a plan: goals differ by their noise.
        "normalization": {"mode": "min_max", "min": [-_GOALS] * STATE, "max": [_GOALS] * STATE},
        "sampler": sampler.as_dict(),
        "text": {"encoder": "stub", "max_bytes": 64},
        "unet": None,
    }


def _planner_graphs() -> dict[str, Any]:
    told = _tensor("goal_text", [1, 5], "condition")
    plan = [1, SUBGOALS, STATE]
    inputs = [
        _tensor("plan.sample", plan, "sample"),
        _tensor("plan.timestep", [1], "timestep", "int64"),
        told,
        _tensor("plan.observation.state", [1, STATE], "observation.state"),
    ]
    return {
        "text": {"inputs": [_tensor("text", [1], dtype="string")], "outputs": [told]},
        "plan_denoise": {"inputs": inputs, "outputs": [_tensor("plan.model_output", plan, "model_output")]},
    }


def _write(folder: Path, manifest: dict[str, Any]) -> None:
    np.savez(folder / "golden.npz", actions=np.zeros((1, 1, DIM), np.float32))
    for name, graph in manifest["graphs"].items():
        graph["file"] = f"{name}.onnx"
        (folder / graph["file"]).write_bytes(f"no graph: {name}".encode())
    for entry in [*manifest["graphs"].values(), manifest["golden"]]:
        entry["sha256"] = hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
