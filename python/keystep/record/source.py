"""Where demonstrations come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keystep.data.layout import DatasetError
from keystep.data.spec import DatasetSpec
from keystep.record.workers import Rollout


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


def check_settings(seed: int, obs_mode: str, image_size: int, sizes: range) -> None:
    """Refuses what an environment would refuse when its dataset has been created already.

    Args:
        sizes: of images that it can make.

    Raises:
        DatasetError: `seed` or `image_size` is out of range.
        RuntimeError: pictures are asked for on a machine without a Vulkan driver.
    """
    if seed < 0:
        raise DatasetError(f"seed: expected at least 0, got {seed}")
    if image_size not in sizes:
        raise DatasetError(f"image_size: expected {sizes.start} to {sizes.stop - 1} pixels, got {image_size}")
    if obs_mode == "rgb":
        from keystep.suites.headless import require_driver

        require_driver()
