"""Planners that write code, as commands name them: a checkpoint's folder or a bundle."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keystep
from keystep.files import sha256
from keystep.manifests import family_of
from keystep.record.bundles import bundle_digest

if TYPE_CHECKING:
    from keystep.suites.tabletop.oracle.bundle_planner import BundlePlanner
    from keystep.train.code_acting import CheckpointPlanner

MANIFEST, CHECKPOINT = "manifest.json", "policy.json"


@dataclass(frozen=True)
class CodePlannerSource:
    """A planner on the disk.

    Attributes:
        kind: bundle or checkpoint.
        name: of its folder.
        sha256: of a bundle's manifest, which has those of all its files, or of a checkpoint's weights.
        open: opens it; picklable.
    """

    kind: str
    name: str
    sha256: str
    open: Callable[[], CheckpointPlanner | BundlePlanner]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}, sha256 {self.sha256[:12]}"

    @property
    def about(self) -> dict[str, Any]:
        """For result files."""
        what = "bundle" if self.kind == "bundle" else "weights"
        return {"planner": self.kind, self.kind: self.name, f"{what}_sha256": self.sha256}


def code_planner_at(folder: Path) -> CodePlannerSource:
    """The planner in a folder; whether it can be opened shows when it is.

    Raises:
        ArgumentError: there is none, or a policy of another family.
        BundleError: the bundle is damaged.
    """
    if (folder / MANIFEST).is_file():
        return _bundle(folder)
    if not (folder / CHECKPOINT).is_file():
        wanted = f"a bundle ({MANIFEST}) or a checkpoint ({CHECKPOINT})"
        raise keystep.ArgumentError(f"planner: expected a folder with {wanted}, got {folder}")
    from keystep.train.code_acting import CheckpointPlanner
    from keystep.train.start import WEIGHTS

    opened = functools.partial(CheckpointPlanner, folder)
    if not (folder / WEIGHTS).is_file():
        opened()  # says what is missing
    return CodePlannerSource("checkpoint", folder.name, sha256(folder / WEIGHTS), opened)


def _bundle(folder: Path) -> CodePlannerSource:
    family = family_of(folder)
    if family is None:
        keystep.read_manifest(folder)  # says what is wrong with it
    if family != "code":
        hint = "keystep eval and keystep demo play it"
        raise keystep.ArgumentError(f"planner: expected family code, got {family!r} in {folder}; {hint}")
    from keystep.suites.tabletop.oracle.bundle_planner import BundlePlanner

    opened = functools.partial(BundlePlanner, folder)
    return CodePlannerSource("bundle", folder.name, bundle_digest(folder), opened)
