"""keystep verify"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

import keystep
from keystep.files import check_outputs, write_json


def main(
    bundle: Annotated[Path, tyro.conf.Positional],
    checkpoint: Path | None = None,
    planner: Path | None = None,
    scorer: Path | None = None,
    tolerance: float = 1e-4,
    threads: int = 1,
    provider: str = "cpu",
    json: Path | None = None,
) -> None:
    """Prove on this machine that the compiled policy is the trained one: torch, ONNX and C++ on golden data.

    "C++ runtime" computes all graphs by ONNX Runtime; "native" the U-Nets by our own kernels, once for each
    precision that the bundle records errors of (on the cpu).

    Args:
        bundle: the bundle's folder.
        checkpoint: also compute with torch now, from this controller's checkpoint.
        planner: and from this planner's.
        scorer: and from this scorer's.
        tolerance: greatest difference allowed, in network units (whose range is about 2); of rounded weights
            also twice the recorded one, of policies that magnify rounding more (see docs/bundle.md).
        threads: threads inside an operator.
        provider: cpu, openvino, cuda or tensorrt.
        json: also write the differences to this file.
    """
    from keystep.export.verify import verify_bundle

    check_outputs(json=json)
    report = verify_bundle(
        bundle, checkpoint, planner, scorer=scorer, tolerance=tolerance, threads=threads, provider=provider
    )
    print(report)
    if json is not None:
        write_json(json, report.to_dict())
    if not report.ok:
        raise keystep.Error(
            f"{bundle}: expected differences of at most {tolerance:g} in network units, got greater ones"
        )
