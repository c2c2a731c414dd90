"""The PyTorch references with the manifest of the bundle they are compared with."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keystep
from keystep._core import sampler_kinds
from keystep.commands.options import PolicyOptions
from keystep.evaluate.rollout import OpenPolicy


def opener(checkpoints: Sequence[Path], bundle: Path, options: PolicyOptions) -> OpenPolicy:
    """A picklable function that opens the reference of `bundle`.

    Args:
        checkpoints: of the policy, or of the planner and the controller.

    Raises:
        ArgumentError: another number of checkpoints than the bundle's family has parts, or another provider.
    """
    if options.provider != "cpu":
        raise keystep.ArgumentError(f"provider: expected cpu with reference, got {options.provider!r}")
    manifest = keystep.read_manifest(bundle)
    parts = ("planner", "controller") if manifest["family"] == "subgoal" else ("policy",)
    if len(checkpoints) != len(parts):
        raise keystep.ArgumentError(
            f"reference: expected the checkpoint of the {' and the '.join(parts)}, got {len(checkpoints)}"
        )
    for name, plain in (("planner_candidates", 1), ("planner_score", "bundle")):
        if (got := getattr(options, name)) != plain:
            raise keystep.ArgumentError(f"{name}: expected {plain} with a reference, got {got}")
    return functools.partial(Reference, tuple(checkpoints), manifest, options)


class Reference:
    """A policy in PyTorch, eager, with diffusers' schedulers; the surface of `keystep.Runtime`."""

    description = "PyTorch eager, diffusers"

    def __init__(
        self, checkpoints: tuple[Path, ...], manifest: dict[str, Any], options: PolicyOptions
    ) -> None:
        import torch

        torch.set_num_threads(max(options.threads, 1))
        self.manifest = manifest
        policy = hierarchy if manifest["family"] == "subgoal" else flat
        self._policy = policy(checkpoints, manifest, options)
        self.reset = self._policy.reset
        self.act = self._policy.act


def flat(checkpoints: tuple[Path, ...], manifest: dict[str, Any], options: PolicyOptions) -> Any:
    from keystep.models.reference import ReferencePolicy

    sampler = changed(manifest["sampler"], options.sampler, options.inference_steps)
    return ReferencePolicy(*checkpoints, execute=manifest["chunk"]["execute"], **sampler)


def hierarchy(checkpoints: tuple[Path, ...], manifest: dict[str, Any], options: PolicyOptions) -> Any:
    from keystep.models.reference_hierarchy import ReferenceHierarchy

    planner = manifest["planner"]
    return ReferenceHierarchy(
        *checkpoints,
        execute=manifest["chunk"]["execute"],
        replan=planner["replan"] if options.replan == "bundle" else options.replan == "on",
        planner_sampler=changed(
            planner["sampler"], options.planner_sampler, options.planner_steps, "planner_"
        ),
        controller_sampler=changed(manifest["sampler"], options.sampler, options.inference_steps),
    )


def changed(sampler: dict[str, Any] | None, kind: str, steps: int, prefix: str = "") -> dict[str, Any]:
    """The manifest's sampler with what the options change; nothing of a policy without one (ACT).

    Args:
        prefix: of the options' names.

    Raises:
        ArgumentError: what `keystep.load` refuses: a kind that the network was not trained for, other steps
            than there are, or anything of a policy that has no sampler.
    """
    name = f"{prefix}steps" if prefix else "inference_steps"
    if sampler is None:
        for option, given in ((f"{prefix}sampler", kind != "bundle"), (name, steps != 0)):
            if given:
                raise keystep.ArgumentError(f"{option}: expected a policy with a sampler, got one without")
        return {}
    prediction, most = sampler["prediction"], sampler["train_steps"]
    known = [other for other, (_, predictions, _) in sampler_kinds().items() if prediction in predictions]
    if kind not in ("bundle", *known):
        raise keystep.ArgumentError(f"{prefix}sampler: expected {' | '.join(known)}, got {kind!r}")
    if not 0 <= steps <= most:
        raise keystep.ArgumentError(f"{name}: expected 0 (the bundle's) or 1..{most}, got {steps}")
    new = sampler | {"inference_steps": steps or sampler["inference_steps"]}
    new["kind"] = sampler["kind"] if kind == "bundle" else kind
    keystep.SamplerSpec(**new).validate()
    return new | {"betas": tuple(new["betas"])}
