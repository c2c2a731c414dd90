"""`keystep serve`: a policy for robots elsewhere, over openpi's websocket protocol (docs/serving.md)."""

from keystep.lazy import lazy_names

__all__ = ["Limits", "Server"]
__getattr__, __dir__ = lazy_names(__name__, {"Limits": "limits", "Server": "server"})
