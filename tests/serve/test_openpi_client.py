"""The unmodified `openpi-client` from PyPI, in an environment of its own, against `keystep serve`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from serving import serving
from stub_bundle import write_stub_bundle

import keystep
from benchmarks.openpi_env import python_with_openpi
from keystep.client.wire import pack, unpack

STATE_BUNDLE = Path("bundles/franka3blocks-state.keystep")

ACTS = """
import json, sys
import numpy as np
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy

policy = WebsocketClientPolicy("127.0.0.1", int(sys.argv[1]), api_key="s3cret")
told = policy.get_server_metadata()
broker = ActionChunkBroker(policy, action_horizon=told["chunk"]["execute"])
taken = []
for step in range(20):
    state = np.sin(np.arange(26) + step // 8).astype(np.float32) / 3
    reply = broker.infer({"observation.state": state, "prompt": "Lift the red block."})
    taken.append(reply["actions"].tolist())
try:
    policy.infer({"observation.state": np.zeros(26)})
    said = ""
except RuntimeError as error:
    said = str(error)
again = policy.infer({"observation.state": state, "prompt": "lift the red cube"})
print(json.dumps({"name": told["name"], "taken": taken, "said": said, "again": again["start"]}))
"""

WAITS = """
import sys
import numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy

policy = WebsocketClientPolicy("127.0.0.1", int(sys.argv[1]))
seen = {"observation.state": np.zeros(4, np.float32), "prompt": "lift_red"}
seen["observation.images.static"] = np.zeros((6, 8, 3), np.uint8)
print(policy.infer(seen)["server_timing"]["infer_ms"])
"""

PACKS = """
import sys
import numpy as np
from openpi_client import msgpack_numpy

values = {
    "state": np.arange(6, dtype=np.float32).reshape(2, 3), "image": np.zeros((2, 3, 3), np.uint8),
    "flag": np.bool_(True), "number": np.int64(-7), "real": np.float32(1.5), "none": None,
    "text": "lift", "list": [1, 2.5, np.arange(3)], "empty": np.zeros((0, 4), np.float32),
    "nested": {"double": np.array(2.5)},
}
if sys.argv[1] == "pack":
    sys.stdout.buffer.write(msgpack_numpy.packb(values))
else:
    given = msgpack_numpy.unpackb(sys.stdin.buffer.read())
    keys = ("state", "image", "empty", "number", "real")
    same = all(np.array_equal(given[key], values[key]) for key in keys)
    print(same, given["nested"]["double"] == 2.5, given["state"].dtype, given["list"][2].tolist())
"""


@pytest.fixture(scope="module")
def python() -> str:
    try:
        return str(python_with_openpi())
    except RuntimeError as error:
        pytest.skip(str(error))


def run(*command: str, **options):
    return subprocess.run(command, capture_output=True, timeout=600, check=True, **options)


def test_it_acts_as_the_policy_here(python):
    with serving(STATE_BUNDLE, key="s3cret") as server:
        told = json.loads(run(python, "-c", ACTS, str(server.address[1])).stdout)
    with keystep.load(STATE_BUNDLE, threads=1) as local:
        local.reset(task="lift_red")
        wanted = []
        for step in range(20):
            state = np.sin(np.arange(26) + step // 8).astype(np.float32) / 3
            wanted.append(local.act({"observation.state": state}))
    np.testing.assert_array_equal(np.float32(told["taken"]), wanted)
    assert (
        told["name"] == "franka3blocks-state" and told["again"] == 0
    )  # of a sentence, an episode of its own
    assert "observation.state: expected float32, got float64" in told["said"]


def test_forty_five_seconds_of_inference_are_waited_for(python, tmp_path):
    """openpi #717, with its client's own pings."""
    bundle = write_stub_bundle(tmp_path / "stub.keystep")
    slow = {"engine": "stub", "provider_options": {"stub.sleep_us": "15000000"}}
    with serving(bundle, load=slow) as server:
        assert float(run(python, "-c", WAITS, str(server.address[1])).stdout) > 44_000


def test_its_bytes_are_ours(python):
    packed = run(python, "-c", PACKS, "pack").stdout
    values = unpack(packed)
    assert values["state"].dtype == np.float32 and values["flag"] and values["number"] == -7
    assert values["nested"]["double"] == 2.5 and values["empty"].shape == (0, 4)
    assert pack(values) == packed
    read = run(python, "-c", PACKS, "unpack", input=pack(values)).stdout.decode()
    assert read == "True True float32 [0, 1, 2]\n"
