"""What can be read and is refused by training."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
    needs: list[Callable[[], object]] = [lambda: reader.cameras, lambda: reader.vector(ACTION)]
    if STATE in reader.features:
        needs.append(lambda: reader.vector(STATE))
    for need in needs:
        try:
            need()
        except DatasetError as error:
            yield f"{str(error).removeprefix(f'{reader.path}: ')}; {REFUSES}"
    if STATE not in reader.features and not any(key.startswith("observation.") for key in reader.image_keys):
        yield f"features: expected {STATE} or {layout.IMAGES}NAME, found neither; {_unseen(reader)}"
    for number, task in enumerate(reader.tasks):
        for text in dict.fromkeys(task.values()):  # without names the instruction is the name
            yield from _text_findings(f"tasks.parquet: task {number}", text)


def _unseen(reader: DatasetReader) -> str:
    """What becomes of data with neither state nor cameras: what else there is must be asked for."""
    columns = {key: column for key, column in reader.features.items() if key.startswith("observation.")}
    vectors = [key for key, column in columns.items() if column.is_number and len(column.shape) == 1]
    others = vectors + [key for key, column in columns.items() if column.is_depth]
    if not others:
        return REFUSES
    mend = f"give --also {others[0]}" + (f", a planner --subgoal {vectors[0]}" if vectors else "")
    return f"training will see only what it is told to: {mend}"


def _text_findings(where: str, text: str) -> Iterator[str]:
    mend = "give it another text, or train a controller with --condition none or goal"
    if not text or "\0" in text:
        yield f"{where}: expected text without NUL, got {quoted(text)}; {REFUSES}: {mend}"
    elif not text.strip():
        yield f"{where}: expected words, got {quoted(text)}; training a planner will refuse it: {mend}"
