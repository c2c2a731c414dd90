"""Replies by the graphs of a bundle, in plain Python: the slow, clear reference of what C++ writes.

One cache, read and written in place, of which `known` holds the tokens. A pass computes what the cache does
not hold yet; rewinding is forgetting the end of `known`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keystep.code.prompt import Prompt, PromptLayout
from keystep.code.samples import SampleMaker
from keystep.code.tokenizer import Tokenizer
from keystep.code.trace import Memory, comment
from keystep.export.onnx_planner import Observation, OnnxPlanner


class OnnxWriter:
    """Attributes:
    passes: of the decoder, of the last reply. computed: tokens that went through it.
    """

    def __init__(self, bundle: Path) -> None:
        self.graphs = OnnxPlanner(bundle)
        self.planner: dict[str, Any] = self.graphs.planner
        self.tokenizer = Tokenizer.from_dict(self.planner["tokenizer"])
        self.maker = SampleMaker(
            self.tokenizer, PromptLayout.from_dict(self.planner["prompt"]), self.planner["image_tokens"]
        )
        self.known: list[int] = []

    def prompt(self, task: str, memory: Sequence[str], request: bool = False) -> list[int]:
        chunks = self.maker.question(Prompt(task, tuple(memory), request=request), episode=0)
        return [token for chunk in chunks for token in chunk.tokens]

    def write(
        self,
        prompt: list[int],
        observation: Observation,
        way: str,
        memory: Memory,
        drafts: Sequence[str] = (),
    ) -> tuple[list[int], bool]:
        """Ids of a reply without its end, and whether it ended."""
        self.passes = self.computed = 0
        self.seen = self.graphs.see(observation)
        self._forget_what_was_seen(prompt)
        end, most = self.planner["tokens"]["end"], self.planner["reply_tokens"]
        last = comment(memory.last) if memory.last else ""
        expected = [last, *drafts] if way == "draft" else []
        guesses = [[*self.tokenizer.encode(text), end] for text in expected if text]
        reply: list[int] = []
        while len(reply) < most:
            agreeing = [one for one in guesses if len(one) > len(reply) and one[: len(reply)] == reply]
            draft = agreeing[0][len(reply) : most - 1] if agreeing else []
            likeliest = self._likeliest([*prompt, *reply], draft)
            accepted = 0
            while accepted < len(draft) and draft[accepted] == likeliest[accepted] != end:
                accepted += 1
            reply += likeliest[: accepted + 1]
            if reply[-1] == end:
                return reply[:-1], True
            start = last[: self.planner["decoding"]["early_stop"]]
            if way == "early_stop" and last and self.tokenizer.decode(reply).startswith(start):
                return self.tokenizer.encode(last), True
        return reply, False

    def _likeliest(self, tokens: list[int], draft: list[int]) -> list[int]:
        """The token after `tokens`, and after each of the draft's."""
        whole = [*tokens, *draft]
        length = self._shared(whole[: len(tokens) - 1])
        rows = self.graphs.rows(whole[length:], self.seen)
        logits = self.graphs.decode(rows, length, len(tokens) - 1 - length)
        assert np.isfinite(logits).all() and len(logits) == len(draft) + 1
        self.known = whole
        self.passes, self.computed = self.passes + 1, self.computed + len(whole) - length
        logits[:, self.planner["never"]] = -np.inf
        return logits.argmax(axis=1).tolist()

    def _shared(self, tokens: list[int]) -> int:
        """How many of the cache's tokens are these."""
        both = zip(tokens, self.known, strict=False)
        return next(
            (place for place, (ours, theirs) in enumerate(both) if ours != theirs),
            min(len(tokens), len(self.known)),
        )

    def _forget_what_was_seen(self, prompt: list[int]) -> None:
        live = (place for place, token in enumerate(self.known) if token in self.seen)
        del self.known[next(live, len(self.known)) :]
