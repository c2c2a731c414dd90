"""Scorers of plans: what was tried, and what became of it, to the odds that a plan succeeds."""

from __future__ import annotations

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
from keystep.files import sha256, write_json
from keystep.models.checkpoint import TEXT_ENCODER, Checkpoint, load_planner, save_checkpoint
from keystep.models.planner_config import PlannerConfig
from keystep.models.scorer import PlanScorer, pooled
from keystep.models.scorer_config import ScorerConfig
from keystep.models.text import TextEncoder
from keystep.provenance import git_commit
from keystep.record.plans_tried import TriedPlans, plans_sha256, read_plans
from keystep.train.scorer_config import ScorerTraining
from keystep.train.scorer_data import ScorerData, metrics, split_contexts

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
        same = "none to compare" if within is None else f"{within:.3f}"
        calibration = f"calibration error {found['calibration_error']:.3f}"
        return (
            f"{self.output}: {found['train_plans']} plans, validated on {found['plans']} of "
            f"{found['contexts']} other contexts: AUC {found['auc']:.3f}, in a context {same}, {calibration}"
        )


def train_scorer(config: ScorerTraining) -> ScorerResult:
    """Train, and write the checkpoint folder whole.

    Raises:
        DatasetError: a set is damaged, or of other plans than the planner's; no failures, or no successes.
        CheckpointError, TextEncoderError: the planner's.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    tried = read_plans(config.dataset)
    _, known, encoder = load_planner(config.planner)
    draft = _draft(config, known, encoder, tried)
    rehearse(known, encoder, draft)  # what export would refuse is refused before training
    data = ScorerData(tried, split_contexts(tried, config.val_fraction, config.seed))
    for note in data.notes:
        print(f"note: {note}")
    tensors = prepared(tried, draft, encoder)
    model = PlanScorer(_network(draft))
    step, weights = _fit(model, config, data, tensors)
    model.load_state_dict(weights)
    found = metrics(_logits(model, tensors, data.validation), tried, data.validation)
    found |= {"train_plans": len(data.training), "step": step}
    provenance = {
        "training": "scorer",
        "git_commit": git_commit(),
        "dataset_sha256": plans_sha256(config.dataset),
        "planner_sha256": sha256(config.planner / "model.safetensors"),
        "seed": config.seed,
        "metrics": found,
    }
    encoder.save(config.output / TEXT_ENCODER)
    save_checkpoint(config.output, replace(draft, provenance=provenance), weights)
    write_json(config.output / METRICS, found)
    return ScorerResult(config.output, step, found)


def prepared(tried: TriedPlans, draft: Checkpoint, encoder: TextEncoder) -> tuple[Tensor, Tensor, Tensor]:
    """What the network takes, [N, S], [N, D], [N, M, S]."""
    normalizer, key = draft.normalizer(), tried.spec.subgoal
    texts = sorted(set(tried.texts))
    told = pooled(encoder.encode(texts))
    number = {text: index for index, text in enumerate(texts)}
    seen, plans = (
        normalizer.normalize(key, torch.from_numpy(np.ascontiguousarray(values)))
        for values in (tried.observations, tried.plans)
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
    model: PlanScorer, config: ScorerTraining, data: ScorerData, tensors: tuple[Tensor, Tensor, Tensor]
) -> tuple[int, dict[str, Tensor]]:
    """The step whose weights are best on the validation contexts, and these weights."""
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    rng, generator = np.random.default_rng(config.seed), torch.Generator().manual_seed(config.seed)
    best: tuple[float, int, dict[str, Tensor]] | None = None
    with progress_bar() as progress:
        bar = progress.add_task("scorer", total=config.steps)
        for step in range(1, config.steps + 1):
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
