"""Train a planner or a controller on a dataset of demonstrations."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel

from keystep.data import DatasetError, split_episodes
from keystep.models.checkpoint import make_model, save_checkpoint
from keystep.record.interrupts import Interrupts
from keystep.train import curves, state
from keystep.train.batches import Batches
from keystep.train.config import TrainConfig, plain
from keystep.train.kinds import reader_of, recipe_of
from keystep.train.loss import Loss
from keystep.train.progress import Reporter
from keystep.train.rehearsal import rehearse
from keystep.train.same_run import NORMALIZATION, check_same_network, check_same_run, normalization_values
from keystep.train.schedule import learning_rate
from keystep.train.start import start_from, subject
from keystep.train.weights import window_weights

_log = logging.getLogger(__name__)
_NOISE, _VALIDATION = 3, 4  # what a random stream is for


@dataclass(frozen=True)
class TrainResult:
    """What a run did.

    Attributes:
        output: the checkpoint folder.
        step: optimiser steps done in total.
        train_loss, val_loss: the last measured; None if there was none.
        interrupted: stopped by Ctrl-C; call again to continue.
    """

    output: Path
    step: int
    train_loss: float | None
    val_loss: float | None
    interrupted: bool


def train(config: TrainConfig, source: Any = None) -> TrainResult:
    """Train, or continue training, and write the checkpoint folder.

    All randomness of step s is a function of (seed, s), so an interrupted and resumed run ends with the same
    weights, bit for bit on the CPU, as an uninterrupted one. Ctrl-C finishes the step, saves and returns.

    Args:
        source: of the episodes, in place of the one that `config` names.

    Raises:
        DatasetError: the dataset or the training state cannot be read, or does not belong to these settings.
        FloatingPointError: the loss became NaN or infinite.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    return Trainer(config, source).run()


class Trainer:
    """One training run; see `train`."""

    def __init__(self, config: TrainConfig, source: Any = None) -> None:
        self.config = config
        self.reader = reader_of(config) if source is None else source
        # A second run in one process may choose differently.
        AcceleratorState._reset_state(reset_partial_state=True)
        self.accelerator = Accelerator(cpu=config.device == "cpu", mixed_precision=config.mixed_precision)
        self.device = self.accelerator.device
        if config.batch_size % self.accelerator.num_processes:
            count = self.accelerator.num_processes
            raise ValueError(
                f"batch_size: expected a multiple of {count} (processes), got {config.batch_size}"
            )
        torch.manual_seed(config.seed)
        self.recipe = recipe_of(config, self.reader)
        rehearse(self.recipe, self.reader, config.output)
        model = make_model(self.recipe.draft.config)
        started = start_from(config.weights, self.recipe.draft, model) if config.weights else None
        self.subject = subject(self.reader, self.recipe.draft, started)
        optimizer = torch.optim.AdamW(
            model.parameters(),
            config.learning_rate,
            config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )
        # Several processes average gradients in the wrapped model; the plain one is saved and averaged.
        self.wrapped, self.optimizer = self.accelerator.prepare(Loss(model), optimizer)
        self.model = self.accelerator.unwrap_model(self.wrapped).model
        self.average = EMAModel(
            self.model.parameters(),
            config.ema_decay,
            use_ema_warmup=config.ema_power > 0,
            power=config.ema_power,
            foreach=True,
        )
        self.batches, self.validation = self._batches()
        self.step, self.seconds, self.rows = 0, 0.0, list[curves.Row]()
        self._resume()

    def run(self) -> TrainResult:
        """Train up to `config.steps`."""
        config = self.config
        losses, norms = [], []
        interrupted, quiet = False, not self.accelerator.is_main_process
        if self.step >= config.steps:  # it may have been killed between its state and its checkpoint
            self._save()
        reporter = Reporter(config.steps, self.step, quiet, self.recipe.notes)
        with Interrupts() as interrupts, reporter:
            started = time.perf_counter() - self.seconds
            while self.step < config.steps and not interrupted:
                loss, norm = self._train_step()
                losses.append(loss)
                norms.append(norm)
                interrupted = self._any_process(interrupts.requested)
                self.seconds = time.perf_counter() - started
                last = interrupted or self.step == config.steps
                checkpoint = self.step % config.checkpoint_every == 0
                if last or checkpoint or self.step % config.log_every == 0:
                    row = self._row(losses, norms, validate=checkpoint or self.step == config.steps)
                    self.rows.append(row)
                    reporter.log(row)
                    losses, norms = [], []
                    # Validating and saving are not training time.
                    started = time.perf_counter() - self.seconds
                if last or checkpoint:
                    self._save()
                reporter.advance(self.step)
        return TrainResult(config.output, self.step, *self._last_losses(), interrupted)

    # ---- one step -----------------------------------------------------------------------------------------

    def _train_step(self) -> tuple[torch.Tensor, torch.Tensor]:
        self.model.train()
        rate = learning_rate(self.config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        generator = self._generator(_NOISE, self.step)
        batch = self.batches[self.step]
        with self.accelerator.autocast():
            loss = self.wrapped(batch, generator)
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if (self.step + 1) % self.config.ema_every == 0:
            self.average.step(self.model.parameters())
        self.step += 1
        return loss.detach(), norm.detach()

    def _any_process(self, flag: bool) -> bool:
        """Whether one process wants to stop: all must, or the others wait for it forever."""
        if self.accelerator.num_processes == 1:
            return flag
        return bool(self.accelerator.reduce(torch.tensor(float(flag), device=self.device)) > 0)

    def _generator(self, purpose: int, step: int) -> torch.Generator:
        """Noise of a step; and the global generator, for what draws from that, from another stream."""
        process = self.accelerator.process_index if purpose == _NOISE else 0
        words = np.random.SeedSequence([self.config.seed, purpose, step, process]).generate_state(4)
        first, second = (int(words[i]) << 31 | int(words[i + 1]) >> 1 for i in (0, 2))
        torch.manual_seed(second)
        return torch.Generator(self.device).manual_seed(first)

    def _row(self, losses: list[torch.Tensor], norms: list[torch.Tensor], validate: bool) -> curves.Row:
        loss = float(self.accelerator.reduce(torch.stack(losses).mean(), "mean"))
        if not math.isfinite(loss):
            raise FloatingPointError(f"loss: expected a finite number, got {loss} at step {self.step}")
        return curves.Row(
            step=self.step,
            train_loss=loss,
            val_loss=self._validate() if validate and self.validation is not None else None,
            learning_rate=learning_rate(self.config, self.step - 1),
            gradient_norm=float(torch.stack(norms).mean()),
            seconds=round(self.seconds, 3),
        )

    @torch.no_grad()
    def _validate(self) -> float:
        """Mean loss of the averaged weights over the validation windows, with the same noise every time."""
        assert self.validation is not None
        self.model.eval()
        self.average.store(self.model.parameters())
        self.average.copy_to(self.model.parameters())
        try:
            total = 0.0
            for number, chosen in enumerate(self._validation_windows):
                generator = self._generator(_VALIDATION, number)
                rng = np.random.default_rng([self.config.seed, _VALIDATION, number])
                loss = self.model.loss(self.validation.tensors(chosen, rng), generator)
                total += float(loss) * len(chosen)
            return total / sum(map(len, self._validation_windows))
        finally:
            self.average.restore(self.model.parameters())

    # ---- data ---------------------------------------------------------------------------------------------

    def _batches(self) -> tuple[Batches, Batches | None]:
        config, place = self.config, self.accelerator
        kept, held_out = split_episodes(len(self.reader), config.val_fraction, config.seed)
        share = {"process": place.process_index, "processes": place.num_processes}
        settings = (self.recipe, config.batch_size, config.seed, self.device)
        windows = self.recipe.windows(kept)
        weights = window_weights(windows.tasks(), self.reader.tasks, config.task_weights)
        training = Batches(windows, *settings, **share, weights=weights)
        if not held_out:
            return training, None
        windows = self.recipe.windows(held_out)
        count = min(config.val_windows, len(windows))
        chosen = np.sort(
            np.random.default_rng([config.seed, _VALIDATION]).choice(len(windows), count, replace=False)
        )
        self._validation_windows = np.split(chosen, range(config.batch_size, count, config.batch_size))
        return training, Batches(windows, *settings)

    # ---- disk ---------------------------------------------------------------------------------------------

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            self._write()
        self.accelerator.wait_for_everyone()

    def _write(self) -> None:
        parameters = dict(self.model.named_parameters())
        model = {name: value.detach() for name, value in self.model.state_dict().items()}
        average = model | dict(zip(parameters, self.average.shadow_params, strict=True))
        numbers = {
            "config": plain(self.config),
            "kind": self.recipe.draft.kind,
            **self.subject,
            NORMALIZATION: normalization_values(self.recipe.draft),
            "average_steps": self.average.optimization_step,
            "seconds": self.seconds,
        }
        optimizer = state.optimizer_tensors(self.optimizer)
        try:
            state.save(
                self.config.output,
                state.TrainingState(self.step, model, average, optimizer, numbers, self.rows),
            )
            self.recipe.save_extras(self.config.output)
            plan = dataclasses.replace(self.recipe.draft, provenance=self._provenance())
            save_checkpoint(self.config.output, plan, average)
            curves.write_csv(self.config.output / "curves.csv", self.rows)
            curves.plot(self.config.output / "curves.png", self.rows)
        except OSError as error:
            raise DatasetError(
                f"{self.config.output}: could not write the checkpoint of step {self.step}: {error}"
            ) from error

    def _provenance(self) -> dict[str, Any]:
        train_loss, val_loss = self._last_losses()
        figures = {"step": self.step, "train_loss": train_loss, "val_loss": val_loss, "seconds": self.seconds}
        settings = {
            key: value
            for key, value in plain(self.config).items()
            if key not in ("dataset", "output", "cache", "weights", "statistics")
        }
        return {
            **{key: value for key, value in self.subject.items() if value is not None},
            "dataset_collection": self.reader.collection,
            "training": {**figures, **settings, "torch": torch.__version__},
        }

    def _resume(self) -> None:
        found = state.load(self.config.output)
        if found is None:
            return
        check_same_run(self.config.output, found.numbers, self.config, self.subject, self.recipe.draft)
        check_same_network(self.config.output, found.model, self.model.state_dict())
        self.model.load_state_dict(found.model)
        state.restore_optimizer(self.optimizer, found.optimizer)
        with torch.no_grad():
            names = [name for name, _ in self.model.named_parameters()]
            for shadow, name in zip(self.average.shadow_params, names, strict=True):
                shadow.copy_(found.average[name])
        self.average.optimization_step = found.numbers["average_steps"]
        self.step, self.seconds, self.rows = found.step, found.numbers["seconds"], found.rows
        _log.info("resuming at step %d", self.step)

    def _last_losses(self) -> tuple[float | None, float | None]:
        measured = [row.val_loss for row in self.rows if row.val_loss is not None]
        return (self.rows[-1].train_loss if self.rows else None), (measured[-1] if measured else None)
