"""Tasks in a row (LH-MTLC): how far chains get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keystep.evaluate.measured import Measured, origin
from keystep.evaluate.parallel import Played
from keystep.evaluate.settings import EpisodeResult, Evaluation
from keystep.uncertainty import deviation, mean, means_by, standard_error


@dataclass(frozen=True, kw_only=True)
class ChainReport(Measured):
    """Tasks in a row from one reset; printable.

    Attributes:
        length: tasks of a chain.
        chains: every chain of every noise seed, in the order of `Evaluation.jobs`.
    """

    length: int
    chains: tuple[EpisodeResult, ...]

    @property
    def reached(self) -> tuple[float, ...]:
        """Share of the chains that solved at least 1, 2, .. `length` tasks."""
        return shares([chain.reached for chain in self.chains], self.length)

    @property
    def average_length(self) -> float:
        """Tasks solved in a row, the mean over chains."""
        return sum(chain.reached for chain in self.chains) / len(self.chains)

    @property
    def by_seed(self) -> tuple[float, ...]:
        """Average length of each noise seed."""
        return tuple(means_by((chain.job.noise_seed, chain.reached) for chain in self.chains).values())

    @property
    def error(self) -> float | None:
        """Standard error of the average length over the resets, each one's mean over the noise seeds."""
        return standard_error(
            list(means_by((chain.episode, chain.reached) for chain in self.chains).values())
        )

    @property
    def seed_deviation(self) -> float | None:
        """Standard deviation of the average length over the noise seeds; None of a single one."""
        return deviation(self.by_seed)

    def to_dict(self) -> dict[str, Any]:
        """All figures and chains, for a JSON file."""
        return self.origin() | {
            "reached": list(self.reached),
            "average_length": self.average_length,
            "standard_error": self.error,
            "by_noise_seed": list(self.by_seed),
            "noise_seed_deviation": self.seed_deviation,
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
        }

    def __str__(self) -> str:
        header = "".join(f"{count:>9}" for count in range(1, self.length + 1))
        cells = "".join(f"{share:>9.1%}" for share in self.reached)
        error = f" +- {self.error:.2f}" if self.error is not None else ""
        seeds = f"  (deviation over noise seeds {self.seed_deviation:.2f})" if len(self.by_seed) > 1 else ""
        faults = sum(bool(chain.fault) for chain in self.chains)
        return "\n".join(
            [
                f"{'tasks in a row':<18}{header}{'average length':>20}",
                f"{len(self.chains):>5} chains      {cells}{f'{self.average_length:.2f}{error}':>20}{seeds}"
                + (f"  ({faults} policy faults)" if faults else ""),
            ]
        )


def shares(reached: Sequence[int], length: int) -> tuple[float, ...]:
    """Share of `reached` that is at least 1, 2, .. `length`."""
    return tuple(mean([value >= count for value in reached]) or 0.0 for count in range(1, length + 1))


def chain_report(evaluation: Evaluation, played: Played) -> ChainReport:
    """What was played, chain by chain."""
    return ChainReport(
        length=evaluation.chain_length, chains=tuple(played.results), **origin(evaluation, played)
    )
