"""The columns of a dataset whose images are in mp4 files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from keystep.data.encoder import first_episodes
from keystep.data.layout import Column, DatasetError
from keystep.data.video import Video, VideoIndex


@dataclass(frozen=True)
class VideoPlace:
    """Where an episode's images of one camera are.

    Attributes:
        file: relative to the dataset.
        start_s, stop_s: its first frame is at `start_s` of the file; what follows it begins at `stop_s`.
    """

    file: str
    start_s: float
    stop_s: float


class VideoColumns:
    """Which file has an image, and the image.

    Args:
        places: of each camera those of all episodes, in order.
    """

    def __init__(
        self, root: Path, features: Mapping[str, Column], places: Mapping[str, list[VideoPlace]], fps: float
    ) -> None:
        self._root, self._features, self._places, self._fps = root, features, places, fps
        self._indices: dict[tuple[str, str], VideoIndex] = {}

    def files(self) -> list[str]:
        """All that episodes name, relative to the dataset."""
        return list(dict.fromkeys(place.file for places in self._places.values() for place in places))

    def open_committed(self, path: Path, own: bool) -> BinaryIO:
        """A file as the last commit left it. After a crash the last ones that keystep wrote may be ahead.

        Args:
            own: whether keystep wrote it.
        """
        file = path.relative_to(self._root).as_posix()
        for key, places in self._places.items():
            if own and places and places[-1].file == file:
                lengths = [round((place.stop_s - place.start_s) * self._fps) for place in places
                           if place.file == file]  # fmt: skip
                with closing(self.open(key, file)) as video:
                    ahead = len(video.index) > sum(lengths)
                if ahead:
                    return io.BytesIO(first_episodes(path, lengths, round(self._fps)))
        return path.open("rb")

    @contextmanager
    def opened(self) -> Iterator[OpenVideos]:
        """A reader of frames; at most one file of each camera is open."""
        videos = OpenVideos(self)
        try:
            yield videos
        finally:
            videos.close()

    def open(self, key: str, file: str) -> Video:
        height, width, _ = self._features[key].shape
        video = Video(self._root / file, height, width, self._indices.get((key, file)))
        self._indices[key, file] = video.index
        return video

    def frame_numbers(self, key: str, episode: int, seconds: np.ndarray, index: VideoIndex) -> np.ndarray:
        """(N,) frames of the file at `seconds` (N,) after the episode's first.

        Raises:
            DatasetError: one of them is farther away than LeRobot's tolerance.
        """
        place = self._places[key][episode]
        times = place.start_s + seconds.astype(np.float64)
        numbers, near = index.nearest(times)
        if not near.all():
            at = int(np.argmin(near))
            raise DatasetError(
                f"{self._root / place.file}: episode {episode}: {self._why(index, times, at, numbers)}"
            )
        return numbers

    def _why(self, index: VideoIndex, times: np.ndarray, at: int, numbers: np.ndarray) -> str:
        wanted = f"frame {at} of {len(times)} read at {times[at]:.6f} s"
        end = float(index.times[-1])
        if index.rate and abs(index.rate / self._fps - 1) > 1e-3:
            return f"expected {self._fps:g} frames per second as info.json: fps says, got {index.rate:g}"
        if times[at] > end:
            last = f"its last frame, {len(index) - 1}, is at {end:.6f} s"
            return f"expected {wanted}, but the video is shorter: {last}"
        return f"expected {wanted}, got the nearest at {index.times[numbers[at]]:.6f} s, beyond the tolerance"


class OpenVideos:
    """See `VideoColumns.opened`."""

    def __init__(self, columns: VideoColumns) -> None:
        self._columns = columns
        self._open: dict[str, tuple[str, Video]] = {}

    def read(self, key: str, episodes: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """(N, height, width, 3) uint8 of rows.

        Args:
            episodes: (N,) ascending numbers of their episodes.
            seconds: (N,) their timestamps.
        """
        images = np.empty((len(episodes), *self._columns._features[key].shape), np.uint8)
        for episode in np.unique(episodes).tolist():
            first, stop = np.searchsorted(episodes, [episode, episode + 1])
            video = self._video(key, self._columns._places[key][episode].file)
            numbers = self._columns.frame_numbers(key, episode, seconds[first:stop], video.index)
            for row, image in enumerate(video.images(numbers), first):
                images[row] = image
        return images

    def _video(self, key: str, file: str) -> Video:
        held = self._open.get(key)
        if held is None or held[0] != file:
            if held is not None:
                held[1].close()
                del self._open[key]
            held = self._open[key] = (file, self._columns.open(key, file))
        return held[1]

    def close(self) -> None:
        for _, video in self._open.values():
            video.close()
        self._open = {}
