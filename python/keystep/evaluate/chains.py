"""Tasks in a row (LH-MTLC): how far chains get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from keystep.evaluate.parallel import Played
from keystep.evaluate.settings import EpisodeResult, Evaluation
from keystep.evaluate.uncertainty import mean, standard_error


@dataclass(frozen=True)
class ChainReport:
    """Tasks in a row from one reset; printable.

    Attributes:
        length: tasks of a chain.
        chains: every chain of every noise seed, in the order of `Evaluation.jobs`.
        latency, settings: as in EvaluationReport.
    """

    env: str
    seed: int
    length: int
    chains: tuple[EpisodeResult, ...]
    seconds: float
    description: str = ""
    latency: tuple[dict[str, Any], ...] = ()
    machine: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def reached(self) -> tuple[float, ...]:
        """Share of the chains that solved at least 1, 2, .. `length` tasks."""
        return shares([chain.reached for chain in self.chains], self.length)

    @property
    def average_length(self) -> float:
        return sum(chain.reached for chain in self.chains) / len(self.chains)

    @property
    def by_seed(self) -> tuple[float, ...]:
        """Average length of each noise seed."""
        seeds = dict.fromkeys(chain.job.noise_seed for chain in self.chains)
        lengths = ([chain.reached for chain in self.chains if chain.job.noise_seed == seed] for seed in seeds)
        return tuple(sum(reached) / len(reached) for reached in lengths)

    @property
    def error(self) -> float | None:
        """Standard error of the average length: over the noise seeds, over the chains of a single one."""
        if len(self.by_seed) > 1:
            return standard_error(self.by_seed)
        return standard_error([chain.reached for chain in self.chains])

    def to_dict(self) -> dict[str, Any]:
        return {
            "env": self.env,
            "seed": self.seed,
            "settings": self.settings,
            "description": self.description,
            "seconds": self.seconds,
            "reached": list(self.reached),
            "average_length": self.average_length,
            "standard_error": self.error,
            "by_noise_seed": list(self.by_seed),
            "faults": sum(bool(chain.fault) for chain in self.chains),
            "chains": [
                {
                    "noise_seed": chain.job.noise_seed,
                    "episode": chain.episode,
                    "tasks": list(chain.job.tasks),
                    "reached": chain.reached,
                    "steps": chain.steps,
                    "fault": chain.fault,
                }
                for chain in self.chains
            ],
            "latency": list(self.latency),
            "machine": self.machine,
        }

    def __str__(self) -> str:
        header = "".join(f"{count:>9}" for count in range(1, self.length + 1))
        cells = "".join(f"{share:>9.1%}" for share in self.reached)
        error = f" +- {self.error:.2f}" if self.error is not None else ""
        faults = sum(bool(chain.fault) for chain in self.chains)
        return "\n".join(
            [
                f"{'tasks in a row':<18}{header}{'average length':>20}",
                f"{len(self.chains):>5} chains      {cells}{f'{self.average_length:.2f}{error}':>20}"
                + (f"  ({faults} policy faults)" if faults else ""),
            ]
        )


def shares(reached: Sequence[int], length: int) -> tuple[float, ...]:
    """Share of `reached` that is at least 1, 2, .. `length`."""
    return tuple(mean([value >= count for value in reached]) or 0.0 for count in range(1, length + 1))


def chain_report(evaluation: Evaluation, played: Played) -> ChainReport:
    """What was played, chain by chain."""
    return ChainReport(
        evaluation.env,
        evaluation.seed,
        evaluation.chain_length,
        tuple(played.results),
        played.seconds,
        played.description,
        played.latency,
        played.machine,
        evaluation.describe(),
    )
