"""That a denoiser which is given computes the same at every time-step, not only at those of the golden data.

An `if` on the time-step is traced once, and the number of steps may be changed when a bundle is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from keystep.export.errors import ExportError
from keystep.export.golden import Arrays, observed
from keystep.export.levels import Controller
from keystep.export.onnx_policy import session_of
from keystep.models.given import GivenSteps

CHEAP = 20_000_000
"""Parameters up to which every time-step is tried; of larger networks MOST are, the first and last too."""
MOST = 128
TOLERANCE = 1e-4


@torch.no_grad()
def check_steps(controller: Controller, manifest: dict[str, Any], arrays: Arrays, folder: Path) -> None:
    """Runs `denoise` by torch and by ONNX Runtime. Raises ExportError: the first time-step that differs."""
    model, sampler = controller.model, controller.sampler
    if not isinstance(model, GivenSteps) or sampler is None or controller.graphs is not None:
        return
    session = session_of(folder, manifest, "denoise", threads=0)
    condition = model.conditions(observed(controller, arrays, 0), guided=False)
    sample = torch.from_numpy(arrays["noise"][0][:1])
    for step in tried(sampler.train_steps, sum(weight.numel() for weight in model.parameters())):
        timestep = torch.tensor([step])
        torchs = model.denoise(sample.clone(), timestep, condition.clone()).numpy()
        given = {"sample": sample.numpy(), "timestep": timestep.numpy(), "condition": condition.numpy()}
        (onnxs,) = session.run(None, given)
        difference = float(np.abs(onnxs - torchs).max())
        if not difference <= TOLERANCE * max(1.0, float(np.abs(torchs).max())):
            wanted = f"ONNX to be torch at every time-step within {TOLERANCE:g}"
            raise ExportError(f"verify.denoise: expected {wanted}, got {difference:.2g} at {step}")


def tried(train_steps: int, parameters: int) -> list[int]:
    """Time-steps, rising; the first, middle and last are among them."""
    if parameters <= CHEAP or train_steps <= MOST:
        return list(range(train_steps))
    return sorted({*np.linspace(0, train_steps - 1, MOST).round().astype(int).tolist(), train_steps // 2})
