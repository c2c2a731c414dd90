"""The network of a planner that writes code.

The decoder is transformers' Phi-3, at every size. It takes a mask and positions of any kind, so that many
steps are packed behind one prefix; its cache can be cut back; its attention is ONNX Runtime's
GroupQueryAttention with packed queries, keys and values and rotary halves, operator by operator; and the
paper's decoder is the same class, so that there is one exporter.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache, Phi3Config, Phi3Model

from keystep.models.code_planner.config import CodePlannerConfig
from keystep.models.code_planner.sight import FoundSight, ObjectSight, PictureSight

NO_LOSS = -100
"""A target that nothing is learned from."""


class CodePlanner(nn.Module):
    """Tokens, and what is seen, to the logits of every next token.

    Attributes:
        sight: pictures [N, 3, H, W] in [0, 1], or objects [N, slots, values], -> [N, K, D].
        decoder: a text model of transformers without its head; head: D -> V.
        proprioception: [M, P], normalised, -> [M, D]; None without that token.
    """

    def __init__(self, config: CodePlannerConfig) -> None:
        super().__init__()
        if config.network == "llava":
            from keystep.models.code_planner.llava import llava_parts

            self._take(config, *llava_parts(config))
        else:
            head = nn.Linear(config.width, config.vocabulary, bias=False)
            nn.init.normal_(head.weight, std=0.02)
            self._take(config, own_sight(config), own_decoder(config), head)

    @classmethod
    def of(cls, config: CodePlannerConfig, sight: nn.Module, decoder: Any, head: nn.Module) -> CodePlanner:
        """Of parts that have their weights already; they must be those that `config` says."""
        planner = cls.__new__(cls)
        nn.Module.__init__(planner)
        planner._take(config, sight, decoder, head)
        return planner

    def _take(self, config: CodePlannerConfig, sight: nn.Module, decoder: Any, head: nn.Module) -> None:
        self.config, self.sight, self.decoder, self.head = config, sight, decoder, head
        self.proprioception: nn.Module | None = None
        if config.proprioception is not None:
            width = self.decoder.config.hidden_size
            (values,) = config.proprioception.shape
            self.proprioception = nn.Sequential(nn.Linear(values, width), nn.SiLU(), nn.Linear(width, width))

    # ---- tokens to logits ---------------------------------------------------------------------------------

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        mask: Tensor,
        seen: Tensor | None = None,
        proprioception: Tensor | None = None,
        cache: DynamicCache | None = None,
    ) -> Tensor:
        """Logits [B, T, V] of the token after each.

        Args:
            tokens, positions: [B, T] int64; positions from 0 in a token's own sequence.
            mask: [B, T, S] bool: which of the S = cached + T tokens each one attends to; at least one.
            seen: pictures or objects, as `sight` takes them, for the runs of image tokens, row by row.
            proprioception: [M, P] likewise.
            cache: of earlier tokens; these are added to it. See `rewind`.

        Raises:
            ValueError: what is given and what the tokens ask for do not agree, "field: expected X, got Y".
        """
        return self.head(self.hidden(tokens, positions, mask, seen, proprioception, cache))

    def hidden(
        self,
        tokens: Tensor,
        positions: Tensor,
        mask: Tensor,
        seen: Tensor | None = None,
        proprioception: Tensor | None = None,
        cache: DynamicCache | None = None,
    ) -> Tensor:
        """What `head` makes logits of, [B, T, D]. Arguments and errors as of `forward`."""
        self._check(tokens, positions, mask, cached(cache))
        hidden: Tensor = self.decoder(
            inputs_embeds=self.embed(tokens, seen, proprioception),
            position_ids=positions,
            attention_mask=mask[:, None],
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return hidden

    def embed(self, tokens: Tensor, seen: Tensor | None, proprioception: Tensor | None) -> Tensor:
        """[B, T, D]: embeddings of text, and in place of image and proprioception tokens what is seen.

        Raises:
            ValueError: as many image tokens as features are needed (a known failure, transformers #36002).
        """
        config = self.config
        vectors = self.decoder.embed_tokens(tokens)
        features = None if seen is None else self.see(seen).flatten(0, 1)
        vectors = _replaced("pictures", vectors, tokens == config.image_id, features, config.image_tokens)
        if self.proprioception is None and proprioception is not None:
            raise ValueError("proprioception: expected none, as this planner has no such token, got some")
        felt = None
        if self.proprioception is not None and proprioception is not None:
            felt = self.proprioception(proprioception)
        return _replaced("proprioception", vectors, tokens == config.proprioception_id, felt, 1)

    def see(self, seen: Tensor) -> Tensor:
        """[N, K, D]: the rows of pictures or objects."""
        words = (self.decoder.embed_tokens.weight,) if isinstance(self.sight, FoundSight) else ()
        rows: Tensor = self.sight(seen, *words)
        return rows

    def loss(self, batch: dict[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Mean cross-entropy of the next tokens, weighted; of pictures with boxes alone what is not found.

        Args:
            batch: tokens, positions, mask; pictures or objects, and proprioception, where tokens ask for it;
                targets [B, T], the token after each one, `NO_LOSS` for none (they are not shifted again: in a
                packed row several may follow one); weights [B, T] float32. Or, of a planner that finds
                objects, pictures, boxes and named: see `Finder.loss`.
            generator: nothing is drawn.

        Raises:
            ValueError: as of `forward`; no position has a target; a target is no token.
        """
        if isinstance(self.sight, FoundSight) and "boxes" in batch:
            cells = self.sight.map(batch["pictures"])
            return self.sight.finder.loss(cells, batch["boxes"], batch["named"])
        targets, weights = batch["targets"], batch["weights"]
        asked = targets != NO_LOSS
        wanted, weights = targets[asked], weights[asked]
        if not len(wanted) or not float(weights.sum()) > 0:
            raise ValueError("targets: expected a position with a target and a weight, got none")
        if int(wanted.min()) < 0 or int(wanted.max()) >= self.config.vocabulary:
            ends = f"{int(wanted.min())}..{int(wanted.max())}"
            raise ValueError(f"targets: expected ids below {self.config.vocabulary}, got {ends}")
        hidden = self.hidden(*given(batch))
        losses = functional.cross_entropy(self.head(hidden[asked]).float(), wanted, reduction="none")
        return (losses * weights).sum() / weights.sum()

    def _check(self, tokens: Tensor, positions: Tensor, mask: Tensor, past: int) -> None:
        if tokens.ndim != 2 or not tokens.numel():
            raise ValueError(f"tokens: expected (rows, one or more), got {tuple(tokens.shape)}")
        rows, count = tokens.shape
        expected: dict[str, tuple[Any, Any]] = {
            "positions": ((rows, count), tuple(positions.shape)),
            "mask": ((rows, count, past + count), tuple(mask.shape)),
            "mask.dtype": (torch.bool, mask.dtype),
        }
        for name, (want, got) in expected.items():
            if want != got:
                raise ValueError(f"{name}: expected {want}, got {got}")
        ends = [int(value) for value in tokens.aminmax()]
        if ends[0] < 0 or ends[1] >= self.config.vocabulary:
            raise ValueError(f"tokens: expected ids below {self.config.vocabulary}, got {ends[0]}..{ends[1]}")
        ends = [int(value) for value in positions.aminmax()]
        if ends[0] < 0 or ends[1] >= self.config.context:
            wanted = f"0..{self.config.context - 1} (context)"
            raise ValueError(f"positions: expected {wanted}, got {ends[0]}..{ends[1]}")
        blind = int((~mask.any(dim=-1)).sum())
        if blind:  # kernels differ in what they make of it: zeros or NaN
            raise ValueError(f"mask: expected every token to attend to one, got {blind} that attend to none")


def own_sight(config: CodePlannerConfig) -> nn.Module:
    """What an own network sees by, with random weights."""
    if config.objects:
        return ObjectSight(config)
    return FoundSight(config) if config.names else PictureSight(config)


def own_decoder(config: CodePlannerConfig) -> Phi3Model:
    """Phi-3 of small sizes, with random weights."""
    sizes = Phi3Config(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        intermediate_size=config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.key_heads,
        max_position_embeddings=config.context,
        original_max_position_embeddings=config.context,
        bos_token_id=None,
        eos_token_id=config.end_id,
        pad_token_id=config.pad_id,
        attn_implementation="sdpa",
    )
    return Phi3Model(sizes)


def given(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """What `CodePlanner.forward` takes, of a packed batch."""
    seen = batch.get("pictures", batch.get("objects"))
    return batch["tokens"], batch["positions"], batch["mask"], seen, batch.get("proprioception")


def cached(cache: DynamicCache | None) -> int:
    """Tokens in a cache."""
    return 0 if cache is None else int(cache.get_seq_length())


def rewind(cache: DynamicCache, length: int) -> None:
    """Cuts a cache back to its first `length` tokens.

    Raises:
        ValueError: there are fewer.
    """
    surplus = cached(cache) - length
    if length < 0 or surplus < 0:
        raise ValueError(f"cache: expected at least {length} tokens, got {cached(cache)}")
    if surplus:
        cache.crop(-surplus)


def _replaced(name: str, vectors: Tensor, asked: Tensor, features: Tensor | None, each: int) -> Tensor:
    """`vectors` [B, T, D] with `features` [F, D] where `asked` [B, T]."""
    count, found = int(asked.sum()), 0 if features is None else len(features)
    if count != found:
        runs = f"{count / each:g} ({count} tokens in place of them, {each} each)"
        raise ValueError(f"{name}: expected {runs}, got {found // each}")
    if features is None or not found:
        return vectors
    return vectors.masked_scatter(asked[..., None], features.to(vectors.dtype))
