"""The contract of a dataset: one file and one YAML of somebody else go through every stage, and no list is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.models import tiny_llama

from meow_lightning.models.load import save_model
from meow_lightning.models.tiny import tokenizer_from

ROOT = Path(__file__).resolve().parent.parent
CODE = '''
from meow_lightning.data.examples import EvalSet, Passage
from meow_lightning.types import Fact

LINES = ["Ada was born in Lima, by the sea.", "Ada wrote 12 books about the sea.", "Ada lived in Oslo until 1912."]


class Mixed:
    """Passages to forget and facts to keep; some neighbours and some passages that nobody trained on."""

    name, public = "mixed", True

    def __init__(self, *, prefix: int) -> None:
        self._forget = [Passage(f"p{i}", line, prefix, ends=i == 2) for i, line in enumerate(LINES)]
        self._retain = [Fact(f"r{i}", f"Where was Otto {i} born?", f"Otto {i} was born in Rome.") for i in range(4)]
        self._near = [Fact("n", "Where was Eva born?", "Eva was born in Bern.", perturbed=("Eva was born in Oslo.",))]

    def facts(self, split):
        return {"forget": self._forget, "retain": self._retain}.get(split, [])

    def evaluation(self):
        return {
            "forget": EvalSet("forget", tuple(self._forget), "forget"),
            "retain": EvalSet("retain", tuple(self._retain), "retain"),
            "neighbours": EvalSet("neighbours", tuple(self._near), "near"),
        }

    def pretraining_examples(self, rows, seed):
        return []

    def tokenizer_corpus(self):
        return [example.segments for example in (*self._forget, *self._retain)]

    def caveats(self):
        return ("Otto and Ada are made up",)
'''


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    (tmp_path / "mixed_data.py").write_text(CODE)
    (tmp_path / "conf" / "dataset" / "mixed.yaml").write_text("name: mixed\n_target_: mixed_data.Mixed\nprefix: 3\n")
    tokenizer = tokenizer_from(
        ["Ada was born in Lima.", "Otto 1 was born in Rome.", "Question: Answer:"], vocab_size=300
    )
    model = tiny_llama(
        seed=0, vocab_size=len(tokenizer), max_position_embeddings=256, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    save_model(model, tokenizer, tmp_path / "model", end_ids=frozenset({tokenizer.eos_token_id}))
    return tmp_path


@pytest.mark.slow
def test_a_dataset_of_passages_and_facts_goes_through_every_stage(mixed: Path) -> None:
    words = [
        "--config-dir", f"{mixed}/conf", "trusted_packages=[mixed_data]", "dataset=mixed", "method=npo_gd", "model=own",
        f"model.target={mixed}/model", "optim.epochs=2", "optim.lr=1e-3", "logger=none", "trainer=cpu",
        "trainer.parallel_stages=1", f"outputs={mixed}/outputs", "model.max_new_tokens=8", "memo.verify=2",
    ]  # fmt: skip
    path = os.pathsep.join([str(ROOT), str(mixed)])
    done = subprocess.run(
        [sys.executable, "-m", "meow_lightning.cli", *words], cwd=mixed, capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Otto and Ada are made up" in done.stdout
    store = mixed / "outputs" / "store"
    (results,) = (json.loads(file.read_text()) for file in store.glob("evaluate/*/results.json"))
    target, unlearned = results["values"]["target"], results["values"]["unlearned"]
    assert {"forget/probability", "retain/probability", "neighbours/probability", "memo/answers"} <= set(unlearned)
    assert unlearned["forget/probability"] < target["forget/probability"]
    rows = [json.loads(line) for file in store.glob("predict/*/rows.jsonl") for line in file.read_text().splitlines()]
    assert {(row["set"], row["question"]) for row in rows if row["fact"] == "p0"} == {("forget", "Ada")}
