"""What the functions of the API are given and give: actors, poses, numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keystep.code.language import API, Type
from keystep.code.outcome import OracleError


@dataclass(frozen=True)
class Pose:
    """Where something upright is: position (x, y, z) of its centre in metres, yaw in radians from above."""

    position: tuple[float, float, float]
    yaw: float = 0.0

    def __post_init__(self) -> None:
        if not np.isfinite([*self.position, self.yaw]).all():
            raise ValueError(f"pose: expected finite numbers, got {self.position} and yaw {self.yaw}")

    @property
    def array(self) -> np.ndarray:
        return np.array(self.position)


@dataclass(frozen=True)
class Actor:
    """An object in the scene.

    Attributes:
        body: its number in the scenario.
        name: what it is called.
        alike: other bodies of this name that the grid cannot tell apart from it.
    """

    body: int
    name: str
    alike: tuple[int, ...] = ()


_KINDS: dict[Type, type] = {Type.ACTOR: Actor, Type.POSE: Pose, Type.STRING: str, Type.BOOL: bool}


def check_arguments(function: str, arguments: Mapping[str, Any]) -> None:
    """Types of arguments by the table of the code language; OracleError names the one that is wrong."""
    for parameter in API[function].parameters:
        value = arguments.get(parameter.name)
        if value is None and not parameter.required:
            continue
        if not any(_is_a(value, kind) for kind in parameter.types):
            wanted = " or ".join(parameter.types)
            raise OracleError(f"{function}: {parameter.name}: expected {wanted}, got {value!r}")


def _is_a(value: Any, kind: Type) -> bool:
    if kind is Type.ACTORS:
        return isinstance(value, Sequence) and all(isinstance(item, Actor) for item in value)
    if kind is Type.POSITION:
        return isinstance(value, tuple) and len(value) == 2 and all(isinstance(item, int) for item in value)
    if kind is Type.NUMBER:
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        return number and bool(np.isfinite(value))
    return isinstance(value, _KINDS[kind])
