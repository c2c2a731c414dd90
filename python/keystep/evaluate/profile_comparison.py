"""Two profiles, stage by stage: how many times as long, and how sure that is."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keystep
from keystep.evaluate.profile import FORMAT, VERSION, check_run, rate_of
from keystep.evaluate.profile_run import ROUNDS, Run, shares
from keystep.machine import describe_machine
from keystep.table_writer import markdown_table
from keystep.uncertainty import deviation, mean

Rounds = Sequence[dict[str, float]]
"""Of each round the mean of every stage, us."""


@dataclass(frozen=True)
class StageRatio:
    """One stage of two profiles.

    Attributes:
        a_us, b_us: geometric means over the rounds of the means of each, us.
        ratio: b over a.
        low, high: 95 % interval of it; None where a stage was seen in fewer than two rounds.
    """

    stage: str
    a_us: float
    b_us: float
    ratio: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ProfileComparison:
    """Printable.

    Attributes:
        a, b: what was compared.
        interleaved: round by round on one machine, which takes out what slows both.
        notes: what the ratios may come from beside the bundles.
    """

    a: str
    b: str
    interleaved: bool
    stages: list[StageRatio]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """All figures, for a JSON file."""
        return asdict(self)

    def __str__(self) -> str:
        rows = []
        for found in self.stages:
            interval = "-" if found.low is None else f"{found.low:.3f} .. {found.high:.3f}"
            rows.append(
                [found.stage, f"{found.a_us:,.2f}", f"{found.b_us:,.2f}", f"{found.ratio:.3f}", interval]
            )
        how = "rounds in turn" if self.interleaved else "one after the other"
        table = markdown_table(["stage", "A us", "B us", "B / A", "95 %"], rows)
        return "\n".join(
            [f"A: {self.a}", f"B: {self.b}", f"means over rounds, {how}", "", table, *self.notes]
        )


def compare_rounds(a: Rounds, b: Rounds, *, paired: bool) -> list[StageRatio]:
    """The stages that both have, by the logarithms of their means (a ratio's interval is symmetric there).

    Args:
        paired: round i of both was run at the same time: Student's interval of the differences; else Welch's.
    """
    found = []
    for stage in dict.fromkeys(stage for means in a for stage in means):
        pairs = [(one.get(stage, 0.0), other.get(stage, 0.0)) for one, other in zip(a, b, strict=False)]
        of_a = [math.log(one[stage]) for one in a if one.get(stage, 0.0) > 0]
        of_b = [math.log(other[stage]) for other in b if other.get(stage, 0.0) > 0]
        differences = [math.log(second / first) for first, second in pairs if min(first, second) > 0]
        if not of_a or not of_b or (paired and not differences):
            continue
        centre = mean(differences) if paired else _mean(of_b) - _mean(of_a)
        assert centre is not None
        half = _student(differences) if paired else _welch(of_a, of_b)
        low, high = (None, None) if half is None else (math.exp(centre - half), math.exp(centre + half))
        found.append(
            StageRatio(stage, math.exp(_mean(of_a)), math.exp(_mean(of_b)), math.exp(centre), low, high)
        )
    return found


def compare_files(a: Path, b: Path) -> ProfileComparison:
    """Two files that `keystep profile --json` wrote. Raises ArgumentError for what is none."""
    one, other = read_profile(a), read_profile(b)
    stages = compare_rounds(one["rounds"], other["rounds"], paired=False)
    notes = []
    for name in ("cpu", "cores", "kernel", "commit"):
        first, second = one["machine"].get(name), other["machine"].get(name)
        if first != second:
            notes.append(f"note: {name} differs: {first} and {second}")
    for name in ("provider", "options", "rate_hz", "versions"):
        if one[name] != other[name]:
            notes.append(f"note: {name} differs: {one[name]} and {other[name]}")
    return ProfileComparison(f"{one['bundle']}, {a}", f"{other['bundle']}, {b}", False, stages, notes)


def read_profile(path: Path) -> dict[str, Any]:
    """Raises ArgumentError where it is no profile of this version with rounds."""
    try:
        profile = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise keystep.ArgumentError(f"compare: expected JSON in {path}, got {error}") from None
    found = (profile.get("format"), profile.get("version")) if isinstance(profile, dict) else None
    if found not in ((FORMAT, 1), (FORMAT, VERSION)):  # 1 has no run, which is not compared
        raise keystep.ArgumentError(f"compare: expected {FORMAT} version {VERSION} in {path}, got {found}")
    wanted = {"rounds": list, "machine": dict, "bundle": str, "options": dict, "versions": dict}
    for name, kind in wanted.items():
        if not isinstance(profile.get(name), kind):
            raise keystep.ArgumentError(f"compare: expected {name} in {path}, got {profile.get(name)!r}")
    for means in profile["rounds"]:
        if not isinstance(means, dict) or not all(_is_time(value) for value in means.values()):
            raise keystep.ArgumentError(f"compare: expected a mean of every stage in {path}, got {means!r}")
    return {"provider": None, "rate_hz": None} | profile


def compare_bundles(
    a: Path, b: Path, ticks: int = 2000, rate_hz: float | None = None, **options: Any
) -> ProfileComparison:
    """Two bundles in this process, a round of each in turn; `options` for `keystep.load` of both.

    Raises:
        ArgumentError: fewer ticks than there are rounds, a rate that is not above 0.
    """
    check_run(ticks, rate_hz)
    if ticks < 2 * ROUNDS:
        raise keystep.ArgumentError(f"ticks: expected at least {2 * ROUNDS} to compare, got {ticks}")
    with ExitStack() as stack:
        policies = [stack.enter_context(keystep.load(bundle, **options)) for bundle in (a, b)]
        runs = [
            Run(policy, bundle, ticks, rate_of(bundle, rate_hz, options))
            for policy, bundle in zip(policies, (a, b), strict=True)
        ]
        for number, share in enumerate(shares(ticks, ROUNDS)):
            for run in runs if number % 2 == 0 else reversed(runs):
                run.restart_clock()
                run.advance(share)
        names = [f"{policy.manifest['name']}, {policy.description}" for policy in policies]
    stages = compare_rounds(runs[0].rounds, runs[1].rounds, paired=True)
    machine = describe_machine()
    note = ", ".join(f"{name} {machine[name]}" for name in ("cpu", "cores", "kernel", "commit"))
    return ProfileComparison(names[0], names[1], True, stages, [note])


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value >= 0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _student(values: Sequence[float]) -> float | None:
    """Half of the 95 % interval of a mean."""
    spread = deviation(values)
    return None if spread is None else _quantile(len(values) - 1) * spread / math.sqrt(len(values))


def _welch(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Half of the 95 % interval of the difference of two means (Welch 1947, Biometrika 34:28)."""
    spreads = [deviation(a), deviation(b)]
    if None in spreads:
        return None
    shares_ = [(s or 0.0) ** 2 / len(values) for s, values in zip(spreads, (a, b), strict=True)]
    total = sum(shares_)
    if total == 0:
        return 0.0
    freedom = total**2 / sum(s**2 / (len(v) - 1) for s, v in zip(shares_, (a, b), strict=True))
    return _quantile(freedom) * math.sqrt(total)


def _quantile(freedom: float) -> float:
    """Of Student's distribution, two-sided 95 %."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))
