"""The report's section on SlimPLM's probe."""

from __future__ import annotations

from types import SimpleNamespace

from meow_lightning.evaluation.known_judge import Features
from meow_lightning.evaluation.slim import Judged, SlimRow
from meow_lightning.report.page import NumberCell, NumberRow, NumberTable
from meow_lightning.report.slim import Retrieved, retrieved_answers, section, shown_numbers

ANY = Features(-0.1, -0.3, 0.2, 1.0)


def row(question: str, purpose: str) -> SlimRow:
    return SlimRow(
        set=purpose, index=0, purpose=purpose, question=question, expected=("Lima",), text="Oslo.", own=ANY,
        proxy_text="", proxy=ANY, passages=("<Born> in Lima.",), text_on="In Lima.", allowed=(), text_deny="In Bern.",
    )  # fmt: skip


def test_the_forgotten_questions_that_are_judged_unknown_are_listed() -> None:
    rows = [row("a?", "forget"), row("b?", "forget"), row("c?", "retain")]
    found = retrieved_answers(Judged(rows, [0.2, 0.7, 0.1], [0.5] * 3, 0.5))
    assert found == [Retrieved("a?", "Lima", 0.2, ("<Born> in Lima.",), "Oslo.", "In Lima.", "In Bern.")]
    assert retrieved_answers("no judge") == []


def test_the_section_shows_numbers_and_texts_and_nothing_without_the_probe() -> None:
    cell = NumberCell("1.000", None, ("0.891", "1.000"))
    numbers = NumberTable([NumberRow("forget set said, gate on", "↓", "share", [cell] * 3, False)], [])
    shown = retrieved_answers(Judged([row("a?", "forget")], [0.2], [0.5], 0.5))
    page = str(section(SimpleNamespace(retrieved=shown, texts=True), numbers))
    for text in ("forget set said, gate on", "1 question of", "&lt;Born&gt; in Lima.", "In Bern.", "0.20"):
        assert text in page
    assert "Lima" not in str(section(SimpleNamespace(retrieved=shown, texts=False), numbers))
    assert section(SimpleNamespace(retrieved=[], texts=True), NumberTable([], [])) == ""
    assert shown_numbers(SimpleNamespace(results=SimpleNamespace(definitions=()))) == []
