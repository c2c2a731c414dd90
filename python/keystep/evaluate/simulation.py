"""Calls of an environment that others wrote: what it raises or returns wrongly becomes one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

import keystep


@contextmanager
def fault_of_env(call: str) -> Iterator[None]:
    """ArgumentError that names the environment's `call` for what it raises; keystep's own errors stay."""
    try:
        yield
    except (keystep.Error, ImportError):
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise keystep.ArgumentError(f"env: expected a {call} that works, got {what}") from error


def reset_env(env: Any, seed: int, options: dict[str, Any] | None) -> tuple[Any, Mapping[str, Any]]:
    """The first observation and its info. Raises ArgumentError."""
    with fault_of_env("reset"):
        returned = env.reset(seed=seed, options=options)
    return _first_observation("reset", returned)


def set_env_task(env: Any, task: str) -> tuple[Any, Mapping[str, Any]]:
    """Observation and info after a new task without a reset. Raises ArgumentError."""
    with fault_of_env("set_task"):
        returned = env.get_wrapper_attr("set_task")(task)
    _restart_limits(env)
    return _first_observation("set_task", returned)


def _restart_limits(env: Any) -> None:
    """A limit is of one task: TimeLimit counts on from the reset, as `set_task` goes around it."""
    from gymnasium import Wrapper
    from gymnasium.wrappers import TimeLimit

    while isinstance(env, Wrapper):
        if isinstance(env, TimeLimit):
            env._elapsed_steps = 0  # type: ignore[assignment]
        env = env.env


def step_env(env: Any, action: np.ndarray) -> tuple[Any, bool, bool, Mapping[str, Any]]:
    """Observation, terminated, truncated and info after `action`. Raises ArgumentError."""
    with fault_of_env("step"):
        returned = env.step(action)
    if not isinstance(returned, tuple) or len(returned) != 5:
        raise _wrong("step", "(observation, reward, terminated, truncated, info)", returned)
    observation, _, terminated, truncated, info = returned
    return (
        observation,
        true_or_false("terminated", terminated),
        true_or_false("truncated", truncated),
        _info("step", info),
    )


def sendable(action: np.ndarray) -> np.ndarray:
    """`action`, if a robot may have it: a policy that has nothing to give gives NaN.

    Raises:
        PolicyError: it may not; the status is `rejected_chunk`.
    """
    finite = np.isfinite(action)
    if finite.all():
        return action
    number = int(np.argmin(finite))
    error = keystep.PolicyError(f"action[{number}]: expected a finite number, got {action[number]}")
    error.status = "rejected_chunk"
    raise error


def close_env(env: Any) -> None:
    """Raises ArgumentError."""
    with fault_of_env("close"):
        env.close()


def true_or_false(name: str, value: Any) -> bool:
    """A bool, or one number that is 0 or 1, in an array or not; ArgumentError for anything else."""
    array = as_array(value)
    if array is None or array.size != 1 or array.dtype.kind not in "biuf" or array.item() not in (0, 1):
        raise keystep.ArgumentError(f"{name}: expected true or false, got {_short(value)}")
    return bool(array.item())


def finite_number(name: str, value: Any) -> float:
    """A number, in an array of one or not; ArgumentError for anything else."""
    array = as_array(value)
    if array is None or array.size != 1 or array.dtype.kind not in "biuf" or not np.isfinite(array.item()):
        raise keystep.ArgumentError(f"{name}: expected a finite number, got {_short(value)}")
    return float(array.item())


def as_array(value: Any) -> np.ndarray | None:
    """None when it is none, such as ragged lists, or a tensor on a device."""
    try:
        return np.asarray(value)
    except Exception:  # of whatever library the value is
        return None


def described(value: Any) -> str:
    """What a value is, in a few words."""
    array = as_array(value)
    kind = type(value).__name__
    if array is None:
        return f"{kind} that is no array: {_short(value)}"
    return f"{kind} of {array.dtype}, shape {array.shape}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _first_observation(call: str, returned: Any) -> tuple[Any, Mapping[str, Any]]:
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise _wrong(call, "(observation, info)", returned)
    return returned[0], _info(call, returned[1])


def _info(call: str, info: Any) -> Mapping[str, Any]:
    """A missing info is an empty one."""
    if info is None:
        return {}
    if not isinstance(info, Mapping):
        raise _wrong(call, "an info that is a dict", info)
    return info


def _wrong(call: str, expected: str, got: Any) -> keystep.ArgumentError:
    kind = f"{len(got)} values" if isinstance(got, tuple) else type(got).__name__
    return keystep.ArgumentError(f"env: expected {call} to return {expected}, got {kind}")
