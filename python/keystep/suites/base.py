"""What the rest of keystep sees of a simulated world."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from keystep.code.samples import TextEpisode
    from keystep.code.tokenizer import Tokenizer
    from keystep.data.spec import DatasetSpec

TASK = "<Task>"
"""Stands for a task's name in the id of an environment that has one task."""

BLOCK = 100_000_000
"""Between the seeds of the tasks numbered 0 .. stride - 1 and those of the next `stride` tasks."""

Frames = dict[str, Any]
Rollout = Callable[[str, int], Frames | None]
"""(task, seed) -> the features' columns over the frames of a successful episode, or None. Under `instruction`
and `extras` it may also have what `DatasetWriter.add_episode` takes under these names."""


@dataclass(frozen=True)
class Source:
    """Where demonstrations come from, and what the dataset says about it.

    Attributes:
        spec: of the dataset.
        open_rollout: makes the rollout function, once in every process; picklable.
        first_seeds: of each task.
        seed_stride: distance of consecutive seeds of a task.
    """

    spec: DatasetSpec
    open_rollout: Callable[[], Rollout]
    first_seeds: dict[str, int]
    seed_stride: int


class Demonstrator(Protocol):
    """Passes through what a planner should imagine, from the same reset."""

    def subgoals(self, task: str, seed: int) -> dict[str, np.ndarray] | None:
        """M subgoals as `Runtime.reset` wants them; None when the demonstration fails from this reset."""
        ...

    def close(self) -> None: ...


class Pictures(Protocol):
    """How observations and subgoals become pictures: uint8 (height, width, 3)."""

    def seen(self, observation: dict[str, Any]) -> np.ndarray: ...

    def imagined(self, subgoals: dict[str, np.ndarray]) -> list[np.ndarray]: ...


@dataclass(frozen=True)
class SeenScene:
    """A scene as a camera sees it.

    Attributes:
        picture: uint8 (H, W, 3), of the camera that `boxes` are about.
        names: of the N objects.
        boxes: float32 (N, 4), see `keystep.code.grid.cell`.
    """

    picture: np.ndarray
    names: tuple[str, ...]
    boxes: np.ndarray


@dataclass(frozen=True)
class FixedStarts:
    """Episodes that a benchmark fixes, instead of resets by seeds.

    Attributes:
        option: of the environment's reset, which is given the number of the start besides the task.
        counts: starts of each task (MTLC).
        chains: the tasks in a row of each start (LH-MTLC).
        instructions: the sentences that a policy is told, by task.
        max_steps: limit of a task.
        origin: what the scores depend on besides the policy, such as hashes of files; for result files.
    """

    option: str
    counts: Mapping[str, int] = field(default_factory=dict)
    chains: tuple[tuple[str, ...], ...] = ()
    instructions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    max_steps: int | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Symmetry:
    """A change of the scene after which the same actions do another task, or the same one.

    Attributes:
        tasks: what each task becomes, by name; those not named stay.
        columns: of vectors, by their key: the new vector's column i is column `columns[key][i]` of the old.
    """

    tasks: Mapping[str, str]
    columns: Mapping[str, tuple[int, ...]]


class Suite(Protocol):
    """A simulated world: its tasks, and how to make, demonstrate, tell and show them.

    Importing the module that has a suite loads no simulator. A new one is a folder of its own and a
    line in `keystep.suites.SUITES`.

    Attributes:
        name: of the suite, on the command line and in datasets.
        tasks: by name their numbers, which never change; a task that is added gets the next one. Attempt
            k of a task has the env seed `seed + first_seed(number, stride) + stride * k`.
        seed_stride: the stride, likewise fixed, whatever the number of tasks.
        env_id: of the Gymnasium environment; with `TASK` in it where there is one for each task.
        collect_options: arguments of `keystep.record.collect` that only some suites have, and this one has.
        held_out_kinds: of the sentences of `held_out`, taking turns.

    More that it may have: `families`, the family of every task for reports, by task, where that is not the
    first word of its name; `fixed_starts(protocol, env_kwargs) -> FixedStarts` of a benchmark; `symmetries`,
    a tuple of `Symmetry`, the one that changes nothing among them; `parts`, by the key of a vector the number
    of the object that each column is of; and `failure_kinds`, in the order of a table, with
    `failure(task, observations) -> str`, which of them an episode without success is, by all that its
    environment has shown, from the reset on. Of a suite whose demonstrations are code: `texts(tasks, grid)`,
    `tokenizer(grid)` and `seen_scenes(image_size)`, see the functions of these names.
    """

    name: str
    tasks: Mapping[str, int]
    seed_stride: int
    env_id: str
    collect_options: frozenset[str]
    held_out_kinds: tuple[str, ...]

    def register(self) -> None:
        """Makes the environments known to Gymnasium."""
        ...

    def instruction(self, task: str) -> str | None:
        """What the task is called in a dataset; None where every episode has a prompt of its own."""
        ...

    def source(
        self, tasks: Sequence[str] | None, seed: int, obs_mode: str, image_size: int, **options: Any
    ) -> Source:
        """Demonstrations; all tasks when None. `options` are `collect_options`. Raises DatasetError."""
        ...

    def phrasings(self, task: str) -> tuple[str, ...]:
        """Sentences to train with. Raises KeyError for a task without any."""
        ...

    def held_out(self, task: str) -> tuple[str, ...]:
        """Sentences that no training sentence equals. Raises KeyError for a task without any."""
        ...

    def meaning(self, task: str) -> dict[str, int]:
        """What these sentences tell, e.g. verb and colour, as numbers from 0; the same keys for every task.

        Raises:
            KeyError: the task has no sentences.
        """
        ...

    def demonstrator(self, env: Any, planner: dict[str, Any]) -> Demonstrator:
        """Ground-truth subgoals in an environment of its own. Raises ArgumentError where there are none."""
        ...

    def pictures(
        self, make_env: Callable[[dict[str, Any]], Any], subgoal: str
    ) -> AbstractContextManager[Pictures]:
        """Pictures of observations and of subgoals of the key `subgoal`.

        Args:
            make_env: makes another environment, with these options of its constructor.

        Raises:
            ArgumentError: this suite has none.
        """
        ...


def fixed_starts(suite: Suite, protocol: str, env_kwargs: Mapping[str, Any]) -> FixedStarts | None:
    """Those of a suite that is a benchmark, else None. Raises ArgumentError, see the suite."""
    of_suite = getattr(suite, "fixed_starts", None)
    return None if of_suite is None else of_suite(protocol, env_kwargs)


def symmetries(suite: Suite) -> tuple[Symmetry, ...]:
    """Those that it declares."""
    return getattr(suite, "symmetries", ())


def parts(suite: Suite, key: str) -> tuple[int, ...]:
    """Of each column of a vector the number of its object; empty where the suite does not say."""
    return getattr(suite, "parts", {}).get(key, ())


def families(suite: Suite) -> Mapping[str, str]:
    """Of the tasks whose family is not the first word of their name."""
    return getattr(suite, "families", {})


def texts(suite: Suite, tasks: Sequence[str] | None, grid: int) -> Iterator[TextEpisode]:
    """Episodes as text without end, on seeds of their own; all tasks when None.

    Args:
        grid: in whose cells the code says places.

    Raises:
        ArgumentError: the suite has no code.
    """
    return _of_code(suite, "texts")(tasks, grid)


def tokenizer(suite: Suite, grid: int) -> Tokenizer:
    """Of the suite's prompts and code with this grid. Raises ArgumentError: the suite has no code."""
    return _of_code(suite, "tokenizer")(grid)


def seen_scenes(suite: Suite, image_size: int) -> Iterator[SeenScene]:
    """Scenes as episodes begin, without end, that no dataset and no evaluation has.

    Args:
        image_size: height and width of the pictures in pixels.

    Raises:
        ArgumentError: the suite has no code.
        RuntimeError: on a machine that cannot draw.
    """
    return _of_code(suite, "seen_scenes")(image_size)


def _of_code(suite: Suite, name: str) -> Callable[..., Any]:
    found = getattr(suite, name, None)
    if found is None:
        import keystep

        raise keystep.ArgumentError(f"suite: expected one whose demonstrations are code, got {suite.name}")
    return found


def numbered(suite: Suite, tasks: Sequence[str] | None, seed: int) -> dict[str, int]:
    """The first seed of each of `tasks` (all when None), in this order.

    Raises:
        DatasetError: a task that the suite does not have.
    """
    from keystep.data.errors import DatasetError

    names = dict.fromkeys(suite.tasks if tasks is None else tasks)
    for name in names:
        if name not in suite.tasks:
            raise DatasetError(f"tasks: expected some of {', '.join(suite.tasks)}, got {name!r}")
    return {name: seed + first_seed(suite.tasks[name], suite.seed_stride) for name in names}


def first_seed(number: int, stride: int) -> int:
    """Of a task, in a collection that starts with 0.

    A task numbered beyond the stride would meet the seeds of an earlier one; it has a block of its own, which
    up to `BLOCK // stride` attempts do not leave.
    """
    block, place = divmod(number, stride)
    return BLOCK * block + place


def attempt(seed: int, stride: int) -> int:
    """Which attempt of its task it is, from 0, that has this seed in a collection that starts with 0."""
    return seed % BLOCK // stride


def check_seed(seed: int) -> None:
    """ValueError for one that no environment takes, or no dataset keeps."""
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed: expected 0 to 2^63 - 1, got {seed}")


def check_settings(
    seed: int, obs_mode: str, image_size: int, sizes: range, needs_driver: bool = True
) -> None:
    """Refuses what an environment would refuse when its dataset has been created already.

    Args:
        sizes: of images that it can make.
        needs_driver: its pictures need a Vulkan driver.

    Raises:
        DatasetError: `seed` or `image_size` is out of range.
        MissingDriver: pictures are asked for on a machine without a Vulkan driver.
    """
    from keystep.data.errors import DatasetError

    try:
        check_seed(seed)
    except ValueError as error:
        raise DatasetError(str(error)) from None
    if image_size not in sizes:
        raise DatasetError(f"image_size: expected {sizes.start} to {sizes.stop - 1} pixels, got {image_size}")
    if "rgb" in obs_mode and needs_driver:
        from keystep.suites.headless import require_driver

        require_driver()
