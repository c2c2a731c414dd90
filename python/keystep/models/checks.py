"""Checks of configurations. Importing this module needs no torch."""

from __future__ import annotations

from typing import Any


class ConfigError(ValueError):
    """A configuration value is outside what the model accepts: "field: expected X, got Y"."""


def require(condition: bool, field_name: str, expected: str, got: object) -> None:
    if not condition:
        raise ConfigError(f"{field_name}: expected {expected}, got {got!r}")


_PLAIN: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "str": str}


def check_type(field_name: str, kind: str, value: Any) -> None:
    """A value from JSON against the annotation of its field."""
    inner = kind.removeprefix("tuple[").removesuffix(", ...]")
    if kind != inner:
        require(isinstance(value, list | tuple), field_name, "an array", value)
        for number, entry in enumerate(value):
            check_type(f"{field_name}[{number}]", inner, entry)
    elif kind.startswith("dict["):
        require(isinstance(value, dict), field_name, "an object", value)
    elif kind in _PLAIN:
        fits = isinstance(value, _PLAIN[kind]) and isinstance(value, bool) == (kind == "bool")
        require(fits, field_name, f"a value of type {kind}", value)


def check_chunk(config: Any) -> None:
    """What DiffusionConfig and ActConfig have in common."""
    require(config.action_dim > 0, "policy.action_dim", "a positive integer", config.action_dim)
    require(config.horizon > 0, "policy.horizon", "a positive integer", config.horizon)
    require(0 < config.execute <= config.horizon, "policy.execute", f"1..{config.horizon}", config.execute)
    latest = config.horizon - config.execute
    fits = 0 <= config.chunk_start <= latest
    wanted = f"0..{latest} (horizon {config.horizon} - execute {config.execute})"
    require(fits, "policy.chunk_start", wanted, config.chunk_start)
    require(config.goal in ("none", "observation"), "policy.goal", "none or observation", config.goal)
    require(config.tasks >= 0, "policy.tasks", ">= 0", config.tasks)


def check_levels(
    where: str, down_dims: tuple[int, ...], groups: int, kernel_size: int, step_dim: int, length: int
) -> None:
    """Of a 1-D U-Net over `length` rows."""
    require(len(down_dims) > 0, f"{where}.down_dims", "at least one level", down_dims)
    stride = 2 ** (len(down_dims) - 1)
    name = "horizon" if where == "policy" else "subgoals"
    levels = f"a multiple of {stride} ({len(down_dims)} levels)"
    require(length > 0 and length % stride == 0, f"{where}.{name}", levels, length)
    require(kernel_size in (3, 5), f"{where}.kernel_size", "3 or 5", kernel_size)
    require(groups > 0, f"{where}.groups", "a positive integer", groups)
    fits = all(width > 0 and width % groups == 0 for width in down_dims)
    require(fits, f"{where}.down_dims", f"multiples of {groups}", down_dims)
    require(step_dim >= 4 and step_dim % 2 == 0, f"{where}.step_dim", "an even number >= 4", step_dim)


def check_condition(config: Any) -> None:
    """Guidance of a DiffusionConfig."""
    dropout = config.condition_dropout
    require(0.0 <= dropout < 1.0, "policy.condition_dropout", "0 <= p < 1", dropout)
    told = config.tasks > 0 or config.goal == "observation"
    require(not dropout or told, "policy.condition_dropout", "0 for a policy without task or goal", dropout)
