"""A checkpoint of a planner that writes code, asked for key-steps while an episode goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from keystep.code.grammar import CodeError
from keystep.code.prompt import Prompt
from keystep.code.trace import comment, is_keystep
from keystep.models.checkpoint import CheckpointError, load_model
from keystep.models.code_planner.config import OBJECTS
from keystep.models.code_planner.network import CodePlanner
from keystep.models.code_planner.writing import ReplyWriter, WrittenReply
from keystep.train.code_language import load_language
from keystep.train.code_seen import shown_tensors


class CheckpointPlanner:
    """Writes what greedy decoding gives, and remembers key-steps.

    Args:
        checkpoint: folder.
        device: of torch.
        threads: of torch on the CPU; 0: its default.

    Attributes:
        image_size: of the picture that it sees, in pixels; None: it sees objects.
        grid: in whose cells it says places.

    Raises:
        CheckpointError: missing or damaged, of another kind, or without its language.
    """

    def __init__(self, checkpoint: Path, device: str = "cpu", threads: int = 1) -> None:
        if threads:
            torch.set_num_threads(threads)
        model, about = load_model(checkpoint)
        if not isinstance(model, CodePlanner):
            raise CheckpointError(f"kind: expected code_planner, got {about.kind}")
        self._config, self._device = model.config, torch.device(device)
        language = load_language(checkpoint)
        self._maker, self.grid = language.maker(model.config), language.grid
        self._normalizer = about.normalizer().to(self._device)
        self._writer = ReplyWriter(model.to(self._device), language.tokenizer)
        picture = model.config.picture
        self.image_size = None if picture is None else int(picture.shape[0])
        self.begin("")

    def begin(self, task: str) -> None:
        """A new episode, its task in words."""
        self._task, self._memory = task, list[str]()
        self._writer.reset()

    def write(self, seen: Mapping[str, np.ndarray], request: bool = True) -> WrittenReply:
        """The next reply. Where it goes on, the commented last key-step is tried in one pass.

        Args:
            seen: by key what the network observes; pictures (H, W, 3), uint8 or 0 to 255.
            request: a key-step is asked for.

        Raises:
            CodeError: the memory has become longer than its context, or its logits are no numbers.
        """
        prompt = Prompt(self._task, tuple(self._memory), request=request)
        ids = [token for chunk in self._maker.question(prompt, 0, 0) for token in chunk.tokens]
        last = comment(self._memory[-1]) if self._memory and not request else ""
        try:
            reply = self._writer.write(ids, *self._tensors(seen), way="draft", last=last)
        except (ValueError, FloatingPointError) as error:
            raise CodeError(1, 1, str(error)) from None
        if reply.ended and is_keystep(reply.text):
            self._memory.append(reply.text)
        return reply

    def prepare(self) -> None:
        """Nothing is computed before it is asked for."""

    def _tensors(self, seen: Mapping[str, np.ndarray]) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        arrays: dict[str, np.ndarray] = {}
        if self._config.picture is not None:
            picture = np.moveaxis(seen[self._config.picture.key], -1, 0)[None]
            arrays["pictures"] = picture.astype(np.float32) / 255
        else:
            arrays["objects"] = seen[OBJECTS][None]
        if self._config.proprioception is not None:
            arrays["proprioception"] = seen[self._config.proprioception.key][None]
        found = shown_tensors(arrays, self._config, self._normalizer, self._device)
        return found.get("pictures", found.get("objects")), found.get("proprioception")
