"""The steps of an iteration; each can be stopped anywhere and goes on where it was."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import keystep
from keystep.data import DatasetError, DatasetReader
from keystep.expit.config import FINETUNE, ExpitConfig, NetworkSettings
from keystep.expit.done import parents
from keystep.expit.evaluating import evaluate_into, evaluation_of
from keystep.expit.fallback import copy_episodes
from keystep.expit.folder import MANIFEST, WEIGHTS, Iteration, read_run
from keystep.expit.scoring import choosing, load_options, plans_vectors, scorer_of
from keystep.expit.settled import plain
from keystep.files import recover_folder, sha256
from keystep.record.interrupts import Interrupts
from keystep.train.config import TrainConfig

Facts = dict[str, Any]
"""What came of a step, as JSON values."""
Network = Literal["planner", "controller"]


@dataclass(frozen=True)
class IterationWork:
    """What a step needs.

    Attributes:
        last: the iteration before; None of iteration 0.
        interrupts: of the whole run.
    """

    config: ExpitConfig
    iteration: Iteration
    last: Iteration | None
    interrupts: Interrupts

    def run(self, name: str) -> Facts | None:
        """One of `folder.STAGES`. None when it was interrupted; call again to go on."""
        steps: dict[str, Callable[[], Facts | None]] = {
            "rollouts": self.collect,
            "planner": lambda: self.train("planner"),
            "controller": lambda: self.train("controller"),
            "scorer": self.score,
            "bundle": self.export,
            "evaluation": self.evaluate,
        }
        started = time.perf_counter()
        facts = steps[name]()
        if facts is None:
            return None
        config = self.config
        d0 = str(read_run(config.output)["dataset_sha256"])
        seconds = {"seconds": round(time.perf_counter() - started, 1)}
        return seconds | facts | parents(self.iteration, name, self.last, config.mode, d0)

    # ---- R

    def collect(self) -> Facts | None:
        """Successful rollouts of the last iteration's policy (Algorithm 3)."""
        from keystep.record.rollouts import collect_rollouts

        assert self.last is not None
        config, iteration = self.config, self.iteration
        have = sum(count["successes"] for count in iteration.counts())
        iteration.begin("rollouts", 0, have)
        if not iteration.rollouts.exists():  # what was tried belongs to rollouts that were removed
            shutil.rmtree(iteration.tried, ignore_errors=True)
        report = collect_rollouts(
            self.last.bundle,
            iteration.rollouts,
            choosing(rollout_settings(config, iteration.number), keystep.read_manifest(self.last.bundle)),
            replay=datasets(config, self.last.number),
            processes=config.processes,
            cluster=config.cluster,
            workers=config.workers,
            tried=iteration.tried if plans_vectors(self.last.bundle) else None,
        )
        if report.interrupted:
            return None
        counts = [asdict(count) for count in report.counts]
        without = _without_success(counts)
        kept = sum(count["successes"] for count in counts)
        self._require_success(counts, kept, without)
        reader = DatasetReader(iteration.rollouts)
        found = {
            "dataset_sha256": reader.sha256(),
            "episodes": len(reader),
            "gained": kept - have,
            "counts": counts,
            "without_success": without,
        }
        if without and config.mode == FINETUNE and config.without_success == "demonstrations":
            digest = copy_episodes(config.dataset, iteration.demonstrations, without)
            found["demonstrations"] = {"dataset_sha256": digest, "tasks": without}
        return found

    def _require_success(self, counts: list[Facts], kept: int, without: list[str]) -> None:
        """Raises DatasetError: there is nothing to learn from, or of a task and this is to be refused."""
        assert self.last is not None
        if kept and not (without and self.config.without_success == "refuse"):
            return
        tried = sum(count["contexts"] for count in counts)
        steps = "planner.steps and controller.steps in another folder"
        skip = "; or set without_success to something else" if kept else ""
        raise DatasetError(
            f"{self.iteration.rollouts}: expected successful rollouts to learn from, got none of "
            f"{', '.join(without)} in {tried} contexts; raise rollouts.max_contexts and run again, or train "
            f"the policy of iteration {self.last.number} longer, with more {steps}{skip}"
        )

    # ---- training

    def train(self, network: Network) -> Facts | None:
        """From scratch on all data, or from the last weights on the newest (Algorithms 1 and 2)."""
        from keystep.train.trainer import train

        output = getattr(self.iteration, network)
        settings = training(self.config, self.iteration, self.last, network)
        self.iteration.begin(network, settings.steps, trained_steps(output))
        result = train(settings)
        if result.interrupted:
            return None
        return {
            "steps": result.step,
            "weights_sha256": sha256(output / WEIGHTS),
            "train_loss": result.train_loss,
            "val_loss": result.val_loss,
        }

    def score(self) -> Facts | None:
        """A scorer of all plans that were tried so far."""
        settings, number = self.config.scorer, self.iteration.number
        assert settings is not None
        if self.interrupts.requested:
            return None
        self.iteration.begin("scorer", 1, 0)
        tried = tuple(Iteration(self.config.output, earlier).tried for earlier in range(1, number + 1))
        return scorer_of(
            replace(settings, dataset=tried, seed=self.config.training_seed(number)),
            self.iteration.planner,
            self.iteration.scorer,
            lambda: self.interrupts.requested,
        )

    # ---- the bundle

    def export(self) -> Facts | None:
        from keystep.export.bundle import export_bundle

        if self.interrupts.requested:
            return None
        self.iteration.begin("bundle", 1, 0)
        folder = self.iteration.bundle
        recover_folder(folder)  # of a run that was killed
        named = {"name": f"{self.config.output.name}-{self.iteration.number}"}
        export_bundle(
            self.iteration.controller,
            folder,
            planner=self.iteration.planner,
            scorer=self.iteration.scorer if self.iteration.scored else None,
            replan=self.config.evaluation.replan,
            overwrite=(folder / MANIFEST).is_file(),
            **named | self.config.export.options(self.config.evaluation.guidance),
        )
        return {"manifest_sha256": sha256(folder / MANIFEST)}

    # ---- success

    def evaluate(self) -> Facts | None:
        settings = self.config.evaluation
        bundle = self.iteration.bundle
        there = 0

        def begin(total: int, have: int) -> None:
            nonlocal there
            there = have
            self.iteration.begin("evaluation", total, have)

        try:
            report = evaluate_into(
                self.iteration.path / "evaluation.json",
                bundle,
                evaluation_of(plain(self.config), bundle),
                self.interrupts,
                options=load_options(asdict(settings), self.iteration.scored),
                processes=self.config.processes,
                what=f"iteration {self.iteration.number}",
                begin=begin,
            )
        except BrokenProcessPool as error:
            wanted = "simulators to keep running"
            raise DatasetError(
                f"evaluation: expected {wanted}, but one died: {error}; run again to go on"
            ) from error
        if report is None:
            return None
        summary = report.to_dict()
        families = {family["name"]: family["success_rate"] for family in summary["families"]}
        total = summary["total"]
        return {
            "success_rate": total["success_rate"],
            "episodes": total["episodes"],
            "gained": total["episodes"] - there,
            "families": families,
        }


def training(
    config: ExpitConfig, iteration: Iteration, last: Iteration | None, network: Network
) -> TrainConfig:
    """The settings of one training."""
    number = iteration.number
    finetuned = config.mode == FINETUNE and last is not None
    learned = datasets(config, number)
    settings: NetworkSettings = getattr(config, network)
    return settings.of(
        config.steps(network, number),
        finetuned,
        dataset=learned if len(learned) > 1 else learned[0],
        output=getattr(iteration, network),
        seed=config.training_seed(number),
        weights=getattr(last, network) if finetuned else None,
        statistics=config.dataset if number else None,
    )


def datasets(config: ExpitConfig, number: int) -> tuple[Path, ...]:
    """D_t: what the policy of an iteration learns from, and its replayed contexts come from."""
    run = config.output
    if number == 0:
        return (config.dataset,)
    if config.mode == FINETUNE:
        iteration = Iteration(run, number)
        kept = "demonstrations" in iteration.done["rollouts"]
        return (*([iteration.demonstrations] if kept else []), iteration.rollouts)  # the first has all tasks
    return (config.dataset, *(Iteration(run, earlier).rollouts for earlier in range(1, number + 1)))


def rollout_settings(config: ExpitConfig, number: int) -> Any:
    """Of an iteration; tasks that are not named are those that the policy was taught."""
    settings = config.rollout_settings(number)
    if settings.tasks is None:
        known = tuple(task["name"] for task in DatasetReader(config.dataset).tasks)
        settings = replace(settings, tasks=known)
    return settings


def trained_steps(output: Path) -> int:
    """Steps of the last training state in a checkpoint folder."""
    found = (output / "training_state").glob("step-*")
    return max((int(path.name.removeprefix("step-")) for path in found), default=0)


def _without_success(counts: list[dict[str, Any]]) -> list[str]:
    """Tasks of which rollouts were wanted and none was kept."""
    kept: dict[str, int] = {}
    for count in counts:
        if count["wanted"]:
            kept[count["task"]] = kept.get(count["task"], 0) + count["successes"]
    return [task for task, successes in kept.items() if not successes]
