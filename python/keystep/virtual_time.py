"""What a policy's computations take in simulation: declared, so that the world can go on meanwhile."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VirtualTime:
    """Of `keystep.load`: a chunk or plan arrives when its time has passed, not when it is computed.

    One tick is one control period. All is computed in the tick, from (seed, episode) alone: same seed, same
    result, bit for bit. docs/latency.md says how each mode behaves.

    Attributes:
        chunk, plan: what they take, in control periods, 0 or more: for each, one of these is drawn, all
            equally likely. Empty: nothing.
        skips: False: a chunk begins with its first action however late it is (naive switching, to compare
            with). Only in mode async with merge replace.
    """

    chunk: tuple[float, ...] = ()
    plan: tuple[float, ...] = ()
    skips: bool = True
