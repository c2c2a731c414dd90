"""Slices of a run of `benchmarks.periods` that is not finished, so that it can go on."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
