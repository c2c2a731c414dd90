"""One request at a time on a thread of its own, so that who asks never waits."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from .wire import pack


class Errand:
    """Args:
    request: takes a message to the server and brings its reply; it blocks, and may raise. Beside the message
        it is given what tells whether the reply is still wanted.
    """

    def __init__(self, request: Callable[[bytes, Callable[[], bool]], dict[str, Any]]) -> None:
        self._request = request
        self._changed = threading.Condition()
        self._message: bytes | None = None
        self._reply: dict[str, Any] | Exception | None = None
        self._number = 0  # of the newest message; replies to others are nobody's
        self._closed = False
        self._thread: threading.Thread | None = None

    def post(self, message: dict[str, Any]) -> None:
        """The newest message, in place of one that is not on its way yet. It may be changed afterwards."""
        data = pack(message)
        with self._changed:
            self._message, self._reply = data, None
            self._number += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="keystep client", daemon=True)
                self._thread.start()
            self._changed.notify()

    def collect(self) -> dict[str, Any] | Exception | None:
        """The reply to the newest message, once; None: not yet."""
        if self._reply is None:
            return None
        with self._changed:
            reply, self._reply = self._reply, None
            return reply

    def forget(self) -> None:
        """No reply is wanted any more."""
        with self._changed:
            self._message = self._reply = None
            self._number += 1

    def close(self, patience_s: float) -> None:
        """The thread ends after the request that it is at, which is waited for so long."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(patience_s)

    def _wants(self, number: int) -> bool:
        return number == self._number

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._message is not None)
                if self._closed:
                    return
                message, self._message = self._message, None
                number = self._number
            assert message is not None
            try:
                wanted = functools.partial(self._wants, number)
                reply: dict[str, Any] | Exception = self._request(message, wanted)
            except Exception as error:
                reply = error
            with self._changed:
                if number == self._number:
                    self._reply = reply
