"""Generation modes that a model supports: shared prefixes, padded batches, or one prompt at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers import PreTrainedConfig

from meow_lightning.generation.batch_size import short_of_memory
from meow_lightning.generation.batching import new_cache
from meow_lightning.generation.kv_cache import PagedCache
from meow_lightning.generation.prefix_forward import Model, PrefixForward
from meow_lightning.generation.prefix_tree import Tree
from meow_lightning.models.logits_model import LogitsModel

OFF, ROUNDED = 3e-3, 16  # logit tolerances: relative to the largest, and in units of the format's eps
ProbeResult = tuple[list[int], torch.Tensor]  # positions of a probe, and the logits at them
MASKED = ("sdpa", "eager")  # attention implementations that accept an arbitrary mask


def dtype_of(model: Model) -> torch.dtype | None:
    """Return the dtype of a model that supports shared keys and values; ``None`` if its attention does not.

    The model must come from transformers and attend to all earlier tokens in every layer, with a given mask and
    positions that are independent of the text length.
    """
    config = getattr(model, "config", None)
    if isinstance(model, LogitsModel) or not isinstance(config, PreTrainedConfig):
        return None
    config = config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    unfit = (
        config._attn_implementation not in MASKED  # not exposed publicly by transformers
        or getattr(config, "is_encoder_decoder", False)
        or getattr(config, "sliding_window", None) is not None
        or not kinds <= {"full_attention"}
        or any(each.get("rope_type") in ("dynamic", "longrope") for each in _ropes(config))
    )
    return None if unfit else getattr(model, "dtype", None)


def batch_length_limit(model: Model) -> int | None:
    """Return the batch length beyond which a model treats all rows differently; ``None`` if there is no such length.

    With ``longrope`` rotary embeddings, the frequencies depend on the longest row, so a longer neighbour changes the
    output for a short prompt. ``dynamic`` ones do so only beyond the model's context.
    """
    configs = [getattr(each, "config", None) for each in (model.models if isinstance(model, LogitsModel) else [model])]
    texts = [config.get_text_config() for config in configs if isinstance(config, PreTrainedConfig)]
    borders = [
        int(each.get("original_max_position_embeddings") or config.max_position_embeddings)
        for config in texts
        for each in _ropes(config)
        if each.get("rope_type") == "longrope"
    ]
    return min(borders, default=None)


def _ropes(config: PreTrainedConfig) -> list[dict[str, Any]]:
    """Return the settings of a model's rotary embeddings; some models have one per layer type."""
    rope = getattr(config, "rope_parameters", None) or {}
    return [each for each in (rope, *rope.values()) if isinstance(each, dict)]


def split_batches(
    places: Sequence[int], *, lengths: Sequence[int], most: int, border: int | None
) -> Iterator[list[int]]:
    """Yield batches of at most ``most`` rows in order, with each row beyond the length limit in its own.

    Args:
        places: Indices of the rows.
        lengths: Tokens of every row, by index.
        most: Maximum rows per batch, from 1.
        border: The result of :func:`batch_length_limit`.
    """
    alone = [place for place in places if border is not None and lengths[place] > border]
    yield from ([place] for place in alone)  # the longest first, so that running out of memory happens early
    rest = [place for place in places if border is None or lengths[place] <= border]
    for start in range(0, len(rest), most):
        yield rest[start : start + most]


def supports_prefix_sharing(model: Model, prompt: Sequence[int], *, pad_id: int, dtype: torch.dtype) -> bool:
    """Test on a few tokens of a prompt whether sharing a prefix leaves the model's logits unchanged.

    A model's config does not show how its code uses masks and positions, so four small forward passes test it.
    """
    return same_continuation(model, prompt, lambda probe: _sharing(model, probe, pad_id=pad_id, dtype=dtype))


def supports_padding(model: Model, prompt: Sequence[int], *, pad_id: int) -> bool:
    """Test on a few tokens of a prompt whether padding and caching leave the model's logits unchanged.

    They change for models with a state other than a key-value cache, which would continue from the last token only.
    """
    return same_continuation(model, prompt, lambda probe: _padding(model, probe, pad_id=pad_id))


@torch.inference_mode()
def same_continuation(model: Model, prompt: Sequence[int], trial: Callable[[list[int]], ProbeResult]) -> bool:
    """Whether a trial reproduces the model's own logits for a few tokens of a prompt.

    Args:
        model: Any language model.
        prompt: Tokens for the trial.
        trial: Maps eight tokens to (positions among them, logits at each), or raises an error of the model's code.
    """
    probe = list((tuple(prompt) * 4)[:8] if len(prompt) < 8 else tuple(prompt[:8]))
    device = getattr(model, "device", None)
    try:
        expected = model(
            input_ids=torch.tensor([probe], device=device),
            attention_mask=torch.ones(1, len(probe), dtype=torch.long, device=device),
            use_cache=False,
        ).logits[0]
        places, logits = trial(probe)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, MemoryError) as error:
        if short_of_memory(error):
            raise
        return False  # a model that does not accept such a mask or cache
    reference = expected[places].float()
    bound = max(OFF, ROUNDED * torch.finfo(expected.dtype).eps) * reference.abs().max()
    return bool(((logits.float() - reference).abs() <= bound).all())


def _sharing(model: Model, probe: list[int], *, pad_id: int, dtype: torch.dtype) -> ProbeResult:
    size = len(probe)
    turn = probe[size - 3]
    # tokens between the probe's nodes, invisible to them; not padding tokens, whose embedding may be zero
    tree = Tree((*probe[: size - 3], *[turn - 1 if turn > 1 else turn + 1] * 3))
    tree.add(tuple(probe[: size - 1]))
    path = tree.path(tree.ends[tuple(probe[: size - 1])])
    prefix_forward = PrefixForward(model, [tree], pad_id=pad_id, dtype=dtype)
    slots = PagedCache(dtype=dtype)
    slots.admit(prefix_forward, [(0, path[-1]), (0, path[size - 4])], sharing=True)
    slots.admit(prefix_forward, [(0, path[-1])], sharing=False)
    places = [size - 1, size - 3, size - 1, size - 2]  # the first step of three rows, and the second of row two
    first = slots.advance(model, [probe[place] for place in places[:3]])
    second = slots.advance(model, [pad_id, probe[size - 2], pad_id])
    if not slots.all_layers_paged:
        raise ValueError("the model uses its own attention, which mistakes pages for rows")
    return places, torch.cat([first, second[1:2]])


def _padding(model: Model, probe: list[int], *, pad_id: int) -> ProbeResult:
    device, cache = getattr(model, "device", None), new_cache(model)
    ids = [probe[:6], [pad_id] * 2 + probe[:4]]
    seen = torch.tensor([[1] * 6, [0] * 2 + [1] * 4], device=device)
    logits = []
    for following in ([probe[6], probe[4]], None):
        positions = (seen.cumsum(-1) - 1).clamp(min=0)[:, -len(ids[0]) :]
        output = model(
            input_ids=torch.tensor(ids, device=device), attention_mask=seen, position_ids=positions,
            past_key_values=cache, use_cache=True, logits_to_keep=1,
        ).logits  # fmt: skip
        logits.append(output[:, -1])
        if following is not None:
            ids = [[token] for token in following]
            seen = torch.cat([seen, torch.ones_like(seen[:, :1])], dim=-1)
    return [5, 3, 6, 4], torch.cat(logits)
