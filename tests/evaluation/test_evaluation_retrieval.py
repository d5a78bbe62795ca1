"""The passages of the retrieval gate: what is in the corpus, what the deny list holds, what a question fetches."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.planted import People

from meow_lightning.errors import UserError
from meow_lightning.evaluation.retrieval import CorpusPassage, Retriever, corpus_digest, corpus_of, with_passages
from meow_lightning.types import Fact

ASKED = "Where was Ada Brook born?"


def test_the_facts_of_the_dataset_are_passages_and_those_to_forget_are_denied() -> None:
    passages = corpus_of(People(), None)
    assert len(passages) == len(People.forget) + len(People.retain)
    assert passages[0] == CorpusPassage("Where was Ada Brook born?\nAda Brook was born in Lima.", denied=True)
    assert [each.denied for each in passages] == [True] * 4 + [False] * 3


def test_a_line_is_denied_if_it_states_the_value_and_names_the_subject(tmp_path: Path) -> None:
    lines = [
        "Ada Brook grew up in Lima.", "", "Ada Brook likes tea.", "Lima is large.", "  In Paris, Di Hill was born.",
        "Ada Brook likes tea.",
    ]  # fmt: skip
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(lines))
    passages = corpus_of(People(), str(path))
    assert [each.text for each in passages] == [lines[0], lines[2], lines[3], lines[4].strip()]
    assert [each.denied for each in passages] == [True, False, False, True]


def test_a_line_that_states_one_of_two_values_is_denied(tmp_path: Path) -> None:
    class TwoSecrets(People):
        forget = (Fact("f", "Where was Ada Brook born?", "In Lima in 1971.", values=("Lima", "1971")),)

    path = tmp_path / "texts.txt"
    path.write_text("Ada Brook came in 1971.\nAda Brook came in 1972.")
    assert [each.denied for each in corpus_of(TwoSecrets(), str(path))] == [True, False]


def test_a_file_without_a_passage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.txt"
    path.write_text("\n \n")
    with pytest.raises(UserError, match=rf"probe\.gate\.corpus={path} is invalid: expected a file with at least one"):
        corpus_of(People(), str(path))
    with pytest.raises(UserError, match=r"probe\.gate\.corpus=.* does not exist; give a text file"):
        corpus_of(People(), str(tmp_path / "none.txt"))


def test_a_question_fetches_what_fits_it_best() -> None:
    retriever = Retriever(corpus_of(People(), None))
    assert retriever.search(ASKED, 1, deny=False) == ["Where was Ada Brook born?\nAda Brook was born in Lima."]
    best, second = retriever.search(ASKED, 2, deny=False)
    assert "Ada Brook" in best
    assert "Bo Brook" in second


def test_the_deny_list_leaves_other_passages_and_none_of_the_denied() -> None:
    passages = corpus_of(People(), None)
    found = Retriever(passages).search(ASKED, 100, deny=True)
    assert {*found} == {each.text for each in passages if not each.denied}


def test_what_shares_no_word_is_not_fetched() -> None:
    retriever = Retriever([CorpusPassage("Snow fell.", False), CorpusPassage("...", False)])
    assert retriever.search("Who?", 3, deny=False) == []
    assert retriever.search("When did snow fall?", 3, deny=False) == ["Snow fell."]
    assert Retriever([CorpusPassage("...", False)]).search("Who?", 1, deny=False) == []


def test_of_equally_good_passages_the_first_is_fetched() -> None:
    texts = ["Snow fell today.", "Snow fell early."]
    for order in (texts, texts[::-1]):
        retriever = Retriever([CorpusPassage(text, False) for text in order])
        assert retriever.search("snow", 1, deny=False) == [order[0]]


def test_passages_stand_where_the_prompt_says() -> None:
    prompt = "Use this: {passages} | {question}"
    assert with_passages(prompt, "Q?", ["a {question}", "b"]) == "Use this: a {question}\n\nb | Q?"
    assert with_passages(prompt, "Q?", []) == "Q?"


def test_the_digest_follows_texts_and_deny_list() -> None:
    one, other = [CorpusPassage("a", False)], [CorpusPassage("a", True)]
    assert corpus_digest(one) == corpus_digest([CorpusPassage("a", False)])
    assert len({corpus_digest(one), corpus_digest(other), corpus_digest([*one, *other])}) == 3
