"""keystep eval --latency: the world goes on while the policy thinks"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

import keystep
from keystep.commands.options import OutputOptions
from keystep.evaluate.latencies import DeclaredLatency, LoopRule, declared, weighs
from keystep.evaluate.latency_plot import latency_figure
from keystep.evaluate.latency_sweep import LatencyCell, LatencySweep, plan_cells
from keystep.evaluate.protocols import Report
from keystep.evaluate.report import EvaluationReport
from keystep.evaluate.rollout import OpenPolicy
from keystep.evaluate.settings import Evaluation

Mode = Literal["lockstep", "async"]


@dataclass(frozen=True)
class LatencyOptions:
    """With any of these the world goes on while the policy thinks (docs/latency.md).

    Each but underrun may be given several times.
    """

    latency: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """What is declared: 0, chunk=3,plan=12 (control periods), chunk=50ms, or the FILE.json of a profile, also
    of one alone: plan=FILE.json. All is also played without latency, and compared with it."""
    mode: Annotated[tuple[Mode, ...], tyro.conf.UseAppendAction] = ()
    """lockstep stands still while it computes; async does not; both when not given."""
    merge: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """How chunks join in mode async, as keystep.load has it, or naive: replace without skipping what is past;
    the loop's default when not given."""
    merge_decay: Annotated[tuple[Literal["exponential", "linear"], ...], tyro.conf.UseAppendAction] = ()
    """Of x0blend, how the old chunk's weight falls; exponential when not given. Other rules have none."""
    merge_overlap: Annotated[tuple[int, ...], tyro.conf.UseAppendAction] = ()
    """Of x0blend, the first row of a new chunk that is wholly new; what leaves the delay's rows to the chunk
    after it when not given."""
    control_rate: Annotated[tuple[float, ...], tyro.conf.UseAppendAction] = ()
    """In Hz: how many actions a latency in ms, or one of a profile, comes to; the bundle's when not given. A
    latency in control periods is the same at every rate: with such ones alone it is refused."""
    underrun: Literal["hold", "decelerate", "repeat"] = "hold"
    """What the robot is given meanwhile."""

    @property
    def wanted(self) -> bool:
        """Any was given."""
        weights = self.merge_decay or self.merge_overlap
        lists = self.latency or self.mode or self.merge or weights or self.control_rate
        return bool(lists or self.underrun != "hold")

    def cells(self, manifest: dict[str, Any]) -> list[LatencyCell]:
        """What to play, in order. Raises ArgumentError."""
        merging = self.merge or self.merge_decay or self.merge_overlap
        modes: tuple[Mode, ...] = self.mode or (("async",) if merging else ("lockstep", "async"))
        for name in ("merge", "merge_decay", "merge_overlap"):
            if (given := getattr(self, name)) and "async" not in modes:
                raise keystep.ArgumentError(f"{name}: expected none in mode lockstep, got {given[0]!r}")
        rules = [rule for mode in modes for rule in self._rules(mode)]
        latencies: list[DeclaredLatency] = [declared(text) for text in self.latency]
        if self.control_rate and not any(latency.in_ms for latency in latencies):
            got = ", ".join(self.latency) or "none"
            raise keystep.ArgumentError(
                f"control_rate: expected a latency in ms (chunk=50ms) or of a profile beside it, got {got}"
            )
        return plan_cells(rules, latencies, self.control_rate or (float(manifest["control_rate_hz"]),))

    def _rules(self, mode: Mode) -> Iterator[LoopRule]:
        if mode == "lockstep":
            yield LoopRule(mode, underrun=self.underrun)
            return
        if (self.merge_decay or self.merge_overlap) and not any(map(weighs, self.merge or ("",))):
            given = "merge_decay" if self.merge_decay else "merge_overlap"
            got = ", ".join(self.merge)
            raise keystep.ArgumentError(f"{given}: expected merge x0blend or trained beside it, got {got}")
        for merge in self.merge or ("",):
            decays: Sequence[str] = (self.merge_decay or ("",)) if weighs(merge) else ("",)
            overlaps: Sequence[int | None] = (self.merge_overlap or (None,)) if weighs(merge) else (None,)
            yield from (
                LoopRule(mode, merge, self.underrun, decay, overlap)
                for decay in decays
                for overlap in overlaps
            )


def check_alone(bundles: Sequence[Path], evaluation: Evaluation, **others: object) -> None:
    """ArgumentError for what a sweep of latencies does not go with."""
    for name, value in others.items():
        if value is not None and value != ():
            others_given = "latency, mode, merge, control_rate or underrun"
            raise keystep.ArgumentError(f"{name}: expected none with {others_given}, got {value}")
    if len(bundles) > 1:
        raise keystep.ArgumentError(f"bundles: expected one with latency, got {len(bundles)}")
    if evaluation.chain_length > 1:
        raise keystep.ArgumentError("protocol: expected mtlc with latency, got lh-mtlc")


class LatencyRun:
    """A sweep as it is played: every cell in turn, and all files after each of them."""

    def __init__(self, cells: Sequence[LatencyCell], output: OutputOptions) -> None:
        self.cells = list(cells)
        self.output = output

    def play(
        self,
        open_policy: Callable[..., Any],
        run: Callable[[OpenPolicy, Callable[[Report], None]], Report],
        with_settings: Callable[[Report], Report],
    ) -> None:
        """Every cell.

        Args:
            open_policy: picklable, takes the options of `keystep.load` that a cell sets.
            run: plays a policy, and hands on what was played before an error or Ctrl-C.
            with_settings: the report with the options that made it.
        """
        for cell in self.cells:  # what the bundle or the loop refuses is refused before anything is played
            open_policy(**cell.load_options()).close()
        for number, cell in enumerate(self.cells):
            print(f"\n{number + 1} of {len(self.cells)}: {cell.rule.name}, latency {cell.latency.text}")

            def keep(report: Report, number: int = number) -> None:
                self.keep(number, with_settings(report))

            keep(run(functools.partial(open_policy, **cell.load_options()), keep))
        print(f"\n{self.result()}")

    def keep(self, number: int, report: Report) -> None:
        """Of one cell, whole or not: written with those before."""
        assert isinstance(report, EvaluationReport)
        self.cells[number] = replace(self.cells[number], report=report)
        sweep = self.result()
        self.output.write(sweep.to_dict(), sweep.markdown(), lambda: latency_figure(sweep))

    def result(self) -> LatencySweep:
        """What was played."""
        return LatencySweep(tuple(self.cells))
