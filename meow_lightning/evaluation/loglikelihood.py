"""Per-token log-likelihoods of given answers: one forward pass serves every metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from meow_lightning.data.collate import collate, collate_without_targets, to_device
from meow_lightning.errors import NotFiniteError
from meow_lightning.generation.batching import NO_NUMBERS
from meow_lightning.generation.capabilities import batch_length_limit, split_batches
from meow_lightning.generation.packed import hidden_states, is_worthwhile, pack, supports_packing, width
from meow_lightning.models.logprobs import scored_blocks
from meow_lightning.types import Encoded, Likelihood

BLOCK = {"cpu": 2**17, "cuda": 2**26}  # logits per block: fits a core's cache; fills a GPU
MIN_POSITIONS = 16  # per block, for large vocabularies
CHUNK = 64  # divides the vocabulary size of most models
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
    the model's own p, as Min-K%++ uses them (Zhang et al. 2025).

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
    for groups in _batches(rows, batch, hidden=hidden, border=batch_length_limit(model)):
        order = [i for group in groups for i in group]
        if hidden is not None:
            blocks = _packed(model, [[rows[i] for i in group] for group in groups])
        else:
            padded = collate([rows[i] for i in order], pad_id=pad_id)
            if mask_pad_ids:
                padded = collate_without_targets(padded, pad_id=pad_id)
            blocks = scored_blocks(model, to_device(padded, device), size=_block_size)
        ids = [token for i in order for token in rows[i].ids[rows[i].prompt :]]
        logps, hits, mean, std = _statistics(blocks, torch.tensor(ids, device=device))
        if any(map(math.isnan, logps)):
            raise NotFiniteError(NO_NUMBERS)
        start = 0
        for i in order:
            answer_ids = rows[i].ids[rows[i].prompt :]
            span = slice(start, start + len(answer_ids))
            start = span.stop
            yield i, Likelihood(ids=answer_ids, logps=logps[span], hits=hits[span], mean=mean[span], std=std[span])
        done += len(order)
        if progress is not None:
            progress(done)


def _batches(
    rows: Sequence[Encoded], batch: int, *, hidden: int | None, border: int | None
) -> Iterator[list[list[int]]]:
    """Yield batches of groups of row numbers, at most ``batch`` rows each; the rows of a group share their prompt.

    Without packing (``hidden`` is ``None``), every row is a group of its own. Rows longer than ``border`` tokens are
    batched alone.
    """
    if border is not None:
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i].ids))
        for members in split_batches(order, lengths=[len(row.ids) for row in rows], most=batch, border=border):
            yield [[i] for i in members]
        return
    by_prompt: dict[Any, list[int]] = {}
    for i, row in enumerate(rows):
        by_prompt.setdefault(i if hidden is None else row.ids[: row.prompt], []).append(i)
    groups: list[list[int]] = []
    for same_prompt in by_prompt.values():
        for start in range(0, len(same_prompt), batch):
            group = same_prompt[start : start + batch]
            packed = hidden is not None and len(group) > 1 and is_worthwhile([rows[i] for i in group], hidden=hidden)
            groups += [group] if packed else [[i] for i in group]
    # longest first, so that running out of memory shows at once
    groups.sort(key=lambda group: -max(len(rows[i].ids) for i in group))
    pending: list[list[int]] = []
    for group in groups:
        if pending and sum(map(len, pending)) + len(group) > batch:
            yield pending
            pending = []
        pending.append(group)
    if pending:
        yield pending


def _packed(model: Any, groups: Sequence[Sequence[Encoded]]) -> Blocks:
    """Yield the logits of a packed batch; the head runs only at scored positions, block by block."""
    states_NH = hidden_states(model, pack(groups, device=model.device))  # noqa: N806
    head = model.get_output_embeddings()
    for states in states_NH.split(_block_size(states_NH, len(head.weight))):
        yield head(states)


def _block_size(states: torch.Tensor, vocabulary: int) -> int:
    return max(MIN_POSITIONS, BLOCK.get(states.device.type, BLOCK["cuda"]) // vocabulary)


def _statistics(blocks: Blocks, ids_N: torch.Tensor) -> list[list[Any]]:  # noqa: N803
    """Compute log-probability, hit, mean and standard deviation of every scored token."""
    per_block = []
    start = 0
    for block_NV in blocks:  # noqa: N806
        logits_NV = block_NV.to(torch.promote_types(block_NV.dtype, torch.float32))  # noqa: N806
        ids = ids_N[start : start + len(logits_NV)]
        start += len(ids)
        logps_NV = logits_NV.log_softmax(-1)  # noqa: N806
        logps = logps_NV.gather(-1, ids[:, None]).squeeze(-1)
        p_NV = logits_NV.softmax(-1)  # noqa: N806
        logps_NV.clamp_(min=-200)  # below -200, p is 0 in fp32, and 0 * inf would be NaN
        mean = torch.linalg.vecdot(p_NV, logps_NV)
        variance = torch.linalg.vecdot(p_NV, logps_NV.sub_(mean[:, None]).square_())
        per_block.append((logps, (_argmax(logits_NV) == ids).int(), mean, variance.sqrt()))
    return [torch.cat(tensors).tolist() for tensors in zip(*per_block, strict=True)]


def _argmax(logits_NV: torch.Tensor) -> torch.Tensor:  # noqa: N803
    """Find the argmax token of every position; the first one on ties."""
    if logits_NV.shape[1] % CHUNK:
        return logits_NV.argmax(-1)
    # max is several times faster than argmax, so take the argmax within one chunk only
    chunks_NCV = logits_NV.unflatten(-1, (-1, CHUNK))  # noqa: N806
    chunk_N = chunks_NCV.amax(-1).argmax(-1)  # noqa: N806
    inner_N = chunks_NCV[torch.arange(len(chunk_N), device=chunk_N.device), chunk_N].argmax(-1)  # noqa: N806
    return chunk_N * CHUNK + inner_N
