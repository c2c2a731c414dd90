"""Gymnasium environments as an evaluation needs them: docs/evaluation.md states these rules for users."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import keystep
from keystep.evaluate.simulation import (
    as_array,
    described,
    fault_of_env,
    finite_number,
    true_or_false,
)
from keystep.features import Feature, features_of

TERMINATED = "terminated"
"""As a success key: an episode is solved that the environment ends by itself, not by a limit."""
SUCCESS_KEYS = ("success", "is_success")
STATE = "observation.state"
STATE_NAMES = (STATE, "state", "agent_pos", "observation")


def make_env(
    env_id: str,
    manifest: dict[str, Any],
    options: Mapping[str, Any] | None = None,
    *,
    max_episode_steps: int | None = None,
) -> Any:
    """The environment `ID` or `MODULE:ID`, showing what the policy wants to see.

    `NAMESPACE/NAME` that nobody has registered is looked for in a package of that name.
    A constructor that names `obs_mode` is given "state", "rgb" of a policy with images, "state+rgb" of one
    that sees vectors besides them that are not the state; and one that names `image_size` the side of the
    bundle's images, where all are squares of one size. `options` of its constructor go before both.

    Raises:
        ArgumentError: there is no such module or environment, it does not take the options, or it fails.
    """
    import gymnasium

    spec, kwargs = env_plan(env_id, manifest, options)
    with fault_of_env("constructor"):
        return gymnasium.make(replace(spec, kwargs=kwargs), max_episode_steps, disable_env_checker=True)


def env_plan(
    env_id: str, manifest: dict[str, Any], options: Mapping[str, Any] | None = None
) -> tuple[Any, dict[str, Any]]:
    """What `make_env` would make, without making it: the registered spec, and the constructor's arguments.

    Raises:
        ArgumentError: there is no such module or environment, or it does not take the options.
    """
    import gymnasium

    from keystep.suites import SUITES, suite_named

    for suite in SUITES:
        suite_named(suite).register()

    module, colon, name = env_id.rpartition(":")
    if colon:
        _import(module)
    else:
        _import_namespace(name)
    try:
        spec = gymnasium.spec(_with_version(name))
    except gymnasium.error.Error as error:
        raise keystep.ArgumentError(f"env: {error}") from error
    # Through the spec, as gymnasium.make has parameters of its own that a constructor may have, too.
    return spec, spec.kwargs | _checked(spec, _shown(spec, manifest) | dict(options or {}))


def _import(module: str) -> None:
    """The module that registers the environment; the current folder is looked in, too."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    _imported(module, "a module that can be imported before ':'")


def _import_namespace(name: str) -> None:
    """The package of an id `NAMESPACE/..` that nobody has registered yet, where one has that name."""
    from gymnasium.envs import registration

    namespace, slash, _ = name.partition("/")
    known = {spec.namespace for spec in registration.registry.values()}
    if slash and namespace.isidentifier() and namespace not in known and _is_there(namespace):
        _imported(namespace, f"a package that can be imported for {name}")


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # of a module that was not imported from anywhere, such as __main__
        return False


def _imported(module: str, expected: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise keystep.ArgumentError(f"env: expected {expected}, got {module!r} ({reason})") from error


def _with_version(name: str) -> str:
    """As registered: the newest version of an id that has none."""
    from gymnasium.envs import registration

    if name in registration.registry:
        return name
    namespace, base, version = registration.parse_env_id(name)
    newest = registration.find_highest_version(namespace, base) if version is None else None
    return name if newest is None else registration.get_env_id(namespace, base, newest)


def _signature(spec: Any) -> inspect.Signature | None:
    """Of the constructor; None when it cannot be told, and gymnasium.make will say why."""
    import gymnasium

    try:
        maker = spec.entry_point
        return inspect.signature(
            gymnasium.envs.registration.load_env_creator(maker) if isinstance(maker, str) else maker
        )
    except Exception:  # of the module that it is in, too
        return None


def _shown(spec: Any, manifest: dict[str, Any]) -> dict[str, Any]:
    """What its constructor is told of the observations, if it names these parameters."""
    features = features_of(manifest["observation"])
    images = [feature for feature in features if feature.is_image]
    # The state itself comes with the images; what else there is of vectors only with the mode of its own.
    more = any(not feature.is_image and feature.key != STATE for feature in features)
    mode = ("state+rgb" if more else "rgb") if images else "state"
    wanted: dict[str, Any] = {"obs_mode": mode}
    sides = {side for image in images for side in image.shape[:2]}
    if len(sides) == 1:
        wanted["image_size"] = sides.pop()
    signature = _signature(spec)
    named = set(signature.parameters) - set(spec.kwargs) if signature else set()
    return {key: value for key, value in wanted.items() if key in named}


def _checked(spec: Any, options: dict[str, Any]) -> dict[str, Any]:
    """`options`, if the constructor takes them."""
    signature = _signature(spec)
    if signature is None:
        return options
    try:
        signature.bind(**(spec.kwargs | options))
    except TypeError as error:
        expected = ", ".join(signature.parameters) or "none"
        hint = "; --max-episode-steps limits an episode" if "max_episode_steps" in str(error) else ""
        raise keystep.ArgumentError(
            f"env_kwargs: expected parameters of {spec.id} ({expected}), {error}{hint}"
        ) from error
    return options


def step_limit(env: Any) -> int | None:
    """Steps after which an episode ends: of TimeLimit, or of the environment itself; None if it says none."""
    own = env.get_wrapper_attr("max_episode_steps") if env.has_wrapper_attr("max_episode_steps") else None
    limits = [own, env.spec.max_episode_steps if env.spec is not None else None]
    return min((int(limit) for limit in limits if limit is not None), default=None)


def check_action_space(env: Any, manifest: dict[str, Any]) -> None:
    """ArgumentError when the environment does not take the policy's actions."""
    import gymnasium

    size = len(manifest["action"]["names"])
    try:
        space = env.action_space
    except AttributeError as error:
        raise keystep.ArgumentError(f"env: expected an action space, got none: {error}") from error
    if not isinstance(space, gymnasium.spaces.Box) or space.shape != (size,):
        raise keystep.ArgumentError(f"env: expected actions of the policy's shape ({size},), got {space}")
    if space.dtype is None or space.dtype.kind != "f":
        raise keystep.ArgumentError(f"env: expected actions that are float, got {space}")


def solved(info: Mapping[str, Any], terminated: object, key: str | None) -> bool | None:
    """Whether this step solves the task; None when `info` does not say.

    Args:
        key: of `info`, or `TERMINATED`; None: the first of `SUCCESS_KEYS` that is there.

    Raises:
        ArgumentError: what is there is neither true nor false.
    """
    if key == TERMINATED:
        return true_or_false("terminated", terminated)
    for name in SUCCESS_KEYS if key is None else (key,):
        if name in info:
            return true_or_false(f"info[{name!r}]", info[name])
    return None


def measured(info: Mapping[str, Any], key: str) -> float:
    """The number `info[key]`. Raises ArgumentError where there is none."""
    if key not in info:
        told = ", ".join(map(repr, info)) or "an empty info"
        raise keystep.ArgumentError(f"measure: expected {key!r} in info, got {told}")
    return finite_number(f"info[{key!r}]", info[key])


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
        self._features = {feature.key: feature for feature in features_of(manifest["observation"])}
        cameras = [key for key, feature in self._features.items() if feature.kind == "rgb"]
        self._names: dict[str, tuple[str, ...]] = {}
        for key, feature in self._features.items():
            camera = feature.name.removeprefix("images.")
            alone = ("observation.image", "pixels", "image") if cameras == [key] else ()
            pixels = (f"pixels.{camera}", camera, *alone) if key in cameras else ()
            self._names[key] = STATE_NAMES if key == STATE else (key, feature.name, *pixels)

    def __call__(self, observation: Any) -> dict[str, np.ndarray]:
        if not isinstance(observation, Mapping):
            key = self._only(observation)
            return {key: _array(self._features[key], observation)}
        flat = dict(_flat(observation))
        return {
            key: _array(self._features[key], flat[self._found(names, flat)])
            for key, names in self._names.items()
        }

    def _found(self, names: tuple[str, ...], flat: Mapping[str, Any]) -> str:
        for name in names:
            if name in flat:
                return name
        keys = ", ".join(flat) or "an empty dict"
        raise keystep.ArgumentError(f"{names[0]}: expected one of {', '.join(names)}, got {keys}")

    def _only(self, observation: Any) -> str:
        """The key of an observation that is no dict."""
        if len(self._names) != 1:
            wanted, array = ", ".join(self._names), as_array(observation)
            got = described(observation)
            if array is not None and array.dtype.kind != "O":
                got = f"one array of shape {array.shape}"
            raise keystep.ArgumentError(f"observation: expected a dict with {wanted}, got {got}")
        return next(iter(self._names))


def _flat(observation: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested dicts as pairs of a dotted name and an array."""
    pairs: list[tuple[str, Any]] = []
    for key, value in observation.items():
        name = f"{prefix}{key}"
        pairs += _flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return pairs


def _array(feature: Feature, value: Any) -> np.ndarray:
    """C-contiguous: floats as float32, whatever numbers they come from; an RGB image as it is, uint8."""
    image, key = feature.dtype == "uint8", feature.key
    array = as_array(value)
    if array is None or not (array.dtype == np.uint8 if image else array.dtype.kind in "biuf"):
        expected = "an array of uint8" if image else "an array of numbers"
        raise keystep.ArgumentError(f"{key}: expected {expected}, got {described(value)}")
    with np.errstate(over="ignore"):  # the runtime refuses what is not finite
        return np.ascontiguousarray(array, None if image else np.float32)
