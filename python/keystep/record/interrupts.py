"""Ctrl-C as a request: long jobs finish the step they are in, write what they have and stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Interrupts:
    """Context manager under which the first SIGINT or SIGTERM sets `requested`; the next one acts as usual.

    Within another one both are asked at once. Outside the main thread, where Python handles no signals, it
    does nothing.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.getsignal(number) for number in self.SIGNALS}
            self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._restore()

    def listen(self) -> None:
        """Once more, after a library has put handlers of its own in place: `ray.init` does."""
        for number in self._previous:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        around = self._previous.get(number)
        self._restore()
        outer = getattr(around, "__self__", None)
        if isinstance(outer, Interrupts):  # one Ctrl-C is one request, however deep it is met
            outer._handle(number, frame)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler or signal.SIG_DFL)  # type: ignore[arg-type]
        self._previous = {}
