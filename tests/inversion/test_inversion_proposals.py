"""Prompts that a language model proposes: how it is asked, how its reply is read, and a model that runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.chat_model import teacher

from meow_lightning.errors import UserError
from meow_lightning.generation.batch_size import AdaptiveBatchSize
from meow_lightning.inversion.base import DatasetFacts, GenerationRequest
from meow_lightning.inversion.proposals import LocalProposer, ProposalTemplate, parse_proposals
from meow_lightning.types import Fact

TEXTS = {"version": 1, "system": "Write {count}.", "user": "About: {question}", "tried": "Tried:\n{tried}"}
FACT = Fact("a", "Where is Ada?", "Ada is in Lima.")
SHIPPED = Path(__file__).resolve().parents[2] / "conf" / "proposer" / "prompt"


def ask(*tried: str, count: int = 2) -> GenerationRequest:
    return GenerationRequest(fact=FACT, attempt=0, count=count, previous_answers=tried, model_answer=None)


def test_the_chat_holds_the_question_and_what_was_tried_but_no_answer() -> None:
    template = ProposalTemplate(**TEXTS)
    first, later = (template.messages(each, context=None) for each in (ask(), ask("0.80: Ada?", "0.10: Who?", count=3)))
    assert first == [{"role": "system", "content": "Write 2."}, {"role": "user", "content": "About: Where is Ada?"}]
    assert later == [
        {"role": "system", "content": "Write 3."},
        {"role": "user", "content": "About: Where is Ada?\n\nTried:\n0.80: Ada?\n0.10: Who?"},
    ]


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_texts_are_valid_and_never_show_the_answer(path: Path) -> None:
    template = ProposalTemplate(**yaml.safe_load(path.read_text()))
    shown = str(template.messages(ask("0.80: Ada?"), context=None))
    assert "Where is Ada?" in shown
    assert "0.80: Ada?" in shown
    assert "Lima" not in shown


@pytest.mark.parametrize(
    ("part", "text", "said"),
    [
        ("user", "Ask.", "must contain {question}"), ("tried", "Before:", "must contain {tried}"),
        ("user", "{question} {answer}", "contains {answer}; allowed placeholders: {question}, {count}"),
        ("system", "{question}", "contains {question}; allowed placeholders: {count}"),
    ],
)  # fmt: skip
def test_placeholders_are_checked(part: str, text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        ProposalTemplate(**TEXTS | {part: text})
    assert str(error.value).startswith(f"inversion.prompt.{part} {said}")


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("Where does Ada live?\nTell me where Ada is.", ["Where does Ada live?", "Tell me where Ada is."]),
        ("Sure! Here are 2 other prompts:\n\n1. Ada is in which town?\n2. \"Find Ada.\"",
         ["Ada is in which town?", "Find Ada."]),
        ("Question: Where does Ada live?\n- **Prompt 2:** Find Ada.", ["Where does Ada live?", "Find Ada."]),
        ("1. Question 1: Where is she, Ada?\n2. Question 2: Ada, where are you?",
         ["Where is she, Ada?", "Ada, where are you?"]),
        ("A better one would be:\nWho knows where Ada is?\nSentence ten.", ["Who knows where Ada is?"]),
        ("", []),
    ],
)  # fmt: skip
def test_prompts_are_read_from_replies_without_what_surrounds_them(reply: str, found: list[str]) -> None:
    assert parse_proposals(reply, FACT.question, cut=False) == found


def test_a_prompt_that_the_budget_cut_off_is_left_out() -> None:
    assert parse_proposals("Where is Ada now?\nTell me whether A", FACT.question, cut=True) == ["Where is Ada now?"]
    assert parse_proposals("Where is Ada now?\nWho knows Ada?", FACT.question, cut=True) == [
        "Where is Ada now?",
        "Who knows Ada?",
    ]
    assert parse_proposals("Where is Ada now?\nTell me where Ada", FACT.question, cut=False) == [
        "Where is Ada now?",
        "Tell me where Ada",
    ]


def proposer(folder: Path, **changes: Any) -> LocalProposer:
    options: dict[str, Any] = {
        "model": "m", "dtype": "float32", "attention": "eager", "prompt": TEXTS, "temperature": 0.0, "top_p": 1.0,
        "max_new_tokens": 32, "seed": 0, "folder": folder, "device": "cpu",
        "adaptive_batch_size": lambda model, *, tokens, generated: AdaptiveBatchSize(4, note=str),
    }  # fmt: skip
    return LocalProposer(**options | changes)


def test_a_model_that_runs_here_is_asked_in_its_chat(tmp_path: Path) -> None:
    reply = "1. Where does Ada live?\n2. Find Ada."
    folder = teacher(tmp_path, pairs=[(ProposalTemplate(**TEXTS).messages(ask(), context=None), reply)])
    made = proposer(folder)
    made.load()
    (found,) = made.write([ask()], load_facts=lambda: DatasetFacts((), ()), should_continue=lambda: True)
    assert found.text == reply
    assert parse_proposals(found.text, FACT.question, cut=found.cut) == ["Where does Ada live?", "Find Ada."]
    assert made.notes() == ()


def test_a_folder_that_is_gone_is_named_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^inversion\.model=m: the folder .* does not exist"):
        proposer(tmp_path / "gone").load()
