"""openpi's own server class around a keystep bundle, for `benchmarks.serving`.

    python -m benchmarks.serving_openpi FOLDER BUNDLE PORT

FOLDER has openpi's src/openpi/serving/websocket_policy_server.py, as it is, and `openpi_client` beside it.
"""

import sys
from pathlib import Path
from typing import Any

import keystep


class OnePolicy:
    """What openpi's server asks: one policy for all clients."""

    def __init__(self, bundle: str) -> None:
        self._runtime = keystep.load(bundle, threads=1)
        self._consumed = 0
        self._execute = self._runtime.manifest["chunk"]["execute"]
        self._runtime.reset(task="lift_red")

    def infer(self, observation: dict[str, Any]) -> dict[str, Any]:
        seen = {key: value for key, value in observation.items() if key != "prompt"}
        made = self._runtime.serve_chunk([seen], consumed=self._consumed)
        self._consumed += self._execute
        return {"actions": made.rows}


def main() -> None:
    folder, bundle, port = sys.argv[1:]
    sys.path.insert(0, str(Path(folder)))
    from websocket_policy_server import WebsocketPolicyServer  # type: ignore[import-not-found]

    policy = OnePolicy(bundle)
    WebsocketPolicyServer(policy, "127.0.0.1", int(port), {"server": "openpi"}).serve_forever()


if __name__ == "__main__":
    main()
