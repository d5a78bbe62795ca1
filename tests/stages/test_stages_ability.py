"""ability: one task on one model; finished questions survive a kill, and no batch size or process changes an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.common import runtime
from helpers.quiz import CHOICE, FILES, QUESTIONS, WORDS, quiz, write_quiz

from meow_lightning.errors import UserError
from meow_lightning.evaluation import harness
from meow_lightning.evaluation.ability import AbilityResult
from meow_lightning.evaluation.continuation import Continuations
from meow_lightning.evaluation.local_questions import LocalQuestions
from meow_lightning.models.load import save_model
from meow_lightning.stages import ability
from meow_lightning.stages.base import StageContext
from meow_lightning.store.jsonl import read_lines

PROMPT = {"template": "Question: {question}\nAnswer:", "answer_prefix": " ", "system": None, "date": None}


@pytest.fixture
def work(tiny, tokenizer, tmp_path):
    """Builds the context of the stage; each call gets a fresh folder."""
    save_model(tiny, tokenizer, tmp_path / "model" / "model", end_ids=frozenset({tokenizer.eos_token_id}))
    write_quiz(tmp_path / "data")

    def make(name: str, **changes: Any) -> StageContext:
        (tmp_path / name).mkdir(exist_ok=True)
        return StageContext(
            stage="ability", label="target quiz", folder=tmp_path / name,
            runtime=runtime(eval_batch_size=changes.pop("eval_batch_size", 2)),
            settings={
                "task": "quiz", "lm_eval": "0.4.13", "num_fewshot": None, "limit": None, "config": CHOICE,
                "data": quiz(tmp_path / "data").digests(),
                "model": {"prompt": PROMPT, "dtype": "float32", "attention": "sdpa"}, **changes,
            },
            inputs={"files": FILES, "folder": str(tmp_path / "data")}, needs={"model": tmp_path / "model"},
        )  # fmt: skip

    return make


def answers(task: StageContext) -> list[dict[str, Any]]:
    return list(read_lines(task.folder / ability.ANSWERS))


def test_every_question_is_answered_in_order_and_the_metrics_are_written(work) -> None:
    task = work("made")
    ability.Ability().run(task)
    rows = answers(task)
    assert [(row["task"], row["question"]) for row in rows] == [("quiz", number) for number in range(QUESTIONS)]
    chosen = [max((0, 1), key=lambda place: row["answers"][place][0]) for row in rows]
    right = [row["label"] for row in quiz(task.needs["model"].parent / "data").rows("test")]
    stored = AbilityResult.read(task.folder)
    share = sum(map(int.__eq__, chosen, right)) / QUESTIONS
    number = next(each for each in stored.numbers if each.metric == "acc")
    assert number.value == pytest.approx(share)
    assert number.stderr == pytest.approx((share * (1 - share) / (QUESTIONS - 1)) ** 0.5)
    assert (stored.questions, stored.num_fewshot) == (QUESTIONS, 0)
    assert all((task.folder / name).exists() for name in ability.Ability.outputs)


def test_the_limit_takes_the_first_questions(work) -> None:
    whole, part = work("whole"), work("part", limit=5)
    ability.Ability().run(whole)
    ability.Ability().run(part)
    assert [row["question"] for row in answers(part)] == list(range(5))
    assert AbilityResult.read(part.folder).questions == 5


def test_a_killed_stage_keeps_finished_questions_and_ends_bit_identically(work, monkeypatch) -> None:
    monkeypatch.setattr(harness, "BLOCK", 200)
    undisturbed, killed = work("undisturbed"), work("killed")
    ability.Ability().run(undisturbed)
    asked: list[int] = []
    original = harness.loglikelihoods

    def dying(*args: Any, **options: Any) -> Any:
        asked.append(len(args[1]))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return original(*args, **options)

    monkeypatch.setattr(harness, "loglikelihoods", dying)
    with pytest.raises(KeyboardInterrupt):
        ability.Ability().run(killed)
    assert not (killed.folder / ability.ANSWERS).exists()
    finished = sum(asked[:2])
    asked.clear()
    asked += [0] * 9  # no further kill
    ability.Ability().run(killed)
    assert sum(asked) == 2 * QUESTIONS - finished < 2 * QUESTIONS
    for name in ability.Ability.outputs:
        assert (killed.folder / name).read_bytes() == (undisturbed.folder / name).read_bytes()


def test_a_batch_size_changes_no_bit(work) -> None:
    small, large = work("small", eval_batch_size=1), work("large", eval_batch_size=64)
    ability.Ability().run(small)
    ability.Ability().run(large)
    assert answers(small) == answers(large)


def test_questions_that_changed_since_planning_are_refused(work, tmp_path) -> None:
    task = work("made")
    path = Path(task.inputs["folder"]) / "labels.lst"
    path.write_text(path.read_text().replace("1", "0"))
    with pytest.raises(UserError, match="the questions of quiz"):
        ability.Ability().run(task)


def test_a_task_that_generates_gets_a_batch_size_that_fits(work, monkeypatch) -> None:
    config = {
        **CHOICE, "output_type": "generate_until", "doc_to_text": "{{goal}}", "doc_to_target": "{{sol1}}",
        "doc_to_choice": None, "generation_kwargs": {"until": ["e"], "max_gen_toks": 4},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    task = work("made", config=config, limit=3)
    sizes: list[dict[str, Any]] = []
    original = ability.adaptive_batch_size

    def spy(*args: Any, **options: Any) -> Any:
        sizes.append(options)
        return original(*args, **options)

    monkeypatch.setattr(ability, "adaptive_batch_size", spy)
    ability.Ability().run(task)
    assert [type(row["answers"][0]) for row in answers(task)] == [str] * 3
    assert len(sizes) == 1
    assert sizes[0]["tokens"] + sizes[0]["generated"] == 64


@pytest.fixture
def continued(work, tmp_path):
    """Builds the context of a task of our own on running text."""
    lines = [f"{WORDS[place % 6]} was {WORDS[place % 5]} and {' '.join(WORDS[: 3 + place % 4])}." for place in range(9)]
    (tmp_path / "data" / "text.txt").write_text("\n".join(lines))
    local = LocalQuestions(
        task="nlg", files={"test": {"questions": "text.txt"}}, folder=str(tmp_path / "data")
    )  # fmt: skip

    def make(name: str, **changes: Any) -> StageContext:
        settings = {"task": "nlg", "config": CONTINUATION, "data": local.digests()}
        task = work(name, **settings, **changes)
        task.inputs = {"files": local.files, "folder": local.folder, "amount": [9, 0]}
        task.needs = {**task.needs, "features": tmp_path / "model"}
        return task

    return make


CONTINUATION = {
    "_target_": "meow_lightning.evaluation.continuation.Continuations", "format": "plain", "prompt_tokens": 3,
    "new_tokens": 5, "compared": "continuation", "features": "target", "mauve_scaling_factor": 5,
}  # fmt: skip


def test_passages_are_continued_and_measured(continued) -> None:
    task = continued("made")
    ability.Ability().run(task)
    stored = AbilityResult.read(task.folder)
    assert [each.metric for each in stored.numbers] == ["mauve", "bleu", "rep3", "perplexity"]
    assert stored.questions == len(answers(task)) == 9
    assert all(each.value is not None for each in stored.numbers)


def test_a_killed_task_of_our_own_keeps_finished_passages_and_no_batch_size_changes_a_bit(
    continued, monkeypatch
) -> None:
    monkeypatch.setattr(ability, "TOGETHER", 4)
    undisturbed, killed = continued("undisturbed", eval_batch_size=1), continued("killed", eval_batch_size=64)
    ability.Ability().run(undisturbed)
    calls: list[int] = []
    original = Continuations.answer

    def dying(self: Any, model: Any, encoder: Any, questions: Any, **options: Any) -> Any:
        calls.append(len(questions))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, model, encoder, questions, **options)

    monkeypatch.setattr(Continuations, "answer", dying)
    with pytest.raises(KeyboardInterrupt):
        ability.Ability().run(killed)
    ability.Ability().run(killed)
    assert calls == [4, 4, 4, 1]  # the first four were kept
    for name in ability.Ability.outputs:
        assert (killed.folder / name).read_bytes() == (undisturbed.folder / name).read_bytes()
