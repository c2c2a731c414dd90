"""What continuing the chunk before costs: milliseconds of a chunk by every rule that merges in the sampler.

    python -m benchmarks.merging --presets small small-15m

Networks are untrained, which costs the same. `none` and `x0blend` run the network without a mask, `given` one
with it that is given nothing, `trained` the same with a prefix.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import keystep
from benchmarks.harness import interleave, paired_ratio, summarise, write_result
from benchmarks.machine import REPOSITORY, describe_run
from keystep.table_writer import markdown_table

CONTENDERS: dict[str, tuple[bool, dict[str, Any]]] = {
    "none": (False, {"rule": "none"}),
    "x0blend": (False, {"rule": "x0blend"}),
    "given": (True, {"rule": "none"}),
    "trained": (True, {"rule": "trained"}),
}
"""Whether the network has a mask, and the rule."""


@dataclass(frozen=True)
class Options:
    presets: tuple[str, ...] = ("small", "small-15m")
    """Controllers of keystep.models.PRESETS."""
    delay: int = 3
    """Actions that are executed from the chunk before."""
    threads: int = 1
    """Of the engine."""
    engine: str = "auto"
    """Of keystep.load."""
    rounds: int = 200
    """Rounds; every contender runs once per round, in shuffled order."""
    seed: int = 0
    """Of the order and the inputs."""
    output: Path = REPOSITORY / "benchmarks" / "results" / "merging.json"
    """The JSON result; a Markdown report is written beside it."""


def main(options: Options) -> None:
    """Runs all comparisons and writes the result."""
    describe_run()
    cases = []
    for preset in options.presets:
        with tempfile.TemporaryDirectory() as folder:
            cases.append(measure(preset, Path(folder), options))
        print(case_markdown(cases[-1]), flush=True)
    settings = asdict(options) | {"output": options.output.name}
    write_result(options.output, "merging", settings, {"cases": cases}, "\n".join(map(case_markdown, cases)))


def measure(preset: str, folder: Path, options: Options) -> dict[str, Any]:
    """One network: milliseconds of a chunk by each rule, and their ratio to none."""
    bundles = {masked: bundle(preset, masked, folder, options) for masked in (False, True)}
    policies = {
        masked: keystep.load(path, engine=options.engine, threads=options.threads)
        for masked, path in bundles.items()
    }
    rng = np.random.default_rng(options.seed)
    (feature,) = policies[False].manifest["observation"]
    seen = {feature["key"]: rng.standard_normal(feature["shape"]).astype(np.float32)}
    chunk = policies[False].manifest["chunk"]["horizon"], len(policies[False].manifest["action"]["names"])
    old = rng.uniform(0, 1, chunk).astype(np.float32)

    def contender(policy: keystep.Runtime, rule: dict[str, Any]) -> Callable[[int], float]:
        def run(round_index: int) -> float:
            policy.reset(seed=options.seed, episode=round_index)
            start = time.perf_counter()
            policy.predict_chunk(seen, previous=old, delay=options.delay, **rule)
            return 1e3 * (time.perf_counter() - start)

        run(0)  # warm
        return run

    runs = {name: contender(policies[masked], rule) for name, (masked, rule) in CONTENDERS.items()}
    samples = interleave(runs, options.rounds, seed=options.seed, label=preset, settle_ms=1.0)
    engine = policies[False].description
    for policy in policies.values():
        policy.close()
    return {
        "preset": preset,
        "engine": engine,
        "chunk_ms": {name: summarise(values) for name, values in samples.items()},
        "ratio": {name: paired_ratio(values, samples["none"]) for name, values in samples.items()},
    }


def bundle(preset: str, masked: bool, folder: Path, options: Options) -> Path:
    """Of an untrained controller, with or without a mask."""
    from keystep.export.bundle import export_bundle
    from keystep.models import PRESETS, random_checkpoint

    config = replace(PRESETS[preset], max_delay=options.delay if masked else 0)
    random_checkpoint(folder / f"run{masked}", config)
    return export_bundle(folder / f"run{masked}", folder / f"{masked}.keystep")


def case_markdown(case: dict[str, Any]) -> str:
    rows = [
        [name, f"{times['median']:.3f}", f"{times['p99']:.3f}",
         "{median:.3f} [{low:.3f}, {high:.3f}]".format(**case["ratio"][name])]
        for name, times in case["chunk_ms"].items()
    ]  # fmt: skip
    head = f"## {case['preset']}\n\n{case['engine']}\n\n"
    return head + markdown_table(["rule", "p50 ms", "p99 ms", "of none (95 %)"], rows) + "\n"


if __name__ == "__main__":
    main(tyro.cli(Options))
