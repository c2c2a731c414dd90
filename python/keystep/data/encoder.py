"""Images to mp4, and mp4 files joined and split without encoding anew.

Every episode is encoded alone and begins with a key frame, so files are made of whole episodes whichever come
together. Settings are LeRobot's defaults (`VideoEncoderConfig`: yuv420p, crf 30, a key frame at every second
frame), but for B-frames, which are left out: frames are then stored in the order in which they are shown.
One thread each: the same images are the same bytes on every machine.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from keystep.data.layout import DatasetError, quoted
from keystep.data.video import av_module

GOP, CRF = 2, 30
ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"bf": "0"}),
    "av1": ("libsvtav1", {"preset": "12", "svtav1-params": "fast-decode=0:lp=1"}),
}
"""By codec: FFmpeg's encoder and its options besides GOP and CRF."""


def encode(key: str, images: np.ndarray, fps: int, codec: str) -> bytes:
    """(T, h, w, 3) uint8 -> an mp4 file whose frame t is at t / fps seconds.

    Raises:
        DatasetError: PyAV or the encoder is missing, or it refuses the size.
    """
    av = av_module(key)
    name, options = ENCODERS[codec]
    os.environ.setdefault("SVT_LOG", "1")  # errors alone: this library prints its settings
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="mp4") as container:
            stream = container.add_stream(name, rate=fps, options={"g": str(GOP), "crf": str(CRF), **options})
            stream.height, stream.width, stream.pix_fmt = *images.shape[1:3], "yuv420p"
            stream.codec_context.thread_count = 1
            with scheduling_kept():
                stream.codec_context.open()
            for number, image in enumerate(images):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, fps)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    except (av.FFmpegError, ValueError) as error:
        raise DatasetError(
            f"{key}: expected images that {name} encodes as yuv420p, got {quoted(str(error))}"
        ) from None
    return buffer.getvalue()


@contextlib.contextmanager
def scheduling_kept() -> Iterator[None]:
    """SVT-AV1, where it may, makes its threads and its caller SCHED_FIFO 99: before any control loop."""
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    tasks = Path("/proc/self/task")
    before = {task.name for task in tasks.iterdir()} - {str(threading.get_native_id())}
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for number in {task.name for task in tasks.iterdir()} - before:
            with contextlib.suppress(OSError):  # it has ended
                os.sched_setscheduler(int(number), policy, parameters)


def check_encoder(where: str, codec: str | None, height: int, width: int) -> None:
    """Raises DatasetError unless images of this size can be encoded."""
    if codec not in ENCODERS:
        raise DatasetError(f"{where}.codec: expected one of {', '.join(ENCODERS)}, got {codec!r}")
    if height % 2 or width % 2:
        raise DatasetError(
            f"{where}.shape: expected an even height and width, as yuv420p has half as many of colour, got "
            f"{height} x {width}"
        )
    av = av_module(where)
    try:
        av.codec.Codec(ENCODERS[codec][0], "w")
    except av.FFmpegError:
        raise DatasetError(
            f"{where}.codec: expected an encoder that PyAV {av.__version__} has, got {ENCODERS[codec][0]}"
        ) from None


def join(path: Path, parts: Sequence[bytes], fps: int) -> None:
    """Episodes, as `encode` makes them, one after the other in one file.

    Raises:
        DatasetError: they were not encoded alike.
    """
    av = av_module(str(path))
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as output:
        _append(av, output, [io.BytesIO(part) for part in parts], fps)


def split(path: Path, lengths: Sequence[int], fps: int) -> list[bytes]:
    """The episodes of a file that `join` wrote, of these numbers of frames; what follows them is left out.

    Raises:
        DatasetError: it is missing or damaged, or has fewer frames.
    """
    av = av_module(str(path))
    parts = []
    try:
        with av.open(str(path), metadata_errors="ignore") as source:
            stream = source.streams.video[0]
            packets = (packet for packet in source.demux(stream) if packet.pts is not None)
            for length in lengths:
                buffer = io.BytesIO()
                with av.open(buffer, "w", format="mp4") as output:
                    copied = output.add_stream_from_template(stream, opaque=True)
                    copied.time_base = stream.time_base
                    count = _copy(packets, copied, output, 0, length, fps)
                if count < length:
                    total = sum(lengths)
                    raise DatasetError(f"{path}: expected {total} frames as its episodes have, got fewer")
                parts.append(buffer.getvalue())
    except (av.FFmpegError, OSError, IndexError) as error:
        raise DatasetError(f"{path}: expected a video file, got {quoted(str(error))}") from None
    return parts


def joinable(one: bytes, other: bytes) -> bool:
    """Whether `join` takes both: an episode of another encoder or other settings has another header."""
    return _header(one) == _header(other)


def _header(part: bytes) -> tuple[Any, ...]:
    with av_module("video").open(io.BytesIO(part)) as source:
        return _described(source.streams.video[0])


def _described(stream: Any) -> tuple[Any, ...]:
    context = stream.codec_context
    return context.name, context.extradata, context.width, context.height, stream.time_base


def first_episodes(path: Path, lengths: Sequence[int], fps: int) -> bytes:
    """The file as `join` wrote it when it had these episodes, whose numbers of frames are given."""
    with tempfile.TemporaryDirectory() as folder:
        joined = Path(folder) / path.name
        join(joined, split(path, lengths, fps), fps)
        return joined.read_bytes()


def _append(av: Any, output: Any, parts: Sequence[BinaryIO], fps: int) -> None:
    first, copied, described = 0, None, None
    for part in parts:
        with av.open(part) as source:
            stream = source.streams.video[0]
            found = _described(stream)
            if copied is None:
                described = found
                copied = output.add_stream_from_template(stream, opaque=True)
                copied.time_base = stream.time_base
            if found != described:
                raise DatasetError("video: expected episodes that were encoded alike, got other settings")
            packets = (packet for packet in source.demux(stream) if packet.pts is not None)
            first += _copy(packets, copied, output, first, None, fps)


def _copy(packets: Iterator[Any], stream: Any, output: Any, first: int, most: int | None, fps: int) -> int:
    """Packets of frames in order, as the frames `first` ..; how many there were."""
    count = 0
    while most is None or count < most:
        packet = next(packets, None)
        if packet is None:
            break
        ticks = Fraction(1, fps) / packet.time_base
        packet.pts = packet.dts = int((first + count) * ticks)
        packet.duration = int(ticks)
        packet.stream = stream
        output.mux(packet)
        count += 1
    return count
