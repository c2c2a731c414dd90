"""Options and outputs that several commands share."""

from __future__ import annotations

import ast
import contextlib
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import keystep
from keystep.files import check_outputs, replacing, to_json, write_each, write_json, write_text
from keystep.suites import suite_named

Kind = str  # of a sampler (`keystep.SamplerSpec`), or "bundle"
Engine = Literal["auto", "native", "onnxruntime", "stub"]
Precision = Literal["bundle", "fp32", "bf16", "int8"]
Isa = Literal["best", "portable", "avx2", "avx512", "avx512_bf16", "avx512_vnni"]


@dataclass(frozen=True)
class PolicyOptions:
    """How a bundle is opened. "bundle" and 0 mean: as the bundle says."""

    provider: str = "cpu"
    """cpu, openvino, cuda or tensorrt."""
    threads: int = 1
    """Threads inside an operator or a native U-Net."""
    engine: Engine = "auto"
    """auto: keystep's own kernels for the U-Nets with weights for them, ONNX Runtime for the rest; native:
    the same, or an error; stub: no inference."""
    precision: Precision = "bundle"
    """Of native U-Nets."""
    isa: Isa = "best"
    """Instructions of the native kernels."""
    inference_steps: int = 0
    """Denoise steps of the controller."""
    sampler: Kind = "bundle"
    """Of the controller: ddpm or ddim, for a network of diffusion."""
    planner_steps: int = 0
    """Denoise steps of the planner."""
    planner_sampler: Kind = "bundle"
    """Of the planner: likewise."""
    planner_candidates: int = 1
    """Plans sampled at once, of which the best is followed."""
    planner_score: Literal["bundle", "learned", "density"] = "bundle"
    """What is best: by the bundle's scorer, or nearest to the others; bundle: its scorer, if it has one."""
    replan: Literal["bundle", "on", "off"] = "bundle"
    """Plan again when a plan is used up; off: stay on the last subgoal."""

    def opener(self, bundle: Path) -> Callable[[], keystep.Runtime]:
        """A picklable function that opens `bundle` so."""
        return functools.partial(keystep.load, bundle, **self.load_options())

    def load_options(self) -> dict[str, Any]:
        """For `keystep.load`: what differs from the bundle."""
        options: dict[str, Any] = {
            "provider": self.provider,
            "threads": self.threads,
            "inference_steps": self.inference_steps,
            **engine_options(self.engine, self.precision, self.isa),
        }
        if self.planner_steps:
            options["planner_steps"] = self.planner_steps
        if self.planner_candidates != 1:
            options["planner_candidates"] = self.planner_candidates
        for name in ("sampler", "planner_sampler", "planner_score"):
            if getattr(self, name) != "bundle":
                options[name] = getattr(self, name)
        if self.replan != "bundle":
            options["replan"] = self.replan == "on"
        return options


def refuse_writers(*bundles: Path) -> None:
    """ArgumentError for a bundle that writes code, where one is wanted that acts."""
    from keystep.manifests import family_of

    for bundle in bundles:
        if family_of(bundle) == "code":
            hint = "keystep run and keystep eval --act oracle play it"
            raise keystep.ArgumentError(f"bundle: expected a policy that acts, got family code; {hint}")


def engine_options(engine: Engine, precision: Precision, isa: Isa) -> dict[str, Any]:
    """For `keystep.load`: what differs from its defaults."""
    given = {"engine": engine, "precision": precision, "isa": isa}
    defaults = {"engine": "auto", "precision": "bundle", "isa": "best"}
    return {name: value for name, value in given.items() if value != defaults[name]}


@dataclass(frozen=True)
class EnvOptions:
    """Where it acts; docs/evaluation.md says what an environment must offer."""

    suite: str = "franka3blocks"
    """The simulated world: franka3blocks, tabletop, calvin (docs/calvin.md), or a module with a SUITE."""
    env: str | None = None
    """Gymnasium environment, ID or MODULE:ID (the module registers it); the suite's when not given. <Task>
    in it stands for the task's name."""
    env_kwargs: tuple[str, ...] = ()
    """For its constructor: NAME=VALUE ..., or one JSON object."""
    max_episode_steps: int | None = None
    """Steps until an episode is given up; the environment's own limit when not given."""
    success_key: str | None = None
    """The key of `info` that says whether the task is solved, or "terminated": whether the environment ended
    the episode itself; info["success"] or info["is_success"] when not given."""

    def env_settings(self) -> dict[str, Any]:
        """For `Evaluation`."""
        return {
            "env": self.env or suite_named(self.suite).env_id,
            "suite": self.suite,
            "env_kwargs": parse_env_kwargs(self.env_kwargs),
            "max_episode_steps": self.max_episode_steps,
            "success_key": self.success_key,
        }


def parse_env_kwargs(texts: Sequence[str]) -> dict[str, Any]:
    """Options of an environment from the command line; values as JSON or Python writes them, else as text."""
    options: dict[str, Any] = {}
    for text in texts:
        if text.lstrip().startswith("{"):
            value = _literal(text)
            if not isinstance(value, dict):
                raise keystep.ArgumentError(f"env_kwargs: expected a JSON object, got {text!r}")
            options |= value
            continue
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise keystep.ArgumentError(f"env_kwargs: expected NAME=VALUE or a JSON object, got {text!r}")
        options[name] = _literal(value)
    _require_json(options)
    return options


def _require_json(options: dict[str, Any]) -> None:
    """ArgumentError for what the result file could not hold, known before anything is played."""
    for name, value in options.items():
        if not isinstance(name, str):
            raise keystep.ArgumentError(f"env_kwargs: expected names that are text, got {name!r}")
        try:
            to_json(value)
        except (TypeError, ValueError, RecursionError):
            raise keystep.ArgumentError(
                f"env_kwargs: expected a value for {name} that JSON has, got {value!r}"
            ) from None


def _literal(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError, RecursionError):
            return read(text)
    return text


@dataclass(frozen=True)
class ActOptions:
    """Who acts."""

    act: Literal["policy", "oracle"] = "policy"
    """oracle: VLM + Oracle of From Code to Action, in the suite tabletop. A planner that writes code, a
    bundle or a checkpoint folder of `keystep train code-planner`, is asked for each key-step, and the oracle
    runs it."""
    blind: bool = False
    """With the oracle: also the same planner with the mean picture in place of what is there."""


@dataclass(frozen=True)
class OutputOptions:
    """Where results go; each file appears whole or not at all."""

    json: Path | None = None
    """Also write the results to this file."""
    markdown: Path | None = None
    """Also write a Markdown table to this file."""
    plot: Path | None = None
    """Also draw the results into this PNG file."""

    def __post_init__(self) -> None:
        check_outputs(json=self.json, markdown=self.markdown, plot=self.plot)
        if self.plot is not None and find_spec("matplotlib") is None:  # known before anything is played
            raise ValueError("plot: expected matplotlib to be installed: pip install matplotlib")

    def write(self, results: dict[str, Any], markdown: str, figure: Callable[[], Any] | None = None) -> None:
        """Every file that is wanted; one that cannot be written does not stop the others."""
        writes: list[Callable[[], object]] = []
        if self.json is not None:
            writes.append(functools.partial(write_json, self.json, results))
        if self.markdown is not None:
            writes.append(functools.partial(write_text, self.markdown, markdown))
        if self.plot is not None and figure is not None:
            plot, draw = self.plot, figure
            writes.append(lambda: save_figure(plot, draw()))
        write_each(*writes)


def save_figure(path: Path, figure: Any) -> None:
    """A matplotlib figure as PNG."""
    with replacing(path) as (staged,):
        figure.savefig(staged, format="png", dpi=150)
