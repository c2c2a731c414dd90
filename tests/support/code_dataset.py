"""Small datasets with code: strings and truth values beside random frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from toy_dataset import TASKS, make_frames, make_spec

from keystep.data import Column, DatasetReader, DatasetSpec, DatasetWriter


def code_spec(extras: tuple[str, ...] = (), **collection: object) -> DatasetSpec:
    features = {
        **make_spec().features,
        "code": Column("string", (1,)),
        "keystep": Column("bool", (1,)),
    }
    return DatasetSpec(20, features, TASKS, "panda", collection, extras)


def code_frames(seed: int, codes: list[str], keysteps: list[bool] | None = None) -> dict[str, Any]:
    started = [True] + [False] * (len(codes) - 1) if keysteps is None else keysteps
    return {**make_frames(seed, len(codes)), "code": codes, "keystep": np.array(started)}


def write_codes(path: Path, episodes: int = 3, spec: DatasetSpec | None = None, **options: Any) -> None:
    with DatasetWriter(path, spec or code_spec(), flush_episodes=2) as writer:
        for number in range(episodes):
            codes = [f"pick({number})", *["# pick"] * (4 + number)]
            writer.add_episode(code_frames(number, codes), "stack", seed=number, **options)


def read_column(path: Path, name: str, batch_size: int = 7) -> np.ndarray:
    return np.concatenate([b[name] for b in DatasetReader(path).iter_batches([name], batch_size)])
