"""A bundle as a folder that LeRobot takes for a pretrained policy: `--policy.path=FOLDER`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from keystep.files import recover_folder, replacing_folder
from lerobot_policy_keystep.inputs import wrong

BUNDLE = "policy.keystep"


def copy_bundle(bundle: str, folder: Path) -> str:
    """Into the folder, whole or not at all; returns its name there, which goes into config.json.

    Raises:
        keystep.ArgumentError: the folder is the bundle, or in it.
    """
    target, source = folder / BUNDLE, Path(bundle)
    if folder.resolve().is_relative_to(source.resolve()):
        raise wrong("folder", f"one outside of the bundle {bundle}", folder)
    if target.resolve() != source.resolve():
        recover_folder(target)
        with replacing_folder(target, overwrite=True) as staged:
            shutil.copytree(source, staged, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)
    return BUNDLE


def found_bundle(bundle: str, pretrained: str | Path, **hub: Any) -> str:
    """Where the bundle of a folder, or of a repository of the Hub, is on this machine.

    Args:
        bundle: as the configuration says; inside of the folder, else anywhere.
        hub: options of `snapshot_download`. Of a repository nothing but the bundle is fetched.

    Raises:
        keystep.ArgumentError: there is none.
    """
    folder = Path(pretrained)
    if not folder.is_dir() and bundle and not Path(bundle).is_absolute():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(str(pretrained), allow_patterns=[f"{bundle}/*"], **hub))
    inside = folder / bundle
    if bundle and inside.is_dir() and inside.resolve().is_relative_to(folder.resolve()):
        return str(inside)
    if bundle and Path(bundle).is_dir():  # told by --policy.bundle
        return bundle
    raise wrong("policy.bundle", f"a bundle in {pretrained} or a folder", repr(bundle))
