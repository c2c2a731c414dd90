"""Check a dataset: what reading it would refuse, and where it leaves the LeRobotDataset v3.0 layout.

The reader itself decides what is a problem, frame by frame and image by image, so that the two agree. What
else the layout asks for (see `check_layout`) is a problem in datasets that keystep wrote, a remark in others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keystep.data import layout
from keystep.data.check_layout import (
    Ranges,
    layout_findings,
    leftovers,
    stats_findings,
    timestamp_findings,
)
from keystep.data.check_training import training_findings
from keystep.data.check_video import video_findings
from keystep.data.layout import DatasetError
from keystep.data.reader import DatasetReader

Progress = Callable[[int, int], object]
"""Called with the values (frames times columns) read so far, and all there are."""


@dataclass
class Findings:
    """What was found, a line each.

    Attributes:
        problems: reading refuses it, or keystep wrote it and would not have written this.
        remarks: read all the same, but not as the layout has it, or training will refuse it.
    """

    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def check_dataset(path: str | Path) -> list[str]:
    """The problems of the dataset at `path`; empty when keystep reads all of it. See `inspect_dataset`."""
    return inspect_dataset(path).problems


def inspect_dataset(path: str | Path, progress: Progress = lambda done, total: None) -> Findings:
    """Reads everything that the last commit of meta/info.json counts, images included."""
    findings, root = Findings(), Path(path)
    with _collecting(root, findings.problems):
        reader = DatasetReader(root)
        own = bool(reader.collection)
        reader.data_files()  # and with them all that says where the frames are
        reader.video_files()
    if findings.problems:
        return findings
    findings.remarks.extend(leftovers(reader))
    with _collecting(root, findings.problems):
        findings.remarks.extend(dict.fromkeys(training_findings(reader)))
    deviations = findings.problems if own else findings.remarks
    ranges = _read_columns(reader, findings.problems, progress)
    if not findings.problems:
        with _collecting(root, findings.problems):
            _ = reader.stats
            findings.remarks += stats_findings(reader, ranges)
        deviations.extend(timestamp_findings(reader))
        deviations.extend(video_findings(reader))
    with _collecting(root, deviations):
        deviations.extend(layout_findings(reader))
    return findings


def _read_columns(reader: DatasetReader, problems: list[str], progress: Progress) -> Ranges:
    """Every column alone, so that each names its first problem. Returns the ranges of numbers."""
    columns = [name for name in reader.features if name not in layout.INDEX_FEATURES]
    ranges: Ranges = {}
    done, total = 0, reader.frames * (1 + len(columns))
    for names in (list(layout.INDEX_FEATURES), *([name] for name in columns)):
        with _collecting(reader.path, problems):
            for batch in reader.iter_batches(names):
                done += len(batch[names[0]])
                progress(done, total)
                if len(names) == 1 and reader.features[names[0]].is_number:
                    _widen(ranges.setdefault(names[0], {}), batch[names[0]])
    return ranges


def _widen(known: dict[str, np.ndarray], values: np.ndarray) -> None:
    rows = values.reshape(len(values), -1)
    for name, extreme in (("min", np.min), ("max", np.max)):
        parts = [rows, *([known[name][None]] if name in known else [])]
        known[name] = extreme(np.concatenate(parts), axis=0)


@contextmanager
def _collecting(root: Path, problems: list[str]) -> Iterator[None]:
    """A DatasetError becomes a problem, unless it is known already."""
    try:
        yield
    except DatasetError as error:
        if (told := _told(root, error)) not in problems:
            problems.append(told)


def _told(root: Path, error: DatasetError) -> str:
    return " ".join(str(error).removeprefix(f"{root}/").removeprefix(f"{root}: ").split())


if __name__ == "__main__":  # the command of 0.4: without this it would succeed for every folder
    raise SystemExit("expected `keystep check DATASET`, got the command that it replaces")
