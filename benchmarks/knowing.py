"""Small models that know the benchmark's texts: trained from scratch, seeded, and kept by a hash of their recipe."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
import yaml
from common import Asked, codec_of
from transformers import AutoModelForCausalLM, PhiConfig

from meow_lightning.data.collate import collate
from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.models.tiny import llama, tokenizer_from
from meow_lightning.types import Encoded

ROOT = Path(__file__).parents[1]
VOCABULARY = 2048
TRAINING: dict[str, Any] = {
    "global_batch_size": 8, "warmup": 10, "betas": (0.9, 0.95), "max_grad_norm": 1.0, "seed": 0,
}  # fmt: skip
RATES = {"tiny": 3e-3, "phi": 3e-3, "wide": 1e-3}
STEPS = {"tiny": 250, "phi": 250, "wide": 80}
NAMES = tuple(RATES)


def sizes(name: str) -> dict[str, int]:
    """Width, depth, heads, width of the feed-forward part and context of one of the models."""
    tiny = yaml.safe_load((ROOT / "conf" / "model" / "tiny.yaml").read_text(encoding="utf-8"))["architecture"]
    del tiny["_target_"]
    if name == "phi":  # four times the width, as in Phi-1.5; it has two such matrices where a Llama has three
        return {**tiny, "intermediate_size": 4 * tiny["hidden_size"]}
    if name == "wide":
        return {**tiny, "hidden_size": 512, "layers": 4, "heads": 8, "intermediate_size": 1536}
    return dict(tiny)


def knowing(name: str, facts: Sequence[Asked], *, words: Sequence[Asked], steps: int, folder: Path) -> Path:
    """The folder of a model that has learned the true answers, made now where it is not there yet.

    Args:
        name: One of :data:`NAMES`.
        facts: What it learns.
        words: What its tokenizer learns.
        steps: Batches that it is trained on.
        folder: Where such models are kept.
    """
    recipe = {"name": name, "sizes": sizes(name), "rate": RATES[name], "steps": steps, "facts": facts, "words": words}
    key = hashlib.sha256(json.dumps([recipe, TRAINING, VOCABULARY, torch.__version__]).encode()).hexdigest()
    done = folder / f"{name}-{key[:12]}"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            tokenizer = tokenizer_from([f"{q} {answer}" for q, all_ in words for answer in all_], vocab_size=VOCABULARY)
            model = _build(name, tokenizer)
            codec = codec_of(tokenizer, context=sizes(name)["context"], end_ids=frozenset())
            _train(model, codec, facts, rate=RATES[name], steps=steps)
            made = Path(unfinished) / "model"
            model.save_pretrained(made)
            tokenizer.save_pretrained(made)
            made.rename(done)  # whole or not at all
    return done


def known(model: Any, codec: PromptEncoder, facts: Sequence[Asked]) -> float:
    """The share of true answers that the model says word for word, their end included."""
    count = 0
    for question, answers in facts:
        row = codec.encode(question, answers[0])
        with torch.inference_mode():
            said = model(input_ids=torch.tensor([row.ids])).logits[0, row.prompt - 1 : -1].argmax(-1)
        count += said.tolist() == list(row.ids[row.prompt :])
    return count / len(facts)


def _build(name: str, tokenizer: Any) -> Any:
    size = sizes(name)
    torch.manual_seed(TRAINING["seed"])
    if name != "phi":
        return llama(
            vocab_size=len(tokenizer), end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id, **size
        )  # fmt: skip
    config = PhiConfig(
        vocab_size=len(tokenizer), hidden_size=size["hidden_size"], num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"], intermediate_size=size["intermediate_size"],
        max_position_embeddings=size["context"], bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},  # as in Phi-1.5
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config)


def _train(model: Any, codec: PromptEncoder, facts: Sequence[Asked], *, rate: float, steps: int) -> None:
    rows = [codec.encode(question, answers[0]) for question, answers in facts]
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=TRAINING["betas"], weight_decay=0.0)
    rng = Random(TRAINING["seed"])
    waiting: list[Encoded] = []
    for step in range(steps):
        if not waiting:
            waiting = rng.sample(rows, len(rows))
        batch = collate(waiting[: TRAINING["global_batch_size"]], pad_id=codec.pad_id)
        del waiting[: TRAINING["global_batch_size"]]
        for group in optimizer.param_groups:
            group["lr"] = rate * min((step + 1) / TRAINING["warmup"], (steps - step) / steps)
        labels = batch.input_ids_BT.masked_fill(batch.loss_mask_BT == 0, -100)
        model(input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), TRAINING["max_grad_norm"])
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
