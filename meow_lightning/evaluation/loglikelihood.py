"""Per-token log-likelihoods of given answers: one forward pass serves every metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from meow_lightning.data.collate import collate, collate_without_targets
from meow_lightning.generation.batching import NO_NUMBERS
from meow_lightning.generation.capabilities import batch_length_limit, split_batches
from meow_lightning.generation.packed import hidden_states, is_worthwhile, pack, supports_packing, width
from meow_lightning.models.logprobs import scored_logits
from meow_lightning.types import Encoded, Likelihood, NotFiniteError

BLOCK = {"cpu": 2**17, "cuda": 2**26}  # logits per block: fits a core's cache; fills a GPU
LEAST = 16  # fewest positions per block, for large vocabularies
PART = 64  # divides the vocabulary size of most models
Blocks = Iterator[torch.Tensor]  # logits of consecutive scored positions, block by block


@torch.inference_mode()
def loglikelihoods(
    model: torch.nn.Module,
    rows: Sequence[Encoded],
    *,
    pad_id: int,
    batch: int,
    progress: Callable[[int], None] | None,
    mask_pad_ids: bool = False,
) -> Iterator[tuple[int, Likelihood]]:
    """Yield each row's index and the likelihood of its scored tokens, longest rows first.

    Log-probabilities are z - logsumexp(z) in fp32. Mean and standard deviation are those of log p(v) with v drawn from
    the model's own p, as Min-K%++ takes them (Zhang et al. 2025).

    Args:
        model: A causal language model in evaluation mode.
        rows: Prompt and answer as tokens.
        pad_id: Token id of padding.
        batch: Rows per forward pass.
        progress: Called with the number of rows finished.
        mask_pad_ids: Mask every token equal to the padding token in attention, like published code that detects
            padding by id; position ids still count these tokens.

    Raises:
        NotFiniteError: A log-probability is NaN, for example because weights or logits are NaN or infinite.
    """
    device = next(model.parameters()).device
    hidden = width(model) if rows and not mask_pad_ids and supports_packing(model, rows[0].ids) else None
    done = 0
    for chosen in _batches(rows, batch, hidden=hidden, border=batch_length_limit(model)):
        order = [i for group in chosen for i in group]
        if hidden is not None:
            blocks = _packed(model, [[rows[i] for i in group] for group in chosen])
        else:
            padded = collate([rows[i] for i in order], pad_id=pad_id)
            if mask_pad_ids:
                padded = collate_without_targets(padded, pad_id=pad_id)
            padded = type(padded)(*(tensor.to(device) for tensor in padded))
            blocks = _cut(scored_logits(model, padded)[0])
        ids = [token for i in order for token in rows[i].ids[rows[i].prompt :]]
        picked, hits, mean, std = _measured(blocks, torch.tensor(ids, device=device))
        if any(map(math.isnan, picked)):
            raise NotFiniteError(NO_NUMBERS)
        at = 0
        for i in order:
            own = rows[i].ids[rows[i].prompt :]
            span = slice(at, at + len(own))
            at = span.stop
            yield i, Likelihood(ids=own, logps=picked[span], hits=hits[span], mean=mean[span], std=std[span])
        done += len(order)
        if progress is not None:
            progress(done)


def _batches(
    rows: Sequence[Encoded], batch: int, *, hidden: int | None, border: int | None
) -> Iterator[list[list[int]]]:
    """Batches of groups of row numbers, at most ``batch`` rows each; the rows of a group share their prompt.

    If the hidden size is unknown, every row is a group of its own. A row beyond ``border`` is alone.
    """
    if border is not None:
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i].ids))
        for lot in split_batches(order, lengths=[len(row.ids) for row in rows], most=batch, border=border):
            yield [[i] for i in lot]
        return
    alike: dict[Any, list[int]] = {}
    for i, row in enumerate(rows):
        alike.setdefault(i if hidden is None else row.ids[: row.prompt], []).append(i)
    groups: list[list[int]] = []
    for members in alike.values():
        for start in range(0, len(members), batch):
            lot = members[start : start + batch]
            together = hidden is not None and len(lot) > 1 and is_worthwhile([rows[i] for i in lot], hidden=hidden)
            groups += [lot] if together else [[i] for i in lot]
    # longest first, so that a lack of memory shows at once
    groups.sort(key=lambda group: -max(len(rows[i].ids) for i in group))
    chosen: list[list[int]] = []
    for group in groups:
        if chosen and sum(map(len, chosen)) + len(group) > batch:
            yield chosen
            chosen = []
        chosen.append(group)
    if chosen:
        yield chosen


def _packed(model: Any, groups: Sequence[Sequence[Encoded]]) -> Blocks:
    """Logits of a packed batch; the head runs only at scored positions, block by block."""
    states_NH = hidden_states(model, pack(groups, device=model.device))  # noqa: N806
    head = model.get_output_embeddings()
    for states in states_NH.split(_size(states_NH, len(head.weight))):
        yield head(states)


def _cut(logits_NV: torch.Tensor) -> Blocks:  # noqa: N803
    yield from logits_NV.split(_size(logits_NV, logits_NV.shape[1]))


def _size(states: torch.Tensor, vocabulary: int) -> int:
    return max(LEAST, BLOCK.get(states.device.type, BLOCK["cuda"]) // vocabulary)


def _measured(blocks: Blocks, ids_N: torch.Tensor) -> list[list[Any]]:  # noqa: N803
    """Log-probability, hit, mean and standard deviation of every scored token."""
    found = []
    at = 0
    for block_NV in blocks:  # noqa: N806
        logits_NV = block_NV.to(torch.promote_types(block_NV.dtype, torch.float32))  # noqa: N806
        ids = ids_N[at : at + len(logits_NV)]
        at += len(ids)
        logps_NV = logits_NV.log_softmax(-1)  # noqa: N806
        logps = logps_NV.gather(-1, ids[:, None]).squeeze(-1)
        p_NV = logits_NV.softmax(-1)  # noqa: N806
        logps_NV.clamp_(min=-200)  # below -200, p is 0 in fp32, and 0 * inf would be NaN
        mean = torch.linalg.vecdot(p_NV, logps_NV)
        variance = torch.linalg.vecdot(p_NV, logps_NV.sub_(mean[:, None]).square_())
        found.append((logps, (_choice(logits_NV) == ids).int(), mean, variance.sqrt()))
    return [torch.cat(each).tolist() for each in zip(*found, strict=True)]


def _choice(logits_NV: torch.Tensor) -> torch.Tensor:  # noqa: N803
    """Argmax token of every position; the first one on ties."""
    if logits_NV.shape[1] % PART:
        return logits_NV.argmax(-1)
    # max is several times faster than argmax, so take the argmax within one part only
    parts_NPV = logits_NV.unflatten(-1, (-1, PART))  # noqa: N806
    part_N = parts_NPV.amax(-1).argmax(-1)  # noqa: N806
    inner_N = parts_NPV[torch.arange(len(part_N), device=part_N.device), part_N].argmax(-1)  # noqa: N806
    return part_N * PART + inner_N
