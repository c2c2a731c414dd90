"""What it costs to have keystep at all: import time, loading time and resident memory, in fresh processes.

    python -m benchmarks.footprint --processes 15

A further session (`runtime.session()`) is on the weights of the first and has acted, too; its figures are the
mean of several in one process, as pages are coarse beside it.

Bars: import 150 ms without torch, loading 1 s, 200 MB resident with a bundle that has acted.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.harness import interleave, summarise, write_result
from benchmarks.machine import REPOSITORY, describe_run
from keystep.table_writer import table_of

IMPORT = """
import sys, time
start = time.perf_counter_ns()
import {module}
ms = (time.perf_counter_ns() - start) / 1e6
import json
print(json.dumps(dict(ms=ms, torch="torch" in sys.modules)))
"""

LOAD = """
import json, sys, time
import numpy as np
import keystep
start = time.perf_counter_ns()
runtime = keystep.load({bundle!r}, threads={threads})
ms = (time.perf_counter_ns() - start) / 1e6
features = runtime.manifest["observation"]
observation = {{entry["key"]: np.zeros(entry["shape"], entry["dtype"]) for entry in features}}
goal = observation if runtime.manifest["goal"] == "observation" else None
def acted(session):
    session.reset(task=session.task_names[0] if session.task_names else None, goal=goal)
    for _ in range(20):
        session.act(observation)
    return session
def memory():
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines() if ":" in line)
    return [int(status[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM")]
acted(runtime)
resident_mb, peak_mb = memory()
session_ms, sessions = [], []
for _ in range({sessions}):
    start = time.perf_counter_ns()
    session = runtime.session()
    session_ms.append((time.perf_counter_ns() - start) / 1e6)
    sessions.append(acted(session))
added = dict(session_ms=np.mean(session_ms), session_mb=(memory()[0] - resident_mb) / len(sessions))
first = dict(ms=ms, resident_mb=resident_mb, peak_mb=peak_mb, torch="torch" in sys.modules)
print(json.dumps(first | added))
"""
SESSIONS = 8
FIGURES = {
    "resident (MB)": "resident_mb",
    "peak (MB)": "peak_mb",
    "further session (ms)": "session_ms",
    "further session (MB added)": "session_mb",
}
"""Of what LOAD answers."""


@dataclass(frozen=True)
class Options:
    bundle: Path = REPOSITORY / "bundles" / "franka3blocks-state.keystep"
    """The bundle to load; default: the shipped one."""
    threads: int = 1
    """Threads of the engine."""
    processes: int = 15
    """Fresh interpreters per figure."""
    output: Path = REPOSITORY / "benchmarks" / "results" / "footprint.json"


def main(options: Options) -> None:
    """Runs the fresh interpreters in turn and writes the result."""
    describe_run()
    scripts = {
        "import numpy": IMPORT.format(module="numpy"),
        "import keystep": IMPORT.format(module="keystep"),
        "load": LOAD.format(bundle=str(options.bundle.resolve()), threads=options.threads, sessions=SESSIONS),
    }
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in scripts}

    def turn(name: str, round_index: int) -> float:
        answers[name].append(run_fresh(scripts[name]))
        return float(answers[name][-1]["ms"])

    turns = {name: (lambda index, name=name: turn(name, index)) for name in scripts}
    for name in scripts:
        run_fresh(scripts[name])  # files into the page cache
    samples = interleave(turns, options.processes, seed=0, label="fresh processes")

    figures = {f"{name} (ms)": summarise(values) for name, values in samples.items()}
    for name, key in FIGURES.items():
        figures[name] = summarise([answer[key] for answer in answers["load"]])
    report = report_markdown(figures, answers)
    print(report)
    settings = {"bundle": options.bundle.name, "threads": options.threads, "processes": options.processes}
    write_result(options.output, "footprint", settings, {"figures": figures}, report)


def run_fresh(script: str) -> dict[str, Any]:
    """The JSON line a script prints in an interpreter of its own."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"fresh interpreter: exit status {done.returncode}\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def report_markdown(figures: dict[str, dict[str, float]], answers: dict[str, list[dict[str, Any]]]) -> str:
    bars = {"import keystep (ms)": 150, "load (ms)": 1000, "resident (MB)": 200}
    rows = [
        {
            "figure": name,
            "median": f"{figure['median']:.1f}",
            "p90": f"{figure['p90']:.1f}",
            "max": f"{figure['max']:.1f}",
            "bar": str(bars.get(name, "")),
            "within": ("yes" if figure["median"] <= bars[name] else "no") if name in bars else "",
        }
        for name, figure in figures.items()
    ]
    imported = any(answer["torch"] for name in ("import keystep", "load") for answer in answers[name])
    return f"{table_of(rows)}\ntorch imported: {'yes' if imported else 'no'}\n"


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
