"""What a training run says: a bar on a terminal, a line per row of the curves elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import TextColumn

from keystep.bars import progress_bar
from keystep.train.curves import Row


class Reporter:
    """Context manager around the loop. Writes to standard error.

    Args:
        steps: in total.
        done: already, when resuming.
        quiet: says nothing; for all processes but the first.
        notes: lines to begin with.
    """

    def __init__(self, steps: int, done: int, quiet: bool = False, notes: Sequence[str] = ()) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._notes = notes
        self._steps, self._done, self._started = steps, done, time.perf_counter()
        self._progress = progress_bar(TextColumn("{task.fields[figures]}"), console=self._console)
        self._bar = self._progress.add_task("training", total=steps, completed=done, figures="")

    def __enter__(self) -> Reporter:
        if self._notes and not self._console.quiet:
            print(*self._notes, sep="\n", file=self._console.file, flush=True)
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, step: int) -> None:
        self._progress.update(self._bar, completed=step)

    def log(self, row: Row) -> None:
        validation = "" if row.val_loss is None else f"  val {row.val_loss:.4f}"
        figures = f"loss {row.train_loss:.4f}{validation}"
        if self._console.quiet:
            return
        if self._console.is_terminal:
            self._progress.update(self._bar, figures=figures)
            return
        rate = (row.step - self._done) / (time.perf_counter() - self._started)
        print(
            f"step {row.step}/{self._steps}  {figures}  lr {row.learning_rate:.2e}  "
            f"grad {row.gradient_norm:.2f}  {rate:.1f} steps/s",
            file=self._console.file,
            flush=True,
        )
