"""keystep rollouts"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated

import tyro

from keystep.commands.options import parse_env_kwargs, refuse_writers
from keystep.record.rollout_settings import RolloutReport, RolloutSettings, StreamCount
from keystep.table_writer import print_table


@dataclass(frozen=True)
class RolloutOptions(RolloutSettings):
    """What is collected."""

    env_kwargs: tuple[str, ...] = ()  # type: ignore[assignment]
    """For the environment's constructor: NAME=VALUE ..., or one JSON object."""

    def settings(self) -> RolloutSettings:
        """With `env_kwargs` as values."""
        values = {item.name: getattr(self, item.name) for item in fields(RolloutSettings)}
        return RolloutSettings(**values | {"env_kwargs": parse_env_kwargs(self.env_kwargs)})


def main(
    bundle: Annotated[Path, tyro.conf.Positional],
    output: Annotated[Path, tyro.conf.Positional],
    options: Annotated[RolloutOptions, tyro.conf.arg(name="")] = RolloutOptions(),
    replay: tuple[Path, ...] = (),
    processes: int = 1,
    cluster: str | None = None,
    workers: int = 0,
    tried: Path | None = None,
) -> RolloutReport:
    """Write successful rollouts of a policy as a dataset (HD-ExpIt, Algorithm 3).

    The contexts are environment resets and, with --replay, the last states of other datasets' episodes. A
    collection that was stopped goes on when the same command is given again.

    Args:
        bundle: the policy.
        output: dataset folder, new or to be continued.
        options: what is collected.
        replay: datasets whose last states are started from, such as the demonstrations.
        processes: simulators run in parallel on this machine.
        cluster: Ray instead of processes: "local", or HOST:PORT of a running cluster.
        workers: of the cluster, one core each; 0: one for each of its cores.
        tried: folder for the plans of all trials and what became of them, for `keystep train scorer`.
    """
    from keystep.record.rollouts import collect_rollouts

    refuse_writers(bundle)
    report = collect_rollouts(
        bundle,
        output,
        options.settings(),
        replay=replay,
        processes=processes,
        cluster=cluster,
        workers=workers,
        tried=tried,
    )
    print_report(report)
    return report


def print_report(report: RolloutReport) -> None:
    """Of every task and kind the contexts, trials and successes; then what is missing, and the speed."""
    counts = [count for count in report.counts if count.wanted]
    total = replace(counts[0], task="all", kind="") if counts else None  # type: ignore[arg-type]
    if total is not None:
        for name in ("wanted", "contexts", "left_out", "trials", "successes"):
            setattr(total, name, sum(getattr(count, name) for count in counts))
        header = ("task", "start", "contexts", "left out", "trials", "success", "kept", "wanted")
        print_table(header, [_row(count) for count in (*counts, total)], section=len(counts))
    for count in report.given_up:
        print(f"{count.task} ({count.kind}): gave up after {count.contexts} contexts, which is all there are")
    speed = f", {report.rollouts / report.seconds:.1f} rollouts a second" if report.seconds else ""
    again = f"; {report.restarts} workers died and were replaced" if report.restarts else ""
    print(f"{report.episodes} episodes in the dataset; {report.rollouts} rollouts in this run{speed}{again}")


def _row(count: StreamCount) -> list[str]:
    share = f"{100 * count.successes / count.trials:.0f} %" if count.trials else "-"
    numbers = (count.contexts, count.left_out, count.trials)
    return [count.task, count.kind, *map(str, numbers), share, str(count.successes), str(count.wanted)]
