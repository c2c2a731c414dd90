"""A robot's side of `keystep serve`: numpy and msgpack only.

    with keystep.Client("127.0.0.1", 8000) as client:
        client.reset(task="lift_red")
        action = client.act({"observation.state": state})  # never waits

The folder imports nothing else of keystep, so that it can be copied to a robot as it is.
"""

from .client import Client
from .errors import ConnectionLost, ServerError
from .loop import LoopCounts

__all__ = ["Client", "ConnectionLost", "LoopCounts", "ServerError"]
