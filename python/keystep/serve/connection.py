"""One client's socket: whole messages in, whole messages out, by the thread that serves it.

While that thread makes a chunk, another one (`attend`) answers pings and sees whether the client is still
there: however long an inference takes, the connection lives.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus

from websockets.exceptions import ConnectionClosed, InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import CLOSED, OPEN
from websockets.server import ServerProtocol

from keystep.serve.limits import Limits

CHUNK_BYTES = 1 << 18  # of a read
TURN_S = 0.25  # a read that waits looks around so often
READS_AHEAD = 64  # of a client, each time it is attended
DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
DRAIN_S, DRAIN_BYTES = 2.0, 64 << 20  # what a client may still send while it is told of the end
REASON_BYTES = 120  # of a close frame
# 40 s until a network that is gone is noticed; the last, in ms: also where a reply is on its way.
KEEP_ALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 40_000}
Bytes = bytes | bytearray | memoryview


class Gone(ConnectionError):
    """The client is not there any more, or was dropped; the message says why."""


class Connection:
    """Args:
    opened: the accepted socket.
    stopping: set once the server stops: then `receive` gives None.
    """

    def __init__(self, opened: socket.socket, limits: Limits, stopping: threading.Event) -> None:
        self._socket, self._limits, self._stopping = opened, limits, stopping
        # Without `Origin`: robots have none, and web pages must not reach a server on this machine.
        self.protocol = ServerProtocol(origins=[None], extensions=None, max_size=limits.message_bytes)
        self._frames: deque[Frame] = deque()
        self._lock = threading.Lock()  # of what `attend` touches while the thread is busy
        self._busy_since: float | None = None
        self.has_left = False
        self.refused = False
        opened.setblocking(True)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEP_ALIVE.items():
            opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        # Of the kernel: with Python's timeouts every call would be two.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval(TURN_S))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval(limits.send_s))

    # ---- of the thread that serves it

    def request(self) -> Request | None:
        """What the client asks for by HTTP; None: nothing that is HTTP.

        Raises:
            Gone: it says nothing.
        """
        until = time.monotonic() + self._limits.handshake_s
        while True:
            if events := self.protocol.events_received():
                if len(events) > 1 or self.protocol.reader.buffer or self.protocol.eof_sent:
                    raise Gone("handshake: expected its answer to be waited for, got more bytes")
                assert isinstance(events[0], Request)
                return events[0]
            if self.protocol.handshake_exc is not None:
                return None
            if time.monotonic() > until or self._stopping.is_set():
                raise Gone(f"handshake: expected a request within {self._limits.handshake_s:g} s, got none")
            self._read()

    def receive(self) -> Bytes | str | None:
        """The next message, binary or text; None: the server stops, or the client has closed.

        Raises:
            Gone: without a word, or too slowly.
        """
        message: bytearray | None = None
        kind = Opcode.BINARY
        since: float | None = None  # of a part of a message
        while True:
            while self._frames:
                frame = self._frames.popleft()
                kind = kind if frame.opcode is Opcode.CONT else frame.opcode
                if frame.fin and message is None:
                    return whole(frame.data, kind)
                message = bytearray() if message is None else message
                message += frame.data
                if frame.fin:
                    return whole(message, kind)
            if self.protocol.state is not OPEN:
                return None
            partial = message is not None or bool(self.protocol.reader.buffer)
            if self._stopping.is_set() and not partial:
                return None
            since = self._watch(since) if partial else None
            self._read()

    def _watch(self, since: float | None) -> float:
        now = time.monotonic()
        if since is not None and now - since > self._limits.message_s:
            raise Gone(f"message: expected the whole within {self._limits.message_s:g} s, got a part")
        return now if since is None else since

    def send(self, message: bytes) -> None:
        """Raises:
        Gone: the client does not read.
        """
        with self._lock, guarded():
            self.protocol.send_binary(message)
            self._flush()

    def send_text(self, message: str) -> None:
        """Likewise: how openpi's protocol says that something is wrong."""
        with self._lock, guarded():
            self.protocol.send_text(message.encode(errors="replace"))
            self._flush()

    def respond(self, status: int, body: str, kind: str = "text/plain; charset=utf-8") -> None:
        """An HTTP answer, and that was all."""
        response = self.protocol.reject(status, body)
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = kind
        self.protocol.send_response(response)
        with guarded():
            self._flush()

    def refuse(self, status: int, why: str) -> None:
        """The same, of what is not granted."""
        self.refused = True
        self.respond(status, why)

    def accept(self, request: Request, admit: Callable[[], str | None]) -> bool:
        """The handshake of a websocket; False: it was refused.

        Args:
            admit: asked where the handshake is in order; says why not.
        """
        response = self.protocol.accept(request)
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS and (why := admit()):
            self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"{why}\n")
            return False
        self.protocol.send_response(response)
        with guarded():
            self._flush()
        self.refused = self.protocol.state is not OPEN
        return not self.refused

    def close(self, code: int, reason: str) -> None:
        """Says why, lets the client read it, and is done."""
        with contextlib.suppress(Gone, OSError), self._lock:
            with contextlib.suppress(InvalidState):
                self.protocol.send_close(code, cut(reason))
            with guarded():
                self._flush()
            self._drain()
        self._socket.close()

    def _drain(self) -> None:
        """A socket that is closed with something unread resets: its last words would be lost."""
        until, left = time.monotonic() + DRAIN_S, DRAIN_BYTES
        while time.monotonic() < until and left > 0 and self.protocol.state is not CLOSED:
            with contextlib.suppress(BlockingIOError):
                data = self._socket.recv(CHUNK_BYTES)
                left -= len(data)
                if not data:
                    return
                self.protocol.receive_data(data)
                self._flush()

    def _read(self) -> None:
        """Some bytes, or none for a while."""
        try:
            data = self._socket.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise Gone(f"client: {error.strerror or error}") from None
        self._feed(data)

    def _feed(self, data: bytes, flags: int = 0) -> None:
        if data:
            self.protocol.receive_data(data)
        else:
            self.protocol.receive_eof()
        if self.protocol.state is OPEN or self._frames:
            events = self.protocol.events_received()
            self._frames.extend(e for e in events if isinstance(e, Frame) and e.opcode in DATA)
        with guarded():
            self._flush(flags)
        if not data:
            raise Gone("client: closed without a word")

    def _flush(self, flags: int = 0) -> None:
        until = time.monotonic() + self._limits.send_s
        for data in self.protocol.data_to_send():
            if data:
                sent = self._socket.send(data, flags)
                while sent < len(data):  # who takes a little at a time does not take it in time either
                    if time.monotonic() > until:
                        raise BlockingIOError
                    sent += self._socket.send(memoryview(data)[sent:], flags)
            else:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_WR)

    # ---- while that thread is busy

    def busy(self) -> None:
        self._busy_since = time.monotonic()

    def idle(self) -> None:
        """Raises:
        Gone: it left meanwhile.
        """
        with self._lock:
            self._busy_since = None
        if self.has_left:
            raise Gone("client: left before its reply")

    def attend(self, after_s: float) -> bool:
        """Of another thread: answers a client's pings that has waited so long; False: it has left."""
        since = self._busy_since
        if since is None or time.monotonic() - since < after_s or not self._lock.acquire(blocking=False):
            return True
        try:
            for _ in range(READS_AHEAD):
                # Who sends its next request before it has the reply can wait.
                if self._busy_since is None or self.has_left or self._frames:
                    break
                self._feed(self._socket.recv(CHUNK_BYTES, socket.MSG_DONTWAIT), socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        except (Gone, OSError):
            self.has_left = True
        finally:
            self._lock.release()
        return not self.has_left


@contextlib.contextmanager
def guarded():  # type: ignore[no-untyped-def]
    """What a socket or a state says, as `Gone`."""
    try:
        yield
    except BlockingIOError:
        raise Gone("client: stopped reading") from None
    except (OSError, InvalidState, ConnectionClosed) as error:
        raise Gone(f"client: {error}") from None


def whole(data: Bytes, kind: Opcode) -> Bytes | str:
    return bytes(data).decode(errors="replace") if kind is Opcode.TEXT else data


def timeval(seconds: float) -> bytes:
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))


def cut(reason: str) -> str:
    """As much of it as a close frame holds."""
    return reason.encode()[:REASON_BYTES].decode(errors="ignore")
