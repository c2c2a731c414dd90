"""The picture of `benchmarks.periods`: intervals between actions over time, a row for each policy."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.periods_figures import SHOWN_S, STALL_PERIODS
from benchmarks.periods_slices import ASYNC, LOCKSTEP, TORCH
from keystep.files import replacing
from keystep.notebook import new_figure

LOOKS = {TORCH: ("#D55E00", "o"), LOCKSTEP: ("#56B4E9", "s"), ASYNC: ("#000000", ".")}
"""Colour (Okabe and Ito 2008) and marker; the last is drawn on top."""
COLOURS = 32


def periods_figure(policies: Mapping[str, Mapping[str, Any]], rate_hz: float) -> Any:
    """Left every action of the first seconds, right the longest interval of each second. Needs matplotlib."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    period_ms = 1e3 / rate_hz
    figure = new_figure(10, 0.9 + 2.1 * len(policies))
    grid = figure.subplots(len(policies), 2, squeeze=False, sharex="col", sharey="row", width_ratios=(1, 1.6))
    for (near, far), (name, policy) in zip(grid, policies.items(), strict=True):
        for loop in (key for key in LOOKS if key in policy["loops"]):
            _draw(near, far, loop, policy["loops"][loop])
        for axes in (near, far):
            axes.axhline(STALL_PERIODS * period_ms, color="grey", linestyle=":", linewidth=0.8)
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.grid(alpha=0.3)
            axes.set_axisbelow(True)
        near.set_ylabel(f"{name}\ninterval, ms", fontsize="small")
        far.legend(fontsize="x-small", loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    grid[0][0].set_title(f"each action, the first {SHOWN_S:g} s", fontsize="small")
    grid[0][1].set_title("the longest interval of each second", fontsize="small")
    grid[-1][0].set_xlabel("s")
    grid[-1][1].set_xlabel("s of each loop's own time; a stall is above the dotted line")
    return figure


def _draw(near: Any, far: Any, name: str, loop: Mapping[str, Any]) -> None:
    colour, marker = LOOKS[name]
    at = np.array(loop["first_ms"])
    if len(at) > 1:
        near.plot(at[1:] / 1e3, np.diff(at), marker, color=colour, markersize=2.5)
    label = f"{name}\n{loop['stalls']:,} stalls, {loop['missed']:,} of\n{loop['due']:,} periods missed\n"
    seconds = np.array(loop["seconds"]).reshape(-1, 2)
    far.plot(seconds[:, 0], seconds[:, 1], marker, color=colour, markersize=2, label=label)


def save_plot(path: Path, policies: Mapping[str, Mapping[str, Any]], rate_hz: float) -> None:
    """As PNG, whole or not at all; of few colours, which makes it a third as large."""
    from PIL import Image  # matplotlib needs it

    drawn = BytesIO()
    periods_figure(policies, rate_hz).savefig(drawn, format="png", dpi=100)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as (staged,), Image.open(drawn) as image:
        few = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(staged, format="png", optimize=True)
