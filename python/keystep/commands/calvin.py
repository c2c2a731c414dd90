"""keystep calvin"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class ConvertOptions:
    """Write the language segments of a split as a LeRobot v3 dataset; run again to continue."""

    folder: tyro.conf.Positional[Path]
    """A split, such as task_D_D/training: episode_*.npz and lang_annotations/auto_lang_ann.npy."""
    output: tyro.conf.Positional[Path]
    """Dataset folder, new or to be continued."""
    actions: Literal["relative", "absolute"] = "relative"
    """relative: rel_actions of the files; absolute: their actions."""
    images: bool = True
    """Write the two cameras."""
    image_size: int | None = None
    """Side of their pictures, which are resized; 200 and 84 pixels when not given."""
    tasks: tuple[str, ...] = ()
    """Names; all when empty."""
    per_task: int | None = None
    """The first so many segments of each task; all when not given."""
    max_frames: int = 64
    """Longer segments are refused: planners are trained for 64 frames."""

    def run(self) -> None:
        from keystep.suites.calvin.convert import convert_calvin

        report = convert_calvin(
            self.folder,
            self.output,
            self.actions,
            self.images,
            self.image_size,
            self.tasks or None,
            self.per_task,
            self.max_frames,
        )
        fewest = min(report.per_task, key=report.per_task.__getitem__)
        print(f"{report.episodes} episodes in the dataset, {report.written} of them new")
        print(f"{len(report.per_task)} tasks; the fewest are {report.per_task[fewest]} of {fewest}")


@dataclass(frozen=True)
class SettingsOptions:
    """Write MTLC's fixed settings: the starts of the validation split's segments."""

    folder: tyro.conf.Positional[Path]
    """The validation split, such as task_D_D/validation."""
    output: tyro.conf.Positional[Path]
    """JSON file."""
    per_task: int = 30
    """The first so many segments of each task."""

    def run(self) -> None:
        from keystep.suites.calvin.settings import write_settings

        counts = write_settings(self.folder, self.output, self.per_task)
        print(f"{self.output}: {sum(counts.values())} settings of {len(counts)} tasks")
        for task, count in counts.items():
            if count < self.per_task:
                print(f"{task}: only {count}, as the split has no more")


@dataclass(frozen=True)
class SequencesOptions:
    """Write LH-MTLC's chains as CALVIN's own evaluation draws them; takes minutes."""

    output: tyro.conf.Positional[Path]
    """JSON file."""
    chains: int = 1000
    """The public protocol has 1,000; of another number each chain is another one."""

    def run(self) -> None:
        from keystep.suites.calvin.sequences import PUBLIC_SHA256, draw_chains, write_chains

        digest = write_chains(self.output, draw_chains(self.chains))
        same = "the public ones" if digest == PUBLIC_SHA256 else "not the public 1,000"
        print(f"{self.output}: {self.chains} chains, sha256 {digest} ({same})")


Task = (
    Annotated[ConvertOptions, tyro.conf.subcommand("convert")]
    | Annotated[SettingsOptions, tyro.conf.subcommand("settings")]
    | Annotated[SequencesOptions, tyro.conf.subcommand("sequences")]
)


def main(task: Annotated[Task, tyro.conf.arg(name="")]) -> None:
    """CALVIN's recordings, fixed settings and chains as keystep's files: see docs/calvin.md."""
    task.run()
