"""Datasets by their id on the Hub; the network is stood in for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("huggingface_hub", reason="training packages are not installed")

import huggingface_hub
from huggingface_hub.errors import LocalEntryNotFoundError, RevisionNotFoundError
from toy_dataset import write

from keystep.cli import run
from keystep.data import DatasetError, open_datasets
from keystep.data.hub import local_folder


class Hub:
    """Has `me/toy` in the given revisions; the others are not found."""

    def __init__(self, folder: Path, revisions: tuple[str, ...], error: type[Exception]) -> None:
        self.folder, self.revisions, self.error = folder, revisions, error
        self.asked: list[str] = []

    def snapshot_download(self, repo_id: str, **options: Any) -> str:
        assert options.pop("repo_type") == "dataset"
        assert options.pop("allow_patterns") == ["meta/*", "data/*", "videos/*"]
        self.asked.append(options.pop("revision"))
        assert not options
        if repo_id != "me/toy" or self.asked[-1] not in self.revisions:
            raise refusal(self.error, f"no {repo_id} in {self.asked[-1]}\nmore words")
        return str(self.folder)


def refusal(kind: type[Exception], message: str) -> Exception:
    """As the Hub's client raises it, without the HTTP response that it belongs to."""
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    return error


def hub(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *revisions: str,
    error: type[Exception] = RevisionNotFoundError,
) -> Hub:
    stub = Hub(folder, revisions, error)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", stub.snapshot_download)
    return stub


@pytest.mark.parametrize(
    ("dataset", "revisions", "asked"),
    [
        ("me/toy", ("v3.0", "main"), ["v3.0"]),
        ("me/toy", ("main",), ["v3.0", "main"]),
        ("me/toy@v3.0-fixed", ("v3.0-fixed",), ["v3.0-fixed"]),
        ("me/toy@a1b2c3", ("a1b2c3",), ["a1b2c3"]),
    ],
)
def test_an_id_is_downloaded_and_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dataset: str,
    revisions: tuple[str, ...],
    asked: list[str],
) -> None:
    write(tmp_path / "snapshot", 3)
    monkeypatch.chdir(tmp_path)
    stub = hub(monkeypatch, tmp_path / "snapshot", *revisions)
    assert len(open_datasets(Path(dataset))) == 3
    assert stub.asked == asked
    assert run(["check", dataset]) == 0


def test_a_folder_of_that_name_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "me/toy", 2)
    monkeypatch.chdir(tmp_path)
    stub = hub(monkeypatch, tmp_path / "none")
    assert len(open_datasets([Path("me/toy")])) == 2 and not stub.asked


@pytest.mark.parametrize(
    "dataset", ["/me/toy", "./me/toy", "../toy", "toy", "me/toy/more", "~me/toy", "a b/c"]
)
def test_what_is_no_id_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str) -> None:
    monkeypatch.chdir(tmp_path)
    stub = hub(monkeypatch, tmp_path)
    assert local_folder(dataset) == Path(dataset) and not stub.asked


@pytest.mark.parametrize(
    "error", [RevisionNotFoundError, LocalEntryNotFoundError, ConnectionError, ValueError]
)
def test_what_the_hub_does_not_give_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    monkeypatch.chdir(tmp_path)
    hub(monkeypatch, tmp_path, error=error)
    message = (
        r"^dataset: expected a folder or the id .* got 'me/toy': there is no such folder, and .*no me/toy"
    )
    with pytest.raises(DatasetError, match=message) as caught:
        open_datasets(Path("me/toy"))
    assert "more words" not in str(caught.value)


def test_a_download_that_was_cut_is_not_replaced_by_another_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stub = hub(monkeypatch, tmp_path, "main", error=huggingface_hub.errors.IncompleteSnapshotError)
    with pytest.raises(DatasetError, match=r"the Hub's client said: no me/toy in v3\.0"):
        local_folder("me/toy")
    assert stub.asked == ["v3.0"]


def test_the_hubs_own_client_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(DatasetError, match="there is no such folder, and the Hub's client said: "):
        local_folder("me/toy")


def test_without_the_hubs_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DatasetError, match="pip install huggingface_hub"):
        local_folder("me/toy")
