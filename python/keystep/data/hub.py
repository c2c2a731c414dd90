"""Datasets of the Hugging Face Hub, by their id: `owner/name`, or `owner/name@revision`."""

from __future__ import annotations

import re
from pathlib import Path

from keystep.data.layout import CODEBASE_VERSION, DatasetError

_ID = re.compile(r"(?P<id>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>\w[\w./-]*))?")
_FILES = ["meta/*", "data/*", "videos/*"]


def local_folder(dataset: str | Path) -> Path:
    """The folder itself, or, where there is none and the text is an id, the Hub's dataset, downloaded.

    Without a revision it is that of the layout's version, as LeRobot tags it, or else the main one. What was
    downloaded before is not downloaded again. HF_HOME, HF_HUB_OFFLINE and HF_TOKEN mean what they always do.

    Raises:
        DatasetError: neither a folder nor a dataset that the Hub gives.
    """
    folder = Path(dataset)
    found = _ID.fullmatch(str(dataset))
    if found is None or folder.exists():
        return folder
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        raise _refused(dataset, f"{error}; pip install huggingface_hub") from None
    # What is there in part is not another revision's; clients before 2.0 do not tell.
    incomplete = getattr(errors, "IncompleteSnapshotError", ())
    named = found["revision"]
    reason = ""
    for revision in [named] if named else [CODEBASE_VERSION, "main"]:
        try:
            return Path(
                snapshot_download(found["id"], repo_type="dataset", revision=revision, allow_patterns=_FILES)
            )
        except incomplete as error:
            raise _refused(dataset, _first_line(error)) from None
        except (errors.LocalEntryNotFoundError, errors.RevisionNotFoundError) as error:
            reason = reason or _first_line(error)
        except Exception as error:  # of whatever library the Hub's client speaks HTTP with
            raise _refused(dataset, _first_line(error)) from None
    raise _refused(dataset, reason)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200]


def _refused(dataset: str | Path, reason: str) -> DatasetError:
    return DatasetError(
        f"dataset: expected a folder or the id of a dataset of the Hugging Face Hub, got {str(dataset)!r}: "
        f"there is no such folder, and the Hub's client said: {reason}"
    )
