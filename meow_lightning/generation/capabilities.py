"""Which way a model can be asked: sharing what prompts have in common, in padded batches, or one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedConfig

from meow_lightning.generation.batch_size import short_of_memory
from meow_lightning.generation.kv_cache import Slots
from meow_lightning.generation.prefix_forward import Model, PrefixForward
from meow_lightning.generation.prefix_tree import Tree

OFF, ROUNDED = 3e-3, 16  # how far logits may be off, as a share of the largest; roundings in a coarse format
Found = tuple[list[int], torch.Tensor]  # places of a probe, and the logits that follow them
MASKED = ("sdpa", "eager")  # kinds of attention that take a mask of every row and position


def dtype_of(model: Model) -> torch.dtype | None:
    """The number format of a model whose rows may share keys and values; ``None`` where its attention needs more.

    A model must come from transformers and see all earlier tokens in every layer, by a mask that it is given and
    positions that do not depend on the length of the text.
    """
    config = getattr(model, "config", None)
    if not isinstance(config, PreTrainedConfig):
        return None
    config = config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    unfit = (
        config._attn_implementation not in MASKED  # transformers has no other name for it
        or getattr(config, "is_encoder_decoder", False)
        or getattr(config, "sliding_window", None) is not None
        or not kinds <= {"full_attention"}
        or any(each.get("rope_type") in ("dynamic", "longrope") for each in _ropes(config))
    )
    return None if unfit else getattr(model, "dtype", None)


def border_of(model: Model) -> int | None:
    """Tokens of a batch's longest row beyond which a model reads all of its rows otherwise; ``None`` where it does not.

    With rotary embeddings of the kind ``longrope`` the frequencies follow the longest row, so that a longer neighbour
    changes what is said to a short prompt. Those of the kind ``dynamic`` do so beyond the model's context alone.
    """
    config = getattr(model, "config", None)
    if not isinstance(config, PreTrainedConfig):
        return None
    config = config.get_text_config()
    borders = [
        int(each.get("original_max_position_embeddings") or config.max_position_embeddings)
        for each in _ropes(config)
        if each.get("rope_type") == "longrope"
    ]
    return min(borders, default=None)


def _ropes(config: PreTrainedConfig) -> list[dict[str, Any]]:
    """The settings of a model's rotary embeddings; some have their own for each kind of layer."""
    rope = getattr(config, "rope_parameters", None) or {}
    return [each for each in (rope, *rope.values()) if isinstance(each, dict)]


def split_batches(
    places: Sequence[int], *, lengths: Sequence[int], most: int, border: int | None
) -> Iterator[list[int]]:
    """The places in their order, at most so many at once, and those of rows beyond the border each by itself.

    Args:
        places: Which rows, by their place.
        lengths: Tokens of every row, by its place.
        most: Rows of a lot, from 1.
        border: As :func:`border_of` gives it.
    """
    alone = [place for place in places if border is not None and lengths[place] > border]
    yield from ([place] for place in alone)  # the longest first, so that too little memory shows at once
    rest = [place for place in places if border is None or lengths[place] <= border]
    for start in range(0, len(rest), most):
        yield rest[start : start + most]


def supports_prefix_sharing(model: Model, prompt: Sequence[int], *, pad_id: int, dtype: torch.dtype) -> bool:
    """Whether the model says the same after a shared beginning as after the whole, on a few of a prompt's tokens.

    What a model's code makes of masks and positions cannot be read from its configuration; four small forward passes
    show it.
    """
    return same_continuation(model, prompt, lambda probe: _sharing(model, probe, pad_id=pad_id, dtype=dtype))


def supports_padding(model: Model, prompt: Sequence[int], *, pad_id: int) -> bool:
    """Whether the model says the same in a padded batch with a cache as without, on a few of a prompt's tokens.

    Models whose memory is no cache of keys and values do not: they would go on from the last token alone.
    """
    return same_continuation(model, prompt, lambda probe: _padding(model, probe, pad_id=pad_id))


@torch.inference_mode()
def same_continuation(model: Model, prompt: Sequence[int], trial: Callable[[list[int]], Found]) -> bool:
    """Whether a trial ends with the logits that the model itself gives for a few of a prompt's tokens.

    Args:
        model: Any language model.
        prompt: Tokens to try with.
        trial: Gets eight tokens; (places among them, logits of what follows each), or an error of the model's code.
    """
    probe = list((tuple(prompt) * 4)[:8] if len(prompt) < 8 else tuple(prompt[:8]))
    device = getattr(model, "device", None)
    try:
        whole = model(
            input_ids=torch.tensor([probe], device=device),
            attention_mask=torch.ones(1, len(probe), dtype=torch.long, device=device),
            use_cache=False,
        ).logits[0]
        places, found = trial(probe)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, MemoryError) as error:
        if short_of_memory(error):
            raise
        return False  # a model that cannot take such a mask or cache
    expected = whole[places].float()
    bound = max(OFF, ROUNDED * torch.finfo(whole.dtype).eps) * expected.abs().max()
    return bool(((found.float() - expected).abs() <= bound).all())


def _sharing(model: Model, probe: list[int], *, pad_id: int, dtype: torch.dtype) -> Found:
    size = len(probe)
    turn = probe[size - 3]
    # what lies between the nodes of the probe and must not be seen by them; not the padding, whose vector may be zero
    tree = Tree((*probe[: size - 3], *[turn - 1 if turn > 1 else turn + 1] * 3))
    tree.add(tuple(probe[: size - 1]))
    path = tree.path(tree.ends[tuple(probe[: size - 1])])
    prefix_forward = PrefixForward(model, [tree], pad_id=pad_id, dtype=dtype)
    slots = Slots(dtype=dtype)
    slots.admit(prefix_forward, [(0, path[-1]), (0, path[size - 4])], sharing=True)
    slots.admit(prefix_forward, [(0, path[-1])], sharing=False)
    places = [size - 1, size - 3, size - 1, size - 2]  # three rows' first step, and the second row's next
    first = slots.advance(model, [probe[place] for place in places[:3]])
    second = slots.advance(model, [pad_id, probe[size - 2], pad_id])
    if not slots.heeded:
        raise ValueError("the model has an attention of its own, which takes pages for rows")
    return places, torch.cat([first, second[1:2]])


def _padding(model: Model, probe: list[int], *, pad_id: int) -> Found:
    device, cache = getattr(model, "device", None), DynamicCache()
    ids = [probe[:6], [pad_id] * 2 + probe[:4]]
    seen = torch.tensor([[1] * 6, [0] * 2 + [1] * 4], device=device)
    logits = []
    for following in ([probe[6], probe[4]], None):
        positions = (seen.cumsum(-1) - 1).clamp(min=0)[:, -len(ids[0]) :]
        said = model(
            input_ids=torch.tensor(ids, device=device), attention_mask=seen, position_ids=positions,
            past_key_values=cache, use_cache=True, logits_to_keep=1,
        ).logits  # fmt: skip
        logits.append(said[:, -1])
        if following is not None:
            ids = [[token] for token in following]
            seen = torch.cat([seen, torch.ones_like(seen[:, :1])], dim=-1)
    return [5, 3, 6, 4], torch.cat(logits)
