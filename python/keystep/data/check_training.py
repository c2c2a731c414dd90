"""What can be read and is refused by training."""

from __future__ import annotations

from collections.abc import Iterator

from keystep.data import layout
from keystep.data.layout import DatasetError, quoted
from keystep.data.reader import DatasetReader

ACTION, STATE = "action", "observation.state"
REFUSES = "training will refuse it"


def training_findings(reader: DatasetReader) -> Iterator[str]:
    """Whatever network is trained, unless the line tells what it is about.

    Raises:
        DatasetError: the instructions cannot be read.
    """
    vectors = [ACTION, *([STATE] if STATE in reader.features else [])]
    for need in (lambda: reader.cameras, *(lambda key=key: reader.vector(key) for key in vectors)):
        try:
            need()
        except DatasetError as error:
            yield f"{str(error).removeprefix(f'{reader.path}: ')}; {REFUSES}"
    if STATE not in reader.features and not any(key.startswith("observation.") for key in reader.image_keys):
        yield f"features: expected {STATE} or {layout.IMAGES}NAME, found neither; {REFUSES}"
    for number, task in enumerate(reader.tasks):
        for key, text in task.items():
            yield from _text_findings(f"tasks.parquet: task {number}: {key}", text)


def _text_findings(where: str, text: str) -> Iterator[str]:
    mend = "give it another text, or train a controller with --condition none or goal"
    if not text or "\0" in text:
        yield f"{where}: expected text without NUL, got {quoted(text)}; {REFUSES}: {mend}"
    elif not text.strip():
        yield f"{where}: expected words, got {quoted(text)}; training a planner will refuse it: {mend}"
