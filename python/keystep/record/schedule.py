"""Whose turn it is: which contexts are tried, in an order that no number of processes changes.

The n-th contexts of all streams come before the (n+1)-th ones; a stream is left out once it has enough.
Results are consumed in this order, so what is kept depends on the results alone. Workers run ahead: a context
that was begun before its stream had enough is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keystep import files
from keystep.data.errors import DatasetError
from keystep.record.contexts import Contexts, StartContext
from keystep.record.player import ContextResult
from keystep.record.rollout_settings import KINDS, RolloutSettings, StreamCount

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
        self._streams: dict[tuple[str, str], StreamCount] = {
            (count.task, count.kind): count for count in self.counts
        }

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

    def save(self, output: Path, collection: Mapping[str, Any]) -> None:
        """Keep the counts beside the dataset, atomically.

        Args:
            collection: what the dataset is made of, JSON values.

        Raises:
            DatasetError: they cannot be written.
        """
        counts = [
            {"task": count.task, "kind": count.kind, **{name: getattr(count, name) for name in _COUNTED}}
            for count in self.counts
        ]
        told = {"format": FORMAT, "version": VERSION, "collection": dict(collection), "counts": counts}
        try:
            files.write_json(output / PROGRESS_PATH, told)
        except OSError as error:
            raise DatasetError(f"{output}: could not write {PROGRESS_PATH}: {error}") from error

    def load(self, output: Path, collection: Mapping[str, Any], keys: Iterable[tuple[str, str, int]]) -> None:
        """Go on where a run of the same collection has stopped.

        Where the counts are missing or ahead of the dataset, all contexts are tried again: results are the
        same, so nothing is written twice.

        Args:
            keys: of the contexts whose episodes the dataset has.
        """
        kept = _read(output / PROGRESS_PATH, collection)
        if kept is None or set(kept) != set(self._streams):
            return
        found = Counter(key[:2] for key in keys if key[:2] in kept and key[2] < kept[key[:2]]["contexts"])
        if all(found[stream] == row["successes"] for stream, row in kept.items()):
            for stream, row in kept.items():
                for name, value in row.items():
                    setattr(self._streams[stream], name, value)


def _read(path: Path, collection: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, int]] | None:
    """The counts in the file by stream; None when it is missing, damaged, or of something else."""
    try:
        found = files.parse_json(path.read_bytes())
        fits = (found["format"], found["version"]) == (FORMAT, VERSION)
        fits = fits and files.to_json(found["collection"]) == files.to_json(dict(collection))
        rows = {
            (row["task"], row["kind"]): {name: int(row[name]) for name in _COUNTED} for row in found["counts"]
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return rows if fits else None
