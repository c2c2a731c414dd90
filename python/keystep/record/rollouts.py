"""Collect successful rollouts of a policy (HD-ExpIt, Algorithm 3: CollectTrajectories) into a dataset.

The content depends on the settings, the bundle and the replayed datasets only, not on the number of processes
nor on interruptions: results are consumed in the order of their contexts (`keystep.record.schedule`), by one
process, which alone writes. A killed collection goes on with the next context.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import keystep
from keystep.bars import progress_bar
from keystep.data.reader import DatasetReader
from keystep.data.spec import DatasetSpec
from keystep.data.writer import DatasetWriter
from keystep.evaluate.worlds import warn_of_other_world
from keystep.record.bundles import bundle_digest
from keystep.record.cluster import require_cluster
from keystep.record.contexts import Contexts, StartContext, kept_states
from keystep.record.interrupts import Interrupts
from keystep.record.plans_tried import PlansWriter
from keystep.record.player import ContextResult, open_player
from keystep.record.pools import open_pool
from keystep.record.rollout_settings import RolloutReport, RolloutSettings, StreamCount
from keystep.record.rollout_spec import CONTEXT, check_rollouts, rollout_spec
from keystep.record.schedule import RolloutSchedule
from keystep.record.work import WorkerPool
from keystep.suites.states import END_STATE, SUCCESS_STATE

__all__ = ["RolloutReport", "RolloutSettings", "StreamCount", "check_rollouts", "collect_rollouts"]

SAVE_SECONDS = 1.0
"""After a kill, contexts of so long are tried again at most; episodes that are there are not added twice."""
_END: Any = object()
OnResult = Callable[[StartContext, ContextResult], None]


def collect_rollouts(
    bundle: Path,
    output: Path,
    settings: RolloutSettings,
    *,
    replay: Sequence[Path] = (),
    processes: int = 1,
    cluster: str | None = None,
    workers: int = 0,
    tried: Path | None = None,
    on_result: OnResult | None = None,
) -> RolloutReport:
    """Write successful rollouts as a LeRobotDataset v3.0 folder, new or to be continued.

    Args:
        bundle: the policy.
        output: the dataset. Episodes have their seed, context and trial, and their last state.
        replay: datasets whose episodes' last states are the replayed contexts; none without.
        processes: simulators run in parallel, where there is no cluster.
        cluster: "local", or the address of a Ray cluster whose workers are used instead.
        workers: of the cluster, one core each; 0: one for each of its cores.
        tried: a set of tried plans (`keystep.record.plans_tried`) that gets the first plan of every trial,
            failures included; only of policies whose subgoals are vectors.
        on_result: called with every context that counts and what came of it, failures included, in order;
            after a kill once more with the last few.

    Raises:
        DatasetError: bad settings, before anything is created; settings, bundle or replayed datasets differ
            from those of `output`, another process writes it, the disk is full, workers keep dying, the
            cluster is gone, a replayed state is of another world. Earlier episodes stay readable.
        ArgumentError: a task that the policy does not know, or no such environment, before anything is
            created.
        keystep.Error: the bundle cannot be loaded.
    """
    bundle, output = Path(bundle), Path(output)
    digest = bundle_digest(bundle)
    manifest = keystep.read_manifest(bundle)
    suite, tasks = check_rollouts(settings, manifest)
    if cluster is not None:
        require_cluster(cluster)
    env_id = settings.env_id or suite.env_id
    suite.register()
    warn_of_other_world(manifest, env_id)
    name = SUCCESS_STATE if settings.replay_from == "success" else END_STATE
    kept = kept_states(replay, env_id, name)
    alone = settings.standing if settings.restore == "cubes_only" else ()
    schedule = RolloutSchedule(Contexts(suite, tasks, settings.seed, kept, alone), tasks, settings)
    spec = rollout_spec(settings, suite, tasks, manifest, digest, replay, output)
    work = functools.partial(open_player, settings, digest, spec.features)
    with nullcontext() if tried is None else PlansWriter(tried, manifest) as plans:

        def note(context: StartContext, result: ContextResult) -> None:
            if plans is not None:
                _keep_plans(plans, context, result)
            if on_result is not None:
                on_result(context, result)

        pool = open_pool(work, bundle, processes if cluster is None else workers, cluster)
        return collect_contexts(pool, output, spec, schedule, note, None if plans is None else plans.flush)


def _keep_plans(plans: PlansWriter, context: StartContext, result: ContextResult) -> None:
    """The first plan of every trial; what is there already, after a kill, is left out."""
    for attempt in result.attempts:
        if attempt.plan is not None:
            plans.add(
                dict(attempt.plan),
                dict(result.observation),
                task=context.task,
                success=attempt.success,
                context=f"{context.kind}-{context.seed}",
                trial=attempt.trial,
            )


def collect_contexts(
    pool: WorkerPool,
    output: Path,
    spec: DatasetSpec,
    schedule: RolloutSchedule,
    on_result: OnResult | None = None,
    before_counts: Callable[[], None] | None = None,
) -> RolloutReport:
    """`collect_rollouts` with any workers, whose work makes a `ContextResult` of a `StartContext`.

    Args:
        on_result: called with every context that counts and what came of it, failures included, in order;
            after a kill once more with the last few.
        before_counts: brings to disk what `on_result` kept; the counts, of what need not be tried again, are
            written after it.
    """
    with Interrupts() as interrupts, DatasetWriter(output, spec) as writer, pool:
        interrupts.listen()
        report = _collect(pool, _Keeper(writer, schedule, on_result, before_counts), interrupts)
        report.episodes = writer.episodes
        return report


def _collect(pool: WorkerPool, keeper: _Keeper, interrupts: Interrupts) -> RolloutReport:
    """Run until all streams are done, or an interrupt."""
    schedule, started = keeper.schedule, time.perf_counter()
    report = RolloutReport(schedule.counts)
    with progress_bar() as progress, closing(keeper):
        tasks = dict.fromkeys(count.task for count in schedule.counts)
        bars = {task: progress.add_task(task, total=0) for task in tasks}
        _show(progress, bars, schedule)
        with closing(pool.run(schedule.jobs())) as results:
            while not schedule.done and not interrupts.requested:
                found = next(results, _END)
                if found is _END:
                    break
                if found is None:  # nothing came, but perhaps an interrupt
                    continue
                (context,), result = found
                if keeper.take(context, result):
                    report.rollouts += len(result.attempts)
                    _show(progress, bars, schedule)
    report.interrupted = interrupts.requested
    report.restarts = pool.restarts
    report.seconds = time.perf_counter() - started
    return report


def _show(progress: Any, bars: Mapping[str, Any], schedule: RolloutSchedule) -> None:
    for task, bar in bars.items():
        counts = [count for count in schedule.counts if count.task == task]
        wanted = sum(count.wanted for count in counts if not count.given_up)
        kept = sum(count.successes for count in counts)
        progress.update(bar, total=max(wanted, kept), completed=kept)


class _Keeper:
    """What comes of the contexts goes to the dataset: at most one finished episode is not on disk."""

    def __init__(
        self,
        writer: DatasetWriter,
        schedule: RolloutSchedule,
        on_result: OnResult | None,
        before_counts: Callable[[], None] | None = None,
    ) -> None:
        self.schedule = schedule
        self._before_counts = before_counts
        self._writer = writer
        self._on_result = on_result
        self._saved = time.monotonic()
        self._behind = False
        self._written = set()
        for episode in DatasetReader(writer.path).episodes():
            place = episode.extras.get(CONTEXT, {})
            self._written.add((episode.task, str(place.get("kind")), int(place.get("number", -1))))
        schedule.load(writer.path, writer.spec.collection, self._written)

    def take(self, context: StartContext, result: ContextResult) -> bool:
        """One result, in order; False if it was not needed."""
        if not self.schedule.consume(context, result):
            return False
        self._behind = True
        if self._on_result is not None:
            self._on_result(context, result)
        if result.frames is not None and context.key not in self._written:
            self._add(context, result)
            self._written.add(context.key)
            self._writer.flush()
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self._save()
        self._behind = False
        return True

    def _add(self, context: StartContext, result: ContextResult) -> None:
        assert result.frames is not None
        place = {
            "kind": context.kind,
            "number": context.number,
            "trial": result.attempts[-1].trial,
            "noise_seed": [context.seed, result.attempts[-1].trial],
            "source": None if context.source is None else dict(context.source),
        }
        frames = {key: result.frames[key] for key in self._writer.spec.features}
        extras = {END_STATE: result.end, SUCCESS_STATE: result.solved, CONTEXT: place}
        self._writer.add_episode(frames, context.task, context.seed, extras=extras)

    def _save(self) -> None:
        """The counts are never ahead of what is on disk."""
        self._writer.flush()
        if self._before_counts is not None:
            self._before_counts()
        self.schedule.save(self._writer.path, self._writer.spec.collection)
        self._saved = time.monotonic()

    def close(self) -> None:
        """Keep what is there, also after an error, unless it has left the dataset behind the counts."""
        if not self._behind:
            self._save()
