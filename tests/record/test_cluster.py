"""Rollouts over a Ray cluster of two nodes here: one is killed, the head is gone, bundles travel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_player import collect_fake, fake_bundle

from keystep.data import DatasetError, DatasetReader
from keystep.data.check import check_dataset
from keystep.record.bundles import bundle_digest, packed_bundle
from keystep.record.cluster_worker import AWAY, ClusterWorker

ray = pytest.importorskip("ray", reason="needs the extra 'cluster'")
STORE_BYTES = 80 << 20


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes with a core each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = started(tries=4)
    yield made
    ray.shutdown()
    made.shutdown()


def started(tries: int) -> Any:
    """Ray gives a node 30 seconds, which a busy machine may not have."""
    from ray.cluster_utils import Cluster

    made = Cluster()
    try:
        made.add_node(num_cpus=1, object_store_memory=STORE_BYTES, include_dashboard=False)
        made.second = made.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        made.wait_for_nodes()
    except Exception:
        ray.shutdown()
        made.shutdown()
        if tries == 1:
            raise
        return started(tries - 1)
    return made


def test_a_killed_node_changes_nothing(cluster: Any, tmp_path: Path) -> None:
    collect_fake(tmp_path / "whole")
    nodes, killed = set(), []

    def kill(*_: object) -> None:
        nodes.update(node["NodeID"] for node in ray.nodes() if node["Alive"])
        if len(DatasetReader(tmp_path / "d")) >= 5 and not killed:
            killed.append(cluster.second)
            cluster.remove_node(cluster.second, allow_graceful=False)

    report = collect_fake(tmp_path / "d", 2, cluster.address, on_result=kill, seconds=0.05)
    assert killed and len(nodes) == 2 and report.restarts >= 1
    assert check_dataset(tmp_path / "d") == []
    assert DatasetReader(tmp_path / "d").sha256() == DatasetReader(tmp_path / "whole").sha256()


def test_a_cluster_that_is_gone_is_an_error_and_nothing_is_lost(cluster: Any, tmp_path: Path) -> None:
    def kill(*_: object) -> None:
        if len(DatasetReader(tmp_path / "d")) == 5:
            cluster.head_node.kill_gcs_server()

    with pytest.raises(DatasetError, match=r"cluster: expected a Ray cluster at .*, found none"):
        collect_fake(tmp_path / "d", 2, cluster.address, on_result=kill, seconds=0.2)
    assert 5 <= len(DatasetReader(tmp_path / "d")) < 20
    collect_fake(tmp_path / "d")
    collect_fake(tmp_path / "whole")
    assert DatasetReader(tmp_path / "d").sha256() == DatasetReader(tmp_path / "whole").sha256()


def test_work_that_raises_is_that_error(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'unknown'"):
        collect_fake(tmp_path / "d", 1, cluster.address, unknown=1)


def test_no_cluster(tmp_path: Path) -> None:
    for address, problem in (("127.0.0.1:1", "expected a Ray cluster at 127.0.0.1:1, found none"),
                             ("somewhere", "expected local or HOST:PORT of a Ray cluster")):  # fmt: skip
        with pytest.raises(DatasetError, match=problem):
            collect_fake(tmp_path / "d", 1, address)
    assert not (tmp_path / "d/data").exists()


def test_bundles_travel_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = fake_bundle(tmp_path / "here")
    digest, content = bundle_digest(here), packed_bundle(here)
    monkeypatch.setattr(ray, "get", lambda value: value)
    assert ClusterWorker(os.listdir, str(tmp_path / "elsewhere"), digest, None).ready() == AWAY
    opened: list[dict] = []
    open_work = lambda folder: opened.append(packed_bundle(folder))  # noqa: E731
    for path in ("here", "elsewhere"):
        assert ClusterWorker(open_work, str(tmp_path / path), digest, [content]).ready() == ""
    assert opened == [content, content]
    (here / "manifest.json").write_text("{}")
    for worker in (
        ClusterWorker(open_work, str(here), digest, None),
        ClusterWorker(open_work, str(tmp_path / "elsewhere"), digest, [packed_bundle(here)]),
    ):
        with pytest.raises(DatasetError, match="expected the bundle of sha256"):
            worker.ready()
