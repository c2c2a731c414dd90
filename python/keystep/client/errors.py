"""What can go wrong between a robot and a server."""

from __future__ import annotations


class ServerError(RuntimeError):
    """The server refused a request, or could not answer it; the message is its own. The connection stays."""


class ConnectionLost(ConnectionError):
    """The server is gone, or was never there: refused, closed, or too late. The next request connects anew.

    The server's side of the episode, its plan and its noise, is lost with the connection.
    """


class Refused(ConnectionLost):
    """The server does not want this client, and will not next time: a wrong key, a wrong address."""


class Unsent(ConnectionLost):
    """The request was not sent, or not again: the connection had to be made anew, and what it saw is old."""
