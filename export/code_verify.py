"""Proves that the graphs of a planner that writes code are the trained network, on golden.npz."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keystep.export.comparison import TOLERANCE, Comparison, VerifyReport, compare
from keystep.export.golden_file import FILL, read_golden
from keystep.export.onnx_planner import OnnxPlanner

Arrays = dict[str, np.ndarray]
GOLDEN, ONNX = "golden (torch)", "ONNX from Python"


@dataclass(frozen=True)
class CodeAnswers:
    """What the graphs make of the golden cases.

    Attributes:
        logits: [N, V] behind the prompt.
        agree: share of the replies' tokens that are torch's.
        lost: by how much torch preferred its own, at most, where they are not: in units of logits.
    """

    logits: np.ndarray
    agree: float
    lost: float


def verify_code_bundle(path: Path, tolerance: float = TOLERANCE, threads: int = 1) -> VerifyReport:
    """Compares logits and replies; see `keystep verify`. Logits are in units of their greatest size.

    Raises:
        BundleError: the bundle is damaged. A difference does not raise: see `VerifyReport.ok`.
    """
    planner = OnnxPlanner(path, threads)
    golden = read_golden(path, planner.manifest)
    answers, unit = code_answers(planner, golden), logit_unit(golden)
    weights = planner.planner["weights"]
    errors = weights["errors"]
    recorded = max(errors["max"], errors["margin"] / 2) if weights["precision"] != "fp32" else 0.0
    logits = compare(ONNX, GOLDEN, "logits", answers.logits / unit, golden["logits"] / unit)
    # Two logits, each as far off as it may be, change places where torch has them twice as near.
    lost = answers.lost / unit / 2
    replies = Comparison(ONNX, GOLDEN, "replies", lost, lost)
    rows = tuple(replace(row, recorded=recorded) for row in (logits, replies))
    return VerifyReport(planner.manifest["name"], len(golden["logits"]), tolerance, rows)


def measured_code_errors(path: Path) -> dict[str, float]:
    """Of the decoder's weights as they are in the bundle, to be recorded in the manifest."""
    planner = OnnxPlanner(path)
    golden = read_golden(path, planner.manifest)
    answers, unit = code_answers(planner, golden), logit_unit(golden)
    row = compare("", "", "", answers.logits / unit, golden["logits"] / unit)
    return {
        "max": row.max_error,
        "rms": row.rms_error,
        "agree": answers.agree,
        "margin": answers.lost / unit,
    }


def logit_unit(golden: Arrays) -> float:
    """The greatest size of a logit."""
    return float(np.abs(golden["logits"]).max()) or 1.0


def code_answers(planner: OnnxPlanner, golden: Arrays) -> CodeAnswers:
    """Each prompt in two passes, cut before what is seen as a session does, the reply behind the second."""
    logits, same, lost = [], [], [0.0]
    keys = [feature["key"] for feature in planner.manifest["observation"]]
    never = planner.planner["never"]
    for case in range(len(golden["logits"])):
        prompt, reply = (_ids(golden[name][case]) for name in ("tokens", "reply"))
        seen = planner.see({key: golden[key][case] for key in keys})
        rows = planner.rows([*prompt, *reply[:-1]], seen)
        live = next((place for place, token in enumerate(prompt) if token in seen), 0)
        if live:
            planner.decode(rows[:, :live], 0, live - 1)
        found = planner.decode(rows[:, live:], live, len(prompt) - 1 - live)
        logits.append(found[0].copy())
        found[:, never] = -np.inf
        agrees = found.argmax(axis=1) == reply
        same += agrees.tolist()
        lost += golden["margin"][case][: len(reply)][~agrees].tolist()
    return CodeAnswers(np.stack(logits), float(np.mean(same)), float(max(lost)))


def _ids(row: np.ndarray) -> list[int]:
    return row[row != FILL].tolist()
