"""A bundle of the family `code`, asked for key-steps while an episode goes on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import keystep
from keystep.code.grammar import CodeError
from keystep.suites.tabletop.oracle.replies import Endless, Written


class BundlePlanner:
    """Writes what `keystep.CodeRuntime` writes, asked at every call of `write`.

    Args:
        bundle: folder.
        threads: inside an operator.

    Attributes:
        image_size: of the picture that it sees, in pixels; None: it sees objects.
        grid: in whose cells it says places.

    Raises:
        BundleError: it is damaged, or no planner that writes code.
    """

    def __init__(self, bundle: Path, threads: int = 1) -> None:
        manifest = keystep.read_manifest(bundle)
        if manifest["family"] != "code":
            raise keystep.BundleError(f"family: expected code, got {manifest['family']!r}")
        options: dict[str, Any] = {"threads": threads, "every": 1}
        self._planner: Any = keystep.load(bundle, **options)
        self._wanted = {entry["key"]: entry for entry in manifest["observation"]}
        picture = self._wanted[manifest["planner"]["sees"]]
        self.image_size: int | None = picture["shape"][0] if picture["kind"] == "rgb" else None
        self.grid: int = manifest["planner"]["grid"]

    def begin(self, task: str) -> None:
        """A new episode, its task in words. Raises CodeError where it cannot be told."""
        try:
            self._planner.reset(task)
        except (keystep.ArgumentError, keystep.PolicyError) as error:
            raise CodeError(1, 1, str(error)) from None

    def write(self, seen: Mapping[str, np.ndarray], request: bool = True) -> Written:
        """The next reply; see `replies.WritesCode`. A mean picture (H, W, 3) of floats is rounded.

        Raises:
            CodeError: it can write nothing: NaN, no room.
            Endless: it came to no end.
        """
        shown = {key: _given(seen[key], entry["dtype"]) for key, entry in self._wanted.items()}
        try:
            return self._planner.ask(shown, request=request)
        except keystep.PolicyError as error:
            raise self._problem(error) from None

    def _problem(self, error: keystep.PolicyError) -> CodeError:
        """As it is told of checkpoints; whoever asked says that it is of a reply."""
        told, events = str(error), self._planner.events()
        if told.startswith("reply: ") and events and events[-1].kind == "endless":
            return Endless(events[-1].text)
        return CodeError(1, 1, told.removeprefix("reply: "))

    def prepare(self) -> None:
        """Decodes the key-step that may be next; without it a reply takes longer, and says the same."""
        with suppress(keystep.PolicyError):
            self._planner.prepare()


def _given(value: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "uint8" and value.dtype != np.uint8:
        value = np.rint(value).clip(0, 255)
    return np.ascontiguousarray(value, dtype=dtype)
