"""A run of `benchmarks.periods` in pieces: slices, so that it can go on, and results put together."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keystep
from benchmarks.machine import describe_run
from benchmarks.periods_slices import LOOPS
from keystep.files import parse_json, write_json


class Store:
    """A folder of its own for all slices that belong together; each is a file, whole or not there.

    Args:
        identity: JSON values; slices of other settings are elsewhere.
    """

    def __init__(self, folder: Path, identity: Sequence[Any]) -> None:
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self._folder = folder / digest[:12]

    def has(self, loop: str, turn: int) -> bool:
        return self._file(loop, turn).is_file()

    def put(self, loop: str, turn: int, measured: dict[str, Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._file(loop, turn), measured)

    def slices(self, loop: str, turns: int) -> list[dict[str, Any]]:
        """Those of the first `turns` that are there, in their order."""
        return [parse_json(self._file(loop, n).read_bytes()) for n in range(turns) if self.has(loop, n)]

    def clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, loop: str, turn: int) -> Path:
        return self._folder / f"{loop.replace(' ', '-')}-{turn}.json"


def kept_results(output: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Policies of the results in `output`; none where there is no such file.

    Raises:
        ArgumentError: they were measured otherwise, or on another machine.
    """
    if not output.is_file():
        return {}
    try:
        there = parse_json(output.read_bytes())
        found = {name: there["settings"].get(name) for name in settings}
        machine = {name: there["machine"][name] for name in ("cpu", "cores")}
        policies: dict[str, Any] = there["policies"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise keystep.ArgumentError(f"append: expected results of periods in {output}, got {error}") from None
    here = {name: describe_run()[name] for name in machine}
    for name, value in {**settings, **here}.items():
        if (got := {**found, **machine}[name]) != value:
            raise keystep.ArgumentError(f"append: expected {output} with {name} {value}, got {got}")
    return policies


def check_bundles(kept: Mapping[str, Any], bundles: Mapping[str, str]) -> None:
    """ArgumentError where the kept results of a policy are of another bundle than its digest in `bundles`."""
    for name, digest in bundles.items():
        if name in kept and (got := kept[name].get("bundle_sha256")) != digest:
            raise keystep.ArgumentError(f"append: expected {name} of bundle {digest:.12}, got of {got!s:.12}")


def merged_results(kept: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """A policy's loops stand side by side, whenever they were measured; the newest of each."""
    merged = dict(kept)
    for name, policy in new.items():
        loops = {**merged.get(name, {"loops": {}})["loops"], **policy["loops"]}
        merged[name] = {**policy, "loops": {loop: loops[loop] for loop in LOOPS if loop in loops}}
    return merged
