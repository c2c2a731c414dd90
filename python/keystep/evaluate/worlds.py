"""Whether a policy is at home in an environment, as far as its bundle tells: sizes alone say little.

An environment may say, as attributes of its class, `worlds`: the ids with the same actions and observations,
other simulators included; and `feature_names`: names of the numbers of its vectors, by key.
"""

from __future__ import annotations

import multiprocessing
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any


class OtherWorldWarning(UserWarning):
    """A policy is run in a world that it was not trained for."""


def warn_of_other_world(manifest: Mapping[str, Any], env_id: str) -> None:
    """A warning, if `other_world` finds something."""
    warn(other_world(manifest, env_id))


def warn(difference: str) -> None:
    """For an answer of `other_world`. Silent in worker processes, as their parent warns."""
    if difference and multiprocessing.parent_process() is None:
        warnings.warn(difference, OtherWorldWarning, stacklevel=1)  # always from here, so told once


def other_world(manifest: Mapping[str, Any], env_id: str) -> str:
    """What tells that a policy with this manifest was trained for another world than `env_id`; "" if nothing.

    Args:
        env_id: `ID` or `MODULE:ID`, registered by now if its class is to be asked.
    """
    name = env_id.rpartition(":")[2]
    maker = _maker(name)
    for trained in _trained_in(manifest):
        if not _same(trained, name, getattr(maker, "worlds", ())):
            return (
                f"env: expected {trained}, which the policy was trained in, got {name}: another world, so "
                "success here says little of the policy"
            )
    return _other_names(manifest, name, getattr(maker, "feature_names", {}))


def _trained_in(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Environments of the data that the controller and the planner were trained on."""
    provenance = manifest.get("provenance")
    if not isinstance(provenance, Mapping):
        return
    for part in (provenance, provenance.get("planner")):
        collection = part.get("dataset_collection") if isinstance(part, Mapping) else None
        found = collection.get("env_id") if isinstance(collection, Mapping) else None
        if isinstance(found, str) and found:
            yield found


def _maker(name: str) -> Any:
    """What makes the environment; None if that cannot be told."""
    import gymnasium

    spec = gymnasium.registry.get(name)
    maker = None if spec is None else spec.entry_point
    try:
        return gymnasium.envs.registration.load_env_creator(maker) if isinstance(maker, str) else maker
    except Exception:  # gymnasium.make says what is wrong with it
        return None


def _same(trained: str, name: str, worlds: tuple[str, ...]) -> bool:
    """Of an environment that does not say which worlds are its own, only another version is another one."""
    if worlds:
        return trained in (name, *worlds)
    bases = [re.fullmatch(r"(.*)-v(\d+)", one) for one in (trained, name)]
    if None in bases:
        return True
    (base, version), (other, newer) = (found.groups() for found in bases if found)
    return base != other or version == newer


def _other_names(manifest: Mapping[str, Any], name: str, known: Mapping[str, tuple[str, ...]]) -> str:
    for feature in manifest["observation"]:
        mine, theirs = feature.get("names"), known.get(feature["key"])
        if not mine or not theirs or len(mine) != len(theirs):  # sizes are checked elsewhere
            continue
        for number, (expected, got) in enumerate(zip(mine, theirs, strict=True)):
            if expected != got:
                return (
                    f"env: {feature['key']}[{number}]: expected {expected}, as the policy was trained, got "
                    f"{got} of {name}: another world, so success here says little of the policy"
                )
    return ""
