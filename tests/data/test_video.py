"""Cameras in mp4 files: the frames that LeRobot reads, PyAV's pixels, one clear error for what is wrong."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from foreign_video import CAMERAS, FPS, decoded, pictures, write_mp4, write_video_dataset
from toy_dataset import make_frames, make_spec, write

from keystep.data import (
    DatasetError,
    DatasetReader,
    DatasetSpec,
    DatasetWriter,
    encoder,
    open_datasets,
    video_column,
)
from keystep.data.check import check_dataset, inspect_dataset
from keystep.data.encoder import encode
from keystep.data.video import Video

FRONT, WRIST = CAMERAS
EPISODES = "meta/episodes/chunk-000/file-000.parquet"


def read(root: Path, batch_size: int = 1024) -> dict[str, np.ndarray]:
    batches = list(DatasetReader(root).iter_batches(batch_size=batch_size))
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def change_episodes(root: Path, column: str, value: Callable[[list], list]) -> None:
    table = pq.read_table(root / EPISODES)
    place = table.column_names.index(column)
    pq.write_table(
        table.set_column(place, column, pa.array(value(table[column].to_pylist()))), root / EPISODES
    )


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "libvpx-vp9"])
def test_frames_are_pyavs_whatever_the_codec(tmp_path: Path, codec: str) -> None:
    # x265 writes beyond its memory when it encodes images below 64 pixels.
    cameras = dict.fromkeys(CAMERAS, (64, 72)) | {FRONT: (72, 96)} if codec == "libx265" else CAMERAS
    written = write_video_dataset(tmp_path, codec=codec, cameras=cameras)
    found = read(tmp_path, batch_size=5)
    for key in written:
        np.testing.assert_array_equal(found[key].reshape(written[key].shape), written[key])
    assert check_dataset(tmp_path) == []


def test_fifty_episodes_in_one_file_that_does_not_start_at_zero(tmp_path: Path) -> None:
    """With B-frames (LeRobot's reports 2364, 3177, 3513): every frame is the one of its number."""
    lengths = tuple(np.random.default_rng(0).integers(5, 40, 50).tolist())
    written = write_video_dataset(
        tmp_path, lengths, per_file=50, cameras={FRONT: (48, 64)}, start_s=0.2, drift_s=9e-5
    )
    found = read(tmp_path)
    np.testing.assert_array_equal(found[FRONT], written[FRONT])


def test_any_episode_alone(tmp_path: Path) -> None:
    written = write_video_dataset(tmp_path, (12, 9, 15, 7), per_file=3)
    reader = DatasetReader(tmp_path)
    for number in (2, 0, 3, 1, 2):
        episode = reader.episode(number)
        found = reader.read_episode(episode, [WRIST, FRONT])
        for key in (WRIST, FRONT):
            np.testing.assert_array_equal(found[key], written[key][episode.start : episode.stop])


def test_any_order_of_frames(tmp_path: Path) -> None:
    write_mp4(path := tmp_path / "a.mp4", pictures(0, 40, 32, 40), start_s=0.5)
    expected, order = decoded(path), np.random.default_rng(0).integers(0, 40, 60)
    video = Video(path, 32, 40)
    for number, image in zip(order, video.images(order), strict=True):
        np.testing.assert_array_equal(image, expected[number])
    video.close()


def test_texts_in_another_code_than_utf8_are_no_error(tmp_path: Path) -> None:
    write_mp4(path := tmp_path / "a.mp4", pictures(0, 5, 32, 40))
    expected = decoded(path)
    path.write_bytes(path.read_bytes().replace(b"VideoHandler", "Vidéo Ändler".encode("latin-1")))
    video = Video(path, 32, 40)
    np.testing.assert_array_equal(np.stack(list(video.images(range(5)))), expected)
    video.close()


def test_hours_into_a_file_single_precision_is_no_error(tmp_path: Path) -> None:
    """LeRobot stores timestamps as float32, whose spacing is 2.4e-4 s after 34 minutes."""
    write_mp4(path := tmp_path / "a.mp4", pictures(0, 30, 32, 40), start_s=5000)
    video = Video(path, 32, 40)
    times = np.float32(5000 + np.arange(30) / FPS).astype(np.float64)
    numbers, near = video.index.nearest(times)
    assert numbers.tolist() == list(range(30)) and near.all()
    assert not video.index.nearest(times + 1e-3)[1].any()
    video.close()


def cut(root: Path) -> None:
    write_mp4(root / f"videos/{FRONT}/chunk-000/file-001.mp4", pictures(0, 11, *CAMERAS[FRONT]))


def other_rate(root: Path) -> None:
    write_mp4(root / f"videos/{FRONT}/chunk-000/file-001.mp4", pictures(0, 15, *CAMERAS[FRONT]), fps=20)


def other_size(root: Path) -> None:
    write_mp4(root / f"videos/{FRONT}/chunk-000/file-001.mp4", pictures(0, 15, 64, 48))


def other_codec(root: Path) -> None:
    path = root / f"videos/{FRONT}/chunk-000/file-001.mp4"
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz9"))


def garbled(root: Path) -> None:
    path = root / f"videos/{FRONT}/chunk-000/file-001.mp4"
    data = path.read_bytes()
    start = data.index(b"mdat") + 8 + 1500
    noise = np.random.default_rng(0).bytes(400)
    path.write_bytes(data[:start] + noise + data[start + 400 :])


def depth(root: Path) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    info["features"][FRONT]["info"]["is_depth_map"] = True
    (root / "meta/info.json").write_text(json.dumps(info))


def change(name: str, value: Callable[[list], list]) -> Callable[[Path], None]:
    return lambda root: change_episodes(root, f"videos/{FRONT}/{name}", value)


FILE = f"videos/{WRIST}/chunk-000/file-001.mp4"
FAULTS: list[tuple[Callable[[Path], object], str]] = [
    (lambda d: (d / FILE).unlink(), f"{FILE}: expected a video file as in meta/episodes, found none"),
    (lambda d: (d / FILE).write_bytes(b"no"), f"{FILE}: expected a video file, got"),
    (
        cut,
        "file-001.mp4: episode 2: expected frame 11 of 15 read at 0.366667 s, but the video is shorter: "
        "its last frame, 10, is at 0.333333 s",
    ),
    (other_rate, "file-001.mp4: episode 2: expected 30 frames per second as info.json: fps says, got 20"),
    (other_size, "file-001.mp4: expected 48 x 64 pixels as declared in info.json, got 64 x 48"),
    (other_codec, "file-001.mp4: expected a codec that PyAV's FFmpeg decodes"),
    (garbled, "expected video that can be decoded, got"),
    (depth, f"features.{FRONT}.info.is_depth_map: expected a colour camera, got depth"),
    (
        change("from_timestamp", lambda v: [v[0], v[1] + 2e-4, v[2]]),
        "episode 1: expected frame 0 of 9 read at 0.400200 s, got the nearest at 0.400000 s",
    ),
    (
        change("from_timestamp", lambda v: [None, *v[1:]]),
        f"episode 0: videos/{FRONT}: expected from_timestamp before to_timestamp",
    ),
    (change("file_index", lambda v: [-1, *v[1:]]), "file_index: expected an integer of at least 0, got -1"),
]


@pytest.mark.parametrize(("damage", "message"), FAULTS, ids=[message[-40:] for _, message in FAULTS])
def test_what_is_wrong_is_told_once(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    write_video_dataset(tmp_path)
    damage(tmp_path)
    with pytest.raises(DatasetError, match=re.escape(message)):
        read(tmp_path)
    problems = check_dataset(tmp_path)
    assert len(problems) == 1 and message in problems[0]


def shift(first: float, second: float) -> Callable[[Path], None]:
    """Both episodes of the first file, by seconds."""

    def damage(root: Path) -> None:
        for name in ("from", "to"):
            change(f"{name}_timestamp", lambda v: [v[0] + first, v[1] + second, *v[2:]])(root)

    return damage


def rate_told(root: Path) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    info["features"][FRONT]["info"]["video.fps"] = 25
    (root / "meta/info.json").write_text(json.dumps(info))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            shift(0, -2 / FPS),
            "episode 1: videos/observation.images.front: expected images of its own, got some of episode 0",
        ),
        (
            change("to_timestamp", lambda v: [v[0] + 1, *v[1:]]),
            "episode 0: videos/observation.images.front/to_timestamp: expected 12 frames after",
        ),
        (
            rate_told,
            f"info.json: features.{FRONT}.info.video.fps: expected 30 as fps, got 25",
        ),
    ],
)
def test_what_is_read_all_the_same_is_remarked(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    write_video_dataset(tmp_path)
    assert inspect_dataset(tmp_path).remarks == [
        "stats.json: expected statistics of all frames [stats], found none; they are computed anew"
    ]
    damage(tmp_path)
    findings = inspect_dataset(tmp_path)
    assert findings.problems == [] and len(findings.remarks) == 2
    assert any(message in line for line in findings.remarks)


def test_without_pyav_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video_dataset(tmp_path)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DatasetError, match=r"expected PyAV.*pip install 'keystep\[video\]'"):
        read(tmp_path)
    vectors = next(DatasetReader(tmp_path).iter_batches(["action"]))  # needs none
    assert vectors["action"].shape == (36, 7)


# ---- written by keystep


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_what_is_written_is_read_back(tmp_path: Path, codec: str) -> None:
    written = write(tmp_path / "d", 8, codec)
    findings = inspect_dataset(tmp_path / "d")
    assert findings.problems == findings.remarks == []
    reader = DatasetReader(tmp_path / "d")
    key = "observation.images.static"
    found = np.concatenate([batch[key] for batch in reader.iter_batches([key])])
    videos = sorted((tmp_path / "d/videos").rglob("*.mp4"))
    assert len(videos) == 3 == len(reader.video_files())
    np.testing.assert_array_equal(found, np.concatenate([decoded(path) for path in videos]))
    images = np.concatenate([frames[key] for frames in written])
    assert found.shape == images.shape
    # Noise is the worst there is for a lossy codec; each frame is nearer to its own image than to the next.
    error = np.abs(found[:-1].astype(int) - images[:-1]).mean(axis=(1, 2, 3))
    assert (error < np.abs(found[:-1].astype(int) - images[1:]).mean(axis=(1, 2, 3))).all()
    info = json.loads((tmp_path / "d/meta/info.json").read_text())
    assert info["features"][key]["info"]["video.codec"] == codec
    assert info["video_path"].endswith(".mp4")
    parquet = pq.read_schema(tmp_path / "d/data/chunk-000/file-000.parquet")
    assert key not in parquet.names


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no scheduling policies here")
@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_an_encoder_competes_with_no_control_loop(codec: str) -> None:
    """SVT-AV1 as root made the whole recorder SCHED_FIFO 99."""

    def policies() -> set[int]:
        return {os.sched_getscheduler(int(task.name)) for task in Path("/proc/self/task").iterdir()}

    class Watched(np.ndarray):
        """Looks before each frame, while the encoder's threads are there."""

        def __iter__(self) -> Iterator[np.ndarray]:
            for image in self.view(np.ndarray):
                seen.append(policies())
                yield image

    before, seen = policies(), []
    encode("x", np.zeros((20, 64, 64, 3), np.uint8).view(Watched), 10, codec)
    assert len(seen) == 20 and all(each == before for each in seen) and policies() == before


def test_another_codec_cannot_resume(tmp_path: Path) -> None:
    write(tmp_path, 2, "h264")
    for image in ("av1", True):
        with pytest.raises(DatasetError, match=r"features\.observation\.images\.static.*to resume"):
            DatasetWriter(tmp_path, make_spec(image))


def test_png_and_mp4_are_joined(tmp_path: Path) -> None:
    write(tmp_path / "a", 2, True)
    write(tmp_path / "b", 3, "h264")
    joined = open_datasets([tmp_path / "a", tmp_path / "b"])
    key = "observation.images.static"
    images = np.concatenate([batch[key] for batch in joined.iter_batches([key])])
    np.testing.assert_array_equal(images[:10], make_frames(0, 10, True)[key])
    assert len(images) == joined.frames


def test_images_that_yuv420p_cannot_hold_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"features\.x\.shape: expected an even height.*11 x 16"):
        DatasetSpec(30, {"x": video_column(11, 16)}, {"a": "A."})


def test_another_encoder_begins_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an upgrade: streams of other settings cannot be one, and no episode is lost for that."""
    written = write(tmp_path, 2, "h264", flush_episodes=10)
    before = {path: path.read_bytes() for path in tmp_path.rglob("file-*")}
    monkeypatch.setattr(encoder, "CRF", 23)
    with DatasetWriter(tmp_path, make_spec("h264"), flush_episodes=10) as writer:
        for number in (2, 3):
            written.append(make_frames(number, 5, "h264"))
            writer.add_episode(written[-1], "stack", seed=number)
    assert all(path.read_bytes() == data for path, data in before.items())
    videos = sorted(tmp_path.rglob("*.mp4"))
    assert [len(decoded(path)) for path in videos] == [21, 10]
    assert check_dataset(tmp_path) == [] and len(DatasetReader(tmp_path)) == 4


@pytest.mark.parametrize("damage", ["missing", "empty", "noise", "no video"])
def test_a_damaged_last_file_is_one_error_for_who_resumes(tmp_path: Path, damage: str) -> None:
    import av

    write(tmp_path, 2, "h264", flush_episodes=10)
    (path,) = tmp_path.rglob("*.mp4")
    if damage == "missing":
        path.unlink()
    elif damage == "no video":
        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream("aac", rate=48000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate = 48000
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    else:
        path.write_bytes(b"" if damage == "empty" else bytes(range(256)) * 9)
    with pytest.raises(DatasetError, match=re.escape(f"{path}: expected a video file, got")):
        DatasetWriter(tmp_path, make_spec("h264"), flush_episodes=10)


@pytest.mark.parametrize(("degrees", "turn"), [(90, (0, 1, -1, 0)), (180, (-1, 0, 0, -1))])
def test_frames_that_are_to_be_turned_are_refused(
    tmp_path: Path, degrees: int, turn: tuple[int, int, int, int]
) -> None:
    """A player shows them turned; of LeRobot's readers one does, the other does not."""
    write_mp4(path := tmp_path / "a.mp4", pictures(0, 5, 64, 64), turn=turn)
    video = Video(path, 64, 64)
    with pytest.raises(DatasetError, match=rf"a\.mp4: frame 0: .*got 'frames to be turned by -?{degrees}"):
        list(video.images([0]))
    video.close()


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("matrix", "red", "blue"),
    [(1, 0.2126, 0.0722), (2, 0.299, 0.114), (6, 0.299, 0.114), (9, 0.2627, 0.0593)],
)
@pytest.mark.parametrize("codec", ["libx264", "libsvtav1"])
def test_colours_are_those_that_the_file_tells(
    tmp_path: Path, codec: str, matrix: int, red: float, blue: float, full: bool
) -> None:
    """Whichever PyAV it is: before 17 it took BT.709 for BT.601, 40 levels away. Unspecified is BT.601."""
    import av

    images = np.full((3, 64, 64, 3), (200, 60, 40), np.uint8)
    options = {"crf": "1"}
    write_mp4(path := tmp_path / "a.mp4", images, codec=codec, options=options, colours=(matrix, 1 + full))
    with av.open(str(path)) as container:
        planes = next(container.decode(video=0)).to_ndarray().reshape(-1)
    y, u, v = (float(planes[at]) for at in (0, 64 * 64, 64 * 64 * 5 // 4))
    luma, chroma = (y / 255, 255) if full else ((y - 16) / 219, 224)
    r = luma + 2 * (1 - red) * (v - 128) / chroma
    b = luma + 2 * (1 - blue) * (u - 128) / chroma
    green = (luma - red * r - blue * b) / (1 - red - blue)
    video = Video(path, 64, 64)
    (found,) = video.images([0])
    video.close()
    wanted = 255 * np.array([r, green, b]).clip(0, 1)
    np.testing.assert_allclose(found[8, 8], wanted, atol=2)


def test_who_reads_knows_the_codec_to_go_on_with(tmp_path: Path) -> None:
    """Rollouts are written as the demonstrations are that they are replayed from."""
    written = write(tmp_path, 2, "av1")
    column = DatasetReader(tmp_path).features["observation.images.static"]
    assert written and column == make_spec("av1").features["observation.images.static"]
    write_video_dataset(tmp_path / "foreign")
    assert DatasetReader(tmp_path / "foreign").features[FRONT].codec == "h264"
    for codec in ("hevc", ["h264"], None):
        info = json.loads((tmp_path / "foreign/meta/info.json").read_text())
        info["features"][FRONT]["info"]["video.codec"] = codec
        (tmp_path / "foreign/meta/info.json").write_text(json.dumps(info))
        assert DatasetReader(tmp_path / "foreign").features[FRONT].codec is None
