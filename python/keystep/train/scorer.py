"""Scorers of plans: what was tried, and what became of it, to the odds that a plan succeeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from keystep.bars import progress_bar
from keystep.data.errors import DatasetError
from keystep.export.rehearsal import rehearse
from keystep.files import replacing_folder, sha256, write_json
from keystep.models.checkpoint import (
    TEXT_ENCODER,
    Checkpoint,
    load_planner,
    read_checkpoint,
    save_checkpoint,
)
from keystep.models.planner_config import PlannerConfig
from keystep.models.scorer import PlanScorer, pooled
from keystep.models.scorer_config import ScorerConfig
from keystep.models.text import TextEncoder
from keystep.provenance import git_commit
from keystep.record.plans_tried import TriedPlans, plans_sha256, read_plans
from keystep.train.scorer_config import ScorerTraining
from keystep.train.scorer_data import ScorerData, auc_of_task, metrics, split_contexts

METRICS = "metrics.json"


@dataclass(frozen=True)
class ScorerResult:
    """What a training made.

    Attributes:
        metrics: on contexts that it was not trained on; see `keystep.train.scorer_data.metrics`.
    """

    output: Path
    step: int
    metrics: dict[str, Any]

    def __str__(self) -> str:
        found = self.metrics
        within = found["auc_within_contexts"]
        pairs = found["pairs_within_contexts"]
        same = "none to compare" if within is None else f"{within:.3f} of {pairs} pairs"
        calibration = f"calibration error {found['calibration_error']:.3f}"
        return (
            f"{self.output}: {found['train_plans']} plans, validated on {found['plans']} of "
            f"{found['contexts']} other contexts: AUC {found['auc']:.3f} (by the task alone "
            f"{found['auc_of_task']:.3f}), in a context {same}, {calibration}"
        )


def train_scorer(config: ScorerTraining, stop: Callable[[], bool] = lambda: False) -> ScorerResult | None:
    """Train, and write the checkpoint folder whole; one of an earlier scorer is replaced.

    Args:
        stop: asked between steps.

    Returns:
        None when stopped; then nothing is written.

    Raises:
        DatasetError: a set is damaged, or of other plans than the planner's; the output is something else.
        OneSidedError: there are no failures, or no successes.
        CheckpointError, TextEncoderError: the planner's.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    _check_output(config.output)
    tried = read_plans(config.dataset)
    _, known, encoder = load_planner(config.planner)
    draft = _draft(config, known, encoder, tried)
    rehearse(known, encoder, draft)  # what export would refuse is refused before training
    data = ScorerData(tried, split_contexts(tried, config.val_fraction, config.seed))
    for note in data.notes:
        print(f"note: {note}")
    tensors = prepared(tried, draft, encoder)
    model = PlanScorer(_network(draft))
    fitted = _fit(model, config, data, tensors, stop)
    if fitted is None:
        return None
    step, weights = fitted
    model.load_state_dict(weights)
    found = metrics(_logits(model, tensors, data.validation), tried, data.validation)
    by_task = auc_of_task(tried, data.training, data.validation)
    found |= {"auc_of_task": by_task, "train_plans": len(data.training), "step": step}
    provenance = {
        "training": "scorer",
        "git_commit": git_commit(),
        "dataset_sha256": plans_sha256(config.dataset),
        "planner_sha256": sha256(config.planner / "model.safetensors"),
        "seed": config.seed,
        "metrics": found,
    }
    with replacing_folder(config.output, overwrite=True) as folder:
        encoder.save(folder / TEXT_ENCODER)
        save_checkpoint(folder, replace(draft, provenance=provenance), weights)
        write_json(folder / METRICS, found)
    return ScorerResult(config.output, step, found)


def _check_output(folder: Path) -> None:
    """Raises DatasetError, CheckpointError for a folder that holds something else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / "policy.json").is_file():
        raise DatasetError(f"output: expected a new folder, or one of a scorer, got {folder}")
    if (kind := read_checkpoint(folder).kind) != "scorer":
        raise DatasetError(f"output: expected a new folder, or one of a scorer, got {folder}, of a {kind}")


def prepared(tried: TriedPlans, draft: Checkpoint, encoder: TextEncoder) -> tuple[Tensor, Tensor, Tensor]:
    """What the network takes, [N, S], [N, D], [N, M, S]."""
    normalizer, key = draft.normalizer(), tried.spec.subgoal
    texts = sorted(set(tried.texts))
    told = pooled(encoder.encode(texts))
    number = {text: index for index, text in enumerate(texts)}
    seen, plans = (
        normalizer.normalize(key, torch.tensor(values)) for values in (tried.observations, tried.plans)
    )
    return seen, told[torch.tensor([number[text] for text in tried.texts])], plans


def _draft(config: ScorerTraining, known: Checkpoint, encoder: TextEncoder, tried: TriedPlans) -> Checkpoint:
    """What is known of the scorer before it is trained: most is the planner's."""
    planner, spec = known.config, tried.spec
    assert isinstance(planner, PlannerConfig)
    network = ScorerConfig(
        observation=planner.observation,
        subgoals=planner.subgoals,
        text_tokens=encoder.tokens,
        text_width=encoder.width,
        hidden=config.hidden,
        dropout=config.dropout,
    )
    ours = (planner.subgoal, planner.subgoals, planner.feature.names)
    if ours != (spec.subgoal, spec.subgoals, spec.names):
        wanted = f"{planner.subgoals} subgoals {planner.subgoal} of the planner's {len(ours[2])} values"
        raise DatasetError(f"dataset: expected {wanted}, got {spec.subgoals} {spec.subgoal} of {spec.width}")
    return replace(known, config=network, provenance={})


def _network(draft: Checkpoint) -> ScorerConfig:
    assert isinstance(draft.config, ScorerConfig)
    return draft.config


def _fit(
    model: PlanScorer,
    config: ScorerTraining,
    data: ScorerData,
    tensors: tuple[Tensor, Tensor, Tensor],
    stop: Callable[[], bool],
) -> tuple[int, dict[str, Tensor]] | None:
    """The step whose weights are best on the validation contexts, and these weights; None when stopped."""
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    rng, generator = np.random.default_rng(config.seed), torch.Generator().manual_seed(config.seed)
    best: tuple[float, int, dict[str, Tensor]] | None = None
    with progress_bar() as progress:
        bar = progress.add_task("scorer", total=config.steps)
        for step in range(1, config.steps + 1):
            if stop():
                return None
            chosen = torch.from_numpy(rng.choice(data.training, config.batch_size))
            loss = _loss(model.train(), tensors, data.labels, chosen, config.noise, generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % config.validate_every == 0 or step == config.steps:
                logits = _logits(model, tensors, data.validation)
                error = float(functional.binary_cross_entropy_with_logits(
                    torch.from_numpy(logits), data.labels[data.validation]
                ))  # fmt: skip
                if not np.isfinite(error):
                    raise FloatingPointError(f"loss: expected a finite number, got {error} at step {step}")
                if best is None or error < best[0]:
                    best = error, step, {k: v.detach().clone() for k, v in model.state_dict().items()}
            progress.update(bar, completed=step)
    assert best is not None
    return best[1], best[2]


def _loss(
    model: PlanScorer,
    tensors: tuple[Tensor, Tensor, Tensor],
    labels: Tensor,
    chosen: Tensor,
    noise: float,
    generator: torch.Generator,
) -> Tensor:
    seen, told, plans = (values[chosen] for values in tensors)
    seen, plans = (
        values + noise * torch.randn(values.shape, generator=generator) for values in (seen, plans)
    )
    return functional.binary_cross_entropy_with_logits(model(seen, told, plans), labels[chosen])


@torch.no_grad()
def _logits(model: PlanScorer, tensors: tuple[Tensor, Tensor, Tensor], chosen: np.ndarray) -> np.ndarray:
    seen, told, plans = (values[torch.from_numpy(chosen)] for values in tensors)
    return model.eval()(seen, told, plans).numpy()
