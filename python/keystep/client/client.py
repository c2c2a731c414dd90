"""`keystep.Client`: a policy on another machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import numpy as np

from .errand import Errand
from .errors import ConnectionLost, Refused, ServerError, Unsent
from .loop import LoopCounts, RemoteLoop
from .websocket import WebSocket, told_by
from .wire import WireError, pack, unpack

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
MOST_TOLD = 1 << 20  # items of the greeting: a policy may know very many tasks
CLOSING_S = 1.0  # that `close` waits for a request on its way


class Client:
    """A session on a server that `keystep serve` runs, or any of openpi's protocol for `infer` alone.

    `act` is for control loops, and never waits; `infer` gives whole chunks. One thread at a time; `interrupt`
    and `replan` from any. A connection that is lost is made again, and the episode begun again there; its
    plan and noise are new, and `act` asks for what it sees then. A server that has another policy by then is
    refused.

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
        max_age_s: of an observation when its chunk comes: the actions for an older one are not given.

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
        max_age_s: float = 10.0,
    ) -> None:
        self._address = (host, port, key, timeout_s, max_size)
        self._reconnect_s = reconnect_s
        self._lock = threading.Lock()  # of the connection
        self._socket: WebSocket | None = None
        self._metadata: dict[str, Any] = {}
        self._begun: dict[str, Any] | None = None  # the episode, to begin it again
        self._closed = False
        self._refusal: tuple[ServerError | Refused, float] | None = (
            None  # and until when it is not asked again
        )
        self._reconnects = -1
        with self._lock:
            self._connect()
        self._errand = Errand(self._carry_new)
        self._loop: RemoteLoop | None = None
        options = (merge, request_below, blend_actions, ensemble_decay, underrun, max_age_s)
        try:
            if "chunk" in self._metadata:
                self._loop = RemoteLoop(self._metadata, self._errand, *options)
        except BaseException:
            self.close()
            raise

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
        if self._loop is not None:
            self._loop.forget()
        self._exchange({"keystep": {"reset": given}})
        self._begun = {"keystep": {"reset": given}}
        if self._loop is not None:
            self._loop.reset(task or instruction)

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
        """Says so to the server; once more does nothing. A request on its way is given up, and a connection
        that is being made ends by itself: neither is waited for longer than a second."""
        self._closed = True
        opened = self._socket
        if opened is not None and self._lock.locked():
            opened.abort()
        self._errand.close(CLOSING_S)
        if self._lock.acquire(timeout=CLOSING_S):
            try:
                self._drop()
            finally:
                self._lock.release()

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
            try:
                return self._ask_at_once(data)
            except Unsent:
                assert self._socket is not None
                return ask(self._socket, data)

    def _carry_new(self, data: bytes, wanted: Callable[[], bool]) -> dict[str, Any]:
        """The same of what a robot sees, which is not asked for later: Unsent, over a new connection."""
        with self._lock:
            if not wanted():  # of an episode that is over
                raise Unsent("request: expected one of this episode, got an older one")
            return self._ask_at_once(data)

    def _ask_at_once(self, data: bytes) -> dict[str, Any]:
        """Unsent: there is a new connection now."""
        if self._socket is not None:
            try:
                return ask(self._socket, data)
            except ConnectionLost:
                self._drop()
                if self._reconnect_s <= 0:
                    raise
        self._connect()
        raise Unsent("connection: expected the one there was, got a new one")

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> None:
        """Tries for `reconnect_s`, then ConnectionLost. One that refuses it is not asked at every tick."""
        if self._refusal is not None and time.monotonic() < self._refusal[1]:
            raise self._refusal[0].with_traceback(None)
        until, pause = time.monotonic() + self._reconnect_s, FIRST_PAUSE_S
        while True:
            if self._closed:
                raise ConnectionLost("client: expected one that is open, got closed")
            try:
                return self._connect_once()
            except (Refused, ServerError) as error:
                self._refusal = error, time.monotonic() + LONGEST_PAUSE_S
                raise
            except ConnectionLost:
                if time.monotonic() + pause > until:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _connect_once(self) -> None:
        host, port, key, timeout_s, max_size = self._address
        if host.startswith(("http://", "https://")):
            host = told_by(host, timeout_s)
        opened = WebSocket(host, port, key, timeout_s, max_size)
        try:
            self._metadata = self._policy_of(opened)
            if self._begun is not None:
                ask(opened, pack(self._begun))
            if self._closed:
                raise ConnectionLost("client: expected one that is open, got closed")
        except BaseException:  # no session is better than one about something else
            opened.close()
            raise
        self._socket = opened
        self._reconnects += 1

    def _policy_of(self, opened: WebSocket) -> dict[str, Any]:
        """A server's metadata, which have to be of the policy that there was."""
        told = message_of(opened.receive(), MOST_TOLD, MOST_TOLD)
        if self._metadata and told.get("bundle") != self._metadata.get("bundle"):
            name, other = (str(each.get("name"))[:60] for each in (self._metadata, told))
            raise ServerError(f"server: expected the policy there was, {name!r}, got another, {other!r}")
        return told


def ask(opened: WebSocket, data: bytes) -> dict[str, Any]:
    """One request and its reply."""
    opened.send(data)
    return message_of(opened.receive())


def message_of(data: bytes | str, *limits: int) -> dict[str, Any]:
    """`limits` of `unpack`. ServerError: it says what is wrong, or something that is no map."""
    if isinstance(data, str):
        raise ServerError(data)
    try:
        message = unpack(data, *limits)
    except WireError as error:
        raise ServerError(f"reply: {error}") from None
    if not isinstance(message, dict):
        raise ServerError(f"reply: expected a map, got {type(message).__name__}")
    return message
