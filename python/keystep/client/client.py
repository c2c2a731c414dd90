"""`keystep.Client`: a policy on another machine."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Self

import numpy as np

from .errand import Errand
from .errors import ConnectionLost, ServerError
from .loop import LoopCounts, RemoteLoop
from .websocket import WebSocket, told_by
from .wire import WireError, pack, unpack

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0


class Client:
    """A session on a server that `keystep serve` runs, or any of openpi's protocol for `infer` alone.

    `act` is for control loops, and never waits; `infer` gives whole chunks. One thread at a time; `interrupt`
    and `replan` from any. A connection that is lost is made again, and the episode begun again there; its
    plan and noise are new.

    Args:
        host: a name or address, or ws://.. and wss://..; http:// and https:// are a fleet's front, which is
            asked for such an address at every connection (examples/fleet).
        port: None: 8000, or as `host` says.
        key: of the server, if it asks for one.
        timeout_s: of a reply.
        reconnect_s: so long a server that is gone, or not there yet, is tried for again; 0: never.
        max_size: bytes of a reply.
        merge: how `act` joins chunks: trained, x0blend, blend, replace or temporal_ensemble, as of
            `keystep.load`; "": as there.
        request_below: a new chunk is asked for when fewer actions are left; 0: as `keystep.load`.
        blend_actions: over which the old chunk fades; 0: half a chunk.
        ensemble_decay: m of the weights exp(-m i), i = 0 the oldest chunk; None: as the bundle says.
        underrun: what `act` gives without an action of the policy. hold: the bundle's hold; fault: an error.

    Raises:
        ConnectionLost: no server.
        ValueError: an option.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = None,
        *,
        key: str | None = None,
        timeout_s: float = 60.0,
        reconnect_s: float = 10.0,
        max_size: int = 64 << 20,
        merge: str = "",
        request_below: int = 0,
        blend_actions: int = 0,
        ensemble_decay: float | None = None,
        underrun: str = "hold",
    ) -> None:
        self._address = (host, port, key, timeout_s, max_size)
        self._reconnect_s = reconnect_s
        self._lock = threading.Lock()  # of the connection
        self._socket: WebSocket | None = None
        self._begun: dict[str, Any] | None = None  # the episode, to begin it again
        self._closed = False
        self._reconnects = -1
        with self._lock:
            self._connect()
        self._errand = Errand(self._carry)
        options = (merge, request_below, blend_actions, ensemble_decay, underrun)
        self._loop = RemoteLoop(self._metadata, self._errand, *options) if "chunk" in self._metadata else None

    @property
    def metadata(self) -> dict[str, Any]:
        """What the server says of its policy: docs/serving.md."""
        return self._metadata

    @property
    def counts(self) -> LoopCounts:
        """What `act` has done."""
        return self._its_loop().counts

    @property
    def reconnects(self) -> int:
        """How often the connection was lost and made again."""
        return self._reconnects

    def reset(
        self,
        task: str | None = None,
        goal: dict[str, Any] | None = None,
        seed: int = 0,
        episode: int = 0,
        *,
        instruction: str | None = None,
        guidance: float | None = None,
        subgoals: dict[str, Any] | None = None,
    ) -> None:
        """Start an episode; arguments as of `Runtime.reset`.

        Raises:
            ServerError: as `Runtime.reset` says; the episode before goes on there.
        """
        told: dict[str, Any] = {"task": task, "goal": goal, "seed": seed, "episode": episode}
        told |= {"instruction": instruction, "guidance": guidance, "subgoals": subgoals}
        given = {name: value for name, value in told.items() if value is not None}
        self._errand.forget()
        self._exchange({"keystep": {"reset": given}})
        self._begun = {"keystep": {"reset": given}}
        if self._loop is not None:
            self._loop.reset()

    def infer(self, observation: dict[str, Any]) -> dict[str, Any]:
        """One whole chunk for one observation, as openpi's clients ask for it: "actions" float32 (rows, A).

        The server takes it that `metadata["chunk"]["execute"]` rows of each are executed. Waits.

        Raises:
            ServerError: the observation is refused, or there is no chunk.
            ConnectionLost: and it could not be made again.
        """
        return self._exchange(observation)

    def act(self, observation: dict[str, Any]) -> np.ndarray:
        """One control period: the next action, float32 (A,). It never waits.

        As a local policy in async mode: chunks are asked for on a thread, joined by consumed index, and what
        was executed while one was on its way is skipped.

        Raises:
            ValueError: "key: expected X, got Y", of the observation.
            ServerError, ConnectionLost: why there is no action left. The robot is to hold; the next `act`
                asks again.
            RuntimeError: there is none yet, and nothing to hold.
        """
        return self._its_loop().tick(observation)

    def interrupt(self) -> None:
        """Drop the actions that are left; `act` asks for new ones."""
        self._its_loop().interrupt()

    def replan(self) -> None:
        """Drop the actions that are left; the next chunk has a new plan."""
        self._its_loop().replan()

    def close(self) -> None:
        """Says so to the server; once more does nothing. A request on its way is given up."""
        self._closed = True
        opened = self._socket
        if opened is not None and self._lock.locked():
            opened.abort()
        self._errand.close()
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _its_loop(self) -> RemoteLoop:
        if self._loop is None:
            raise ServerError("server: expected keystep's, whose metadata describe chunks, got another")
        return self._loop

    # ---- the connection

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        return self._carry(pack(message))

    def _carry(self, data: bytes) -> dict[str, Any]:
        """A reply, over a new connection where the old one is gone."""
        with self._lock:
            if self._socket is not None:
                try:
                    return self._ask(data)
                except ConnectionLost:
                    self._socket = None
                    if self._reconnect_s <= 0:
                        raise
            self._connect()
            return self._ask(data)

    def _ask(self, data: bytes) -> dict[str, Any]:
        assert self._socket is not None
        self._socket.send(data)
        reply = self._socket.receive()
        if isinstance(reply, str):
            raise ServerError(reply)
        try:
            return unpack(reply)
        except WireError as error:
            raise ServerError(f"reply: {error}") from None

    def _connect(self) -> None:
        """Tries for `reconnect_s`, then ConnectionLost."""
        until, pause = time.monotonic() + self._reconnect_s, FIRST_PAUSE_S
        while True:
            if self._closed:
                raise ConnectionLost("client: expected one that is open, got closed")
            try:
                return self._connect_once()
            except ConnectionLost as error:
                refused = " status 4" in str(error)  # for good
                if refused or time.monotonic() + pause > until:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _connect_once(self) -> None:
        self._socket = None
        host, port, key, timeout_s, max_size = self._address
        if host.startswith(("http://", "https://")):
            host = told_by(host, timeout_s)
        opened = WebSocket(host, port, key, timeout_s, max_size)
        greeting = opened.receive()
        if isinstance(greeting, str):
            raise ConnectionLost(f"server: expected metadata, got {greeting[:200]!r}")
        self._metadata = unpack(greeting)
        self._socket = opened
        self._reconnects += 1
        if self._begun is not None:
            self._ask(pack(self._begun))
