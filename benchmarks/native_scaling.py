"""How the time of a chunk grows with horizon, width and denoise steps: keystep's engine in three precisions,
and ONNX Runtime.

    python -m benchmarks.native_scaling --axes horizon width steps --threads 2

Writes the figures and, beside them, a plot of each axis. All runs are keystep's C++ loop through Python.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from benchmarks import compare
from benchmarks.cases import HORIZONS, WIDTHS, prepare_case
from benchmarks.harness import write_result
from benchmarks.loop import Scaling, read_manifest
from benchmarks.machine import REPOSITORY, describe_run
from benchmarks.native_contenders import ONNXRUNTIME, PRECISIONS, make_inputs, native
from benchmarks.native_floors import chunk_floors
from keystep.table_writer import table_of

__all__ = ["CONTENDERS", "make_inputs"]
REFERENCE = "onnxruntime"
CONTENDERS = {
    REFERENCE: ONNXRUNTIME,
    **{f"native-{precision}": native(precision) for precision in PRECISIONS},
    # More steps of an untrained network multiply rounding errors: over 100 steps torch's own fp32 is 2e-3 off
    # its float64, ONNX Runtime and we 5e-4; over 10 steps 2e-5, 1e-5 and 2e-5.
    "native-fp32": replace(native("fp32"), tolerance=1e-2),
}
STEPS = (1, 2, 5, 10, 20, 50, 100)
AXES = {
    "horizon": ("horizon, actions", "128-256-384, 10 denoise steps"),
    "width": ("channels of the first level", "x 1-2-4, horizon 16, 10 denoise steps"),
    "steps": ("denoise steps", "128-256-384, horizon 16"),
}


@dataclass(frozen=True)
class Options:
    axes: tuple[str, ...] = tuple(AXES)
    """Of horizon, width and steps."""
    threads: int = 2
    """Threads of every contender."""
    rounds: int = 20
    """Rounds; every contender runs once per round, in shuffled order."""
    warm_calls: int = 1
    """Untimed calls before each timed one: the contender before has emptied the caches."""
    seed: int = 0
    """Of the order, the observations and the noise."""
    output: Path = REPOSITORY / "benchmarks" / "results" / "native-scaling.json"
    """The JSON result; a Markdown report and the plots are written beside it."""


def main(options: Options) -> None:
    """Runs all points and writes the result after each axis."""
    describe_run()
    unknown = [axis for axis in options.axes if axis not in AXES]
    if unknown:
        raise SystemExit(f"axes: expected some of {', '.join(AXES)}, got {', '.join(unknown)}")
    settings = {**asdict(options), "output": options.output.name}
    axes: dict[str, list[dict[str, Any]]] = {}
    for axis in options.axes:
        axes[axis] = [measure(axis, value, case, options) for value, case in points(axis)]
        report = "\n".join(axis_markdown(name, found) for name, found in axes.items())
        print(axis_markdown(axis, axes[axis]), flush=True)
        write_result(options.output, "native-scaling", settings, {"axes": axes}, report)
        plot(axis, axes[axis], options)


def points(axis: str) -> list[tuple[int, str]]:
    """Values on an axis, and the case that has it."""
    if axis == "steps":
        return [(steps, "small") for steps in STEPS]
    values = HORIZONS if axis == "horizon" else WIDTHS
    return [(value, f"{axis}-{value}") for value in values]


def measure(axis: str, value: int, name: str, options: Options) -> dict[str, Any]:
    """All contenders at one point."""
    case = prepare_case(name)
    steps = value if axis == "steps" else 0  # 0: as the bundle says
    race = compare.Race(
        module="benchmarks.native_scaling",
        case=case,
        names=tuple(CONTENDERS),
        references=dict.fromkeys(CONTENDERS, REFERENCE),
        threads=options.threads,
        rounds=options.rounds,
        warm_calls=options.warm_calls,
        seed=options.seed,
        label=f"{axis} {value}",
        options={"inference_steps": steps},
        normalize=Scaling(read_manifest(case)).normalized_action,
    )
    floors = chunk_floors(case, options.threads, steps)
    return {"value": value, "case": name, "floors": floors, "contenders": compare.run(race)}


def axis_markdown(axis: str, found: Sequence[Mapping[str, Any]]) -> str:
    """Medians in ms, a row a point."""
    label, rest = AXES[axis]
    rows = [
        {
            label: str(point["value"]),
            **{f"{each['name']} ms": f"{each['ms']['median']:.3f}" for each in point["contenders"]},
            "fp32 off": f"{_fp32(point)['max_relative']:.1e}",
            **{f"floor {name}": f"{floor['floor_ms']:.3f}" for name, floor in point["floors"].items()},
        }
        for point in found
    ]
    note = "`fp32 off`: greatest difference of native-fp32 from ONNX Runtime over its greatest action."
    return f"## {axis}\n\n{rest}. {note}\n\n{table_of(rows)}"


def _fp32(point: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(each for each in point["contenders"] if each["name"] == "native-fp32")


def plot(axis: str, found: Sequence[Mapping[str, Any]], options: Options) -> None:
    """Medians, and a band from the fastest to p90; floors dotted in the colour of their precision."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    label, rest = AXES[axis]
    values = [point["value"] for point in found]
    figure, axes = pyplot.subplots(figsize=(6.4, 4.4), layout="constrained")
    for index, name in enumerate(CONTENDERS):
        ours = [each for point in found for each in point["contenders"] if each["name"] == name]
        medians, low, high = ([each["ms"][key] for each in ours] for key in ("median", "min", "p90"))
        axes.plot(values, medians, marker="o", color=f"C{index}", label=name)
        axes.fill_between(values, low, high, color=f"C{index}", alpha=0.15, linewidth=0)
        if name != REFERENCE:
            floors = [point["floors"][CONTENDERS[name].precision]["floor_ms"] for point in found]
            axes.plot(values, floors, linestyle=":", color=f"C{index}")
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel="ms per chunk", xticks=values)
    axes.set_xticklabels([str(value) for value in values])
    axes.minorticks_off()
    axes.set_title(f"{rest}, {options.threads} threads\nband: fastest to p90; dotted: floor of the precision")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(options.output.with_name(f"{options.output.stem}-{axis}.png"), dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
