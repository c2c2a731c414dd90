"""The policies that `benchmarks.periods` runs: bundles, and what torch loads in their place."""

from dataclasses import dataclass, field
from pathlib import Path

import keystep
from benchmarks.cases import prepare_case
from benchmarks.machine import REPOSITORY

SHIPPED = {"franka3blocks-state": "state-hierarchy", "franka3blocks-rgb": "image-hierarchy"}
"""Of each shipped bundle the case of random weights that torch runs where its checkpoints are not."""
UNET = "unet-70m"


@dataclass(frozen=True)
class Policy:
    """A bundle.

    Attributes:
        torch: folders of `checkpoint`, or of `planner` and `controller`; empty: torch does not take part.
        notes: for the report.
    """

    name: str
    bundle: Path
    torch: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_policy(name: str, torch: bool) -> Policy:
    """A shipped bundle, a case of `benchmarks.cases`, or a bundle's folder.

    Args:
        torch: whether its weights are needed.

    Raises:
        ArgumentError: there is no such bundle.
    """
    if name in SHIPPED:
        return _shipped(name, torch)
    if name == UNET:
        case = prepare_case(UNET)
        note = "random weights, which cost as much: a U-Net of 73 M parameters behind a ResNet-18, DDIM 10"
        return Policy(name, case / "bundle.keystep", beside(case), (note,))
    bundle = Path(name).resolve()
    if not (bundle / "manifest.json").is_file():
        known = ", ".join((*SHIPPED, UNET))
        raise keystep.ArgumentError(f"policies: expected {known} or a bundle's folder, got {name}")
    folders = beside(bundle.parent) if torch else {}
    missing = () if folders or not torch else ("torch takes no part: no checkpoint beside the bundle",)
    return Policy(keystep.read_manifest(bundle)["name"], bundle, folders, missing)


def beside(folder: Path) -> dict[str, str]:
    """What torch loads, where it is in `folder`."""
    for names in (("planner", "controller"), ("checkpoint",)):
        if all((folder / name).is_dir() for name in names):
            return {name: str(folder / name) for name in names}
    return {}


def _shipped(name: str, torch: bool) -> Policy:
    bundle = REPOSITORY / "bundles" / f"{name}.keystep"
    if not torch:
        return Policy(name, bundle)
    kind = name.removeprefix("franka3blocks-")
    folders = {part: REPOSITORY / "checkpoints" / f"{kind}-{part}" for part in ("planner", "controller")}
    if all(folder.is_dir() for folder in folders.values()):
        return Policy(name, bundle, {part: str(folder) for part, folder in folders.items()})
    note = f"torch runs a policy of random weights, the case {SHIPPED[name]}: the checkpoints are not here"
    return Policy(name, bundle, beside(prepare_case(SHIPPED[name])), (note,))
