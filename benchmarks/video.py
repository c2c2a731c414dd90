"""Training's frames from mp4 files against PNG in the data files, before and after the first epoch.

    python -m benchmarks.video

The same images are written as PNG, h264 and av1. Converting is what a dataset costs once: it is decoded into
the cache. An epoch gives every window once, in random order, in the batches that a network would get; nothing
is computed with them. Bar: 0.8 times the frames a second of PNG.
"""

import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tyro

from benchmarks.harness import interleave, paired_ratio, summarise, write_result
from benchmarks.machine import REPOSITORY, describe_run
from keystep.data import (
    ChunkWindows,
    Column,
    DatasetReader,
    DatasetSpec,
    DatasetWriter,
    image_column,
    video_column,
)
from keystep.table_writer import table_of

BAR = 0.8
CAMERAS = {"observation.images.front": (240, 320), "observation.images.wrist": (96, 128)}
STORES = ("png", "h264", "av1")


@dataclass(frozen=True)
class Options:
    episodes: int = 8
    frames: int = 100
    """Of each episode."""
    batch_size: int = 64
    rounds: int = 9
    """Epochs of each store, in shuffled order."""
    output: Path = REPOSITORY / "benchmarks" / "results" / "video.json"


def main(options: Options) -> None:
    """Writes the datasets, converts each once, and times epochs in turn."""
    describe_run()
    folder = REPOSITORY / "build" / "benchmarks" / "video"
    shutil.rmtree(folder, ignore_errors=True)
    windows, costs = {}, {}
    for store in STORES:
        _write(folder / store, store, options)
        begin = time.perf_counter()
        windows[store] = ChunkWindows(DatasetReader(folder / store), 8, cache=folder / "cache")
        converted = time.perf_counter()
        size = sum(path.stat().st_size for path in (folder / store).rglob("*") if path.is_file())
        costs[store] = {"convert_s": converted - begin, "bytes": size}
    contenders = {store: partial(_epoch, windows[store], options.batch_size) for store in STORES}
    for epoch in contenders.values():
        epoch(0)
    times = interleave(contenders, options.rounds, seed=0, label="epochs")
    report = table_of([_row(store, times, costs[store], options) for store in STORES]) + "\n"
    print(report)
    settings = {name: getattr(options, name) for name in ("episodes", "frames", "batch_size", "rounds")}
    write_result(options.output, "video", settings, {"epoch_ms": times, "once": costs}, report)
    shutil.rmtree(folder)


def _write(path: Path, store: str, options: Options) -> None:
    features = {"observation.state": Column("float32", (7,)), "action": Column("float32", (7,))}
    for key, size in CAMERAS.items():
        features[key] = image_column(*size) if store == "png" else video_column(*size, store)
    with DatasetWriter(path, DatasetSpec(30, features, {"pick": "Pick it up."})) as writer:
        for number in range(options.episodes):
            rng = np.random.default_rng(number)
            vectors = rng.normal(size=(2, options.frames, 7)).astype(np.float32)
            frames = {"observation.state": vectors[0], "action": vectors[1]}
            frames |= {key: _pictures(rng, options.frames, *size) for key, size in CAMERAS.items()}
            writer.add_episode(frames, "pick", seed=number)


def _pictures(rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    """(count, height, width, 3): a table with a texture, a moving block, the noise of a sensor."""
    rows, columns = np.mgrid[:height, :width]
    table = 120 + 40 * np.sin(rows / 9 + rng.uniform(0, 6)) + 30 * np.cos(columns / 7)
    images = np.repeat(np.repeat(table[None, :, :, None], count, 0), 3, 3)
    for number, share in enumerate(np.linspace(0.1, 0.8, count)):
        top, left = int(0.3 * height), int(share * width)
        images[number, top : top + height // 5, left : left + width // 6] = (200, 40, 40)
    return (images + rng.normal(scale=2, size=images.shape)).clip(0, 255).astype(np.uint8)


def _epoch(windows: ChunkWindows, batch_size: int, _: int) -> float:
    """Milliseconds."""
    begin = time.perf_counter()
    order = np.random.default_rng(0).permutation(len(windows))
    rng = np.random.default_rng(1)
    for start in range(0, len(order), batch_size):
        windows.batch(order[start : start + batch_size], rng)
    return 1e3 * (time.perf_counter() - begin)


def _row(
    store: str, times: dict[str, list[float]], cost: dict[str, float], options: Options
) -> dict[str, str]:
    frames = options.episodes * options.frames
    ratio = paired_ratio(times["png"], times[store])
    median = summarise(times[store])["median"]
    return {
        "stored as": store,
        "MB": f"{cost['bytes'] / 1e6:.1f}",
        "first epoch: converted, frames/s": f"{frames / cost['convert_s']:,.0f}",
        "after it, frames/s": f"{1e3 * frames / median:,.0f}",
        "of PNG": f"{ratio['median']:.2f} ({ratio['low']:.2f} .. {ratio['high']:.2f})",
        "bar": f"{BAR}",
        "within": "yes" if ratio["median"] >= BAR else "no",
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
