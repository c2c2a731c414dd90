"""The option `--rerun` of several commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keystep
from keystep.evaluate.rerun_file import RerunPolicy
from keystep.evaluate.rollout import Worker
from keystep.evaluate.settings import Evaluation
from keystep.files import replacing


def record_episode(open_policy: Callable[[], keystep.Runtime], evaluation: Evaluation, file: Path) -> None:
    """Plays the first episode of an evaluation and writes it for Rerun; the file appears whole or not."""
    job = evaluation.jobs[0]
    with replacing(file) as (staged,):
        policy = RerunPolicy(open_policy(), staged)
        try:
            worker = Worker(policy, evaluation)
            try:
                policy.finish(worker.run(job).success)
            finally:
                worker.close()
        finally:
            policy.close()
    print(f"\nrecording of {job.tasks[0]} from seed {evaluation.reset_seed(job)}: rerun {file}")
