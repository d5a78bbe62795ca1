"""How likely a model finds given answers, token by token: one forward pass feeds every metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from meow_lightning.data.collate import collate
from meow_lightning.losses import scored_logits
from meow_lightning.types import Encoded, Likelihood


@torch.inference_mode()
def likelihoods(
    model: torch.nn.Module,
    rows: Sequence[Encoded],
    *,
    pad_id: int,
    batch: int,
    progress: Callable[[int], None] | None,
    blind: bool = False,
) -> Iterator[tuple[int, Likelihood]]:
    """(index, likelihood of the scored tokens) of each row, longest rows first.

    Log-probabilities are z - logsumexp(z) in fp32. Mean and standard deviation are those of log p(v) with v drawn from
    the model's own p, as Min-K%++ takes them (Zhang et al. 2025).

    Args:
        model: A causal language model in evaluation mode.
        rows: Prompt and answer as tokens.
        pad_id: Token id of padding.
        batch: Rows per forward pass.
        progress: Told how many rows are done.
        blind: Hide every token that is also the padding token from attention, as published code does that finds padding
            by its id; positions are counted all the same.
    """
    device = next(model.parameters()).device
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i].ids))
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        padded = collate([rows[i] for i in chosen], pad_id=pad_id)
        if blind:
            padded = padded._replace(attention_BT=padded.attention_BT * (padded.ids_BT != pad_id))
        padded = type(padded)(*(tensor.to(device) for tensor in padded))
        logits_NV, ids_N = scored_logits(model, padded)  # noqa: N806
        logps_NV = logits_NV.log_softmax(-1)  # noqa: N806
        picked = logps_NV.gather(-1, ids_N[:, None]).squeeze(-1).tolist()
        hits = (logps_NV.argmax(-1) == ids_N).int().tolist()
        p_NV = logps_NV.exp()  # noqa: N806
        mean_N = -torch.special.entr(p_NV).sum(-1)  # noqa: N806
        # below -200 p is 0 in fp32, and 0 times an infinite distance would be no number
        std_N = p_NV.mul_(logps_NV.clamp(min=-200).sub_(mean_N[:, None]).square_()).sum(-1).sqrt()  # noqa: N806
        mean, std = mean_N.tolist(), std_N.tolist()
        at = 0
        for i in chosen:
            span = slice(at, at + rows[i].scored)
            at = span.stop
            ids = rows[i].ids[rows[i].prompt :]
            yield i, Likelihood(ids=ids, logps=picked[span], hits=hits[span], mean=mean[span], std=std[span])
        del logits_NV, logps_NV, p_NV  # the largest there is: not beside the next batch's
        if progress is not None:
            progress(start + len(chosen))
