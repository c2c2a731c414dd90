"""The picture of `benchmarks.periods`: intervals between actions over time, a row for each policy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.periods_figures import SHOWN_S, STALL_PERIODS
from benchmarks.periods_slices import ASYNC, LOCKSTEP, TORCH
from keystep.files import replacing
from keystep.notebook import new_figure

LOOKS = {TORCH: ("#D55E00", "o"), LOCKSTEP: ("#56B4E9", "s"), ASYNC: ("#000000", ".")}
"""Colour (Okabe and Ito 2008) and marker; the last is drawn on top."""


def periods_figure(policies: Mapping[str, Mapping[str, Any]], rate_hz: float) -> Any:
    """Left every action of the first seconds, right the longest interval of each second. Needs matplotlib."""
    period_ms = 1e3 / rate_hz
    figure = new_figure(9, 0.9 + 2.1 * len(policies))
    grid = figure.subplots(len(policies), 2, squeeze=False, sharex="col", sharey="row", width_ratios=(1, 1.6))
    for (near, far), (name, policy) in zip(grid, policies.items(), strict=True):
        for loop in (key for key in LOOKS if key in policy["loops"]):
            _draw(near, far, loop, policy["loops"][loop])
        for axes in (near, far):
            axes.axhline(STALL_PERIODS * period_ms, color="grey", linestyle=":", linewidth=0.8)
            axes.set_yscale("log")
            axes.margins(y=0.25)  # room for the legend: no longest interval is below a period
            axes.grid(alpha=0.3)
            axes.set_axisbelow(True)
        near.set_ylabel(f"{name}\ninterval, ms", fontsize="small")
        far.legend(fontsize="x-small", loc="lower right", framealpha=0.9)
    grid[0][0].set_title(f"each action, the first {SHOWN_S:g} s", fontsize="small")
    grid[0][1].set_title("the longest interval of each second", fontsize="small")
    grid[-1][0].set_xlabel("s")
    grid[-1][1].set_xlabel(
        f"s of each loop's own time; above the dotted line ({STALL_PERIODS:g} periods) it stalls"
    )
    return figure


def _draw(near: Any, far: Any, name: str, loop: Mapping[str, Any]) -> None:
    colour, marker = LOOKS[name]
    at = np.array(loop["first_ms"])
    if len(at) > 1:
        near.plot(at[1:] / 1e3, np.diff(at), marker, color=colour, markersize=2.5)
    label = f"{name}: {loop['stalls']:,} stalls, {loop['missed']:,} of {loop['due']:,} periods missed"
    seconds = np.array(loop["seconds"]).reshape(-1, 2)
    far.plot(seconds[:, 0], seconds[:, 1], marker, color=colour, markersize=2, label=label)


def save_plot(path: Path, policies: Mapping[str, Mapping[str, Any]], rate_hz: float) -> None:
    """As PNG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as (staged,):
        periods_figure(policies, rate_hz).savefig(staged, format="png", dpi=110)
