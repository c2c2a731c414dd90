"""How much of it a client may have."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields

import keystep


@dataclass(frozen=True)
class Limits:
    """See docs/serving.md.

    Raises:
        ArgumentError: out of range.
    """

    clients: int = 32
    """Sessions at a time; one more is told 503."""
    workers: int = 0
    """Chunks that are made at a time; the others wait, one for each client at most. 0: one per core."""
    message_bytes: int = 16 << 20
    """Of a request; a longer one ends its connection with code 1009, before it is read."""
    rate_hz: float = 0.0
    """Requests a second of a client, whose next ones wait. 0: as fast as they come."""
    handshake_s: float = 10.0
    """Until a connection has said what it wants."""
    message_s: float = 30.0
    """From the first byte of a request to its last."""
    send_s: float = 10.0
    """Until a reply is taken; a client that stops reading is dropped then."""
    grace_s: float = 10.0
    """For what runs when the server is stopped."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least: float = 0 if field.name in ("workers", "rate_hz", "grace_s") else 0.001
            least = 1 if field.name in ("clients", "message_bytes") else least
            if not (math.isfinite(value) and value >= least):
                raise keystep.ArgumentError(f"{field.name}: expected {least} or more, got {value}")

    @property
    def turns(self) -> int:
        """Workers, as many as there are."""
        return self.workers or len(os.sched_getaffinity(0))
