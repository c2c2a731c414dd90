"""A policy that any plain environment can feed."""

from __future__ import annotations

import pytest
from eval_runs import state_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return state_bundle(tmp_path_factory.mktemp("bundles") / "state.keystep")
