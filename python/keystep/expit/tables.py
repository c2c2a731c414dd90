"""Settings from a TOML file into frozen dataclasses; every error names the key."""

from __future__ import annotations

import types
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import keystep

Settings = TypeVar("Settings")
Table = Mapping[str, Any]


def settings_of(
    kind: type[Settings], table: Any, where: str, folder: Path, fixed: Mapping[str, Any] | None = None
) -> Settings:
    """An instance of a dataclass.

    Args:
        table: values by the names of its fields; what is left out has the field's default.
        where: the table's key, for messages; empty for the file itself.
        folder: that relative paths are relative to.
        fixed: fields that a file may not give.

    Raises:
        ArgumentError: an unknown key, a missing one, or a value of another type: "key: expected .., got ..".
    """
    if not isinstance(table, Mapping):
        raise keystep.ArgumentError(f"{where}: expected a table, got {told(table)}")
    fixed = fixed or {}
    hints = typing.get_type_hints(kind)
    known = [field for field in fields(kind) if field.init and field.name not in fixed]  # type: ignore[arg-type]
    check_keys(table, [field.name for field in known], where)
    values = dict(fixed)
    for field in known:
        key = f"{where}.{field.name}" if where else field.name
        if field.name in table:
            values[field.name] = converted(hints[field.name], table[field.name], key, folder)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise keystep.ArgumentError(f"{key}: expected a value, got none")
    try:
        return kind(**values)
    except (ValueError, RuntimeError) as error:  # keystep.Error is one
        raise keystep.ArgumentError(f"{where}.{error}" if where else str(error)) from None


def check_keys(table: Table, known: Collection[str], where: str) -> None:
    """Raises ArgumentError for a key that is none of `known`."""
    for key in table:
        if key not in known:
            near = get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            place = f"{where}.{key}" if where else key
            raise keystep.ArgumentError(f"{place}: expected one of {', '.join(known)}, got {key!r}{hint}")


def converted(hint: Any, value: Any, key: str, folder: Path) -> Any:
    """`value` as the type that `hint` says. Raises ArgumentError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _one_of(arguments, value, key, folder)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool) != isinstance(arguments[0], bool):
            raise keystep.ArgumentError(f"{key}: expected one of {', '.join(arguments)}, got {value!r}")
        return value
    if origin is tuple:
        return _tuple(arguments, value, key, folder)
    if origin is Sequence:
        return _tuple((*arguments, Ellipsis), value, key, folder)
    if hint is Path and isinstance(value, str) and value:
        return Path(value) if Path(value).is_absolute() else folder / value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = Mapping if origin in (dict, Mapping, typing.get_origin(Mapping[str, Any])) else hint
    is_flag = isinstance(value, bool)
    if hint is Path or not isinstance(value, plain) or (is_flag and plain in (int, float)):
        raise keystep.ArgumentError(f"{key}: expected {_NAMES.get(plain, 'a value')}, got {told(value)}")
    return dict(value) if plain is Mapping else value


_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    Path: "a path",
    Mapping: "a table",
}


def _one_of(options: tuple[Any, ...], value: Any, key: str, folder: Path) -> Any:
    errors = []
    for option in options:
        if option is type(None):  # TOML has no such value: leaving the key out gives it
            continue
        try:
            return converted(option, value, key, folder)
        except keystep.ArgumentError as error:
            errors.append(error)
    raise errors[0]


def _tuple(arguments: tuple[Any, ...], value: Any, key: str, folder: Path) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise keystep.ArgumentError(f"{key}: expected a list, got {told(value)}")
    if arguments[-1] is Ellipsis:
        kinds = [arguments[0]] * len(value)
    elif len(value) == len(arguments):
        kinds = list(arguments)
    else:
        raise keystep.ArgumentError(f"{key}: expected {len(arguments)} values, got {len(value)}")
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple(converted(kind, part, f"{key}[{number}]", folder) for number, (kind, part) in pairs)


def told(value: Any) -> str:
    """A value in a message."""
    return f"{value!r:.80}"


def merged(base: Table, changes: Table) -> dict[str, Any]:
    """`base` with the values of `changes`, table by table."""
    found = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = merged(found[key], value) if nested else value
    return found
