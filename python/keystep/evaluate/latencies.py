"""Declared latencies, as `keystep eval --latency` takes them, in control periods."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import keystep

CHUNK_STAGES = ("observe", "encode", "denoise")
QUANTILES = {"p50_us": 0.5, "p90_us": 0.9, "p99_us": 0.99, "p999_us": 0.999, "max_us": 1.0}
DRAWS = 1000
"""Equally likely values that stand for a recorded distribution."""

_NUMBER = re.compile(r"([0-9]{1,12}(?:\.[0-9]{0,12})?|\.[0-9]{1,12})(ms)?")


@dataclass(frozen=True)
class DeclaredLatency:
    """What chunks and plans take.

    Attributes:
        text: as it was declared, such as "chunk=3,plan=12"; what says the same is equal.
        chunk, plan: equally likely values; empty: nothing.
        in_ms: names of those that are in ms, and not in control periods.
    """

    text: str = field(compare=False)
    chunk: tuple[float, ...] = ()
    plan: tuple[float, ...] = ()
    in_ms: tuple[str, ...] = ()

    def virtual_time(self, rate_hz: float | None, skips: bool = True) -> keystep.VirtualTime:
        """At a control rate, by which ms become control periods: so many actions; None: nothing is in ms."""

        def periods(name: str) -> tuple[float, ...]:
            factor = (rate_hz or 0.0) / 1e3 if name in self.in_ms else 1.0
            return tuple(factor * value for value in getattr(self, name))

        return keystep.VirtualTime(periods("chunk"), periods("plan"), skips)

    @property
    def is_zero(self) -> bool:
        """Nothing takes any time."""
        return not any(self.chunk) and not any(self.plan)


def declared(text: str) -> DeclaredLatency:
    """Read "0", "chunk=3,plan=12", "chunk=50ms", "chunk=a.json", or "a.json" for both.

    A number is of control periods, one with ms of milliseconds, a file one that `keystep profile --json` has
    written, from whose distribution is drawn.

    Raises:
        ArgumentError: it is none of these; the message names what.
    """
    if text.strip() == "0":
        return DeclaredLatency("0")
    if "=" not in text and text.endswith(".json"):
        text = f"chunk={text},plan={text}"
    values: dict[str, tuple[float, ...]] = {}
    in_ms = []
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if name not in ("chunk", "plan") or not equals or name in values:
            expected = "0, FILE.json, or chunk=.. and plan=.., each once"
            raise keystep.ArgumentError(f"latency: expected {expected}, got {text!r}")
        values[name], ms = _values(name, value)
        if ms:
            in_ms.append(name)
    return DeclaredLatency(text, **values, in_ms=tuple(sorted(in_ms)))


def _values(name: str, text: str) -> tuple[tuple[float, ...], bool]:
    """And whether they are ms."""
    if text.endswith(".json"):
        return recorded(name, Path(text)), True
    match = _NUMBER.fullmatch(text)
    if match is None:
        expected = "a number of control periods, of ms (50ms), or a profile's FILE.json"
        raise keystep.ArgumentError(f"latency.{name}: expected {expected}, got {text!r}")
    return (float(match[1]),), match[2] is not None


def recorded(name: str, path: Path) -> tuple[float, ...]:
    """Equally likely ms with the distribution of a profile: `DRAWS` of them, or none where it made no plans.

    Between its percentiles it is interpolated; nothing is faster than the median, below which a profile says
    nothing. Stages of a chunk are added, percentile by percentile.
    """
    try:
        report = json.loads(path.read_text())
        stages = report["latency"]["stages"]
        used = [stages[stage] for stage in (CHUNK_STAGES if name == "chunk" else ("plan",))]
        counts = [int(stage["count"]) for stage in used]
        found = {key: sum(float(stage[key]) for stage in used) / 1e3 for key in QUANTILES}
    except OSError as error:
        raise keystep.ArgumentError(f"latency.{name}: expected a readable file, got {error}") from None
    except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
        raise _no_profile(name, path, error) from None
    if report.get("format") != "keystep-profile":
        raise _no_profile(name, path, f"format {report.get('format')!r}")
    if not counts[-1]:
        if name == "plan":
            return ()
        raise _no_profile(name, path, "no chunks")
    shares = (np.arange(DRAWS) + 0.5) / DRAWS
    drawn = np.interp(shares, list(QUANTILES.values()), np.maximum.accumulate(list(found.values())))
    if not np.isfinite(drawn).all() or drawn[0] < 0:
        raise _no_profile(name, path, "times that are negative or not finite")
    return tuple(drawn.tolist())


def _no_profile(name: str, path: Path, got: object) -> keystep.ArgumentError:
    return keystep.ArgumentError(
        f"latency.{name}: expected {path} to be of `keystep profile --json`, got {got}"
    )


def weighs(merge: str) -> bool:
    """Whether this rule may weigh the old chunk, so that decay and overlap mean something."""
    return merge in ("", "x0blend", "trained")


@dataclass(frozen=True)
class LoopRule:
    """How the loop goes on while the policy thinks.

    Attributes:
        mode: lockstep, which stands still meanwhile, or async.
        merge: of async, see `keystep.load`; "": its default; naive: replace without skipping what is past.
        underrun: what is given while there is no action.
        merge_decay, merge_overlap: of merge, see `keystep.load`.
    """

    mode: str
    merge: str = ""
    underrun: str = ""
    merge_decay: str = ""
    merge_overlap: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in ("lockstep", "async"):
            raise keystep.ArgumentError(f"mode: expected lockstep or async, got {self.mode!r}")
        if self.mode == "lockstep" and self.merge:
            raise keystep.ArgumentError(f"merge: expected none in mode lockstep, got {self.merge!r}")

    @property
    def name(self) -> str:
        """For a table."""
        overlap = "" if self.merge_overlap is None else f"overlap {self.merge_overlap}"
        return " ".join(part for part in (self.mode, self.merge, self.merge_decay, overlap) if part)

    def load_options(self, latency: DeclaredLatency, rate_hz: float | None) -> dict[str, Any]:
        """For `keystep.load`."""
        naive = self.merge == "naive"
        return {
            "mode": self.mode,
            "merge": "replace" if naive else self.merge,
            "underrun": self.underrun,
            "merge_decay": self.merge_decay,
            "merge_overlap": self.merge_overlap,
            "virtual_time": latency.virtual_time(rate_hz, skips=not naive),
        }
