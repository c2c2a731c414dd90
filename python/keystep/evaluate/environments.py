"""Gymnasium environments as an evaluation needs them: docs/evaluation.md states these rules for users."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import keystep

TERMINATED = "terminated"
"""As a success key: an episode is solved that the environment ends by itself, not by a limit."""
SUCCESS_KEYS = ("success", "is_success")
STATE = "observation.state"
STATE_NAMES = (STATE, "state", "agent_pos", "observation")


def make_env(
    env_id: str, manifest: dict[str, Any], *, max_episode_steps: int | None = None, **options: Any
) -> Any:
    """The environment `ID` or `MODULE:ID`, showing what the policy wants to see.

    A constructor that names `obs_mode` is given "rgb" or "state", and one that names `image_size` the side of
    the bundle's images, where all are squares of one size. `options` go before both.

    Raises:
        ArgumentError: there is no such module or environment, or it does not take the options.
    """
    import gymnasium

    import keystep.envs

    module, colon, name = env_id.rpartition(":")
    if colon:
        _import(module)
    options = _shown(name, manifest) | options
    try:
        return gymnasium.make(name, max_episode_steps, disable_env_checker=True, **options)
    except (gymnasium.error.Error, AttributeError) as error:
        raise keystep.ArgumentError(f"env: {error}") from error
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise keystep.ArgumentError(f"env_kwargs: {error}") from error


def _import(module: str) -> None:
    """The module that registers the environment; the current folder is looked in, too."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        importlib.import_module(module)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise keystep.ArgumentError(
            f"env: expected a module that can be imported before ':', got {module!r} ({reason})"
        ) from error


def _shown(name: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """What its constructor is told of the observations, if it names these parameters."""
    import gymnasium

    images = manifest["observation"]["images"]
    wanted: dict[str, Any] = {"obs_mode": "rgb" if images else "state"}
    sides = {image[side] for image in images for side in ("height", "width")}
    if len(sides) == 1:
        wanted["image_size"] = sides.pop()
    spec = gymnasium.registry.get(name)
    if spec is None or spec.entry_point is None:
        return {}
    try:
        maker: Any = spec.entry_point
        if isinstance(maker, str):
            maker = gymnasium.envs.registration.load_env_creator(maker)
        named = set(inspect.signature(maker).parameters) - set(spec.kwargs)
    except (ImportError, AttributeError, ValueError):  # gymnasium.make says what is wrong
        return {}
    return {key: value for key, value in wanted.items() if key in named}


def step_limit(env: Any) -> int | None:
    """Steps after which an episode ends: of TimeLimit, or of the environment itself; None if it says none."""
    own = env.get_wrapper_attr("max_episode_steps") if env.has_wrapper_attr("max_episode_steps") else None
    limits = [own, env.spec.max_episode_steps if env.spec is not None else None]
    return min((int(limit) for limit in limits if limit is not None), default=None)


def check_action_space(env: Any, manifest: dict[str, Any]) -> None:
    """ArgumentError when the environment does not take the policy's actions."""
    import gymnasium

    space, size = env.action_space, len(manifest["action"]["names"])
    if not isinstance(space, gymnasium.spaces.Box) or space.shape != (size,):
        raise keystep.ArgumentError(f"env: expected actions of the policy's shape ({size},), got {space}")


def solved(info: Mapping[str, Any], terminated: object, key: str | None) -> bool | None:
    """Whether this step solves the task; None when `info` does not say.

    Args:
        key: of `info`, or `TERMINATED`; None: the first of `SUCCESS_KEYS` that is there.

    Raises:
        ArgumentError: what is there is neither true nor false.
    """
    if key == TERMINATED:
        return bool(terminated)
    for name in SUCCESS_KEYS if key is None else (key,):
        if name in info:
            value = np.asarray(info[name])
            if value.size != 1 or value.dtype.kind not in "biuf" or value.item() not in (0, 1):
                raise keystep.ArgumentError(f"info[{name!r}]: expected true or false, got {info[name]!r}")
            return bool(value.item())
    return None


def require_success(info: Mapping[str, Any], key: str | None) -> None:
    """ArgumentError: the episode is over, and `info` never said whether it is solved."""
    wanted = " or ".join(map(repr, SUCCESS_KEYS if key is None else (key,)))
    raise keystep.ArgumentError(
        f"success_key: expected {wanted} in info, got {', '.join(map(repr, info)) or 'an empty info'}; "
        f"--success-key names another key, or {TERMINATED!r}"
    )


class ObservationReader:
    """What the policy is given of an environment's observation; ArgumentError when it is not there."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        spec = manifest["observation"]
        cameras = [image["camera"] for image in spec["images"]]
        self._names: dict[str, tuple[str, ...]] = {STATE: STATE_NAMES} if spec["state"] else {}
        for camera in cameras:
            key = f"observation.images.{camera}"
            alone = ("observation.image", "pixels", "image") if len(cameras) == 1 else ()
            self._names[key] = (key, f"images.{camera}", f"pixels.{camera}", camera, *alone)

    def __call__(self, observation: Any) -> dict[str, np.ndarray]:
        if not isinstance(observation, Mapping):
            return {self._only(observation): _array(observation)}
        flat = dict(_flat(observation))
        return {key: _array(flat[self._found(names, flat)]) for key, names in self._names.items()}

    def _found(self, names: tuple[str, ...], flat: Mapping[str, Any]) -> str:
        for name in names:
            if name in flat:
                return name
        keys = ", ".join(flat) or "an empty dict"
        raise keystep.ArgumentError(f"{names[0]}: expected one of {', '.join(names)}, got {keys}")

    def _only(self, observation: Any) -> str:
        """The key of an observation that is one array."""
        if len(self._names) != 1:
            wanted = ", ".join(self._names)
            got = f"one array of shape {np.shape(observation)}"
            raise keystep.ArgumentError(f"observation: expected a dict with {wanted}, got {got}")
        return next(iter(self._names))


def _flat(observation: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested dicts as pairs of a dotted name and an array."""
    pairs: list[tuple[str, Any]] = []
    for key, value in observation.items():
        name = f"{prefix}{key}"
        pairs += _flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return pairs


def _array(value: Any) -> np.ndarray:
    """C-contiguous; numbers that are no bytes as float32."""
    array = np.ascontiguousarray(value)
    return array if array.dtype in (np.float32, np.uint8) else array.astype(np.float32)
