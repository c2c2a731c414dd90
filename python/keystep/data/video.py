"""Frames of an mp4 file by their number. FFmpeg decodes, by PyAV, which is optional (extra `video`).

Which frame a row of the dataset means is told by time, as LeRobot does it: the frame nearest to the row's
timestamp after the episode's start, and none farther from it than a tolerance. Times come from the file's
packets, so that a file whose first frame is not at 0, or that has B-frames, is numbered rightly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keystep.data.layout import DatasetError, quoted

TOLERANCE_S = 1e-4  # LeRobotDataset's tolerance_s
_BT601 = 5  # FFmpeg's scaler's number; what a file that does not tell is taken for, as by all readers
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # by that of a frame: BT.709, FCC, BT.601 .. BT.2020
_LIMITED, _FULL = 1, 2


@dataclass(frozen=True)
class VideoIndex:
    """The frames of a file in the order in which they are shown.

    Attributes:
        pts: (N,) int64 time stamps of the file.
        times: (N,) float64 seconds.
        keys: (K,) int64 numbers of the frames that decoding can begin with.
        rate: frames per second that the file declares; 0 when none.
    """

    pts: np.ndarray
    times: np.ndarray
    keys: np.ndarray
    rate: float

    def __len__(self) -> int:
        return len(self.pts)

    def nearest(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The frame nearest to each time, the earlier of two equally near, and whether it is near enough.

        Timestamps are of single precision in the data files: its spacing is added to the tolerance.
        """
        after = np.searchsorted(self.times, times).clip(1, max(1, len(self) - 1))
        before = after - 1
        after = after.clip(max=len(self) - 1)
        earlier = np.abs(times - self.times[before]) <= np.abs(self.times[after] - times)
        numbers = np.where(earlier, before, after)
        allowed = TOLERANCE_S + np.spacing(np.abs(times).astype(np.float32))
        return numbers, np.abs(self.times[numbers] - times) <= allowed


def av_module(where: str) -> Any:
    """PyAV; DatasetError, which begins with `where`, when it is not installed."""
    try:
        import av
    except ImportError as error:
        raise DatasetError(
            f"{where}: expected PyAV, which decodes and encodes video, got {error}; "
            "pip install 'keystep[video]'"
        ) from None
    return av


class Video:
    """An open mp4 file. For one thread; close it.

    Args:
        height, width: of every frame, as declared.
        index: of the file, when it was opened before.

    Raises:
        DatasetError: from every method: no such file, no video, a codec that FFmpeg cannot decode, frames of
            another size, damaged data, PyAV is missing.
    """

    def __init__(self, path: Path, height: int, width: int, index: VideoIndex | None = None) -> None:
        self.path, self._size = path, (height, width)
        self._av = av_module(str(path))
        if not path.is_file():
            raise DatasetError(f"{path}: expected a video file as in meta/episodes, found none")
        try:
            self._container = self._av.open(str(path), metadata_errors="ignore")  # texts in whatever code
        except (self._av.FFmpegError, OSError) as error:
            raise DatasetError(f"{path}: expected a video file, got {quoted(str(error))}") from None
        try:
            self._stream = self._checked_stream()
            self.index = self._read_index() if index is None else index
        except BaseException:
            self.close()
            raise
        self._frames: Iterator[Any] = iter(())
        self._at, self._image = -1, np.empty(0, np.uint8)  # the last frame that was read

    def close(self) -> None:
        self._container.close()

    def images(self, numbers: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """(height, width, 3) uint8 of each frame, see `rgb`. Quickest in ascending order."""
        for number in map(int, numbers):
            if number != self._at:
                try:
                    self._image = self._decode(number)
                except (self._av.FFmpegError, OSError, ValueError) as error:
                    got = quoted(str(error))
                    raise DatasetError(
                        f"{self.path}: frame {number}: expected video that can be decoded, got {got}"
                    ) from None
                self._at = number
            yield self._image

    def _checked_stream(self) -> Any:
        if not self._container.streams.video:
            raise DatasetError(f"{self.path}: expected a video stream, found none")
        stream = self._container.streams.video[0]
        if stream.codec_context is None:
            raise DatasetError(
                f"{self.path}: expected a codec that PyAV's FFmpeg decodes (h264, hevc, av1, vp9 ..), got "
                "another; encode the videos again"
            )
        found = (stream.codec_context.height, stream.codec_context.width)
        if found != self._size:
            raise DatasetError(
                f"{self.path}: expected {self._size[0]} x {self._size[1]} pixels as declared in info.json, "
                f"got {found[0]} x {found[1]}"
            )
        stream.thread_type = "AUTO"
        return stream

    def _read_index(self) -> VideoIndex:
        """From the packets: nothing is decoded. What an edit list hides is left out."""
        found = []
        try:
            for packet in self._container.demux(self._stream):
                if packet.pts is not None and not packet.is_discard:
                    found.append((packet.pts, packet.is_keyframe))
        except (self._av.FFmpegError, OSError) as error:
            if not found:
                raise DatasetError(f"{self.path}: expected a video file, got {quoted(str(error))}") from None
        found.sort()
        if not found or not found[0][1]:
            raise DatasetError(f"{self.path}: expected frames that begin with a key frame, found none")
        pts = np.array([stamp for stamp, _ in found], np.int64)
        base, rate = self._stream.time_base, self._stream.average_rate
        times = pts * base.numerator / base.denominator
        keys = np.flatnonzero([is_key for _, is_key in found])
        return VideoIndex(pts, times, keys, float(rate) if rate else 0.0)

    def _decode(self, number: int) -> np.ndarray:
        key = int(self.index.keys[np.searchsorted(self.index.keys, number, side="right") - 1])
        if self._at < 0 or number < self._at or key > self._at + 1:
            self._seek(int(self.index.pts[key]))
        image = self._next(number)
        if image is None:  # the file's own index had led behind it
            self._seek(int(self.index.pts[0]))
            image = self._next(number)
        if image is None:
            raise ValueError("no such frame")
        return image

    def _seek(self, pts: int) -> None:
        self._at = -1
        self._container.seek(pts, stream=self._stream, backward=True, any_frame=False)
        self._frames = self._container.decode(self._stream)

    def _next(self, number: int) -> np.ndarray | None:
        """Decodes forward to a frame; None when it does not come."""
        wanted = self.index.pts[number]
        for frame in self._frames:
            if frame.pts is None or frame.pts < wanted:
                continue
            if frame.pts > wanted:
                return None
            if (frame.height, frame.width) != self._size:
                raise ValueError(f"{frame.height} x {frame.width} pixels")
            if frame.rotation:  # torchcodec turns them, PyAV does not
                raise ValueError(f"frames to be turned by {frame.rotation} degrees")
            if frame.is_corrupt:  # the decoder made up what it could not read
                raise ValueError("damaged data")
            return rgb(frame)
        return None


def rgb(frame: Any) -> np.ndarray:
    """(height, width, 3) uint8 of a PyAV frame, by the matrix and the range that the file tells.

    PyAV does so by itself since 17; before it takes everything for BT.601, and most for limited range. Told a
    source and a target that differ, every version does.
    """
    if frame.format.is_rgb:
        return frame.to_ndarray(format="rgb24")
    matrix = _MATRICES.get(int(frame.colorspace), _BT601)
    full = int(frame.color_range) == _FULL
    source = {"src_colorspace": matrix, "src_color_range": _FULL if full else _LIMITED}
    target = {
        "dst_colorspace": matrix,
        "dst_color_range": _LIMITED if full else _FULL,
    }  # of RGB it is nothing
    return frame.to_ndarray(format="rgb24", **source, **target)
