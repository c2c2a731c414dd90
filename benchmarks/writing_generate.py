"""What users of transformers run: `generate` on a planner's weights, stopped early as in the paper."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache, Phi3ForCausalLM
from transformers.generation import StoppingCriteria, StoppingCriteriaList

import keystep
from benchmarks.writing_episodes import Observation
from keystep.code.prompt import Prompt
from keystep.code.trace import EARLY_STOP_CHARACTERS, comment, is_keystep
from keystep.export.code_golden import CodePlanning, seen_and_felt
from keystep.models.code_planner.network import rewind


class Generate:
    """Asked as `keystep.CodeRuntime` is. In evaluation mode, without gradients, with its cache and sdpa.

    Args:
        threads: of torch.
        keep: what stands before what is seen stays in the cache from step to step. The paper's prompts are
            read anew each time.
    """

    def __init__(self, planning: CodePlanning, threads: int, keep: bool) -> None:
        self._planning, self._threads, self._keep = planning, threads, keep
        self._maker = planning.language.maker(planning.config)
        planner = planning.model.eval()
        with torch.device("meta"):  # its own weights are replaced
            self._model: Any = Phi3ForCausalLM(planner.decoder.config).eval()
        self._model.model, self._model.lm_head = planner.decoder, planner.head
        end, pad = planning.config.end_id, planning.config.pad_id
        self._model.generation_config.update(
            do_sample=False, use_cache=True, eos_token_id=end, pad_token_id=pad
        )

    def reset(self, task: str) -> None:
        """A new episode."""
        self._task, self._memory = task, tuple[str, ...]()
        self._cache = DynamicCache()
        self._read_prompt()

    def _read_prompt(self) -> None:
        """Once for each key-step."""
        chunks = self._maker.question(Prompt(self._task, self._memory), 0)
        self._tokens = torch.tensor([[token for chunk in chunks for token in chunk.tokens]])
        self._stays = 0
        for chunk in chunks:
            if chunk.shown is not None:
                break
            self._stays += len(chunk.tokens)
        last = comment(self._memory[-1]) if self._memory else ""
        self._stop = _EarlyStop(self._planning, last)

    @torch.inference_mode()
    def ask(self, observation: Observation) -> keystep.CodeReply:
        """One control step."""
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        vectors = self._planning.model.embed(self._tokens, *seen_and_felt(self._planning, observation))
        told = self._model.generate(
            inputs_embeds=vectors,
            attention_mask=torch.ones(vectors.shape[:2], dtype=torch.long),
            past_key_values=self._cache if self._keep else None,
            max_new_tokens=self._planning.reply_tokens,
            stopping_criteria=StoppingCriteriaList([self._stop] if self._memory else []),
        )[0].tolist()
        if self._keep:
            rewind(self._cache, self._stays)
        ended = told[-1] == self._planning.config.end_id
        text = self._stop.read(told)
        stopped = not ended and self._stop.says(text)
        text = self._stop.last if stopped else text
        key_step = (ended or stopped) and is_keystep(text)
        if key_step:
            self._memory = (*self._memory, text)
            self._read_prompt()
        return keystep.CodeReply(text, key_step, True, len(told) - ended, len(told), ended or stopped)


class _EarlyStop(StoppingCriteria):
    """When the first L characters are those of the commented last key-step."""

    def __init__(self, planning: CodePlanning, last: str) -> None:
        self._words, self._end, self.last = planning.language.tokenizer, planning.config.end_id, last

    def read(self, tokens: list[int]) -> str:
        """Without the end."""
        return self._words.decode([token for token in tokens if token != self._end])

    def says(self, text: str) -> bool:
        return bool(self.last) and text.startswith(self.last[:EARLY_STOP_CHARACTERS])

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.tensor([self.says(self.read(input_ids[0].tolist()))])
