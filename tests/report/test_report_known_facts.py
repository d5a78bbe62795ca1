"""The facts that a model knew, in the report and on the terminal."""

from __future__ import annotations

from meow_lightning.data.probed import Overview
from meow_lightning.report.known_facts import section, sentences

ASKED = [
    Overview("Where is the Eiffel Tower?", "Paris", "It is in <b>Paris</b>.", "forget"),
    Overview("What is the capital of Peru?", "Lima", "Lima.", "keep"),
    Overview("What is the capital of Canada?", "Ottawa", "Ottawa, I think.", "keep"),
    Overview("Who wrote Emma?", "Austen", "A friend of mine.", "unknown"),
]


def test_the_report_lists_every_question_by_its_fate() -> None:
    page = str(section(ASKED))
    for text in ("asked 4 questions", "1 to forget", "2 to keep", "1 not known", "A friend of mine."):
        assert text in page
    assert "&lt;b&gt;Paris" in page
    assert page.index("Eiffel") < page.index("Peru") < page.index("Emma")


def test_a_dataset_that_asks_nothing_has_no_section() -> None:
    assert section([]) == ""


def test_the_terminal_names_what_is_forgotten_and_kept() -> None:
    assert sentences(ASKED) == [
        "the target model knows 3 of 4 facts",
        "1 to forget: Where is the Eiffel Tower? Paris",
        "2 to keep: Lima; Ottawa",
    ]
