"""Graphs that exist already as a bundle, with golden data made on the spot by ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from keystep.export.bundle import check_output, write_bundle
from keystep.export.described import Actions, Entries, described
from keystep.export.errors import ExportError
from keystep.export.graphs import CONDITION
from keystep.export.levels import Controller
from keystep.export.module_checks import refuse
from keystep.export.onnx_fit import Tensors, check_numbers, fitted, run
from keystep.export.onnx_given import Given, read_given, said
from keystep.export.weights import MAX_BYTES, save_graph
from keystep.features import Feature
from keystep.models import SamplerConfig
from keystep.models.given import GivenAct, GivenConfig, GivenSteps


def from_onnx(
    graphs: Given | Mapping[str, Given],
    output: Path | str,
    *,
    features: Sequence[Feature],
    action: Actions,
    horizon: int,
    rate_hz: float,
    execute: int | None = None,
    start: int = 0,
    sampler: SamplerConfig | None = None,
    normalization: Entries | None = None,
    names: Mapping[str, str] | Mapping[str, Mapping[str, str]] | None = None,
    name: str | None = None,
    overwrite: bool = False,
    seed: int = 0,
) -> Path:
    """Makes a bundle of ONNX graphs, whoever wrote them; it appears whole or not at all, verified.

    Without a sampler there is one graph, `act`: from the features to a chunk [1, H, A]. With one there are
    two: `encode`, from the features to a condition [1, ..], and `denoise`, from `sample` [1, H, A],
    `timestep` [1] int64 and `condition` to the prediction [1, H, A]. Features are inputs of their keys,
    float32 and normalised: vectors [1, S], images [1, C, h, w] from 0..1, n > 1 frames [1, n, ..]. A symbolic
    axis, such as that of the batch, is fixed to what is written here. A graph has one output, or several of
    which `names` says which is meant (`actions`, `condition`, `model_output`): the others are dropped.

    Args:
        graphs: `act`, as a file's path or a loaded ModelProto; or all graphs by name. Weights may lie in
            files beside a file.
        names: what they are, by what the graph calls its inputs and outputs; of several graphs by graph.
        features, action, horizon, rate_hz, execute, start, sampler, normalization, name, overwrite, seed: as
            of `from_module`.

    Raises:
        ExportError: "graphs.GRAPH.inputs.NAME: expected X, got Y": a file is missing or damaged, a tensor has
            another name, type or shape, ONNX Runtime does not run an operator, an answer is not finite or
            another each time.
        FileExistsError, OSError: as of `export_bundle`.
    """
    output = Path(output)
    check_output(output, overwrite)
    checkpoint = described(
        features,
        action,
        horizon=horizon,
        rate_hz=rate_hz,
        execute=execute,
        start=start,
        sampler=sampler,
        normalization=normalization,
        made_by="from_onnx",
    )
    checkpoint.provenance["golden_by"] = f"ONNX Runtime {onnxruntime.__version__}"
    config: GivenConfig = checkpoint.config  # type: ignore[assignment]
    given = _by_name(graphs, sampler is not None)
    known = _names(names, given)
    with tempfile.TemporaryDirectory() as folder:
        ready = _Ready(given, known, config, sampler, Path(folder))
        controller = Controller(ready.model(), checkpoint, sampler, config.execute, graphs=ready.files)
        return write_bundle(controller, None, output, name=name, overwrite=overwrite, seed=seed)


class _Ready:
    """The graphs of one policy as the bundle takes them, in a folder, and run by ONNX Runtime.

    Attributes:
        files: by graph. sessions: likewise.
    """

    def __init__(
        self,
        given: Mapping[str, Given],
        names: Mapping[str, Mapping[str, str]],
        config: GivenConfig,
        sampler: SamplerConfig | None,
        folder: Path,
    ) -> None:
        self.config, self.folder = config, folder
        self.files: dict[str, Path] = {}
        self.sessions: dict[str, onnxruntime.InferenceSession] = {}
        seen: Tensors = {
            key: (np.dtype(np.float32), feature.network_shape(frames))
            for key, (feature, frames) in config.inputs().items()
        }
        chunk = (1, config.horizon, config.action_dim)
        if sampler is None:
            self._add("act", given, names, seen, "actions", chunk)
            return
        condition = self._add("encode", given, names, seen, CONDITION, None)
        told: Tensors = {
            "sample": (np.dtype(np.float32), chunk),
            "timestep": (np.dtype(np.int64), (1,)),
            CONDITION: (np.dtype(np.float32), condition),
        }
        self._add("denoise", given, names, told, "model_output", chunk)
        check_numbers(self.sessions["denoise"], told, sampler.train_steps)

    def _add(
        self,
        kind: str,
        given: Mapping[str, Given],
        names: Mapping[str, Mapping[str, str]],
        inputs: Tensors,
        output: str,
        shape: tuple[int, ...] | None,
    ) -> tuple[int, ...]:
        """Returns the output's shape."""
        model = read_given(kind, given[kind])
        made, session = fitted(kind, model, names.get(kind, {}), inputs, output, shape, self.folder / "tried")
        path = self.folder / f"{kind}.onnx"
        save_graph(model, path, MAX_BYTES)
        try:
            onnx.checker.check_model(path)
        except onnx.checker.ValidationError as error:
            # ONNX Runtime knows operators of its own, of which onnx does not.
            if not any(used.domain == "com.microsoft" for used in model.opset_import):
                raise ExportError(f"graphs.{kind}: expected a valid graph, got {said(error)}") from None
        self.files[kind], self.sessions[kind] = path, session
        return made

    def model(self) -> GivenAct | GivenSteps:
        """What makes golden data of them."""
        if "act" in self.sessions:
            return GivenAct(self.config, _Acting(self.sessions["act"]))
        return GivenSteps(self.config, _Stepping(self.sessions["encode"], self.sessions["denoise"]))


class _Acting(nn.Module):
    """The graph `act` in the place of a network."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        super().__init__()
        self.session = session

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return _run("act", self.session, batch)


class _Stepping(nn.Module):
    """The graphs `encode` and `denoise` in the place of a network's methods."""

    def __init__(self, encoder: onnxruntime.InferenceSession, denoiser: onnxruntime.InferenceSession) -> None:
        super().__init__()
        self.encoder, self.denoiser = encoder, denoiser

    def encode(self, batch: dict[str, Tensor]) -> Tensor:
        return _run("encode", self.encoder, batch)

    def denoise(self, sample: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        return _run("denoise", self.denoiser, {"sample": sample, "timestep": timestep, CONDITION: condition})


def _run(kind: str, session: onnxruntime.InferenceSession, inputs: Mapping[str, Tensor]) -> Tensor:
    given = {key: value.contiguous().numpy() for key, value in inputs.items()}
    return torch.from_numpy(run(f"graphs.{kind}", session, given))


def _by_name(graphs: Any, steps: bool) -> dict[str, Given]:
    """Raises ExportError for others than the policy has."""
    wanted = ("encode", "denoise") if steps else ("act",)
    told = " and ".join(wanted) + (" (with a sampler)" if steps else " (without a sampler)")
    if isinstance(graphs, Mapping):
        if set(graphs) != {*wanted}:
            raise refuse("graphs", told, ", ".join(map(str, graphs)) or "none")
        return dict(graphs)
    if steps:
        raise refuse("graphs", told, type(graphs).__name__)
    return {"act": graphs}


def _names(names: Any, given: Mapping[str, Given]) -> dict[str, Mapping[str, str]]:
    """By graph. Raises ExportError."""
    if names is None:
        return {}
    if not isinstance(names, Mapping):
        raise refuse("names", "a name for each that the graph has", names)
    of_one = all(isinstance(value, str) for value in names.values()) and "act" in given
    by_graph = {"act": names} if of_one else dict(names)
    for kind, renamed in by_graph.items():
        if kind not in given:
            raise refuse("names", f"names by graph ({', '.join(given)})", kind)
        fits = isinstance(renamed, Mapping)
        if not fits or not all(isinstance(text, str) for pair in renamed.items() for text in pair):
            raise refuse(f"names.{kind}", "a name for each that the graph has", renamed)
        if len(set(renamed.values())) < len(renamed):
            raise refuse(f"names.{kind}", "different names", [*renamed.values()])
    return by_graph
