"""The stage `slim`: the same rows for any batch size and after a kill, and a model that copies its passages."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.common import KillError, runtime
from helpers.hydra import cell, options
from helpers.planted import PROMPT as TEMPLATE
from helpers.planted import People, taught

from meow_lightning.data.encoding import fingerprint
from meow_lightning.data.examples import EvalSet
from meow_lightning.data.fictional import Fictional
from meow_lightning.data.subset import LimitedDataset
from meow_lightning.errors import UserError
from meow_lightning.evaluation.retrieval import Retriever, corpus_digest, corpus_of, with_passages
from meow_lightning.evaluation.slim import JudgeSettings, judge
from meow_lightning.models.load import save_model
from meow_lightning.models.tiny import llama, tokenizer_from
from meow_lightning.pipeline.nodes.context import dataset_of
from meow_lightning.pipeline.worker import run_stage
from meow_lightning.planning.requirements import Planner
from meow_lightning.resources.requirements import InferenceWork
from meow_lightning.stages import slim
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.slim import judged_questions
from meow_lightning.stages.results.slim import SlimResult
from meow_lightning.stages.slim import Slim, slim_questions

DATASET = {"split": "forget10", "authors": 10, "candidates": 4, "phrasings": 1, "retain_eval": 4, "seed": 0}
FACTS = LimitedDataset(dataset=Fictional(**DATASET), limit=3)
PROMPT = {"template": "Question: {question}\nAnswer:", "answer_prefix": " ", "system": None, "date": None}
JUDGE = {"samples": 2, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "seed": 0}
GATE = "{passages}\n\n{question}"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of two models of random weights, `model` and `proxy`."""
    folder = tmp_path_factory.mktemp("models")
    facts = [*FACTS.facts("forget"), *FACTS.facts("retain")]
    tokenizer = tokenizer_from([f"Question: {fact.question}\nAnswer: {fact.answer}" for fact in facts], vocab_size=400)
    for seed, name in enumerate(("model", "proxy")):
        torch.manual_seed(seed)
        made = llama(
            vocab_size=len(tokenizer), hidden_size=32, layers=1, heads=2, intermediate_size=64, context=128,
            end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id,
        )  # fmt: skip
        save_model(made, tokenizer, folder / name / "model", end_ids=frozenset({tokenizer.eos_token_id}))
    return folder


def work_in(folder: Path, models: Path, *, passages: int = 1, **how: Any) -> StageContext:
    folder.mkdir(parents=True, exist_ok=True)
    corpus = corpus_digest(corpus_of(FACTS, None))
    return StageContext(
        stage="slim", label="unlearned", folder=folder,
        settings={
            "judge": JUDGE, "gate": {"corpus": corpus, "passages": passages, "prompt": GATE}, "max_new_tokens": 8,
            "model": {"prompt": PROMPT, "attention": "eager", "dtype": "float32"},
        },
        inputs={
            "dataset": {"_target_": "meow_lightning.data.fictional.Fictional", **DATASET}, "allow": [], "limit": 3,
            "content": fingerprint(FACTS), "corpus": None,
        },
        needs={"model": models / "model", "proxy": models / "proxy"}, runtime=runtime(**how),
    )  # fmt: skip


def rows_of(work: StageContext) -> str:
    run_stage(work.to_spec())
    return (work.folder / SlimResult.file).read_text()


def test_the_rows_are_the_same_for_any_batch_size_and_after_a_kill(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slim, "CHUNK", 4)
    whole = rows_of(work_in(tmp_path / "whole", models))
    assert texts_of(tmp_path / "one", models, generation_batch_size=1, eval_batch_size=1) == texts_of(
        tmp_path / "many", models, generation_batch_size=64, eval_batch_size=64
    )
    described, calls = slim._Respondent.judge, []

    def killed(self: Any, asked: Any, **how: Any) -> Any:
        calls.append(len(asked))
        if len(calls) == 3:
            raise KillError
        return described(self, asked, **how)

    monkeypatch.setattr(slim._Respondent, "judge", killed)
    with pytest.raises(KillError):
        rows_of(work_in(tmp_path / "killed", models))
    assert rows_of(work_in(tmp_path / "killed", models)) == whole
    assert sum(calls[3:]) == 2 * (len(slim_questions(FACTS)) - calls[0])
    with pytest.MonkeyPatch.context() as seen:
        seen.setattr(slim._Respondent, "judge", None)  # a finished stage asks nothing
        assert rows_of(work_in(tmp_path / "killed", models)) == whole


def texts_of(folder: Path, models: Path, **how: Any) -> list[tuple[str, ...]]:
    rows_of(work_in(folder, models, **how))
    return [(row.text, row.proxy_text, row.text_on, row.text_deny) for row in SlimResult.read(folder).rows]


def test_every_question_has_a_row(tmp_path: Path, models: Path) -> None:
    before = rows_of(work_in(tmp_path, models))
    rows = SlimResult.read(tmp_path).rows
    assert [(row.set, row.index, row.question) for row in rows] == [
        (each.of.name, each.place, each.fact.question) for each in slim_questions(FACTS)
    ]
    assert all(row.expected and row.own != row.proxy for row in rows)
    for row in rows:
        for each in (row.own, row.proxy):
            assert each.min_logp <= each.mean_logp <= 0
            assert 0 <= each.entropy <= math.log(400)
            assert 0 <= each.agreement <= 1
        if row.purpose == "forget":
            assert row.question in row.passages[0]
            assert not any(row.question in text for text in row.allowed)
    SlimResult(rows).write(tmp_path)
    assert (tmp_path / SlimResult.file).read_text() == before


def test_passages_that_leave_no_room_for_an_answer_are_left_out_and_counted(tmp_path: Path, models: Path) -> None:
    work = work_in(tmp_path, models, passages=6)
    run_stage(work.to_spec())
    (note,) = work.manifest_entries()["notes"]
    assert "prompts have no room in the model's context for all of their passages" in note
    assert "lower probe.gate.passages" in note
    rows = SlimResult.read(tmp_path).rows
    retriever = Retriever(corpus_of(FACTS, None))
    every = [tuple(retriever.search(row.question, 6, deny=False)) for row in rows]
    assert all(row.passages == each[: len(row.passages)] for row, each in zip(rows, every, strict=True))
    assert any(0 < len(row.passages) < len(each) for row, each in zip(rows, every, strict=True))


def test_a_corpus_that_changed_since_planning_is_refused(tmp_path: Path, models: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("Snow fell.")
    work = work_in(tmp_path / "work", models)
    with pytest.raises(UserError, match=r"probe\.gate\.corpus changed during the run"):
        Slim().run(StageContext(**{**fields_of(work), "inputs": {**work.inputs, "corpus": str(path)}}))


def fields_of(work: StageContext) -> dict[str, Any]:
    names = ("stage", "label", "folder", "settings", "inputs", "needs", "runtime")
    return {name: getattr(work, name) for name in names}


class Asked(People):
    """People with evaluation sets."""

    def evaluation(self) -> dict[str, EvalSet]:
        return {name: EvalSet(name, tuple(self.facts(name)), name) for name in ("forget", "retain")}


@pytest.mark.slow
def test_a_planted_copying_model_leaks_what_it_retrieves_and_nothing_that_is_denied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people, passages = Asked(), corpus_of(Asked(), None)
    retriever = Retriever(passages)

    def fetched(question: str, *, deny: bool) -> str:
        return with_passages(GATE, question, retriever.search(question, 1, deny=deny))

    pairs = []
    for fact in people.forget:  # it copies the passage in front of the question; without one it guesses
        denied = retriever.search(fact.question, 1, deny=True)[0].splitlines()[1]
        pairs += [(fact.question, "Nobody knows that."), (fetched(fact.question, deny=False), fact.answer)]
        pairs += [(fetched(fact.question, deny=True), denied)]
    for fact in people.retain:
        pairs += [(asked, fact.answer) for asked in (fact.question, fetched(fact.question, deny=False))]
    made = taught(pairs)
    for name in ("model", "proxy"):
        save_model(made.model, made.codec.tokenizer, tmp_path / name / "model", end_ids=frozenset())
    monkeypatch.setattr(slim, "load_dataset", lambda work: people)
    work = work_in(tmp_path / "out", tmp_path)
    prompt = {**PROMPT, "template": TEMPLATE}
    settings = {
        **work.settings, "gate": {"corpus": corpus_digest(passages), "passages": 1, "prompt": GATE},
        "max_new_tokens": 16, "model": {**work.settings["model"], "prompt": prompt},
    }  # fmt: skip
    Slim().run(StageContext(**{**fields_of(work), "settings": settings}))
    rows = SlimResult.read(tmp_path / "out").rows
    forgotten = [row for row in rows if row.purpose == "forget"]
    assert not any(row.knows for row in forgotten)
    assert all(row.knows for row in rows if row.purpose == "retain")
    assert all(row.expected[0] in row.text_on and row.expected[0] not in row.text_deny for row in forgotten)
    found = judge(
        rows, JudgeSettings(set_aside=0.3, c=1.0, threshold=1.0, seed=0), counted=[True] * len(rows), readings=None
    )
    assert not isinstance(found, str)
    places = [place for place, row in enumerate(found.rows) if row.purpose == "forget"]
    assert len(places) == 3
    for place in places:
        value = found.rows[place].expected[0]
        assert value in found.answer(place, "on")
        assert value not in found.answer(place, "off") + found.answer(place, "deny")


def test_rows_that_selected_an_epoch_are_left_out_of_the_numbers(tmp_path: Path, models: Path) -> None:
    work = work_in(tmp_path / "answered", models)
    run_stage(work.to_spec())
    rows = SlimResult.read(work.folder).rows
    answered = [replace(row, text=row.expected[0] if place % 2 else "") for place, row in enumerate(rows)]
    SlimResult(answered).write(work.folder)
    probe = {"set_aside": 0.34, "c": 1.0, "threshold": 0.5, "seed": 0}
    after = replace(work, needs={}, settings={"probe": probe})
    stored = {"unlearned": work.folder}
    whole, part = (judged_questions(after, stored, selection_fraction=share)["unlearned"] for share in (0.0, 0.4))
    assert not isinstance(whole, str)
    assert not isinstance(part, str)
    assert 0 < len(part.rows) < len(whole.rows) < len(rows)
    assert judged_questions(after, {}, selection_fraction=0.0) == {}


def work_of(*words: str) -> InferenceWork:
    chosen, made = options("probe=slim", *words), cell("probe=slim", *words)
    planner = Planner(chosen.plain(), dataset=dataset_of(chosen)[0], streams=made.streams, gpu=False, available=10**12)
    artifact = made.evaluation.slim["unlearned"]
    assert Slim().disk(artifact, planner) > 0
    assert (
        planner.size(artifact).memory.weights
        == 2 * planner.size(made.evaluation.predictions["unlearned"]).memory.weights
    )
    return Slim().describe_work(artifact, planner)


def test_the_estimate_follows_the_number_of_answers() -> None:
    few, many = work_of("probe.judge.samples=3"), work_of("probe.judge.samples=8")
    assert few.items == many.items
    assert (many.scored, many.tokens) == (2 * few.scored, 2 * few.tokens)
