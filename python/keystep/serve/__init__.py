"""`keystep serve`: a policy for robots elsewhere, over openpi's websocket protocol (docs/serving.md)."""

from typing import TYPE_CHECKING

from keystep.lazy import lazy_names

if TYPE_CHECKING:
    from keystep.serve.limits import Limits
    from keystep.serve.server import Server
else:
    __getattr__, __dir__ = lazy_names(__name__, {"Limits": "limits", "Server": "server"})

__all__ = ["Limits", "Server"]
