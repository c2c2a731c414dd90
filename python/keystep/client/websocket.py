"""A websocket (RFC 6455) from the client's side, as much of it as one blocking request at a time takes."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import ssl
import struct
import time
import urllib.request
from http.client import HTTPException
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from .errors import ConnectionLost, Refused

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
MAX_HEAD = 16384


def address_of(host: str, port: int | None) -> tuple[str, int, bool]:
    """Host, port and whether TLS is wanted, of a name or address or of ws://.. and wss://..

    Raises:
        ValueError: host.
    """
    try:
        parts = urlsplit(host if "://" in host else f"ws://{bracketed(host)}")
        name, number = parts.hostname, parts.port
    except ValueError as error:  # of brackets, or of a port
        raise ValueError(f"host: expected a name, ws://NAME or wss://NAME, got {host!r}: {error}") from None
    if parts.scheme not in ("ws", "wss") or not name:
        raise ValueError(f"host: expected a name, ws://NAME or wss://NAME, got {host!r}")
    secure = parts.scheme == "wss"
    return name, port or number or (443 if secure else 8000), secure


def bracketed(host: str) -> str:
    """As a URI has it: an IPv6 address in brackets (RFC 3986, 3.2.2)."""
    address, _, _ = host.partition("%")  # of one network of several
    try:
        return f"[{host}]" if ip_address(address).version == 6 else host
    except ValueError:
        return host


def told_by(front: str, timeout_s: float) -> str:
    """The address that a fleet's front gives, ws://..

    Raises:
        ConnectionLost: it gives none.
    """
    try:
        with urllib.request.urlopen(front, timeout=timeout_s) as reply:
            told = reply.read(1000).decode().strip()
            address_of(told, None)
            return told
    except (OSError, ValueError, HTTPException) as error:
        raise ConnectionLost(f"front {front}: {error}") from None


class WebSocket:
    """A connection. One thread at a time.

    Args:
        timeout_s: of connecting, and of a whole message, whatever else comes meanwhile.
        max_size: bytes of a message that is received.

    Raises:
        ConnectionLost: by every method; then it is closed.
    """

    def __init__(self, host: str, port: int | None, key: str | None, timeout_s: float, max_size: int) -> None:
        name, number, secure = address_of(host, port)
        self._max_size, self._timeout_s = max_size, timeout_s
        self._until = time.monotonic() + timeout_s
        self._buffer = bytearray()
        try:
            self._socket = socket.create_connection((name, number), timeout_s)
            if secure:
                self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=name)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            raise ConnectionLost(f"server {bracketed(name)}:{number}: {error}") from None
        self._guard(self._greet, name, number, key)

    def send(self, message: bytes) -> None:
        """One binary message."""
        self._guard(self._send_frame, BINARY, message)

    def receive(self) -> bytes | str:
        """The next message, binary or text; pings are answered meanwhile."""
        return self._guard(self._receive)

    def abort(self) -> None:
        """Any thread: who sends or receives is told that the connection is lost."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Says so to the server, if it can still be told."""
        with contextlib.suppress(OSError):
            self._send_frame(CLOSE, struct.pack("!H", 1000))
        self._socket.close()

    def _guard(self, work: Any, *arguments: Any) -> Any:
        """Whatever goes wrong, the connection is of no more use."""
        self._until = time.monotonic() + self._timeout_s
        try:
            return work(*arguments)
        except ConnectionLost:
            self._socket.close()
            raise
        except (OSError, ValueError) as error:
            self._socket.close()
            raise ConnectionLost(f"connection: {str(error) or type(error).__name__}") from None
        except BaseException:  # Ctrl-C in the midst of a message
            self._socket.close()
            raise

    # ---- the handshake

    def _greet(self, name: str, port: int, key: str | None) -> None:
        server = f"{bracketed(name)}:{port}"
        nonce = base64.b64encode(os.urandom(16))
        lines = [
            "GET / HTTP/1.1",
            f"Host: {server}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {nonce.decode()}",
            "Sec-WebSocket-Version: 13",
            *([f"Authorization: Api-Key {key}"] if key else []),
        ]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        status, fields, left = self._read_head()
        if status != 101:
            said = self._read_body(left, fields.get("content-length", "0"))
            lost = Refused if 400 <= status < 500 and status not in (408, 429) else ConnectionLost
            raise lost(f"server {server}: refused with status {status}: {said}")
        wanted = base64.b64encode(hashlib.sha1(nonce + GUID).digest()).decode()
        if fields.get("sec-websocket-accept") != wanted:
            raise ConnectionLost(f"server {server}: expected a websocket, got another protocol")
        self._buffer += left

    def _read_head(self) -> tuple[int, dict[str, str], bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            if len(data) > MAX_HEAD:
                raise ValueError(f"expected a head of at most {MAX_HEAD} bytes, got more")
            data += self._more()
        head, left = data.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split()
        if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
            raise ValueError(f"expected HTTP, got {first[:40]!r}")
        fields = {name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
        return int(words[1]), fields, left

    def _read_body(self, data: bytes, length: str) -> str:
        wanted = min(int(length), MAX_HEAD) if length.isdigit() else 0
        while len(data) < wanted:
            data += self._more()
        return " ".join(data[:wanted].decode(errors="replace").split())

    # ---- frames

    def _send_frame(self, kind: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x80 | kind, 0x80 | size)
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | kind, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | kind, 0x80 | 127, size)
        mask = os.urandom(4)
        self._socket.settimeout(self._timeout_s)
        self._socket.sendall(b"".join((head, mask, masked(payload, mask))))

    def _receive(self) -> bytes | str:
        message = bytearray()
        kind = 0
        while True:
            last, code, payload = self._read_frame(self._max_size - len(message))
            if code == PING:
                self._send_frame(PONG, payload)
            elif code == CLOSE:
                raise ConnectionLost(told_at_the_end(payload))
            elif code in (TEXT, BINARY, CONTINUATION):
                kind = code or kind
                if last and not message:
                    return payload.decode() if kind == TEXT else payload
                message += payload
                if last:
                    return message.decode() if kind == TEXT else bytes(message)

    def _read_frame(self, room: int) -> tuple[bool, int, bytes]:
        first, second = self._take(2)
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        if second & 0x80 or first & 0x70:
            raise ValueError("expected a frame without mask and extensions, got another")
        if size > room:
            raise ValueError(f"expected a message of at most {self._max_size} bytes, got {size} more")
        return bool(first & 0x80), first & 0x0F, self._take(size)

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._buffer += self._more()
        taken = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return taken

    def _more(self) -> bytes:
        left = self._until - time.monotonic()
        if left <= 0:  # it says something all the time, but not what it was asked for
            raise TimeoutError(f"expected the whole message within {self._timeout_s:g} s, got a part")
        self._socket.settimeout(left)
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionLost("connection: closed by the server without a word")
        return data


def masked(payload: bytes, mask: bytes) -> bytes:
    """XOR with the mask, over and over."""
    whole = len(payload) - len(payload) % 4
    words = np.frombuffer(payload, np.uint32, whole // 4) ^ np.frombuffer(mask, np.uint32)[0]
    rest = bytes(byte ^ mask[i] for i, byte in enumerate(payload[whole:]))
    return words.tobytes() + rest


def told_at_the_end(payload: bytes) -> str:
    code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
    reason = payload[2:].decode(errors="replace")
    return f"connection: closed by the server with code {code}" + (f": {reason}" if reason else "")
