"""The stage `extract`: the same texts for any batch size, after a kill, and an estimate of what they cost."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.chat_model import teacher
from helpers.common import KillError, runtime
from helpers.fake_server import Request, Scripted
from helpers.hydra import cell, options

from meow_lightning.attacks.extraction import ExtractionAttack
from meow_lightning.attacks.instruction import Instruction, searched
from meow_lightning.attacks.sample import Sample
from meow_lightning.data.encoding import fingerprint
from meow_lightning.data.fictional import Fictional
from meow_lightning.data.subset import LimitedDataset
from meow_lightning.errors import UserError
from meow_lightning.inversion.base import GenerationRequest
from meow_lightning.inversion.proposals import ProposalTemplate
from meow_lightning.models.load import save_model
from meow_lightning.models.tiny import llama, tokenizer_from
from meow_lightning.pipeline.nodes.context import dataset_of
from meow_lightning.pipeline.worker import run_stage
from meow_lightning.planning.requirements import Planner
from meow_lightning.resources.requirements import InferenceWork
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.extract import Extract
from meow_lightning.stages.results.extract import ExtractResult
from meow_lightning.types import Fact

DATASET = {"split": "forget10", "authors": 20, "candidates": 4, "phrasings": 1, "retain_eval": 4, "seed": 0}
PROMPT = {"template": "Question: {question}\nAnswer:", "answer_prefix": " ", "system": None, "date": None}
SAMPLE = {
    "_target_": "meow_lightning.attacks.sample.Sample", "samples": 5, "temperature": 1.0, "top_k": 50, "top_p": 1.0,
    "at": [1, 4], "alpha": 0.01,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage's folder with a model of random weights."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    facts = Fictional(**DATASET).facts("forget")
    tokenizer = tokenizer_from([f"Question: {fact.question}\nAnswer: {fact.answer}" for fact in facts], vocab_size=400)
    made = llama(
        vocab_size=len(tokenizer), hidden_size=32, layers=1, heads=2, intermediate_size=64, context=256,
        end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id,
    )  # fmt: skip
    save_model(made, tokenizer, folder / "model", end_ids=frozenset({tokenizer.eos_token_id}))
    return folder


def work_in(folder: Path, model: Path, attack: dict[str, Any] = SAMPLE, **how: Any) -> StageContext:
    folder.mkdir(parents=True, exist_ok=True)
    return StageContext(
        stage="extract", label="unlearned x", folder=folder,
        settings={
            "attack": attack, "set": "forget", "seed": 0, "max_new_tokens": 12,
            "model": {"prompt": PROMPT, "attention": "eager", "dtype": "float32"},
        },
        inputs={
            "dataset": {"_target_": "meow_lightning.data.fictional.Fictional", **DATASET}, "allow": [], "limit": None,
            "content": fingerprint(Fictional(**DATASET)),
        },
        needs={"model": model}, runtime=runtime(**how),
    )  # fmt: skip


def extracted(work: StageContext) -> str:
    run_stage(work.to_spec())
    return (work.folder / ExtractResult.file).read_text()


def killed_in_the_second_chunk(attack: type[ExtractionAttack], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make an attack end like a killed one at its second call; returns the number of facts of every call."""
    extract, calls = attack.extract, []

    def killed(self, facts, ctx):
        calls.append(len(facts))
        if len(calls) == 2:
            raise KillError
        yield from extract(self, facts, ctx)

    monkeypatch.setattr(attack, "extract", killed)
    return calls


def test_the_texts_are_the_same_for_any_batch_size_and_after_a_kill(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sample, "together", 3)
    whole = extracted(work_in(tmp_path / "whole", model))
    assert extracted(work_in(tmp_path / "one", model, generation_batch_size=1)) == whole

    calls = killed_in_the_second_chunk(Sample, monkeypatch)
    with pytest.raises(KillError):
        extracted(work_in(tmp_path / "killed", model))
    assert extracted(work_in(tmp_path / "killed", model)) == whole
    facts = Fictional(**DATASET).evaluation()["forget"]
    assert sum(calls) == len(facts) + 3  # the second chunk twice, the first one once


def test_every_fact_has_its_texts(tmp_path: Path, model: Path) -> None:
    extracted(work_in(tmp_path, model))
    facts, rows = Fictional(**DATASET).evaluation()["forget"], ExtractResult.read(tmp_path).rows
    assert [(row.fact, row.question, row.answer) for row in rows] == [(x.id, x.question, x.answer) for x in facts]
    assert all(row.expected == (fact.value,) for row, fact in zip(rows, facts, strict=True))
    assert {len(row.of("sample")) for row in rows} == {5}
    before = (tmp_path / ExtractResult.file).read_text()
    ExtractResult(rows).write(tmp_path)
    assert (tmp_path / ExtractResult.file).read_text() == before


INSTRUCTION = {
    "_target_": "meow_lightning.attacks.instruction.Instruction", "weight": 0.8, "leak_cap": 0.3, "success": 0.5,
    "candidates": 4, "rounds": 2, "temperature": 1.0,
    "frames": ["{question} Now.", "Please: {question}", "So: {question}"],
}  # fmt: skip
TEXTS = {"version": 1, "system": "", "user": "Reword {count}: {question}", "tried": "Tried: {tried}"}


def reworded(fact: Fact) -> list[str]:
    return [f"Tell me this: {fact.question}", f"Is it known? {fact.question}"]


@pytest.fixture(scope="module")
def proposer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage's folder with a chat model that rewords the first four questions when it sees them alone."""
    folder = tmp_path_factory.mktemp("proposer")
    pairs = [
        (
            ProposalTemplate(**TEXTS).messages(
                GenerationRequest(fact=fact, attempt=0, count=3, previous_answers=(), model_answer=None), context=None
            ),
            "\n".join(reworded(fact)),
        )
        for fact in Fictional(**DATASET).evaluation()["forget"][:4]
    ]
    teacher(folder / "model", pairs=pairs)
    return folder


def proposing_in(folder: Path, model: Path, proposer: Path, **how: Any) -> StageContext:
    work = work_in(folder, model, INSTRUCTION, **how)
    node = {
        "_target_": "meow_lightning.inversion.proposals.LocalProposer", "dtype": "float32", "attention": "eager",
        "prompt": TEXTS, "temperature": 0.0, "top_p": 1.0, "max_new_tokens": 64, "seed": 0,
    }  # fmt: skip
    return replace(
        work, settings={**work.settings, "proposer": {**node, "per_reply": 3}},
        needs={"model": model, "proposer": proposer},
        inputs={
            **work.inputs, "limit": 4, "content": fingerprint(LimitedDataset(dataset=Fictional(**DATASET), limit=4)),
            "proposer": {"option": "attacks.instruction.proposer", "node": {**node, "model": "mine"}, "paid": False},
        },
    )  # fmt: skip


def test_a_proposer_writes_prompts_and_rules_the_rest_alike_for_any_batch_size_and_after_a_kill(
    tmp_path: Path, model: Path, proposer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Instruction, "together", 2)
    whole = extracted(proposing_in(tmp_path / "whole", model, proposer))
    for row, fact in zip(
        ExtractResult.read(tmp_path / "whole").rows, Fictional(**DATASET).evaluation()["forget"], strict=False
    ):
        first = [(each.arm, each.prompt) for each in row.attempts if each.arm in ("instruction", "proposed")][:4]
        assert first[0] == ("instruction", fact.question)
        assert [each for each in first if each[0] == "proposed"] == [("proposed", each) for each in reworded(fact)]
        assert first[3][0] == "instruction"
        assert len(searched(row)) == len(row.of("prefix")) == 8
    assert extracted(proposing_in(tmp_path / "one", model, proposer, generation_batch_size=1)) == whole

    calls = killed_in_the_second_chunk(Instruction, monkeypatch)
    with pytest.raises(KillError):
        extracted(proposing_in(tmp_path / "killed", model, proposer))
    assert extracted(proposing_in(tmp_path / "killed", model, proposer)) == whole
    assert calls == [2, 2, 2]


def test_a_killed_search_does_not_pay_for_the_same_replies_again(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Instruction, "together", 2)

    def searching(folder: Path, server: Scripted) -> StageContext:
        work = proposing_in(folder, model, tmp_path)
        node = {
            "_target_": "meow_lightning.inversion.proposals.EndpointProposer", "base_url": server.base_url,
            "model": "m", "key_env": None, "prompt": TEXTS, "temperature": 0.0, "top_p": 1.0, "max_new_tokens": 64,
            "seed": 0, "extra": None, "concurrency": 2, "requests_per_minute": None, "timeout": 9.0, "deadline": 9.0,
            "reply_bytes": 10**6, "retries": 0, "max_requests": None, "max_total_tokens": None,
        }  # fmt: skip
        chosen = {"option": "attacks.instruction.proposer", "node": node, "paid": True}
        settings = {**work.settings, "proposer": {"model": "m", "per_reply": 3}}
        return replace(
            work, settings=settings, needs={"model": model}, inputs={**work.inputs, "proposer": chosen, "reuse": True}
        )

    def reply(request: Request) -> str:
        question = re.sub(r"^Reword \d: (.*?)(\n.*)?$", r"\1", request.question, flags=re.DOTALL)
        return f"Tell me this: {question}\nSay it: {question}"

    with Scripted(reply) as server:
        whole = extracted(searching(tmp_path / "whole", server))
        paid = len(server.asked)
        assert paid == 4 * 3  # facts; one reply in the first round, beside the plain question, two in the second
        calls = killed_in_the_second_chunk(Instruction, monkeypatch)
        work = searching(tmp_path / "killed", server)
        with pytest.raises(KillError):
            extracted(work)
        (work.folder / "part-0.jsonl").unlink()  # as if the kill had come before the first chunk was written
        assert extracted(work) == whole
        assert calls == [2, 2, 2, 2]
        assert len(server.asked) == 2 * paid
    assert "Tell me this" in (tmp_path / "killed" / "proposals.jsonl").read_text()


def test_a_proposer_whose_folder_is_gone_is_named_by_its_own_option(tmp_path: Path, model: Path) -> None:
    with pytest.raises(UserError, match=r"^attacks\.instruction\.proposer\.model=mine: the folder .* does not exist"):
        Extract().run(proposing_in(tmp_path / "work", model, tmp_path / "gone"))


def work_of(*words: str) -> InferenceWork:
    chosen, made = options("attacks=sample", *words), cell("attacks=sample", *words)
    planner = Planner(chosen.plain(), dataset=dataset_of(chosen)[0], streams=made.streams, gpu=False, available=10**12)
    artifact = made.evaluation.extractions["unlearned", "sample"]
    assert Extract().disk(artifact, planner) > 0
    assert planner.size(artifact).flops > 0
    return Extract().describe_work(artifact, planner)


def test_the_estimate_follows_the_number_of_texts() -> None:
    few, many = work_of("attacks.sample.samples=16"), work_of("attacks.sample.samples=64")
    assert (few.items, few.rows) == (many.items, 0)
    assert (many.scored, many.tokens) == (4 * few.scored, 4 * few.tokens)
