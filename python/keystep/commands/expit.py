"""keystep expit"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

import keystep


def main(
    config: Annotated[Path | None, tyro.conf.Positional] = None,
    output: Path | None = None,
    preset: str | None = None,
    budget: int | None = None,
    mode: Literal["standard", "ft"] | None = None,
    iterations: int | None = None,
    seed: int | None = None,
    start: Path | None = None,
    processes: int | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    status: Path | None = None,
) -> Any:
    """Expert iteration: a hierarchy collects with itself, learns from what succeeded, is evaluated, again.

    Run again to go on. Ctrl-C and SIGTERM save and stop. docs/expert_iteration.md has the file's settings.

    Args:
        config: TOML file; the options below are in place of its values.
        output: folder of the run.
        preset: what the file's settings are on top of: small, paper or tiny.
        budget: training steps of iteration 0, of planner and controller together; those of the others follow.
        mode: standard, all data and from scratch; ft, the newest data and from the current weights.
        iterations: after iteration 0.
        seed: of weights, batches and contexts.
        start: folder of another run whose iteration 0 is taken over.
        processes: simulators run in parallel.
        cluster: of Ray, which collects: "local", or an address.
        workers: of the cluster, one core each; 0: one for each of its cores.
        status: show how far the run in this folder is, and do nothing.
    """
    if status is not None:
        if config is not None:
            raise keystep.ArgumentError(f"status: expected no config beside it, got {config}")
        from keystep.expit.status import status_text

        print(status_text(status))
        return None
    if config is None:
        raise keystep.ArgumentError("config: expected a TOML file, or --status FOLDER, got neither")
    from keystep.expit import expit, read_config

    changes: dict[str, Any] = {"mode": mode, "iterations": iterations, "seed": seed, "processes": processes}
    changes |= {"output": _absolute(output), "start": _absolute(start), "cluster": cluster}
    changes["workers"] = workers
    settings = read_config(config, budget, preset, **changes)
    print(f"{settings.output}: {settings.mode}, seed {settings.seed}; {settings.told_steps()}", flush=True)
    report = expit(settings)
    told = ", ".join(f"{100 * rate:.1f} %" for rate in report.success)
    print(f"{report.output}: success by iteration: {told or 'none yet'}")
    if report.interrupted:
        print("stopped; run again to go on")
    return report


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())
