"""keystep cross"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import tyro

import keystep
from keystep.commands.eval import ProtocolOptions, run, with_settings
from keystep.commands.options import OutputOptions, PolicyOptions
from keystep.evaluate.cross import cross
from keystep.evaluate.plots import cross_figure
from keystep.evaluate.protocols import Report
from keystep.evaluate.tables import cross_markdown


def main(
    planners: tuple[Path, ...],
    controllers: tuple[Path, ...],
    protocol: Annotated[ProtocolOptions, tyro.conf.arg(name="")],
    policy: Annotated[PolicyOptions, tyro.conf.arg(name="")],
    output: Annotated[OutputOptions, tyro.conf.arg(name="")],
) -> None:
    """Evaluate every planner with every controller, on the same episodes.

    Each pair is exported into a temporary bundle; one that cannot be stays empty, with the reason below. The
    results are written again after every pair.

    Args:
        planners: training checkpoints.
        controllers: training checkpoints.
    """

    def evaluate(bundle: Path) -> Report:
        evaluation = protocol.evaluation(keystep.read_manifest(bundle))
        report = run(policy.opener(bundle), evaluation, protocol.processes)
        return with_settings(report, bundle, protocol, policy)

    print(f"{len(planners) * len(controllers)} pairs, each of:")
    markdown = ""
    try:
        for report in cross(planners, controllers, export_pair, evaluate):
            if report.pairs[-1].error:
                print(f"{report.pairs[-1].planner}, {report.pairs[-1].controller}: {report.pairs[-1].error}")
            markdown = cross_markdown(report)
            output.write(report.to_dict(), markdown, functools.partial(cross_figure, report))
    finally:  # after Ctrl-C, too
        print(f"\n{markdown}")


def export_pair(planner: Path, controller: Path, output: Path) -> Path:
    from keystep.export.bundle import export_bundle

    return export_bundle(controller, output, planner=planner)
