"""Video files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from keystep.files import replacing

RATE_HZ = 30


def write_video(path: Path, frames: Iterable[np.ndarray]) -> None:
    """An H.264 file of uint8 (height, width, 3) frames, even sizes; it appears whole or not at all."""
    import av

    with replacing(path) as (staged,), av.open(str(staged), "w", format="mp4") as container:
        stream: Any = None
        for frame in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=RATE_HZ)
                stream.height, stream.width, stream.pix_fmt = *frame.shape[:2], "yuv420p"
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        if stream is not None:
            container.mux(stream.encode())
