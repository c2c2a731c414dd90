"""Arguments from Python as the C++ core takes them."""

from __future__ import annotations

from typing import Any

from keystep import _core


def engine_options(**values: Any) -> _core.EngineOptions:
    """The fields of these names; None leaves the default."""
    options = _core.EngineOptions()
    for name, value in values.items():
        if value is not None:
            setattr(options, name, value)
    return options


def utf8(task: object) -> str:
    """`task`, if it is a text that bytes can hold: a Python string may hold halves of surrogate pairs."""
    if not isinstance(task, str):
        raise _core.ArgumentError(f"task: expected a str or None, got {type(task).__name__}")
    try:
        task.encode()
    except UnicodeEncodeError as error:
        raise _core.ArgumentError(f"task: expected UTF-8, got {task!r} ({error.reason})") from None
    return task
