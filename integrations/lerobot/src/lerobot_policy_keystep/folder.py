"""A bundle as a folder that LeRobot takes for a pretrained policy: `--policy.path=FOLDER`."""

from __future__ import annotations

import shutil
from pathlib import Path

from lerobot_policy_keystep.inputs import wrong

BUNDLE = "policy.keystep"


def copy_bundle(bundle: str, folder: Path) -> str:
    """Into the folder; returns its name there, which goes into config.json."""
    target = folder / BUNDLE
    if target.resolve() != Path(bundle).resolve():
        if target.exists():
            shutil.rmtree(target)
        shutil.copytree(bundle, target)
    return BUNDLE


def found_bundle(bundle: str, pretrained: str | Path, revision: str | None = None) -> str:
    """Where the bundle of a folder, or of a repository of the Hub, is on this machine.

    Raises:
        keystep.ArgumentError: a path that leaves the folder, or nothing there.
    """
    folder = Path(pretrained)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(str(pretrained), revision=revision))
    inside = folder / bundle
    if bundle and inside.is_dir() and inside.resolve().is_relative_to(folder.resolve()):
        return str(inside)
    if bundle and Path(bundle).is_dir():  # told by --policy.bundle
        return bundle
    raise wrong("policy.bundle", f"a bundle in {pretrained} or a folder", repr(bundle))
