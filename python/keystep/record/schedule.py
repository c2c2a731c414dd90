"""Whose turn it is: which contexts are tried, in an order that no number of processes changes.

The n-th contexts of all streams come before the (n+1)-th ones; a stream is left out once it has enough.
Results are consumed in this order, so what is kept depends on the results alone. Workers run ahead: a context
that was begun before its stream had enough is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from keystep import files
from keystep.data.errors import DatasetError
from keystep.record.contexts import KINDS, Contexts, StartContext
from keystep.record.player import ContextResult
from keystep.record.rollout_settings import RolloutSettings, StreamCount

PROGRESS_PATH = "meta/keystep_rollouts.json"
FORMAT, VERSION = "keystep-rollouts", 1
_COUNTED = ("contexts", "left_out", "trials", "successes")


class RolloutSchedule:
    """The streams of a collection.

    Attributes:
        counts: of the streams, in the order of their turns.
    """

    def __init__(self, contexts: Contexts, tasks: Sequence[str], settings: RolloutSettings) -> None:
        self._contexts = contexts
        self.counts = []
        for kind in KINDS:
            for task in tasks:
                available = contexts.available(task, kind, settings.max_contexts)
                wanted = settings.wanted(kind) if kind == "reset" or available else 0
                self.counts.append(StreamCount(task, kind, wanted, available))
        self._streams = {(count.task, count.kind): count for count in self.counts}

    @property
    def done(self) -> bool:
        """All streams have enough, or were given up."""
        return all(count.done for count in self.counts)

    def jobs(self) -> Iterator[tuple[StartContext]]:
        """The contexts after those that were consumed. What is consumed meanwhile is taken into account."""
        ahead = [count.contexts for count in self.counts]
        while True:
            open_streams = [
                (ahead[place], place)
                for place, count in enumerate(self.counts)
                if not count.done and ahead[place] < count.available
            ]
            if not open_streams:
                return
            number, place = min(open_streams)
            ahead[place] += 1
            yield (self._contexts.context(self.counts[place].task, self.counts[place].kind, number),)

    def consume(self, context: StartContext, result: ContextResult) -> bool:
        """Count a result, in the order of `jobs`; False if its stream had enough before."""
        count = self._streams[context.task, context.kind]
        if count.done:
            return False
        assert count.contexts == context.number
        count.contexts += 1
        count.left_out += result.solved_at_start
        count.trials += len(result.attempts)
        count.successes += result.frames is not None
        return True

    # ---- across runs

    def save(self, output: Path) -> None:
        """Keep the counts beside the dataset, atomically. Raises DatasetError when that fails."""
        counts = [
            {"task": count.task, "kind": count.kind, **{name: getattr(count, name) for name in _COUNTED}}
            for count in self.counts
        ]
        try:
            files.write_json(output / PROGRESS_PATH, {"format": FORMAT, "version": VERSION, "counts": counts})
        except OSError as error:
            raise DatasetError(f"{output}: could not write {PROGRESS_PATH}: {error}") from error

    def load(self, output: Path, keys: Iterable[tuple[str, str, int]]) -> None:
        """Go on where a run has stopped.

        Where the counts are missing or ahead of the dataset, all contexts are tried again: results are the
        same, so nothing is written twice.

        Args:
            keys: of the contexts whose episodes the dataset has.
        """
        kept = _read(output / PROGRESS_PATH)
        if kept is None or [(row["task"], row["kind"]) for row in kept] != list(self._streams):
            return
        found = Counter(
            key[:2] for key in keys if key[:2] in self._streams and key[2] < _contexts(kept, key[:2])
        )
        if all(found[row["task"], row["kind"]] == row["successes"] for row in kept):
            for row in kept:
                for name in _COUNTED:
                    setattr(self._streams[row["task"], row["kind"]], name, row[name])


def _contexts(kept: Sequence[dict[str, Any]], stream: tuple[str, ...]) -> int:
    return next(row["contexts"] for row in kept if (row["task"], row["kind"]) == stream)


def _read(path: Path) -> list[dict[str, Any]] | None:
    """The counts in the file; None when it is missing, damaged, or of another version."""
    try:
        found = files.parse_json(path.read_bytes())
        fits = (found["format"], found["version"]) == (FORMAT, VERSION)
        rows = [
            {"task": row["task"], "kind": row["kind"], **{name: int(row[name]) for name in _COUNTED}}
            for row in found["counts"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return rows if fits else None
