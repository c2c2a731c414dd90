"""Datasets in the LeRobotDataset v3.0 layout: write, read, sample windows, check, collect. No torch."""

from typing import TYPE_CHECKING

from keystep.lazy import lazy_names

if TYPE_CHECKING:
    from keystep.data.errors import DatasetError
    from keystep.data.joined import Dataset, JoinedDatasets, open_datasets
    from keystep.data.layout import Column, image_column, video_column
    from keystep.data.plans import PlanWindows
    from keystep.data.reader import DatasetReader, EpisodeInfo
    from keystep.data.spec import DatasetSpec
    from keystep.data.windows import ChunkWindows, split_episodes
    from keystep.data.writer import DatasetWriter
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Dataset": "joined",
            "DatasetError": "errors",
            "JoinedDatasets": "joined",
            "open_datasets": "joined",
            "Column": "layout",
            "image_column": "layout",
            "video_column": "layout",
            "PlanWindows": "plans",
            "DatasetReader": "reader",
            "EpisodeInfo": "reader",
            "DatasetSpec": "spec",
            "ChunkWindows": "windows",
            "split_episodes": "windows",
            "DatasetWriter": "writer",
        },
    )

__all__ = [
    "ChunkWindows",
    "Column",
    "Dataset",
    "DatasetError",
    "DatasetReader",
    "DatasetSpec",
    "DatasetWriter",
    "EpisodeInfo",
    "JoinedDatasets",
    "PlanWindows",
    "image_column",
    "open_datasets",
    "split_episodes",
    "video_column",
]
