"""What a server sent, looked at before a robot does it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import ServerError


def checked_reply(reply: dict[str, Any], rows: int, dim: int) -> ServerError | None:
    """ "reply.key: expected X, got Y" of what is no chunk of this policy, or not a finite one."""
    actions = reply.get("actions")
    if not isinstance(actions, np.ndarray):
        return ServerError(f"reply.actions: expected an array, got {type(actions).__name__}")
    if actions.dtype != np.float32 or actions.shape != (rows, dim):
        return ServerError(
            f"reply.actions: expected float32 {(rows, dim)}, got {actions.dtype} {actions.shape}"
        )
    if not np.isfinite(actions).all():
        return ServerError("reply.actions: expected finite numbers, got NaN or Inf")
    for name in ("start", "goal", "begins", "until"):
        value = reply.get(name)
        if not isinstance(value, int) and not (name == "until" and value is None):
            return ServerError(f"reply.{name}: expected a whole number, got {type(value).__name__}")
    return None
