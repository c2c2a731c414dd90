"""Who listens, and the thread of each client.

    accept --- a thread for each client: read, wait for a worker, make the chunk, send it
    attend --- every quarter of a second: pings of those whose chunk is being made, and whether they are there

The thread that reads a request makes its chunk, with the GIL released: nothing is handed over between.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
import warnings
from typing import Any

import keystep
from keystep.client.wire import WireError, pack, unpack
from keystep.serve.connection import Connection, Gone
from keystep.serve.door import Door
from keystep.serve.limits import Limits
from keystep.serve.metadata import metadata
from keystep.serve.metrics import Metrics
from keystep.serve.session import Session
from keystep.serve.turns import Rate, Turns

logger = logging.getLogger("keystep.serve")

ATTEND_S = 0.25
SPARE = 8  # connections beyond the clients: /healthz, /metrics, and who is told that there is no room
GOING_AWAY, POLICY_VIOLATION, INVALID, INTERNAL = 1001, 1008, 1007, 1011


class Server:
    """A policy for many clients. The bundle is read once: whatever becomes of its files, this one is served.

    Args:
        runtime: in lockstep; each client has a session of it. It stays the caller's.
        host, port: where to listen; port 0: any, see `address`.
        key: what clients must give as `Authorization: Api-Key ..`; None: none.

    Attributes:
        address: host and port that it listens on.

    Raises:
        OSError: the address is taken.
    """

    def __init__(
        self,
        runtime: keystep.Runtime,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        key: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.metrics = Metrics()
        self._runtime = runtime
        # Python keeps every text that it has warned of, and clients choose these.
        warnings.filterwarnings("ignore", category=keystep.TextWarning, module=r"keystep\.serve\.session$")
        self._greeting = pack(metadata(runtime))
        self._turns = Turns(self.limits.turns)
        self._stopping, self._ended = threading.Event(), threading.Event()
        self._room = threading.Semaphore(self.limits.clients)
        self._lock = threading.Lock()  # of the next two
        self._connections: set[Connection] = set()
        self._sessions: dict[Connection, Session] = {}
        self._door = Door(key, self._admit, self._measured)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=128)
        self._listener.settimeout(ATTEND_S)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._threads = [
            threading.Thread(target=work, name=f"keystep {work.__name__}", daemon=True)
            for work in (self._accept, self._attend)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def clients(self) -> int:
        """Sessions now."""
        return len(self._sessions)

    @property
    def is_listening(self) -> bool:
        """False once it is stopped."""
        return self._threads[0].is_alive()

    def stop(self) -> None:
        """No new clients; who has sent a request gets its reply, and then code 1001; after `grace_s` what
        still runs is broken off. Once more does nothing."""
        self._stopping.set()
        until = time.monotonic() + self.limits.grace_s
        while self._connections and time.monotonic() < until:
            time.sleep(0.01)
        until = time.monotonic() + self.limits.send_s
        while self._connections and time.monotonic() < until:
            with self._lock:
                left = list(self._sessions.values())
            for session in left:  # again: one that has just begun takes an interrupt for an older one
                with contextlib.suppress(keystep.Error):
                    session.interrupt()
            time.sleep(0.01)
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- the two that look after all

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                opened, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError as error:  # too many open files
                logger.warning("accept: %s", error)
                time.sleep(ATTEND_S)
                continue
            with self._lock:
                full = len(self._connections) >= self.limits.clients + SPARE
            if full:
                opened.close()
                self.metrics.add(refused_total=1)
                continue
            try:
                self._welcome(opened)
            except (OSError, RuntimeError) as error:  # gone already; no more threads
                logger.warning("accept: %s", error)
                opened.close()

    def _welcome(self, opened: socket.socket) -> None:
        """A thread for it."""
        connection = Connection(opened, self.limits, self._stopping)
        work = threading.Thread(target=self._serve, args=(connection,), daemon=True, name="keystep client")
        with self._lock:
            self._connections.add(connection)
        try:
            work.start()
        except RuntimeError:
            self._leave(connection)
            raise

    def _attend(self) -> None:
        while not self._ended.wait(ATTEND_S):
            with self._lock:
                all_of_them = list(self._sessions.items())
            for connection, session in all_of_them:
                try:
                    if not connection.attend(ATTEND_S):
                        session.interrupt()
                except keystep.Error:  # closed meanwhile
                    pass
                except Exception:  # the others' pings go on
                    logger.exception("a client could not be attended")

    # ---- the thread of a client

    def _serve(self, connection: Connection) -> None:
        try:
            if not self._door.let_in(connection):
                self.metrics.add(refused_total=connection.refused)
                connection.close(GOING_AWAY, "")
                return
            code, reason = self._converse(connection, self._sessions[connection])
            connection.close(code, reason)
        except Gone as error:
            self.metrics.add(dropped_total=connection in self._sessions)
            logger.info("%s", error)
            connection.close(POLICY_VIOLATION, str(error))
        except Exception:
            logger.exception("a client's thread failed")
            connection.close(INTERNAL, "the server failed; its log says why")
        finally:
            self._leave(connection)

    def _converse(self, connection: Connection, session: Session) -> tuple[int, str]:
        """All of a client's messages; the code and reason to close with."""
        connection.send(self._greeting)
        rate = Rate(self.limits.rate_hz)
        took_s: float | None = None
        while (message := connection.receive()) is not None:
            began = time.perf_counter()
            connection.busy()
            try:
                throttled = rate.wait(self._stopping)
                self.metrics.add(
                    requests_total=1, received_bytes_total=len(message), throttled_total=throttled
                )
                reply = self._answer(connection, session, message)
            finally:
                connection.idle()
            if isinstance(reply, str):
                self.metrics.add(errors_total=1)
                connection.send_text(reply)
                if reply.startswith("message:"):  # what follows cannot be trusted either
                    return INVALID, reply
                continue
            if took_s is not None and "server_timing" in reply:
                reply["server_timing"]["prev_total_ms"] = took_s * 1e3
            data = pack(reply)
            connection.send(data)
            self.metrics.add(chunks_total="actions" in reply, sent_bytes_total=len(data))
            took_s = time.perf_counter() - began
        return GOING_AWAY, "the server stops" if self._stopping.is_set() else ""

    def _answer(self, connection: Connection, session: Session, data: Any) -> dict[str, Any] | str:
        """The reply, or what is wrong in one line; nothing else of an error is told."""
        try:
            if isinstance(data, str):
                raise WireError("message: expected binary, got text")
            message = unpack(data)
            with self._turns.next() as queue_s:
                if connection.has_left:
                    raise Gone("client: left before its turn")
                reply = session.answer(message)
        except (WireError, keystep.Error) as error:
            return " ".join(str(error).split())[:1000]
        except Gone:
            raise
        except Exception:
            logger.exception("a request failed")
            return "server: the request failed, and its log says why"
        if (timing := reply.get("server_timing")) is not None:
            timing["queue_ms"] = queue_s * 1e3
            self.metrics.timed(timing["infer_ms"] / 1e3, queue_s)
            self.metrics.add(plans_total=reply["planned"])
        return reply

    def _admit(self, connection: Connection) -> str | None:
        """A session for a client; why there is none, where there is no room."""
        if self._stopping.is_set():
            return "server: expected one that runs, got one that stops"
        if not self._room.acquire(blocking=False):
            return f"clients: expected at most {self.limits.clients}, got one more"
        try:
            session = Session(self._runtime.session())
        except Exception:
            self._room.release()
            logger.exception("a session could not be made")
            return "server: no session could be made, and its log says why"
        with self._lock:
            self._sessions[connection] = session
        self.metrics.add(connections_total=1)
        return None

    def _leave(self, connection: Connection) -> None:
        session = self._sessions.get(connection)
        try:
            if session is not None:
                session.close()
        finally:
            if session is not None:
                self._room.release()
            with self._lock:  # last: who sees that it is gone finds its room
                self._sessions.pop(connection, None)
                self._connections.discard(connection)

    def _measured(self) -> str:
        gauges = [
            ("clients", "sessions now", self.clients),
            ("waiting", "requests that wait for a worker", self._turns.waiting),
            ("running", "chunks that are being made", self._turns.running),
        ]
        return self.metrics.text(gauges)
