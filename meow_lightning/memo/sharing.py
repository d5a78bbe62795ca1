"""Which models can share what prompts have in common: by what their configuration says, and by a trial."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedConfig

from meow_lightning.memo.cache import Slots
from meow_lightning.memo.grove import Grove, Model
from meow_lightning.memo.tree import Tree

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
    rope = getattr(config, "rope_parameters", None) or {}
    unfit = (
        config._attn_implementation not in MASKED  # transformers has no other name for it
        or getattr(config, "is_encoder_decoder", False)
        or getattr(config, "sliding_window", None) is not None
        or not kinds <= {"full_attention"}
        or rope.get("rope_type") in ("dynamic", "longrope")
    )
    return None if unfit else getattr(model, "dtype", None)


@torch.inference_mode()
def agrees(model: Model, prompt: Sequence[int], *, pad_id: int, dtype: torch.dtype) -> bool:
    """Whether the model says the same after a shared beginning as after the whole, on a few of a prompt's tokens.

    What a model's code makes of masks and positions cannot be read from its configuration; four small forward passes
    show it.
    """
    probe = (tuple(prompt) * 4)[:8] if len(prompt) < 8 else tuple(prompt[:8])
    size = len(probe)
    turn = probe[size - 3]
    # what lies between the nodes of the probe and must not be seen by them; not the padding, whose vector may be zero
    tree = Tree((*probe[: size - 3], *[turn - 1 if turn > 1 else turn + 1] * 3))
    tree.add(probe[: size - 1])
    slots = Slots(dtype=dtype)
    places = [size - 1, size - 3, size - 1, size - 2]  # three rows' first step, and the second row's next
    try:
        whole = model(
            input_ids=torch.tensor([probe], device=getattr(model, "device", None)),
            attention_mask=torch.ones(1, size, dtype=torch.long, device=getattr(model, "device", None)),
            use_cache=False,
        ).logits[0]
        path = tree.path(tree.ends[probe[: size - 1]])
        grove = Grove(model, [tree], pad_id=pad_id, dtype=dtype)
        slots.admit(grove, [(0, path[-1]), (0, path[size - 4])], sharing=True)
        slots.admit(grove, [(0, path[-1])], sharing=False)
        first = slots.advance(model, [probe[place] for place in places[:3]])
        second = slots.advance(model, [pad_id, probe[size - 2], pad_id])
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return False  # a model that cannot take such a mask or cache: the plain way is always right
    shared, expected = torch.cat([first, second[1:2]]), whole[places].float()
    bound = 10 * torch.finfo(dtype).eps ** 0.5 * expected.abs().max()
    return bool(((shared.float() - expected).abs() <= bound).all())
