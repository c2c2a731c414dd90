"""Any torch module as a bundle, with golden data made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from keystep.export.bundle import check_output, write_bundle
from keystep.export.described import Actions, Entries, described
from keystep.export.levels import Controller
from keystep.export.module_calls import copied, traced_by_torch, try_out
from keystep.export.module_checks import refuse
from keystep.features import Feature
from keystep.models import SamplerConfig
from keystep.models.given import GivenAct, GivenConfig, GivenSteps


def from_module(
    module: nn.Module,
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
    name: str | None = None,
    overwrite: bool = False,
    seed: int = 0,
) -> Path:
    """Compiles a policy that is no class of ours; the bundle appears whole or not at all, verified.

    Without a sampler the module has `act(batch)`, which makes a chunk [1, H, A]. With one it has
    `encode(batch)`, which makes a condition [1, ..] once per chunk, and for each step
    `denoise(sample, timestep, condition)`, from rows [1, H, A] and a time-step [1] int64 to the prediction
    [1, H, A]. A batch holds the features by their keys, float32 and normalised: vectors [1, S], images
    [1, C, h, w] from 0..1, n > 1 frames [1, n, ..]. An `if` on a tensor's values is traced once; where golden
    data take the other branch the bundle is refused.

    Args:
        features: what it observes: `keystep.models.state_feature`, `camera_feature` and `vector_feature`.
        action: what it does.
        horizon: H. execute: actions taken of each chunk, all by default. start: the row that belongs to now.
        rate_hz: how often it acts.
        sampler: how it denoises.
        normalization: the manifest's entries by key (docs/bundle.md); identity for the rest.
        name, overwrite, seed: as of `export_bundle`.

    Raises:
        ExportError: "field: expected X, got Y": a method is missing or makes another shape, an operation has
            no form in ONNX, the graphs compute something else.
        FileExistsError, OSError: as of `export_bundle`.
    """
    output = Path(output)
    check_output(output, overwrite)
    if not isinstance(module, nn.Module):
        raise refuse("module", "a torch.nn.Module", module)
    checkpoint = described(
        features,
        action,
        horizon=horizon,
        rate_hz=rate_hz,
        execute=execute,
        start=start,
        sampler=sampler,
        normalization=normalization,
        made_by=f"from_module({type(module).__name__})",
    )
    config: GivenConfig = checkpoint.config  # type: ignore[assignment]
    network = copied(module)
    model = GivenAct(config, _Acting(network)) if sampler is None else GivenSteps(config, network)
    controller = Controller(model.eval(), checkpoint, sampler, config.execute)
    with traced_by_torch():
        try_out(network, config, sampler is not None)
        return write_bundle(controller, None, output, name=name, overwrite=overwrite, seed=seed)


class _Acting(nn.Module):
    """Calls `act` of a module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.module.act(batch)  # type: ignore[operator]
