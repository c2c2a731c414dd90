"""The ways to run one and the same hierarchy: observations of a plan's 64 actions in, those actions out.

Each call is an episode of one plan: the text is encoded, the planner asked once, the controller once or more
per subgoal. Observations and texts are those of the bundle's golden.npz. Imports are local, see
`benchmarks.worker`.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.loop import read_manifest
from benchmarks.worker import Contender

Array = NDArray[np.float32]
Observations = list[dict[str, Any]]
Policy = Callable[[str, Observations, int], Array]  # text, an observation per action, seed -> actions [., A]


def make_inputs(case: Path, seed: int) -> tuple[str, Observations, int]:
    """What is seen changes with every subgoal; noise follows from the seed."""
    arrays, planner = _golden(case), read_manifest(case)["planner"]
    cases = len(arrays["text"])
    keys = [name for name in arrays if name.startswith("observation.")]
    seen = [{name: arrays[name][(seed + row) % cases] for name in keys} for row in range(cases)]
    held = planner["steps_per_subgoal"]
    observations = [seen[subgoal % cases] for subgoal in range(planner["subgoals"]) for _ in range(held)]
    return str(arrays["text"][seed % cases]), observations, seed


@cache
def _golden(case: Path) -> dict[str, Any]:
    with np.load(case / "bundle.keystep" / "golden.npz", allow_pickle=False) as archive:
        return dict(archive)


def live(policy: Any, text: str, observations: Observations, seed: int) -> Array:
    """One episode."""
    policy.reset(instruction=text, seed=seed)
    return np.stack([policy.act(observation) for observation in observations])


def torch_eager(case: Path, threads: int) -> Policy:
    """PyTorch's modules at every step, diffusers' schedulers between: keystep.models.ReferenceHierarchy."""
    import torch

    from keystep.models.reference_hierarchy import ReferenceHierarchy

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    manifest = read_manifest(case)
    planner, controller = (
        {**spec, "betas": tuple(spec["betas"])}
        for spec in (manifest["planner"]["sampler"], manifest["sampler"])
    )
    reference = ReferenceHierarchy(
        case / "planner", case / "controller", planner_sampler=planner, controller_sampler=controller
    )

    def predict(text: str, observations: Observations, seed: int) -> Array:
        with torch.inference_mode():
            return live(reference, text, observations, seed)

    return predict


def _keystep(case: Path, threads: int, **options: Any) -> Policy:
    import keystep

    runtime = keystep.load(case / "bundle.keystep", threads=threads, **options)
    return lambda text, observations, seed: live(runtime, text, observations, seed)


def keystep_ddim(case: Path, threads: int) -> Policy:
    """keystep's C++ loop through its Python API, samplers as the bundle says: DDIM 10 in both levels."""
    return _keystep(case, threads)


def keystep_planner_ddpm(case: Path, threads: int) -> Policy:
    """The same, plans by DDPM 100."""
    return _keystep(case, threads, planner_sampler="ddpm", planner_steps=100)


def keystep_both_ddpm(case: Path, threads: int) -> Policy:
    """The same, plans and chunks by DDPM 100."""
    ddpm = {"sampler": "ddpm", "inference_steps": 100, "planner_sampler": "ddpm", "planner_steps": 100}
    return _keystep(case, threads, **ddpm)


def _plan(case: Path, threads: int, guidance: float | None) -> Policy:
    import keystep

    runtime = keystep.load(case / "bundle.keystep", threads=threads)

    runtime.reset(instruction=make_inputs(case, 0)[0], guidance=guidance)

    def predict(text: str, observations: Observations, seed: int) -> Array:
        (plan,) = runtime.predict_plan(observations[0]).values()
        return np.asarray(plan, np.float32)

    return predict


def plan_guided(case: Path, threads: int) -> Policy:
    """One plan by keystep, guidance as the bundle says."""
    return _plan(case, threads, None)


def plan_unguided(case: Path, threads: int) -> Policy:
    """The same with guidance 0."""
    return _plan(case, threads, 0.0)


OURS = ("keystep",)
CONTENDERS = {
    "torch-eager": Contender(torch_eager, ("torch", "keystep.models.reference_hierarchy")),
    "keystep": Contender(keystep_ddim, OURS),
    "keystep, plans by DDPM 100": Contender(keystep_planner_ddpm, OURS),
    "keystep, both by DDPM 100": Contender(keystep_both_ddpm, OURS),
    "plan, guided": Contender(plan_guided, OURS),
    "plan, guidance 0": Contender(plan_unguided, OURS),
}
