"""`keystep serve` as a Ray Serve deployment: replicas on one machine or many, and a front that names one.

    python examples/fleet/fleet.py bundles/franka3blocks-state.keystep --replicas 2

A robot is `keystep.Client("http://HOST:8000/")`: at each connection it asks the front, and Ray's router
answers by a replica, whose own websocket it then keeps. Observations and actions never pass through Ray. A
replica that dies is started again by Ray; its robots ask the front once more, and go on with another.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro


@dataclass(frozen=True)
class Fleet:
    bundle: Annotated[Path, tyro.conf.Positional]
    replicas: int = 2
    host: str = "127.0.0.1"
    """That the replicas listen on, and robots reach."""
    port: int = 8000
    """Of the front."""
    clients: int = 32
    """Of each replica."""
    threads: int = 1
    """Inside an operator."""
    key_file: Path | None = None
    """A file whose only line robots must know; without it the variable KEYSTEP_SERVE_KEY, if set."""


class Replica:
    """A server on a port of its own; what Ray asks it by HTTP is where that is.

    Args:
        bundle: read by every replica: on many machines a folder that all of them see.
        key: that robots must give; None: none.
    """

    def __init__(self, bundle: str, host: str, clients: int, threads: int, key: str | None) -> None:
        import keystep
        from keystep.serve import Limits, Server

        self._runtime = keystep.load(bundle, threads=threads)
        self._server = Server(self._runtime, host=host, port=0, key=key, limits=Limits(clients=clients))

    async def __call__(self, request: Any) -> str:
        """Where this replica is."""
        from keystep.client.websocket import bracketed

        host, port = self._server.address
        return f"ws://{bracketed(host)}:{port}"

    def check_health(self) -> None:
        """Ray starts it again where this raises."""
        if not self._server.is_listening:
            raise RuntimeError("the server does not listen any more")

    def __del__(self) -> None:
        self._server.stop()
        self._runtime.close()


def deploy(fleet: Fleet) -> None:
    """Starts Ray Serve where it is not running yet, and the replicas; returns once they are there."""
    from ray import serve

    from keystep.commands.serve import read_key

    key = read_key(fleet.key_file)
    serve.start(http_options={"host": fleet.host, "port": fleet.port})
    deployment = serve.deployment(num_replicas=fleet.replicas, health_check_period_s=1.0)(Replica)
    bundle = str(fleet.bundle.resolve())
    serve.run(deployment.bind(bundle, fleet.host, fleet.clients, fleet.threads, key), name="keystep")


def main(fleet: Fleet) -> None:
    """Serves until Ctrl-C."""
    from ray import serve

    deploy(fleet)
    print(f"fleet of {fleet.replicas} at http://{fleet.host}:{fleet.port}/", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        serve.shutdown()


if __name__ == "__main__":
    main(tyro.cli(Fleet))
