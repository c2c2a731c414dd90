"""Training-time RTC: the first rows of a chunk are given, clean and marked, and are no part of the loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")

import torch
from walks import write_dataset

import keystep
from keystep.data import DatasetError
from keystep.export.bundle import export_bundle
from keystep.models import PRESETS, DiffusionController, SamplerConfig
from keystep.models.checkpoint import load_model, random_checkpoint, read_checkpoint
from keystep.models.checks import ConfigError
from keystep.models.merging import Known
from keystep.models.observing import state_feature
from keystep.models.reference import denoise_loop
from keystep.train import ControllerTraining, train
from keystep.train.start import start_from

MOST = 3


@pytest.fixture(autouse=True)
def shared_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("KEYSTEP_CACHE", str(tmp_path_factory.getbasetemp() / "rtc-cache"))


def batch(size: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "observation.state": torch.randn(size, 26, generator=generator),
        "action": torch.randn(size, 8, 7, generator=generator),
    }


def seen_by(model: DiffusionController, given: dict[str, torch.Tensor], add: float = 0.0) -> dict[str, Any]:
    """What `denoise` is given in one loss, and that loss; `add` is put on its outputs at the given rows."""
    found: dict[str, Any] = {}
    denoise = DiffusionController.denoise

    def watched(sample: Any, timestep: Any, condition: Any, mask: Any = None) -> Any:
        found.update(sample=sample, timestep=timestep, mask=mask)
        output = denoise(model, sample, timestep, condition, mask)
        return output if mask is None else output + add * mask[..., None]

    model.denoise = watched  # type: ignore[method-assign]
    with torch.no_grad():
        found["loss"] = float(model.loss(given, torch.Generator().manual_seed(1)))
    return found


@pytest.mark.parametrize("start", [0, 2])
def test_the_prefix_is_given_clean_and_marked(start: int) -> None:
    model = DiffusionController(replace(PRESETS["tiny"], max_delay=MOST, chunk_start=start, execute=4))
    given = batch(4000)
    found = seen_by(model, given)
    mask = found["mask"]
    counts = mask.sum(dim=1)
    assert torch.bincount(counts, minlength=MOST + 1).tolist() == pytest.approx([1000] * 4, rel=0.15)
    row = torch.arange(8)
    assert torch.equal(mask, (row >= start) & (row < start + counts[:, None]))
    assert torch.equal(found["sample"][mask], given["action"][mask])
    noisy = found["timestep"] > 50
    assert (found["sample"][noisy] != given["action"][noisy])[~mask[noisy]].float().mean() > 0.99


def test_the_loss_is_on_the_rest() -> None:
    model, given = DiffusionController(replace(PRESETS["tiny"], max_delay=MOST)), batch(32)
    plain = seen_by(model, given)["loss"]
    assert seen_by(model, given, add=100.0)["loss"] == plain
    padding = torch.zeros(32, 8, dtype=torch.bool)
    padding[:, 6:] = True
    padded = given | {"action_is_pad": padding}
    assert seen_by(model, padded)["loss"] != plain
    changed = padded | {"action": torch.where(padding[..., None], 0.0, given["action"])}
    del changed["action_is_pad"]
    assert seen_by(model, padded, add=100.0)["loss"] == seen_by(model, padded)["loss"]


def test_the_mask_is_read() -> None:
    model, given = DiffusionController(replace(PRESETS["tiny"], max_delay=MOST)), batch(2)
    condition, timestep = model.encode(given), torch.tensor([5, 50])
    none = model.denoise(given["action"], timestep, condition)
    mask = torch.zeros(2, 8, dtype=torch.bool)
    assert torch.equal(model.denoise(given["action"], timestep, condition, mask), none)
    mask[:, 0] = True
    assert not torch.equal(model.denoise(given["action"], timestep, condition, mask), none)


def config_of(dataset: Path, output: Path, **changes: Any) -> ControllerTraining:
    settings: dict[str, Any] = dict(preset="tiny", steps=4, batch_size=8, warmup_steps=1, val_fraction=0.2)
    settings |= dict(log_every=2, checkpoint_every=2, device="cpu", threads=1)
    return ControllerTraining(dataset, output, **{**settings, **changes})


def test_it_is_trained_exported_and_run(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset")
    train(config_of(dataset, tmp_path / "run", rtc=MOST))
    assert read_checkpoint(tmp_path / "run").config.max_delay == MOST
    bundle = export_bundle(tmp_path / "run", tmp_path / "x.keystep")
    assert keystep.read_manifest(bundle)["chunk"]["max_delay"] == MOST
    with pytest.raises(DatasetError, match="rtc: expected 3 to resume, got 2"):
        train(config_of(dataset, tmp_path / "run", rtc=2, resume=True))


def test_a_longer_chunk_allows_longer_delays(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset")
    train(config_of(dataset, tmp_path / "run", horizon=16, rtc=12))
    bundle = export_bundle(tmp_path / "run", tmp_path / "x.keystep")
    chunk = keystep.read_manifest(bundle)["chunk"]
    assert (chunk["horizon"], chunk["max_delay"]) == (16, 12)
    with keystep.load(bundle, threads=1) as policy:
        policy.reset(task=keystep.read_manifest(bundle)["tasks"][0]["name"], seed=0)
        seen = {"observation.state": torch.zeros(policy.manifest["observation"][0]["shape"]).numpy()}
        assert policy.predict_chunk(seen).shape[0] == 16


def test_it_starts_from_a_network_without_a_mask(tmp_path: Path) -> None:
    """Fine-tuning begins with what the weights compute; the way back is refused."""
    plain, masked = PRESETS["tiny"], replace(PRESETS["tiny"], max_delay=MOST)
    random_checkpoint(tmp_path / "plain", plain, seed=3)
    draft = random_checkpoint(tmp_path / "masked", masked, seed=4)
    model = DiffusionController(masked)
    start_from(tmp_path / "plain", draft, model)
    theirs, _ = load_model(tmp_path / "plain")
    assert isinstance(theirs, DiffusionController)
    given = batch(2)
    timestep, mask = torch.tensor([5, 50]), torch.ones(2, 8, dtype=torch.bool)
    wanted = theirs.denoise(given["action"], timestep, theirs.encode(given))
    got = model.denoise(given["action"], timestep, model.encode(given), mask)
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-5)
    unmasked = random_checkpoint(tmp_path / "other", plain, seed=5)
    with pytest.raises(DatasetError, match=r"weights.max_delay: expected 0, got 3"):
        start_from(tmp_path / "masked", unmasked, DiffusionController(plain))
    with pytest.raises(DatasetError, match=r"weights.max_delay: expected 2, got 3"):
        other = replace(draft, config=replace(masked, max_delay=2))
        start_from(tmp_path / "masked", other, model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rtc": 8}, r"rtc: expected 0..7 \(a chunk has a new row\), got 8"),
        ({"rtc": 12, "horizon": 12}, r"rtc: expected 0..11 \(a chunk has a new row\), got 12"),
        ({"horizon": 7}, "policy.horizon: expected a multiple of 2"),
        ({"horizon": -1}, "horizon: expected at least 0, got -1"),
        ({"rtc": -1}, "rtc: expected at least 0, got -1"),
        ({"rtc": 2, "preset": "act-tiny"}, r"rtc: expected 0 \(act-tiny takes one step\), got 2"),
    ],
)
def test_what_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    dataset = write_dataset(tmp_path / "dataset")
    with pytest.raises(ValueError, match=message):
        train(config_of(dataset, tmp_path / "run", **changes))


def test_of_a_configuration() -> None:
    with pytest.raises(
        ConfigError, match=r"policy.max_delay: expected 0..7 \(a chunk has a new row\), got 8"
    ):
        replace(PRESETS["tiny"], max_delay=8)


# ---- what it learns


def paths(count: int, generator: torch.Generator) -> torch.Tensor:
    """[count, 8, 2]: smooth paths around one of four ways, of which the observation tells nothing."""
    time = torch.arange(8.0)
    covariance = 0.15**2 * torch.exp(-0.5 * ((time[:, None] - time) / 3) ** 2) + 1e-5 * torch.eye(8)
    ways = torch.randint(2, (count, 1, 2), generator=generator) * 1.2 - 0.6
    wiggles = torch.linalg.cholesky(covariance) @ torch.randn(count, 8, 2, generator=generator)
    return (ways + wiggles).clamp(-1, 1)


def test_the_rest_follows_what_is_given() -> None:
    """The seam's second difference, 0.7 without a prefix, comes near that within a chunk."""
    torch.manual_seed(0)
    generator, count = torch.Generator().manual_seed(0), 100
    sampler = SamplerConfig(prediction="sample")
    config = replace(
        PRESETS["tiny"], action_dim=2, max_delay=MOST, observation=(state_feature(1),), sampler=sampler
    )
    model = DiffusionController(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(400):
        given = {"observation.state": torch.zeros(64, 1), "action": paths(64, generator)}
        optimizer.zero_grad()
        model.loss(given, generator).backward()
        optimizer.step()
    old, noise = paths(count, generator), torch.randn(count, 8, 2, generator=generator)
    condition = model.encode({"observation.state": torch.zeros(count, 1)}).detach()

    def seam(known: Known | None) -> float:
        mask = None if known is None else known.given.expand(count, -1)

        def predict(sample: torch.Tensor, timestep: int) -> torch.Tensor:
            return model.denoise(sample, torch.full((count,), timestep), condition, mask)

        with torch.no_grad():
            new = denoise_loop(sampler, predict, [noise], known)
        path = torch.cat([old[:, :MOST], new[:, MOST:]], dim=1)
        return float(path.diff(n=2, dim=1)[:, MOST - 2 : MOST].abs().mean())

    given_rows = Known(old, torch.zeros(8), torch.arange(8) < MOST)
    assert seam(given_rows) < 0.4 * seam(None)
