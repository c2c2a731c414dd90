"""The graphs of a planner that writes code, run by ONNX Runtime from Python with one cache in place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import keystep
from keystep.export.code_reading import read_code_bundle
from keystep.export.code_tensors import FELT, FIRST, LENGTH, LOGITS, SEEN, TOKENS, VECTORS, past_names
from keystep.export.onnx_policy import normalized, onnx_session
from keystep.features import feature_of

Observation = dict[str, np.ndarray]


class OnnxPlanner:
    """One bundle and one cache.

    Attributes:
        manifest: of the bundle; planner: its key `planner`.

    Raises:
        BundleError: "field: expected X, got Y".
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.manifest, files = read_code_bundle(path)
        self.planner: dict[str, Any] = self.manifest["planner"]
        self._sessions = {
            name: onnx_session(graph, files, threads) for name, graph in self.manifest["graphs"].items()
        }
        for name, session in self._sessions.items():
            _check_session(name, session, self.manifest["graphs"][name])
        self._cache = {}
        for past, present in past_names(self.planner["layers"]):
            shape = (1, self.planner["key_heads"], self.planner["context"], self.planner["head_width"])
            self._cache[past, present] = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))

    def see(self, observation: Observation) -> dict[int, np.ndarray]:
        """Rows [n, D] of what is seen and felt, as the world gives it, by the token that they replace."""
        inputs = {}
        for key in (self.planner["sees"], self.planner["feels"]):
            if key is not None:
                feature, _ = feature_of(self.manifest, key)
                entry = self.planner["normalization"][key]
                inputs[f"plan.{key}"] = normalized(feature, entry, observation[key][None])
        session = self._sessions["vision"]
        names = [output.name for output in session.get_outputs()]
        made = dict(zip(names, session.run(names, inputs), strict=True))
        kinds = {"image": SEEN, "proprioception": FELT}
        tokens = self.planner["tokens"]
        return {tokens[kind]: made[name][0] for kind, name in kinds.items() if name in made}

    def rows(self, tokens: Sequence[int], seen: dict[int, np.ndarray]) -> np.ndarray:
        """[1, S, D] of tokens, those of `see` in their places.

        Raises:
            ValueError: other numbers of them than of the tokens.
        """
        given = np.array([tokens], np.int64)
        (vectors,) = self._sessions["embed"].run([VECTORS], {TOKENS: given})
        for token in (self.planner["tokens"]["image"], self.planner["tokens"]["proprioception"]):
            places, rows = np.flatnonzero(given[0] == token), seen.get(token, ())
            if len(places) and len(places) != len(rows):
                raise ValueError(f"tokens: expected {len(rows)} of {token}, got {len(places)}")
            if len(places):
                vectors[0, places] = rows
        return vectors

    def decode(self, vectors: np.ndarray, length: int, first: int) -> np.ndarray:
        """Logits [S - first, V] of the rows from `first` on, behind `length` tokens of the cache."""
        binding = self._sessions["decode"].io_binding()
        binding.bind_cpu_input(VECTORS, np.ascontiguousarray(vectors))
        binding.bind_cpu_input(LENGTH, np.array([length], np.int64))
        binding.bind_cpu_input(FIRST, np.array([first], np.int64))
        binding.bind_output(LOGITS)
        for (past, present), memory in self._cache.items():
            binding.bind_ortvalue_input(past, memory)
            binding.bind_ortvalue_output(present, memory)
        self._sessions["decode"].run_with_iobinding(binding)
        return binding.get_outputs()[0].numpy()[0]


def _check_session(name: str, session: onnxruntime.InferenceSession, graph: dict[str, Any]) -> None:
    """That a file has the tensors of the manifest; a symbolic axis may have any length there."""
    for side, found in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
        wanted = {one["name"]: one["shape"] for one in graph[side]}
        shapes = {one.name: one.shape for one in found}
        if list(shapes) != list(wanted):
            raise keystep.BundleError(
                f"graphs.{name}.{side}: expected {[*wanted]} in the file, got {[*shapes]}"
            )
        for tensor, shape in shapes.items():
            axes = zip(shape, wanted[tensor], strict=False)
            fits = len(shape) == len(wanted[tensor])
            if not fits or any(isinstance(got, int) and got != want for got, want in axes):
                place = f"graphs.{name}.{side}.{tensor}"
                raise keystep.BundleError(f"{place}: expected {wanted[tensor]} in the file, got {shape}")
