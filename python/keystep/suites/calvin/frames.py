"""The frames of a split: episode_NNNNNNN.npz, one file each. Nothing in them is unpickled.

Source: dataset/README.md of mees/calvin (fa03f01).
"""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

import numpy as np

from keystep.data.errors import DatasetError
from keystep.suites.calvin import layout

_NAME = re.compile(r"(episode_)(\d+)(\.npz)")
ANNOTATIONS = ("lang_annotations/auto_lang_ann.npy", "auto_lang_ann.npy")


class CalvinFrames:
    """One split of CALVIN's data, such as task_D_D/training.

    Args:
        actions: which of the two kinds is read.
        images: whether the cameras are.

    Raises:
        DatasetError: the folder has no frames or no language annotations.
    """

    def __init__(self, folder: Path, actions: str = "relative", images: bool = True) -> None:
        self.folder = Path(folder)
        self._digits = _digits(self.folder)
        found = [self.folder / name for name in ANNOTATIONS if (self.folder / name).is_file()]
        if not found:
            raise DatasetError(f"{self.folder}: expected {ANNOTATIONS[0]}, found none")
        self.annotations = found[0]
        self._wanted: dict[str, tuple[tuple[int, ...], str]] = {
            "robot_obs": ((len(layout.STATE_NAMES),), "float32"),
            "scene_obs": ((len(layout.SCENE_NAMES),), "float32"),
            layout.ACTION_KEYS[actions]: ((7,), "float32"),
        }
        if images:
            self._wanted |= {f"rgb_{name}": (shape, "uint8") for name, shape in layout.CAMERAS.items()}

    def read(self, number: int) -> dict[str, np.ndarray]:
        """The arrays of a frame: numbers as the file has them, pictures uint8.

        Raises:
            DatasetError: the frame is not there, or a field is missing, of another shape or kind, or not
                finite.
        """
        path = self.folder / f"episode_{number:0{self._digits}d}.npz"
        if not path.is_file():
            raise DatasetError(f"{path}: expected a frame, found none")
        try:
            with np.load(path, allow_pickle=False) as file:
                return {
                    name: _checked(f"{path}: {name}", file.get(name), *wanted)
                    for name, wanted in self._wanted.items()
                }
        except DatasetError:
            raise
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
            raise DatasetError(f"{path}: expected a file of numpy.savez, got {error}") from None
        except Exception as error:  # zlib and struct have errors of their own for damaged data
            what = f"{type(error).__name__}: {error}"
            raise DatasetError(f"{path}: expected a file of numpy.savez, got {what}") from None


def _digits(folder: Path) -> int:
    """Of the frames' numbers; the first one found tells, as there are hundreds of thousands."""
    try:
        with os.scandir(folder) as entries:
            match = next((found for entry in entries if (found := _NAME.fullmatch(entry.name))), None)
    except OSError as error:
        raise DatasetError(f"{folder}: expected a split of CALVIN's data, got {error}") from None
    if match is None:
        hint = " (give one of them)" if (folder / "training").is_dir() else ""
        wanted = "a split of CALVIN's data, such as task_D_D/training"
        raise DatasetError(f"{folder}: expected {wanted}, with episode_*.npz, found none{hint}")
    return len(match[2])


def _checked(name: str, value: np.ndarray | None, shape: tuple[int, ...], kind: str) -> np.ndarray:
    expected = f"{kind} of shape {shape}"
    if value is None:
        raise DatasetError(f"{name}: expected {expected}, found none")
    fits = value.dtype == np.uint8 if kind == "uint8" else value.dtype.kind == "f"
    if not fits or value.shape != shape:
        raise DatasetError(f"{name}: expected {expected}, found {value.dtype} of shape {value.shape}")
    if kind != "uint8" and not np.isfinite(value.astype(np.float32)).all():
        place = int(np.argmin(np.isfinite(value.astype(np.float32))))
        raise DatasetError(f"{name}[{place}]: expected a finite number, found {value[place]}")
    return value
