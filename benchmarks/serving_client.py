"""One robot of `benchmarks.serving`: openpi's client or keystep's, whatever the interpreter has.

    python serving_client.py openpi|keystep PORT OBSERVATION

answers one JSON line to each line with a number of requests, how many a second (0: as fast as they can) and
the seconds until the first: {"overhead_us": [..], "round_us": [..]}, the overhead without what the server
says that its inference took. OBSERVATION is JSON: shape and dtype by key.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def client_of(kind: str, port: int):  # type: ignore[no-untyped-def]
    if kind == "openpi":
        from openpi_client.websocket_client_policy import WebsocketClientPolicy

        return WebsocketClientPolicy("127.0.0.1", port)
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python" / "keystep"))
    from client import Client  # the folder alone: this interpreter has no keystep

    return Client("127.0.0.1", port)


def main() -> None:
    kind, port, told = sys.argv[1:]
    features = json.loads(told).items()
    observation: dict[str, Any] = {key: np.zeros(shape, dtype) for key, (shape, dtype) in features}
    observation["prompt"] = "lift_red"
    client = client_of(kind, int(port))
    for line in sys.stdin:
        overhead_us, round_us = [], []
        requests, rate_hz, wait_s = map(float, line.split())
        due = time.perf_counter() + wait_s
        for _ in range(int(requests)):
            if rate_hz:
                time.sleep(max(due - time.perf_counter(), 0))
                due = max(due, time.perf_counter() - 1 / rate_hz) + 1 / rate_hz  # who is late asks no faster
            began = time.perf_counter()
            reply = client.infer(observation)
            took = 1e6 * (time.perf_counter() - began)
            round_us.append(took)
            overhead_us.append(took - 1e3 * reply["server_timing"]["infer_ms"])
        print(json.dumps({"overhead_us": overhead_us, "round_us": round_us}), flush=True)


if __name__ == "__main__":
    main()
