"""Reads the traces that keystep writes (`keystep.load(trace=...)`), without the package of Perfetto.

Field numbers: https://perfetto.dev/docs/reference/trace-packet-proto. What other programs write besides is
passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

BEGIN, END, INSTANT, COUNTER = 1, 2, 3, 4
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass
class Slice:
    """One span. Times in ns since the trace began.

    Attributes:
        end_ns: None where the trace ended first.
        depth: 0 for one that lies in no other.
        argument, number: such as "step", 3; None: it has none.
        flows: numbers that it shares with the spans it is joined to.
    """

    track: str
    name: str
    start_ns: int
    end_ns: int | None = None
    depth: int = 0
    argument: str | None = None
    number: int | None = None
    flows: tuple[int, ...] = ()

    @property
    def duration_us(self) -> float:
        """Microseconds; NaN where the trace ended first."""
        return float("nan") if self.end_ns is None else (self.end_ns - self.start_ns) / 1e3


@dataclass(frozen=True)
class Instant:
    track: str
    name: str
    time_ns: int
    argument: str | None
    number: int | None


@dataclass(frozen=True)
class CounterSeries:
    """What a counter showed: `values` at `times_ns`."""

    unit: str
    times_ns: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)


@dataclass
class TraceFile:
    """A trace. Slices by the order of their beginnings within each track.

    Attributes:
        complete: False where the last packet is cut, as when the machine went down.
        process: its name and number.
    """

    process: tuple[str, int] = ("", 0)
    tracks: list[str] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)
    instants: list[Instant] = field(default_factory=list)
    counters: dict[str, CounterSeries] = field(default_factory=dict)
    complete: bool = True


def read_trace(path: Path, advance: Callable[[int], None] | None = None) -> TraceFile:
    """A file that keystep wrote, complete or cut.

    Args:
        advance: told now and then how many bytes were read since.

    Raises:
        ValueError: it is no trace.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    reader = _Reader()
    at = told = 0
    while at < len(data):
        try:
            tag, start = _varint(data, at)
            length, start = _varint(data, start)
        except IndexError:
            reader.trace.complete = False
            break
        if tag != 1 << 3 | _BYTES:
            raise ValueError(f"{path}: expected a Perfetto trace, got no packet at byte {at}")
        if start + length > len(data):
            reader.trace.complete = False
            break
        try:
            reader.packet(data[start : start + length])
        except (IndexError, KeyError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{path}: expected a packet of a Perfetto trace at byte {at}, got {error!r}"
            ) from None
        at = start + length
        if advance is not None and at - told > 100_000:
            advance(at - told)
            told = at
    return reader.trace


class _Reader:
    """Packets to slices: interned names, spans that are open."""

    def __init__(self) -> None:
        self.trace = TraceFile()
        self._names: dict[int, str] = {}
        self._arguments: dict[int, str] = {}
        self._tracks: dict[int, str] = {}
        self._open: dict[int, list[Slice]] = {}

    def packet(self, data: bytes) -> None:
        timestamp, event = 0, None
        for number, value in _fields(data):
            if number == 8:
                timestamp = _number(value)
            elif number == 11:
                event = _message(value)
            elif number == 12:
                self._intern(_message(value))
            elif number == 60:
                self._describe(_message(value))
        if event is not None:
            self._event(timestamp, event)

    def _intern(self, data: bytes) -> None:
        for number, value in _fields(data):
            known = {2: self._names, 3: self._arguments}.get(number)
            if known is not None:
                entry = dict(_fields(_message(value)))
                known[_number(entry[1])] = _message(entry[2]).decode()

    def _describe(self, data: bytes) -> None:
        described = dict(_fields(data))
        uuid, name = _number(described[1]), _message(described.get(2, b"")).decode()
        if 3 in described:
            process = dict(_fields(_message(described[3])))
            self.trace.process = (_message(process.get(6, b"")).decode(), _number(process.get(1, 0)))
            return
        if uuid not in self._tracks:  # else it begins anew, in the next file
            name = self._unused(name)
            self._tracks[uuid] = name
            if 8 in described:
                counter = dict(_fields(_message(described[8])))
                self.trace.counters[name] = CounterSeries(_message(counter.get(6, b"")).decode())
            else:
                self.trace.tracks.append(name)

    def _unused(self, name: str) -> str:
        """Tracks of several sessions are called alike."""
        used = {*self._tracks.values()}
        count = 1
        unused = name
        while unused in used:
            count += 1
            unused = f"{name} {count}"
        return unused

    def _event(self, timestamp: int, data: bytes) -> None:
        kind, name, uuid, shown = 0, 0, 0, 0
        annotation: dict[int, int | bytes] | None = None
        flows = []
        for number, value in _fields(data):
            if number == 4:
                annotation = dict(_fields(_message(value)))
            elif number == 9:
                kind = _number(value)
            elif number == 10:
                name = _number(value)
            elif number == 11:
                uuid = _number(value)
            elif number == 30:
                shown = _signed(value)
            elif number == 47:
                flows.append(_number(value))
        argument = self._arguments[_number(annotation[1])] if annotation else None
        of = None if annotation is None else _signed(annotation[4])
        track = self._tracks[uuid]
        if kind == BEGIN:
            stack = self._open.setdefault(uuid, [])
            begun = Slice(track, self._names[name], timestamp, None, len(stack), argument, of, tuple(flows))
            stack.append(begun)
            self.trace.slices.append(begun)
        elif kind == END:
            self._open[uuid].pop().end_ns = timestamp
        elif kind == INSTANT:
            self.trace.instants.append(Instant(track, self._names[name], timestamp, argument, of))
        elif kind == COUNTER:
            series = self.trace.counters[track]
            series.times_ns.append(timestamp)
            series.values.append(shown)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a message: integers, or the bytes of what has a length."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if wire == _BYTES:
            length, at = _varint(data, at)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise KeyError(f"wire type {wire}")
        if at + length > len(data):
            raise IndexError("a field that ends outside")
        content = data[at : at + length]
        at += length
        yield tag >> 3, content if wire == _BYTES else int.from_bytes(content, "little")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number and where it ends; IndexError where the data ends first."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise KeyError("a number of more than 64 bits")


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise KeyError("bytes in place of a number")
    return value


def _message(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise KeyError("a number in place of bytes")
    return value


def _signed(value: int | bytes) -> int:
    number = _number(value)
    return number - (1 << 64) if number >= 1 << 63 else number
