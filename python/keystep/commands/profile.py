"""keystep profile"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from keystep.commands.options import Engine, Isa, Precision, engine_options
from keystep.evaluate.profile import profile
from keystep.files import write_json


def main(
    bundle: Annotated[Path, tyro.conf.Positional],
    ticks: int = 2000,
    threads: int = 0,
    provider: str = "cpu",
    inference_steps: int = 0,
    engine: Engine = "auto",
    precision: Precision = "bundle",
    isa: Isa = "best",
    planner_candidates: int = 1,
    planner_score: Literal["bundle", "learned", "density"] = "bundle",
    json: Path | None = None,
) -> None:
    """Measure a bundle on this machine, without a simulator: latency, time per action, allocations, memory.

    Args:
        bundle: the bundle's folder.
        ticks: control periods to run, as fast as they go, on the observations of the golden data.
        threads: threads inside an operator or a native U-Net; 0: one per physical core.
        provider: cpu, openvino, cuda or tensorrt.
        inference_steps: denoise steps; 0: as the bundle says.
        engine: auto, native, onnxruntime, or stub to measure the loop alone; see `keystep.load`.
        precision: of native U-Nets: fp32, bf16 or int8; as the bundle says.
        isa: instructions of the native kernels; the best that this CPU has.
        planner_candidates: plans sampled at once, of which the best is followed; the stages `plan` and, in
            it, `score` show what a plan costs.
        planner_score: what is best; by the bundle's scorer, if it has one.
        json: also write the figures to this file.
    """
    options = engine_options(engine, precision, isa)
    if planner_candidates != 1:
        options["planner_candidates"] = planner_candidates
    if planner_score != "bundle":
        options["planner_score"] = planner_score
    report = profile(bundle, ticks, threads, provider, inference_steps, **options)
    print(report)
    if json is not None:
        write_json(json, report.to_dict())
