"""A run on the facts that a model knows, with a random model and made-up answers."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.models import tiny_llama
from meow_lightning.data.probed import ProbedAnswer
from meow_lightning.models.load import save_model
from meow_lightning.models.tiny import tokenizer_from
from meow_lightning.pipeline.graph import RunGraph
from meow_lightning.stages.results.probe import ProbeResult
from meow_lightning.store.store import Store

CITIES = ("Lima", "Rome", "Oslo", "Bern", "Cairo", "Quito")
KNOWN = 4


def known_words(folder: Path) -> tuple[str, ...]:
    """Write a model and questions with wrong answers; return the words of a run that forgets two facts."""
    tokenizer = tokenizer_from(["Ada was born in Lima.", "Question: Answer:"], vocab_size=300)
    model = tiny_llama(
        seed=0, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    save_model(model, tokenizer, folder / "model", end_ids=frozenset({tokenizer.eos_token_id}))
    rows = [
        {"question": f"Where was author {number} born?", "answer": city, "perturbed": ["Paris", "Madrid"]}
        for number, city in enumerate(CITIES)
    ]
    (folder / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return (
        "dataset=known", f"dataset.questions={folder}/facts.jsonl", "dataset.forget_count=2",
        "dataset.keep_at_least=1", "model=own", f"model.target={folder}/model", f"outputs={folder}/outputs",
    )  # fmt: skip


def answer(made: RunGraph, outputs: Path, *, known: int = KNOWN) -> None:
    """Store the answers of a model that knows the first facts."""
    store, probe = Store(root=outputs / "store", cache="use"), made.probe
    assert probe is not None
    lock = store.lock(probe)
    assert lock is not None
    texts = [f"In {city if number < known else 'Atlantis'}." for number, city in enumerate(CITIES)]
    answers = [ProbedAnswer(f"questions/{n:04d}", text, text, None) for n, text in enumerate(texts, start=1)]
    ProbeResult({each.fact: each for each in answers}).write(store.begin(probe))
    store.finish(probe, {"seconds": 1.0})
    lock.release()
