"""Greedy replies in plain PyTorch: the slow, clear reference of what the C++ runtime writes.

Three ways to answer. `greedy` takes the likeliest token until the end token. `early_stop` does so until the
first L characters are those of the commented last key-step, and then takes that for the answer (From Code to
Action, sec. 4.2): the text is that of `greedy` unless another reply begins with the same L characters.
`draft` asks for the answers that are expected in one pass each, and keeps what greedy decoding agrees with:
its text is always that of `greedy`. No reply has a token that fills up or stands for what is seen. Under a
constraint the likeliest token is that of the ones which it allows, and every reply ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from keystep.code.constraint import Constraint
from keystep.code.trace import EARLY_STOP_CHARACTERS
from keystep.models.code_planner.config import CodePlannerConfig
from keystep.models.code_planner.network import CodePlanner, cached, rewind

WAYS = ("greedy", "early_stop", "draft")


class TokenText(Protocol):
    """What a tokeniser does here."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without an end token."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids."""

    def no_text(self, vocabulary: int) -> Sequence[int]:
        """Ids below `vocabulary` that `decode` does not take, or that stand for what is not written."""


@dataclass(frozen=True)
class WrittenReply:
    """What was written.

    Attributes:
        ids: without the end token; of an early stop those of the commented last key-step.
        text: of these.
        ended: by the end token or an early stop, not by the limit of tokens.
        passes: of the decoder, the one over the prompt included.
        computed: tokens that went through the decoder.
    """

    ids: tuple[int, ...]
    text: str
    ended: bool
    passes: int
    computed: int


def never_written(config: CodePlannerConfig, tokenizer: TokenText) -> list[int]:
    """Ids that are no part of a reply, in order: what fills up, stands for what is seen, or is no text."""
    never = {config.pad_id, *_live(config), *tokenizer.no_text(config.vocabulary)}
    return sorted(never - {config.end_id})


def _live(config: CodePlannerConfig) -> set[int]:
    """Ids of tokens in whose place stands what is seen or felt."""
    return {config.image_id} | ({config.proprioception_id} if config.proprioception else set())


class ReplyWriter:
    """Replies of one planner in one episode, with a cache that is kept between them.

    What a prompt shares with the one before stays in the cache, up to its first image or proprioception
    token: what is seen changes at every step.

    Args:
        planner: in evaluation mode.
        limit: most tokens of a reply, its end token included.
        keep: False: nothing is kept between passes, for comparison.
        constraint: what a reply may say, of the same tokeniser.

    Raises:
        ValueError: a limit below 1, or in which no reply ends that the constraint allows.
    """

    def __init__(
        self,
        planner: CodePlanner,
        tokenizer: TokenText,
        limit: int = 96,
        keep: bool = True,
        constraint: Constraint | None = None,
    ) -> None:
        least = constraint.shortest if constraint else 1
        if limit < least:
            raise ValueError(f"limit: expected at least {least} token{'s' * (least > 1)}, got {limit}")
        self._constraint = constraint
        self.planner, self.tokenizer, self.limit, self.keep = planner.eval(), tokenizer, limit, keep
        self._live = _live(planner.config)
        self._never = never_written(planner.config, tokenizer)
        self._device = next(planner.parameters()).device
        self.reset()

    def reset(self) -> None:
        """A new episode: the cache is empty."""
        self._cache, self._known = DynamicCache(), list[int]()

    @torch.no_grad()
    def write(
        self,
        prompt: Sequence[int],
        seen: Tensor | None = None,
        proprioception: Tensor | None = None,
        way: str = "greedy",
        last: str = "",
        drafts: Sequence[str] = (),
        early_stop: int = EARLY_STOP_CHARACTERS,
    ) -> WrittenReply:
        """The reply to a prompt.

        Args:
            prompt: ids, image and proprioception tokens in their places, up to where the reply begins.
            seen, proprioception: as of `CodePlanner.forward`, for the prompt's tokens of them.
            way: one of `WAYS`.
            last: the commented last key-step; "" when there is none: then nothing stops early.
            drafts: further answers that are expected, with `draft`; tried in this order after `last`.
            early_stop: L.

        Raises:
            ValueError: an argument is not one of the above; the context has no room for a reply.
            FloatingPointError: logits are NaN or infinite; then the cache is empty.
        """
        ids = list(prompt)
        self._check(ids, way, early_stop)
        self._seen, self._felt = self._here(seen), self._here(proprioception)
        self._passes, self._computed = 0, 0
        expected = [text for text in (last, *drafts) if text] if way == "draft" else []
        stop = last if way == "early_stop" else ""
        try:
            return self._decode(ids, [self._tokens(text) for text in expected], stop, early_stop)
        except BaseException:  # what a pass left in the cache is not known
            self.reset()
            raise

    def _check(self, ids: Sequence[int], way: str, early_stop: int) -> None:
        if way not in WAYS:
            raise ValueError(f"way: expected one of {', '.join(WAYS)}, got {way!r}")
        if early_stop < 1:
            raise ValueError(f"early_stop: expected at least 1 character, got {early_stop}")
        most = self.planner.config.context - self.limit
        if not 0 < len(ids) <= most:
            raise ValueError(f"prompt: expected 1..{most} tokens (context - limit), got {len(ids)}")

    def _here(self, value: Tensor | None) -> Tensor | None:
        return None if value is None else value.to(self._device)

    def _tokens(self, text: str) -> list[int]:
        return [*self.tokenizer.encode(text), self.planner.config.end_id]

    def _decode(self, prompt: list[int], drafts: list[list[int]], stop: str, early: int) -> WrittenReply:
        end, reply = self.planner.config.end_id, list[int]()
        while len(reply) < self.limit:
            agrees = (draft for draft in drafts if len(draft) > len(reply) and draft[: len(reply)] == reply)
            draft = next(agrees, [])[len(reply) : self.limit - 1]
            likeliest = self._likeliest([*prompt, *reply], draft, len(prompt))
            for guess, token in zip([*draft, None], likeliest, strict=False):
                reply.append(token)
                if token == end or token != guess:
                    break
            if reply[-1] == end:
                return self._reply(reply[:-1], True)
            if stop and self.tokenizer.decode(reply).startswith(stop[:early]):
                return self._reply(self._tokens(stop)[:-1], True)
        return self._reply(reply, False)

    def _reply(self, ids: list[int], ended: bool) -> WrittenReply:
        return WrittenReply(tuple(ids), self.tokenizer.decode(ids), ended, self._passes, self._computed)

    def _likeliest(self, ids: list[int], draft: list[int], start: int) -> list[int]:
        """The token that is likeliest after `ids`, and after each of the draft's tokens behind them.

        Under a constraint only as far as the draft agrees: what is allowed depends on what was written, from
        `start` on.
        """
        sequence = [*ids, *draft]
        first = self._rewind(sequence[: len(ids) - 1])
        tokens = torch.tensor([sequence[first:]], device=self._device)
        positions = torch.arange(first, len(sequence), device=self._device)[None]
        square = torch.ones(1, len(sequence), len(sequence), dtype=torch.bool, device=self._device)
        mask = square.tril()[:, first:]
        # What is seen is in the cache after the first pass, of which it is always a part.
        seen = (None, None) if self._passes and self.keep else (self._seen, self._felt)
        logits = self.planner(tokens, positions, mask, *seen, self._cache)[0, -1 - len(draft) :]
        if not torch.isfinite(logits).all():
            raise FloatingPointError("logits: expected finite numbers, got NaN or Inf")
        self._known = sequence
        self._passes += 1
        self._computed += len(sequence) - first
        logits[:, self._never] = -torch.inf
        if self._constraint:
            return self._allowed(self._constraint, ids[start:], draft, logits)
        return logits.argmax(dim=-1).tolist()

    def _allowed(
        self, constraint: Constraint, reply: list[int], draft: list[int], logits: Tensor
    ) -> list[int]:
        place, found = constraint.start, list[int]()
        for token in reply:
            place = constraint.after(place, token) or constraint.start  # it was allowed
        for row, guess in zip(logits.tolist(), [*draft, None], strict=True):
            left = self.limit - len(reply) - len(found)
            found.append(constraint.likeliest(row, place, left))
            following = constraint.after(place, found[-1])
            if found[-1] != guess or following is None:
                break
            place = following
        return found

    def _rewind(self, wanted: list[int]) -> int:
        """Cuts the cache back to what it shares with `wanted`; gives how much that is."""
        shared = 0
        if self.keep:
            while shared < min(len(wanted), len(self._known)) and wanted[shared] == self._known[shared]:
                shared += 1
        if not self._passes:  # of an earlier step: what was seen then is not what is seen now
            shared = next((place for place in range(shared) if wanted[place] in self._live), shared)
        rewind(self._cache, min(shared, cached(self._cache)))
        return shared
