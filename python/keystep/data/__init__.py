"""Datasets in the LeRobotDataset v3.0 layout: write, read, sample windows, check, collect. No torch."""

from keystep.data.layout import DatasetError, Feature, image_feature
from keystep.data.plans import PlanWindows
from keystep.data.reader import DatasetReader, EpisodeInfo
from keystep.data.spec import DatasetSpec
from keystep.data.windows import ChunkWindows, split_episodes
from keystep.data.writer import DatasetWriter

__all__ = [
    "ChunkWindows",
    "DatasetError",
    "DatasetReader",
    "DatasetSpec",
    "DatasetWriter",
    "EpisodeInfo",
    "Feature",
    "PlanWindows",
    "image_feature",
    "split_episodes",
]
