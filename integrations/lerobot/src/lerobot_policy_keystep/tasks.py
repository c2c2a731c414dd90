"""What LeRobot's sentence means to a bundle."""

from __future__ import annotations

from typing import Any

from lerobot_policy_keystep.inputs import wrong


class Tasks:
    """Args:
    manifest: the bundle's.
    told: in place of what LeRobot says; None: what LeRobot says.
    """

    def __init__(self, manifest: dict[str, Any], told: str | None = None) -> None:
        tasks = manifest["tasks"][::-1]  # of several with one instruction the first, as the runtime has it
        self._names = {text: task["name"] for task in tasks for text in (task["instruction"], task["name"])}
        self._all = [task["name"] for task in manifest["tasks"]]
        self._writes = manifest["planner"] is not None
        roles = [tensor["role"] for graph in manifest["graphs"].values() for tensor in graph["inputs"]]
        self._needed = self._writes or "task" in roles
        self._told = told

    def meant(self, said: str | None) -> dict[str, Any]:
        """As arguments of `Runtime.reset`: a task by its name or instruction, with a planner any sentence.
        A policy that needs none is told what it knows, and nothing else. One task need not be said.

        Raises:
            keystep.ArgumentError: not one of the bundle's tasks.
        """
        text = said if self._told is None else self._told
        if text in self._names:
            return {"task": self._names[text]}
        if not self._needed:
            return {}
        if text and self._writes:
            return {"instruction": text}
        if not text and len(self._all) == 1:
            return {"task": self._all[0]}
        wanted = " | ".join(self._all) + (" | a sentence" if self._writes else "")
        raise wrong("task", f"{wanted} (policy.task says it for all)", repr(text or ""))
