"""A chat model of a few thousand weights that has memorized its replies: a stand-in for a language model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from meow_lightning.models.load import save_model
from meow_lightning.models.tiny import END, llama, tokenizer_from

Messages = Sequence[dict[str, str]]

TURNS = ("<|system|>", "<|user|>", "<|assistant|>")
CHAT = (
    "{% for turn in messages %}{{ '<|' ~ turn.role ~ '|>' ~ turn.content ~ '" + END + "' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CONTEXT = 2048
SURE = 0.98  # least probability of every reply token: sampling at temperature 0.5 then hardly ever leaves the text
NOTHING = -100  # label that the loss ignores


def teacher(folder: Path, *, pairs: Sequence[tuple[Messages, str]], steps: int = 400) -> Path:
    """Train and save a chat model that answers each chat with its reply, word for word; return its folder.

    A Llama of two layers, its own tokenizer with a chat template (system, user and assistant turns, each closed by the
    end token) and greedy generation settings, as ``save_pretrained`` writes them. Eight chats of 250 words with replies
    of four lines take about five seconds on one core. The caller's random state is left unchanged.

    Args:
        folder: Target folder; created if it is missing.
        pairs: The messages of each chat, as ``Prompt.messages`` returns them, and its reply. Chats must differ in the
            words of their user turns.
        steps: Maximum passes over all pairs; training stops once every token has probability ``SURE``.

    Raises:
        RuntimeError: Some token is still less probable than that after the last step.
    """
    tokenizer = _tokenizer(pairs)
    chats = [_encoded(tokenizer, messages, reply) for messages, reply in pairs]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = llama(
            vocab_size=len(tokenizer), hidden_size=64, layers=2, heads=4, intermediate_size=128, context=CONTEXT,
            end_id=_end(tokenizer), pad_id=_pad(tokenizer),
        )  # fmt: skip
        _learn(model, chats, pad_id=_pad(tokenizer), steps=steps)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(model, tokenizer, folder, end_ids=frozenset({_end(tokenizer)}))
    return folder


def _tokenizer(pairs: Sequence[tuple[Messages, str]]) -> PreTrainedTokenizerBase:
    texts = [turn["content"] for messages, _ in pairs for turn in messages] + [reply for _, reply in pairs]
    tokenizer = tokenizer_from(texts, vocab_size=1500)
    tokenizer.add_special_tokens({"additional_special_tokens": list(TURNS)})
    tokenizer.chat_template = CHAT
    return tokenizer


def _encoded(tokenizer: PreTrainedTokenizerBase, messages: Messages, reply: str) -> tuple[list[int], int]:
    """Encode a chat with its reply; return the tokens and the length of the prompt."""
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    asked = list(tokenizer(str(text), add_special_tokens=False).input_ids)
    said = list(tokenizer(reply, add_special_tokens=False).input_ids)
    return [*asked, *said, _end(tokenizer)], len(asked)


def _learn(model: PreTrainedModel, chats: Sequence[tuple[list[int], int]], *, pad_id: int, steps: int) -> None:
    width = max(len(ids) for ids, _ in chats)
    input_ids_BT = torch.tensor([ids + [pad_id] * (width - len(ids)) for ids, _ in chats])  # noqa: N806
    seen_BT = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in chats])  # noqa: N806
    targets_BT = torch.tensor(  # noqa: N806
        [[NOTHING] * asked + ids[asked:] + [NOTHING] * (width - len(ids)) for ids, asked in chats]
    )
    first = min(asked for _, asked in chats) - 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    model.train()
    for step in range(steps):
        logits = model(input_ids=input_ids_BT, attention_mask=seen_BT, logits_to_keep=width - first).logits[:, :-1]
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), targets_BT[:, first + 1 :].flatten(), reduction="none"
        )
        if losses.max().exp() * SURE < 1:
            model.eval()
            return
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 20)
        optimizer.zero_grad()
        (losses.sum() / (targets_BT != NOTHING).sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    raise RuntimeError(f"not learned by heart after {steps} steps; give more")


def _end(tokenizer: PreTrainedTokenizerBase) -> int:
    return int(tokenizer.eos_token_id)  # type: ignore[arg-type]


def _pad(tokenizer: PreTrainedTokenizerBase) -> int:
    return int(tokenizer.pad_token_id)  # type: ignore[arg-type]
