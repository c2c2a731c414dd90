"""Planners with the weights of a LLaVA, from the model hub or a local folder; no code of a hub is run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlavaForConditionalGeneration

from keystep.features import Feature
from keystep.models.checks import require
from keystep.models.code_planner.config import CodePlannerConfig
from keystep.models.code_planner.llava import LlavaSight, check_sizes, parts_of
from keystep.models.code_planner.network import CodePlanner

SOURCE = "xtuner/llava-phi-3-mini-hf"
"""Hub id of a LLaVA with Phi-3-mini and CLIP ViT-L/14 at 336 px."""
END = "<|end|>"
"""What ends a reply of Phi-3; its tokeniser's own end token ends documents."""


class LlavaError(RuntimeError):
    """A LLaVA cannot be found, is damaged, or a package is missing that it needs."""


def pretrained_planner(
    source: str | Path = SOURCE, observation: tuple[Feature, ...] = (), context: int = 2047, end: str = END
) -> tuple[CodePlanner, Any]:
    """A planner with the weights of a LLaVA, and its tokeniser.

    Args:
        source: folder or hub id in the format of transformers, with a tokeniser.
        observation: as of CodePlannerConfig; a vector of proprioception becomes a token that the tokeniser
            does not use, with an embedding yet to be learned.
        context: most tokens of a prompt with its reply.
        end: text of the token that ends a reply.

    Raises:
        LlavaError: it cannot be found, lacks weights, or is no LLaVA.
        ConfigError: it and `observation` do not fit.
    """
    with _explained(source):
        model, report = LlavaForConditionalGeneration.from_pretrained(
            source,
            dtype=torch.float32,
            use_safetensors=True,
            attn_implementation="sdpa",
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(source)
        pixels = _pixels(source)
    if report["missing_keys"] or report.get("mismatched_keys"):
        lacking = sorted(map(str, [*report["missing_keys"], *report.get("mismatched_keys", ())]))[:3]
        raise LlavaError(f"llava: expected all weights in {source}, not {', '.join(lacking)}")
    config = _config_of(model.config, tokenizer, observation, context, end, pixels)
    return CodePlanner.of(config, *parts_of(model, config)).eval(), tokenizer


def with_lora(planner: CodePlanner, rank: int = 16, alpha: int = 32, dropout: float = 0.05) -> Any:
    """Fine-tuning by low-rank adapters of all linear layers of the decoder (arXiv:2106.09685), in place.

    The decoder's own weights no longer learn; sight's projector, head and proprioception do.

    Returns:
        The wrapper of peft; its `merge_and_unload()` gives the decoder back with the adapters in it.

    Raises:
        LlavaError: the package peft is not installed.
    """
    try:
        from peft import LoraConfig, LoraModel  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise LlavaError("lora: expected the package peft (pip install peft), got none") from None
    planner.decoder.requires_grad_(False)
    settings = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear")
    wrapper = LoraModel(planner.decoder, settings, "default")
    if isinstance(planner.sight, LlavaSight):
        planner.sight.tower.requires_grad_(False)
    return wrapper


def _config_of(
    sizes: Any,
    tokenizer: Any,
    observation: tuple[Feature, ...],
    context: int,
    end: str,
    pixels: dict[str, Any],
) -> CodePlannerConfig:
    vocabulary = sizes.text_config.vocab_size
    end_id = tokenizer.convert_tokens_to_ids(end)
    known = isinstance(end_id, int) and end_id != tokenizer.unk_token_id
    require(known, "end", "a token of the tokeniser", end)
    spare = len(tokenizer)  # embeddings are often more than tokens
    pad_id = tokenizer.pad_token_id
    vision = sizes.vision_config
    full = sizes.vision_feature_select_strategy == "full"
    values = sizes.to_dict()
    config = CodePlannerConfig(
        observation=observation,
        network="llava",
        vocabulary=vocabulary,
        context=context,
        pad_id=spare - 1 if pad_id is None else pad_id,
        end_id=end_id,
        image_id=sizes.image_token_id,
        proprioception_id=spare,
        image_tokens=(vision.image_size // vision.patch_size) ** 2 + full,
        width=sizes.text_config.hidden_size,
        layers=sizes.text_config.num_hidden_layers,
        llava=_plain_sizes(values),
        image_mean=tuple(pixels.get("image_mean") or CodePlannerConfig.image_mean),
        image_std=tuple(pixels.get("image_std") or CodePlannerConfig.image_std),
    )
    check_sizes(config, sizes)
    return config


def _plain_sizes(values: dict[str, Any]) -> dict[str, Any]:
    """Of a configuration's dictionary what its constructor takes, as JSON values."""
    drop = {"transformers_version", "dtype", "torch_dtype", "architectures", "_name_or_path"}
    drop |= {"image_token_id", "id2label", "label2id"}  # said twice, or with numbers as keys
    kept = {key: value for key, value in values.items() if key not in drop}
    for name in ("vision_config", "text_config"):
        kept[name] = {key: value for key, value in values[name].items() if key not in drop}
    return json.loads(json.dumps(kept))


def _pixels(source: str | Path) -> dict[str, Any]:
    """Of its picture processor; {} without one."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        found, _ = ImageProcessingMixin.get_image_processor_dict(source)
    except OSError:
        return {}
    return dict(found)


@contextmanager
def _explained(source: str | Path) -> Iterator[None]:
    """Whatever transformers raises, in one line that says what to do."""
    try:
        yield
    except ImportError as error:
        raise LlavaError(f"llava: expected the packages of transformers, got {error}") from None
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if Path(source).is_dir():
            raise LlavaError(f"{source}: expected a LLaVA of transformers, got: {reason}") from None
        raise LlavaError(
            f"llava: expected {source} on the model hub or in its local cache, got: {reason} Without a "
            "connection, copy the model's folder to this machine and give its path instead of the name."
        ) from None
