"""Episodes of a planner that writes code: played and shown, then written to files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import keystep
from keystep.commands.code_planners import code_planner_at
from keystep.commands.oracle_episode import film, open_env
from keystep.commands.run_record import EpisodeRecord, reply_times
from keystep.commands.run_view import view_of
from keystep.commands.video import write_video
from keystep.files import write_json
from keystep.machine import describe_machine
from keystep.suites.headless import require_driver
from keystep.suites.tabletop import layout
from keystep.suites.tabletop.environment import TabletopEnv
from keystep.suites.tabletop.oracle.replies import open_for, play_replies

VERSION = 1
"""Of the file that `write` writes."""


class PlannerEpisodes:
    """See `keystep run`.

    Args:
        folder: of the planner.
        task: its name.
        every_step: it is asked at every control step.
        filmed: a video is wanted; what it needs is looked for now.

    Attributes:
        records: of the episodes, the last of them perhaps not played to its end.
        interrupted: by Ctrl-C or an error.

    Raises:
        ArgumentError, BundleError, CheckpointError, Error: the planner cannot be opened.
        ImportError, RuntimeError: pictures cannot be drawn, or no video written.
    """

    def __init__(self, folder: Path, task: str, every_step: bool, filmed: bool) -> None:
        self._source = code_planner_at(folder)
        if filmed:
            import av  # noqa: F401

            require_driver()
        self._planner = self._source.open()
        self._task, self._every_step = task, every_step
        self.records, self.interrupted = list[EpisodeRecord](), False

    def play(self, seeds: Iterable[int], show: bool) -> None:
        """One episode after the other, up to Ctrl-C."""
        console = Console(highlight=False)
        with closing(open_for(self._task, self._planner)) as env:
            try:
                for seed in seeds:
                    self._play_one(env, seed, show, console)
            except KeyboardInterrupt:
                self.interrupted = True
            except BaseException:
                self.interrupted = True
                raise

    def _play_one(self, env: Any, seed: int, show: bool, console: Console) -> None:
        planner, record = self._planner, EpisodeRecord(self._task, seed)
        self.records.append(record)
        with view_of(record, show, console, planner.grid) as view:
            found = play_replies(env, seed, planner, planner.grid, (record, view), self._every_step)
            record.end(*found)

    def write(self, path: Path) -> None:
        """What happened, as JSON."""
        ms = [one for record in self.records for one in record.reply_ms]
        passes = [one for record in self.records for one in record.reply_passes]
        found = {
            "version": VERSION,
            **self._source.about,
            "machine": describe_machine(),
            "world_version": layout.VERSION,
            "grid": self._planner.grid,
            "asked": "every step" if self._every_step else "after calls",
            "interrupted": self.interrupted,
            "replies": reply_times(ms, passes),
            "episodes": [record.to_dict() for record in self.records],
        }
        write_json(path, found)

    def film(self, path: Path) -> None:
        """A video of all episodes.

        Raises:
            Error: none has a control step.
        """
        shown = [record for record in self.records if record.actions]
        if not shown:
            raise keystep.Error("video: expected at least one control step to show, got none")
        with closing(open_env(self._task, visible=True)) as env:
            write_video(path, chain.from_iterable(_frames(env, record) for record in shown))


def _frames(env: TabletopEnv, record: EpisodeRecord) -> Iterator[np.ndarray]:
    """Those of an episode, from the same actions again: pictures would fill the memory."""
    assert record.episode is not None
    return film(env, record.seed, record.episode, record.actions)
