"""Who is let in: HTTP before it is a websocket."""

from __future__ import annotations

import functools
import hmac
from collections.abc import Callable

from websockets.http11 import Request

from keystep.serve.connection import Connection

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Door:
    """Args:
    key: that clients must give, and who reads the metrics; None: none.
    admit: makes a session; says why not.
    metrics: their text.
    """

    def __init__(
        self, key: str | None, admit: Callable[[Connection], str | None], metrics: Callable[[], str]
    ) -> None:
        self._key, self._admit, self._metrics = key, admit, metrics

    def let_in(self, connection: Connection) -> bool:
        """Whether it is a client now. Else it was answered.

        Raises:
            Gone: it said nothing.
        """
        request = connection.request()
        if request is None:
            return False
        path = request.path.partition("?")[0]
        if path == "/healthz":
            connection.respond(200, "OK\n")
        elif not self._has_key(request):
            connection.refuse(401, "key: expected the server's as 'Authorization: Api-Key ..', got another\n")
        elif path == "/metrics":
            connection.respond(200, self._metrics(), PROMETHEUS)
        elif path != "/":
            connection.refuse(404, "path: expected /, /healthz or /metrics, got another\n")
        elif "websocket" not in ",".join(request.headers.get_all("Upgrade")).lower():
            connection.refuse(426, "request: expected a websocket, got plain HTTP\n")
        else:
            return connection.accept(request, functools.partial(self._admit, connection))
        return False

    def _has_key(self, request: Request) -> bool:
        if self._key is None:
            return True
        given = request.headers.get_all("Authorization")
        wanted = f"Api-Key {self._key}".encode()
        return len(given) == 1 and hmac.compare_digest(given[0].encode(errors="replace"), wanted)
