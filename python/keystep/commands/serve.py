"""keystep serve"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

import keystep
from keystep.commands.options import PolicyOptions, refuse_writers
from keystep.serve.limits import Limits

KEY = "KEYSTEP_SERVE_KEY"


@dataclass(frozen=True)
class Ended:
    interrupted: bool


def main(
    bundle: Annotated[Path, tyro.conf.Positional],
    policy: Annotated[PolicyOptions, tyro.conf.arg(name="")],
    limits: Annotated[Limits, tyro.conf.arg(name="")],
    host: str = "127.0.0.1",
    port: int = 8000,
    key_file: Path | None = None,
    strict_text: bool = False,
) -> Ended:
    """Serve a bundle to robots elsewhere, over openpi's websocket protocol, until Ctrl-C or SIGTERM.

    Clients are `keystep.Client` and openpi's own; see docs/serving.md. Who makes HTTP requests finds /healthz
    and Prometheus' /metrics.

    Args:
        bundle: the bundle's folder. It is read once: files that change later change nothing.
        host: where to listen; 0.0.0.0 is everywhere, and wants a key.
        port: 0 takes a free one, and prints it.
        key_file: a file whose only line clients must know; without it the variable KEYSTEP_SERVE_KEY, if set.
        strict_text: refuse an instruction of whose words the text encoder does not know most.
    """
    from keystep.client.websocket import bracketed
    from keystep.serve.server import Server

    refuse_writers(bundle)
    key = read_key(key_file)
    if not 0 <= port < 65536:
        raise keystep.ArgumentError(f"port: expected 0..65535, got {port}")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for name in ("websockets.server", "websockets.protocol"):  # what clients do wrong is no news
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with keystep.load(bundle, strict_text=strict_text, **policy.load_options()) as runtime, signals() as told:
        with Server(runtime, host=host, port=port, key=key, limits=limits) as server:
            name, number = server.address
            where = f"ws://{bracketed(name)}:{number}"
            print(f"serving {runtime.manifest['name']} on {where}, {runtime.description}", flush=True)
            if key is None and host not in ("127.0.0.1", "::1", "localhost"):
                print("warning: no key: whoever reaches this address is served", file=sys.stderr, flush=True)
            number = told.wait()
            print(f"stopping: {server.clients} clients", flush=True)
        print(f"served {server.metrics['chunks_total']} chunks", flush=True)
    return Ended(number == signal.SIGINT)


def read_key(file: Path | None) -> str | None:
    """Never from the command line, which everybody on a machine can read."""
    key = os.environ.get(KEY) if file is None else file.read_text().strip()
    if key is None:
        return None
    if not key or not key.isascii() or not key.isprintable():
        name = KEY if file is None else "key_file"
        raise keystep.ArgumentError(f"{name}: expected a line of printable ASCII, got another")
    return key


class Told:
    """Which signal came."""

    def __init__(self) -> None:
        self._came = threading.Event()
        self._number = 0

    def __call__(self, number: int, frame: Any) -> None:
        if self._came.is_set():  # once more: at once
            os._exit(128 + number)
        self._number = number
        self._came.set()

    def wait(self) -> int:
        while not self._came.wait(3600):
            pass
        return self._number


@contextlib.contextmanager
def signals() -> Iterator[Told]:
    told = Told()
    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
