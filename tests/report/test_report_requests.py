"""The section on requests: its sentence, tables and picture."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meow_lightning.evaluation.sequence import ScoreMatrix, SequenceScores
from meow_lightning.report.requests import ServedRequest, closing_lines, picture, section, sentence, table
from meow_lightning.report.svg import inline

FORGOTTEN = ScoreMatrix(
    columns=("request 1", "request 2"), rows=((0.1, 0.0), (0.9, 0.2), (0.6, 0.8)), joint=(0.8, 0.9), retain=(1.0, 0.9)
)
KEPT = ScoreMatrix(
    columns=("retain", "world_facts"), rows=((0.9, 0.5), (0.8, 0.5), (0.6, None)), joint=(0.9, 0.5), retain=(0.9, 0.7)
)
MEMO = SequenceScores(name="memo", forgotten=FORGOTTEN, kept=None)
ROUGE = SequenceScores(name="rouge_l_recall", forgotten=FORGOTTEN, kept=KEPT)


def test_a_row_is_a_model_with_what_is_forgotten_and_what_changed() -> None:
    assert table(MEMO, kept=ROUGE) == [
        ["", "1", "2", "OP", "BWT", "collateral", "kept"],
        ["before", "0.10", "0.00", "—", "—", "—", "—"],
        ["after request 1", "0.90", "0.20", "0.90", "0.00", "+0.20", "-0.05"],
        ["after request 2", "0.60", "0.80", "0.70", "-0.15", "—", "-0.30"],
        ["all at once", "0.80", "0.90", "0.85", "—", "—", "0.00"],
        ["retain model", "1.00", "0.90", "0.95", "—", "—", "+0.10"],
    ]


def test_the_terminal_shows_the_first_score_and_every_request_unless_there_are_many() -> None:
    lines = closing_lines([MEMO, ROUGE])
    assert lines.title == "Requests (forgotten: 1 - MEMO; kept: ROUGE-L recall)"
    assert lines.table == table(MEMO, kept=ROUGE)
    many = ScoreMatrix(columns=tuple("abcdefghi"), rows=((0.5,) * 9,) * 10, joint=(0.5,) * 9, retain=None)
    wide = closing_lines([SequenceScores(name="memo", forgotten=many, kept=None)])
    assert wide.table[0] == ["", "OP", "BWT", "collateral"]
    assert [row[0] for row in wide.table[1:]] == [
        "before",
        *(f"after request {n}" for n in range(1, 10)),
        "all at once",
    ]


def test_the_sentence_compares_with_all_at_once() -> None:
    assert sentence([MEMO, ROUGE]) == (
        "2 requests one after another: forgotten (1 - MEMO) 0.70, all at once 0.85; BWT -0.15, largest re-emergence "
        "0.30; kept (ROUGE-L recall) -0.30, all at once 0.00"
    )
    assert sentence([MEMO]).endswith("largest re-emergence 0.30")


def test_the_page_holds_a_table_per_score_and_the_names_of_groups_where_they_may_be_shown() -> None:
    served = [ServedRequest(facts=1, groups=["<Ada>"]), ServedRequest(facts=8, groups=[])]
    html = section([MEMO, ROUGE], served, picture([MEMO, ROUGE]))
    assert "Request 1: 1 fact (&lt;Ada&gt;);" in html
    assert "Request 2: 8 facts." in html
    assert html.count("<table>") == 2
    assert html.count("<details>") == html.count("</details>") == 1
    assert section([], [], picture([])) == ""


@pytest.mark.parametrize("sequence", [[MEMO], [MEMO, ROUGE]])
def test_the_picture_has_a_cell_per_score_and_no_pixels(sequence: list[SequenceScores]) -> None:
    drawn = picture(sequence)
    assert drawn.svg is not None
    assert "<image" not in drawn.svg
    assert drawn.svg.count(">0.60</text>") == len(sequence)
    assert "var(--unlearned)" in inline(drawn)
    assert picture([]).missing == "all facts are forgotten at once"


def test_without_a_retain_model_its_row_is_left_out() -> None:
    alone = replace(MEMO, forgotten=replace(FORGOTTEN, retain=None))
    assert [row[0] for row in table(alone, kept=None)][-1] == "all at once"
    assert picture([alone]).svg is not None
