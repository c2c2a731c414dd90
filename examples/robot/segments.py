"""The shared memory between world.py and a robot's program: what is in it. Twin of segments.hpp.

NAME-state    the world writes, once a control period: how the episode stands, the bundle's vectors
NAME-camera   the world writes, likewise: the bundle's images, where it has some
NAME-command  the arm thread writes, 100 times a second: an action and its number
"""

from __future__ import annotations

import time
from typing import Any

import keystep
from keystep.features import features_of

Fields = list[tuple[str, str, tuple[int, ...]]]

QUIET_S = 0.1
"""Who writes nothing for so long is asked for."""

PROGRESS: Fields = [("step", "int64", (1,)), ("executed", "int64", (1,)), ("success", "int64", (1,))]
"""Control periods since the start, the number of the last action that was executed, whether it is solved."""


def state_fields(manifest: dict[str, Any]) -> Fields:
    """Of NAME-state."""
    vectors = [one for one in features_of(manifest["observation"]) if not one.is_image]
    return PROGRESS + [(one.key, one.dtype, tuple(one.shape)) for one in vectors]


def camera_fields(manifest: dict[str, Any]) -> Fields:
    """Of NAME-camera; none: the bundle sees no images."""
    images = [one for one in features_of(manifest["observation"]) if one.is_image]
    return [(one.key, one.dtype, tuple(one.shape)) for one in images]


def command_fields(manifest: dict[str, Any]) -> Fields:
    """Of NAME-command."""
    return [("number", "int64", (1,)), *keystep.action_fields(manifest)]


def connect(name: str, fields: Fields, wait_s: float) -> keystep.SharedArrays:
    """Open what the world makes, within `wait_s`. Raises keystep.Error: there is none, or it differs."""
    try:
        arrays = keystep.SharedArrays.open(name, wait_s)
    except keystep.ArgumentError:
        raise
    except keystep.Error as error:
        raise keystep.Error(f"{error}, within {wait_s:g} s. Does world.py run, with this --name?") from error
    if arrays.fields != fields:
        raise keystep.Error(
            f"shared memory {name}: expected {_shown(fields)}, got {_shown(arrays.fields)}. Is the world's "
            "bundle another one?"
        )
    return arrays


def first_record(arrays: keystep.SharedArrays, wait_s: float, patience_s: float) -> keystep.Record:
    """One that is not older than `patience_s`, within `wait_s`. Raises keystep.Error."""
    end = time.monotonic() + wait_s
    while True:
        record = arrays.newest()
        if record is not None and age_s(record) <= patience_s and arrays.has_writer:
            return record
        if time.monotonic() >= end:
            got = "none" if record is None else f"one of {age_s(record):.1f} s ago"
            raise keystep.Error(
                f"shared memory {arrays.name}: expected a record, got {got}. Is the world gone?"
            )
        time.sleep(0.01)


def check_writer(arrays: keystep.SharedArrays, record: keystep.Record, patience_s: float, who: str) -> None:
    """The watchdog of who writes these, and has vanished or hangs. Raises keystep.Error."""
    age = age_s(record)
    gone = age > QUIET_S and not arrays.has_writer  # before `ended`, which one that ends says first
    if arrays.ended:
        return
    if gone:
        raise keystep.Error(f"shared memory {arrays.name}: expected {who}, got none: its process is gone")
    if age > patience_s:
        raise keystep.Error(
            f"shared memory {arrays.name}: expected a record within {patience_s:g} s, "
            f"got none for {age:.1f} s: {who} hangs"
        )


def age_s(record: keystep.Record) -> float:
    """How long ago it was taken."""
    return (keystep.now_us() - record.timestamp_us) / 1e6


def _shown(fields: Fields) -> str:
    return ", ".join(f"{name} {dtype} ({','.join(map(str, shape))})" for name, dtype, shape in fields)
