"""The ways to run one and the same ACT controller: an observation in, a chunk of actions out, in one pass.

The goal is that of the bundle's first golden case, made ready before the clock starts. Imports are local, see
`benchmarks.worker`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.loop import Scaling, read_manifest
from benchmarks.worker import Contender
from keystep.features import feature_of

Array = NDArray[np.float32]
Image = NDArray[np.uint8]
Policy = Callable[[Image], Array]  # image [h, w, 3] -> actions [H, A] physical
SEEN, GOAL = "observation.images.static", "goal.images.static"


def make_inputs(case: Path, seed: int) -> tuple[Image]:
    """The same image for every contender."""
    feature, _ = feature_of(read_manifest(case), SEEN)
    return (np.random.default_rng(seed).integers(0, 256, feature.shape, np.uint8),)


def golden_goal(case: Path) -> Image:
    with np.load(case / "bundle.keystep" / "golden.npz", allow_pickle=False) as archive:
        image: Image = archive[GOAL][0]
    return image


def torch_eager(case: Path, threads: int) -> Policy:
    """PyTorch's module, eager."""
    import torch

    from keystep.models import load_model

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    model, checkpoint = load_model(case / "checkpoint")
    policy: Any = model
    normalizer = checkpoint.normalizer()

    def normalized(image: Image) -> torch.Tensor:
        pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        return normalizer.normalize(SEEN, pixels)[None]

    goal = normalized(golden_goal(case))

    @torch.inference_mode()
    def predict(image: Image) -> Array:
        chunk = policy.act({SEEN: normalized(image), GOAL: goal})
        actions: Array = normalizer.unnormalize("action", chunk)[0].numpy()
        return actions

    return predict


class Pixels:
    """An image as the graph takes it: [1, 3, h, w], normalised."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        _, entry = feature_of(manifest, SEEN)
        mean, std = (np.array(entry[key], np.float32)[:, None, None] for key in ("mean", "std"))
        self._scale, self._offset = 1 / (255 * std), -mean / std

    def __call__(self, image: Image) -> Array:
        pixels: Array = np.ascontiguousarray(image.transpose(2, 0, 1))[None] * self._scale + self._offset
        return pixels


def ort_session(case: Path, graph: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    file = case / "bundle.keystep" / read_manifest(case)["graphs"][graph]["file"]
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def onnxruntime_run(case: Path, threads: int) -> Policy:
    """ONNX Runtime from Python over the bundle's `act` graph, `session.run`."""
    session, manifest = ort_session(case, "act", threads), read_manifest(case)
    pixels, scaling = Pixels(manifest), Scaling(manifest)
    goal = pixels(golden_goal(case))

    def predict(image: Image) -> Array:
        (chunk,) = session.run(["actions"], {SEEN: pixels(image), GOAL: goal})
        return scaling.action(chunk)

    return predict


def onnxruntime_bound(case: Path, threads: int) -> Policy:
    """The same with IoBinding: every tensor bound once to numpy memory that is written in place."""
    import onnxruntime

    session, manifest = ort_session(case, "act", threads), read_manifest(case)
    pixels, scaling = Pixels(manifest), Scaling(manifest)
    seen, goal = np.empty_like(pixels(golden_goal(case))), pixels(golden_goal(case))
    chunk = np.zeros(session.get_outputs()[0].shape, np.float32)
    binding = session.io_binding()
    for name, array in ((SEEN, seen), (GOAL, goal)):
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))  # borrows it
    binding.bind_ortvalue_output("actions", onnxruntime.OrtValue.ortvalue_from_numpy(chunk))

    def predict(image: Image) -> Array:
        seen[...] = pixels(image)
        session.run_with_iobinding(binding)
        return scaling.action(chunk)

    return predict


def _keystep(case: Path, threads: int, **options: Any) -> Policy:
    import keystep

    runtime = keystep.load(case / "bundle.keystep", threads=threads, **options)
    runtime.reset(goal={SEEN: golden_goal(case)})

    def predict(image: Image) -> Array:
        actions: Array = runtime.predict_chunk({SEEN: image})
        return actions

    return predict


def keystep_cpu(case: Path, threads: int) -> Policy:
    """keystep's C++ loop through its Python API, `cpu` provider."""
    return _keystep(case, threads)


def keystep_spinning(case: Path, threads: int) -> Policy:
    """The same, its threads spinning between operators, as by ONNX Runtime's default (not keystep's)."""
    return _keystep(case, threads, provider_options={"session.intra_op.allow_spinning": "1"})


CONTENDERS = {
    "torch-eager": Contender(torch_eager, ("torch", "keystep.models")),
    "onnxruntime-run": Contender(onnxruntime_run, ("onnxruntime",)),
    "onnxruntime-bound": Contender(onnxruntime_bound, ("onnxruntime",)),
    "keystep": Contender(keystep_cpu, ("keystep",)),
    "keystep-spinning": Contender(keystep_spinning, ("keystep",)),
}
