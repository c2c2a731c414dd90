"""Small LeRobotDataset v3.0 folders with mp4 cameras, as LeRobot records them; needs PyAV, not LeRobot."""

from __future__ import annotations

import json
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from keystep.data.encoder import scheduling_kept

FPS = 30
CAMERAS = {"observation.images.front": (48, 64), "observation.images.wrist": (32, 40)}
"""Height and width."""
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow", "forearm_roll", "wrist_flex", "wrist_roll", "gripper")
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
TASK = "Put the brick into the bin."


def pictures(seed: int, count: int, height: int, width: int) -> np.ndarray:
    """(count, height, width, 3) uint8 that differ much from one to the next."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, height // 8, width // 8, 3), dtype=np.uint8)
    return small.repeat(8, axis=1).repeat(8, axis=2)


def write_mp4(
    path: Path,
    images: np.ndarray,
    *,
    codec: str = "libx264",
    fps: int = FPS,
    start_s: float = 0.0,
    options: dict[str, str] | None = None,
    colours: tuple[int, int] | None = None,
    turn: tuple[int, int, int, int] | None = None,
) -> None:
    """With B-frames and rare key frames, unless `options` say otherwise.

    Args:
        colours: FFmpeg's numbers of the matrix and the range that the file tells; the pixels stay those of
            BT.601 in limited range.
        turn: matrix by which a player is to turn the frames.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = {"g": "12", "crf": "20"} if options is None else options
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=fps, options=chosen)
        stream.height, stream.width, stream.pix_fmt = *images.shape[1:3], "yuv420p"
        if colours is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = colours
        with scheduling_kept():
            stream.codec_context.open()
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number + round(start_s * fps), Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if turn is not None:
        data = path.read_bytes()
        matrix = [struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
                  for a, b, c, d in ((1, 0, 0, 1), turn)]  # fmt: skip
        header = data.index(matrix[0], data.index(b"tkhd"))
        path.write_bytes(data[:header] + matrix[1] + data[header + len(matrix[1]) :])


def decoded(path: Path) -> np.ndarray:
    """All frames of a file: PyAV's own, one after the other."""
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def write_video_dataset(
    root: Path,
    lengths: tuple[int, ...] = (12, 9, 15),
    *,
    per_file: int = 2,
    cameras: dict[str, tuple[int, int]] = CAMERAS,
    drift_s: float = 0.0,
    **video: Any,
) -> dict[str, np.ndarray]:
    """Writes a dataset of absolute joint targets, and returns its frames as PyAV decodes them.

    Args:
        per_file: episodes of an mp4 file.
        drift_s: added to every from_timestamp but the first of a file.
        video: see `write_mp4`.
    """
    total = sum(lengths)
    stops = np.cumsum(lengths)
    starts = stops - lengths
    local = np.concatenate([np.arange(length) for length in lengths])
    phase = np.arange(total)[:, None] / 7 + np.arange(len(JOINTS))
    columns: dict[str, np.ndarray] = {
        "observation.state": (40 * np.sin(phase)).astype(np.float32),
        "action": (40 * np.sin(phase + 0.1)).astype(np.float32),
        "timestamp": (local / FPS).astype(np.float32),
        "frame_index": local,
        "episode_index": np.repeat(np.arange(len(lengths)), lengths),
        "index": np.arange(total),
        "task_index": np.zeros(total, np.int64),
    }
    rows: list[dict[str, Any]] = [
        {
            "episode_index": number,
            "tasks": [TASK],
            "length": length,
            "dataset_from_index": int(starts[number]),
            "dataset_to_index": int(stops[number]),
            "data/chunk_index": 0,
            "data/file_index": 0,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for number, length in enumerate(lengths)
    ]
    found = dict(columns)
    start_s = video.get("start_s", 0.0)
    for place, (key, (height, width)) in enumerate(cameras.items()):
        parts = []
        for file in range(-(-len(lengths) // per_file)):
            episodes = range(file * per_file, min((file + 1) * per_file, len(lengths)))
            first, stop = starts[episodes[0]], stops[episodes[-1]]
            path = root / VIDEO_PATH.format(video_key=key, chunk_index=0, file_index=file)
            write_mp4(path, pictures(place + 10 * file, stop - first, height, width), **video)
            parts.append(decoded(path))
            for episode in episodes:
                begin = start_s + float(starts[episode] - first) / FPS
                begin += drift_s if episode != episodes[0] else 0.0
                rows[episode] |= {
                    f"videos/{key}/chunk_index": 0,
                    f"videos/{key}/file_index": file,
                    f"videos/{key}/from_timestamp": begin,
                    f"videos/{key}/to_timestamp": begin + lengths[episode] / FPS,
                }
        found[key] = np.concatenate(parts)
    _write_tables(root, columns, rows)
    _write_info(root, columns, cameras, len(lengths))
    return found


def _write_tables(root: Path, columns: dict[str, np.ndarray], rows: list[dict[str, Any]]) -> None:
    arrays = {key: pa.array(list(v)) if v.ndim > 1 else pa.array(v) for key, v in columns.items()}
    for name, table in {
        "data/chunk-000/file-000.parquet": pa.table(arrays),
        "meta/episodes/chunk-000/file-000.parquet": pa.Table.from_pylist(rows),
        "meta/tasks.parquet": pa.table({"task_index": [0], "task": [TASK]}),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, root / name)


def _write_info(
    root: Path, columns: dict[str, np.ndarray], cameras: dict[str, tuple[int, int]], episodes: int
) -> None:
    features: dict[str, Any] = {
        key: {"dtype": str(value.dtype), "shape": [*value.shape[1:]] or [1], "names": None}
        for key, value in columns.items()
    }
    for key in ("observation.state", "action"):
        features[key]["names"] = [f"{joint}.pos" for joint in JOINTS]
    for key, (height, width) in cameras.items():
        told = {"video.height": height, "video.width": width, "video.codec": "h264", "video.fps": FPS}
        features[key] = {
            "dtype": "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
            "info": {**told, "video.pix_fmt": "yuv420p", "video.is_depth_map": False, "has_audio": False},
        }
    info = {
        "codebase_version": "v3.0",
        "robot_type": "so107_follower",
        "total_episodes": episodes,
        "total_frames": len(columns["index"]),
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": FPS,
        "splits": {"train": f"0:{episodes}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": VIDEO_PATH,
        "features": features,
    }
    (root / "meta/info.json").write_text(json.dumps(info))
