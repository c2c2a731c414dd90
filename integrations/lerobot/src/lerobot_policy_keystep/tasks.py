"""What LeRobot's sentence means to a bundle."""

from __future__ import annotations

from typing import Any

from lerobot_policy_keystep.inputs import wrong


class Tasks:
    """Args:
    manifest: the bundle's.
    told: in place of what LeRobot says; None: what LeRobot says.

    Raises:
        keystep.ArgumentError: `told` is not one of the bundle's tasks.
    """

    def __init__(self, manifest: dict[str, Any], told: str | None = None) -> None:
        tasks = manifest["tasks"][::-1]  # of several with one instruction the first, as the runtime has it
        self._names = {text: task["name"] for task in tasks for text in (task["instruction"], task["name"])}
        self._all = [task["name"] for task in manifest["tasks"]]
        self._writes = manifest["planner"] is not None
        roles = [tensor["role"] for graph in manifest["graphs"].values() for tensor in graph["inputs"]]
        self._needed = self._writes or "task" in roles
        self._told = told
        if told is not None:
            self.meant(None)

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


def texts_of(told: object, count: int) -> list[str | None]:
    """What LeRobot tells each of `count` environments: one text for all, or a list of them.

    Raises:
        keystep.ArgumentError: it is neither.
    """
    texts = [told] * count if told is None or isinstance(told, str) else told
    if not isinstance(texts, list | tuple) or not all(
        text is None or isinstance(text, str) for text in texts
    ):
        raise wrong("task", f"a text, or a list of {count}", repr(told))
    if len(texts) != count:
        raise wrong("task", f"{count} texts", len(texts))
    return list(texts)
