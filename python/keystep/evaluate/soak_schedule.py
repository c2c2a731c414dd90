"""What happens to a policy in a soak: drawn from a seed, so that it can happen again."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np

import keystep
from keystep.evaluate.soak_bundles import KINDS, Kind
from keystep.evaluate.soak_checker import Law

MAX_AGE_US = 1_000_000
"""Of observations; stale ones are older."""
_FAULTS = ("fail", "nan", "wild")
_STAGES = {"encode": 1, "plan": 2, "denoise": 4}


@dataclass(frozen=True)
class StandIn:
    """A bundle of `soak_bundles`."""

    kind: Kind
    settings: dict[str, Any]


@dataclass(frozen=True)
class Disturbances:
    """How probable each is before a tick, and how long observations stay stale or bad."""

    interrupt: float
    replan: float
    reset: float
    stale: float
    bad: float
    refused_call: float
    longest: int


@dataclass(frozen=True)
class Schedule:
    """One policy, how it is loaded, and what is done to it.

    Attributes:
        seed: of all of it, also of the events.
        stand_in: None: a bundle that was given.
        load: options for `keystep.load`.
        time: None: real threads.
        faults: options of the stub engine, without their "stub.".
        disturbances: of the ticks.
        interrupter: another thread interrupts (with threads).
        patience: ticks in which an undisturbed policy must act.
    """

    seed: int
    stand_in: StandIn | None
    load: dict[str, Any]
    time: keystep.VirtualTime | None
    faults: dict[str, int]
    disturbances: Disturbances
    interrupter: bool
    patience: int

    @property
    def soonest(self) -> int:
        """Ticks from an interrupt to the first action, at least."""
        return math.ceil(min(self.time.chunk, default=0.0)) if self.time is not None else 0

    def options(self) -> dict[str, Any]:
        """All of `keystep.load`."""
        options = {
            **self.load,
            "mode": "async",
            "clock": "external",
            "max_observation_age_us": MAX_AGE_US,
            "virtual_time": self.time,
        }
        given = {f"stub.{name}": str(value) for name, value in self.faults.items()}
        return options | ({"provider_options": given} if given else {})

    def law(self, manifest: dict[str, Any]) -> Law:
        """What it promises of a policy with this manifest."""
        action, chunk = manifest["action"], manifest["chunk"]
        hold, rate = action["hold"].get("values"), action["rate_limit"]
        return Law(
            low=np.array(action["min"], np.float32),
            high=np.array(action["max"], np.float32),
            rate=None if rate is None else np.array(rate, np.float32),
            hold=None if hold is None else np.array(hold, np.float32),
            underrun=self.load["underrun"],
            rows=chunk["horizon"] - chunk["start"],
            execute=chunk["execute"],
            marked=self.stand_in is not None and self.stand_in.kind != "gated",
            plans=manifest["planner"] is not None,
            alone=not self.interrupter,
            soonest=self.soonest,
            patience=self.patience,
        )

    def to_dict(self) -> dict[str, Any]:
        """For a report."""
        return {
            "seed": self.seed,
            "kind": self.stand_in.kind if self.stand_in is not None else "bundle",
            "settings": self.stand_in.settings if self.stand_in is not None else {},
            "load": self.load,
            "chunk_periods": list(self.time.chunk) if self.time is not None else None,
            "plan_periods": list(self.time.plan) if self.time is not None else None,
            "faults": self.faults,
            "disturbances": vars(self.disturbances),
        }


def draw_schedule(seed: int, manifest: dict[str, Any] | None, engine: str, threads: bool) -> Schedule:
    """The schedule of a seed.

    Args:
        manifest: of a bundle that was given; None: a stand-in is drawn, too.
        engine: of that bundle; only the stub has faults.
        threads: real threads, no virtual time.
    """
    rng = random.Random(seed)
    stand_in = None if manifest is not None else _stand_in(rng)
    load = _load_options(rng, manifest, stand_in)
    rows = manifest["chunk"]["horizon"] if stand_in is None and manifest else _rows(stand_in)
    time = None if threads else keystep.VirtualTime(chunk=_periods(rng, rows), plan=_periods(rng, 2 * rows))
    load["engine"] = engine
    faults = _faults(rng, threads) if engine == "stub" else {}
    if stand_in is not None and stand_in.kind != "gated":
        faults.pop("wild_ppm", None)  # it would overwrite a mark
        faults["marks"] = 1
    if threads:
        load["watchdog_us"] = 5000 if engine == "stub" else 2_000_000
        if engine == "stub":
            faults["jitter_us"] = rng.choice((0, 100, 500, 2000))
    attempts = 6 * faults.get("fault_length", 0) + 4
    slowest = 10 if time is None else max(time.chunk) + max(time.plan) + 2
    patience = 200_000 if threads else math.ceil(attempts * slowest)
    interrupter = rng.random() < 0.5 and threads
    return Schedule(seed, stand_in, load, time, faults, _disturbances(rng), interrupter, patience)


def _rows(stand_in: StandIn | None) -> int:
    return int(stand_in.settings["horizon"]) if stand_in is not None else 1


def _stand_in(rng: random.Random) -> StandIn:
    kind = rng.choice(KINDS)
    horizon = rng.randint(1, 16)
    gated = kind == "gated"
    execute = rng.randint(1, horizon)
    settings = {
        "horizon": horizon,
        "execute": execute,
        "steps_per_subgoal": execute + rng.randint(0, 12),
        "history": rng.choice((1, 1, 2)) if gated else 1,
        "holds_last": gated and rng.random() < 0.3,
        "max_delay": rng.randint(0, min(4, horizon - 1)) if gated else 0,
    }
    return StandIn(kind, settings)


def _load_options(
    rng: random.Random, manifest: dict[str, Any] | None, stand_in: StandIn | None
) -> dict[str, Any]:
    if stand_in is None:
        assert manifest is not None
        chunk, samples = manifest["chunk"], manifest["sampler"] is not None
        rows, max_delay = chunk["horizon"] - chunk["start"], chunk.get("max_delay", 0)
        holds_last = manifest["action"]["hold"]["mode"] == "last"
    else:
        rows, samples = stand_in.settings["horizon"], stand_in.kind == "gated"
        max_delay, holds_last = stand_in.settings["max_delay"], stand_in.settings["holds_last"]
    merges = ["", "blend", "replace", "temporal_ensemble"]
    merges += ["x0blend"] * samples + ["trained"] * bool(max_delay)
    underruns = ["hold", "repeat", "fault"] + ["decelerate"] * (not holds_last)
    merge = rng.choice(merges)
    options = {
        "merge": merge,
        "underrun": rng.choice(underruns),
        "request_below": 0 if merge == "temporal_ensemble" else rng.choice((0, rng.randint(1, rows))),
        "blend_actions": rng.randint(0, rows),
    }
    if stand_in is None or stand_in.kind == "marked-plans":
        options["plan_ahead"] = rng.choice((-1, -1, 0, 2, 10))
    if merge in ("x0blend", "trained"):
        options["merge_decay"] = rng.choice(("", "linear"))
        options["merge_overlap"] = rng.choice((None, rng.randint(0, rows)))
    return options


def _periods(rng: random.Random, most: int) -> tuple[float, ...]:
    """Some that are usual, and now and then one that is not."""
    usual = [round(rng.uniform(0, most + 2), 2) for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.2:
        usual = [float(rng.randint(0, 2))]
    if rng.random() < 0.3:
        usual = usual * 8 + [float(5 * most + 20)]
    return tuple(usual)


def _faults(rng: random.Random, threads: bool) -> dict[str, int]:
    if rng.random() < 0.4:
        return {}
    kinds = rng.sample(_FAULTS, rng.randint(1, len(_FAULTS)))
    faults = {f"{kind}_ppm": rng.randint(1000, 300_000) for kind in kinds}
    if threads:
        for kind, takes_us in (("slow", 5000), ("hang", 20_000)):
            if rng.random() < 0.5:
                faults |= {f"{kind}_ppm": rng.randint(1000, 100_000), f"{kind}_us": takes_us}
    period = rng.randint(50, 500)
    stages = rng.sample(sorted(_STAGES), rng.randint(1, len(_STAGES)))
    return faults | {
        "fault_seed": rng.getrandbits(31),
        "fault_period": period,
        "fault_length": rng.randint(1, min(period // 2, 12)),
        "fault_stages": sum(_STAGES[stage] for stage in stages),
    }


def _disturbances(rng: random.Random) -> Disturbances:
    def chance(most: float) -> float:
        return 0.0 if rng.random() < 0.25 else 10 ** rng.uniform(-4, math.log10(most))

    return Disturbances(
        interrupt=chance(0.1),
        replan=chance(0.05),
        reset=chance(0.01),
        stale=chance(0.02),
        bad=chance(0.02),
        refused_call=chance(0.001),
        longest=rng.randint(1, 40),
    )
