"""The steps of an iteration; each can be stopped anywhere and goes on where it was."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import keystep
from keystep.data import DatasetError, DatasetReader
from keystep.expit.config import FINETUNE, ExpitConfig
from keystep.expit.evaluating import evaluate_into, evaluation_of
from keystep.expit.folder import Iteration, plain
from keystep.files import sha256
from keystep.record.interrupts import Interrupts

Facts = dict[str, Any]
"""What came of a step, as JSON values."""
Network = Literal["planner", "controller"]
WEIGHTS, MANIFEST = "model.safetensors", "manifest.json"


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
            "bundle": self.export,
            "evaluation": self.evaluate,
        }
        started = time.perf_counter()
        facts = steps[name]()
        return None if facts is None else {"seconds": round(time.perf_counter() - started, 1), **facts}

    # ---- R

    def collect(self) -> Facts | None:
        """Successful rollouts of the last iteration's policy (Algorithm 3)."""
        from keystep.record.rollouts import collect_rollouts

        assert self.last is not None
        config = self.config
        self.iteration.begin("rollouts", 0, 0)
        settings = config.rollout_settings(self.iteration.number)
        if settings.tasks is None:  # what the policy was taught
            known = tuple(task["name"] for task in DatasetReader(config.dataset).tasks)
            settings = replace(settings, tasks=known)
        report = collect_rollouts(
            self.last.bundle,
            self.iteration.rollouts,
            settings,
            replay=self._datasets(self.last.number),
            processes=config.processes,
            cluster=config.cluster,
            tried=self.iteration.tried if _plans_vectors(self.last.bundle) else None,
        )
        if report.interrupted:
            return None
        counts = [asdict(count) for count in report.counts]
        without = _without_success(counts)
        if not sum(count["successes"] for count in counts):
            tried = sum(count["contexts"] for count in counts)
            raise DatasetError(
                f"{self.iteration.rollouts}: expected successful rollouts to learn from, got none of "
                f"{', '.join(without)} in {tried} contexts; the policy of iteration {self.last.number} must "
                "solve some: train it longer, or remove this folder and raise rollouts.max_contexts"
            )
        reader = DatasetReader(self.iteration.rollouts)
        digest = reader.sha256()
        return {
            "dataset_sha256": digest,
            "episodes": len(reader),
            "counts": counts,
            "without_success": without,
        }

    # ---- training

    def train(self, network: Network) -> Facts | None:
        """From scratch on all data, or from the last weights on the newest (Algorithms 1 and 2)."""
        from keystep.train.trainer import train

        config, number = self.config, self.iteration.number
        settings = getattr(config, network)
        steps, output = config.steps(network, number), getattr(self.iteration, network)
        finetuned = config.mode == FINETUNE and self.last is not None
        datasets = self._datasets(number)
        self.iteration.begin(network, steps, trained_steps(output))
        result = train(
            settings.of(
                steps,
                finetuned,
                dataset=datasets if len(datasets) > 1 else datasets[0],
                output=output,
                seed=config.training_seed(number),
                weights=getattr(self.last, network) if finetuned else None,
                statistics=config.dataset if number else None,
            )
        )
        if result.interrupted:
            return None
        return {
            "steps": result.step,
            "datasets_sha256": [DatasetReader(path).sha256() for path in datasets],
            "from_weights_sha256": sha256(getattr(self.last, network) / WEIGHTS) if finetuned else None,
            "weights_sha256": sha256(output / WEIGHTS),
            "train_loss": result.train_loss,
            "val_loss": result.val_loss,
        }

    def _datasets(self, number: int) -> tuple[Path, ...]:
        """D_t: what the policy of an iteration learns from, and its replayed contexts come from."""
        run = self.config.output
        if number == 0:
            return (self.config.dataset,)
        if self.config.mode == FINETUNE:
            return (Iteration(run, number).rollouts,)
        collected = (Iteration(run, earlier).rollouts for earlier in range(1, number + 1))
        return (self.config.dataset, *collected)

    # ---- the bundle

    def export(self) -> Facts | None:
        from keystep.export.bundle import export_bundle

        if self.interrupts.requested:
            return None
        self.iteration.begin("bundle", 1, 0)
        folder = self.iteration.bundle
        for left in folder.parent.glob(f".{folder.name}.tmp-*"):  # of a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        name = f"{self.config.output.name}-{self.iteration.number}"
        export_bundle(
            self.iteration.controller,
            folder,
            planner=self.iteration.planner,
            name=name,
            replan=self.config.evaluation.replan,
            overwrite=(folder / MANIFEST).is_file(),
            **self.config.export.options(),
        )
        return {"manifest_sha256": sha256(folder / MANIFEST)}

    # ---- success

    def evaluate(self) -> Facts | None:
        settings = self.config.evaluation
        bundle = self.iteration.bundle
        report = evaluate_into(
            self.iteration.path / "evaluation.json",
            bundle,
            evaluation_of(plain(self.config), bundle),
            self.interrupts,
            options={"replan": settings.replan},
            processes=self.config.processes,
            what=f"iteration {self.iteration.number}",
            begin=lambda total, have: self.iteration.begin("evaluation", total, have),
        )
        if report is None:
            return None
        summary = report.to_dict()
        families = {family["name"]: family["success_rate"] for family in summary["families"]}
        total = summary["total"]
        return {"success_rate": total["success_rate"], "episodes": total["episodes"], "families": families}


def trained_steps(output: Path) -> int:
    """Steps of the last training state in a checkpoint folder."""
    found = (output / "training_state").glob("step-*")
    return max((int(path.name.removeprefix("step-")) for path in found), default=0)


def _plans_vectors(bundle: Path) -> bool:
    """Whether the bundle's plans can be kept for a scorer."""
    manifest = keystep.read_manifest(bundle)
    subgoal = manifest["planner"]["subgoal"]
    return all(
        feature["kind"] == "vector" for feature in manifest["observation"] if feature["key"] == subgoal
    )


def _without_success(counts: list[dict[str, Any]]) -> list[str]:
    """Tasks of which rollouts were wanted and none was kept."""
    kept: dict[str, int] = {}
    for count in counts:
        if count["wanted"]:
            kept[count["task"]] = kept.get(count["task"], 0) + count["successes"]
    return [task for task, successes in kept.items() if not successes]
