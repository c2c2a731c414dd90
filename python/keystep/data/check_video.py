"""What meta/episodes says of videos besides what reading needs: reading goes by `from_timestamp` alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from keystep.data.episodes import EpisodeInfo
from keystep.data.layout import quoted
from keystep.data.reader import DatasetReader


def video_findings(reader: DatasetReader) -> Iterator[str]:
    """Of every camera the first episode whose images are not its own, or not as long as it is."""
    fps = float(reader.info["fps"])
    for key, feature in reader.features.items():
        if not feature.is_video:
            continue
        told = reader.info["features"][key].get("info")
        rate = told.get("video.fps") if isinstance(told, dict) else None
        if rate is not None and rate != reader.info["fps"]:
            yield f"info.json: features.{key}.info.video.fps: expected {fps:g} as fps, got {quoted(rate)}"
        yield from _shared(reader, key, fps)
        yield from _lengths(reader, key, fps)


def _shared(reader: DatasetReader, key: str, fps: float) -> Iterator[str]:
    """Merges that misplace videos give an episode the images of another."""
    by_file: dict[str, list[EpisodeInfo]] = {}
    for episode in reader.episodes():
        by_file.setdefault(episode.videos[key].file, []).append(episode)
    for episodes in by_file.values():
        episodes.sort(key=lambda episode: episode.videos[key].start_s)
        for one, other in pairwise(episodes):
            frames = (other.videos[key].start_s - one.videos[key].start_s) * fps
            if frames < one.length - 0.5:
                yield (
                    f"episode {other.index}: videos/{key}: expected images of its own, got some of episode "
                    f"{one.index} in {one.videos[key].file}: it begins {frames:.1f} frames after that one, "
                    f"which has {one.length}"
                )
                return


def _lengths(reader: DatasetReader, key: str, fps: float) -> Iterator[str]:
    for episode in reader.episodes():
        place = episode.videos[key]
        frames = (place.stop_s - place.start_s) * fps
        if abs(frames - episode.length) > 0.5:
            yield (
                f"episode {episode.index}: videos/{key}/to_timestamp: expected {episode.length} frames after "
                f"from_timestamp, as its length says, got {frames:.1f} [writer]"
            )
            return
