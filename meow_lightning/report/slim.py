"""Section on the SlimPLM probe: knowledge judged by a pruned proxy, and answers with retrieved passages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from meow_lightning.evaluation.slim import GROUP, Judged
from meow_lightning.report.templating import render_template

if TYPE_CHECKING:
    from meow_lightning.report.data import ReportData
    from meow_lightning.report.page import NumberTable


class Retrieved(NamedTuple):
    """A tested question of the forget set that is judged unknown, with the unlearned model's answers.

    Attributes:
        question: The question.
        expected: Its value.
        probability: Probability that it is known, by the judge of the proxy.
        passages: What it retrieves.
        text: The model's answer without passages.
        text_on: Its answer with them.
        text_deny: Its answer with those that the deny list leaves.
    """

    question: str
    expected: str
    probability: float
    passages: Sequence[str]
    text: str
    text_on: str
    text_deny: str


def retrieved_answers(judged: Judged | str) -> list[Retrieved]:
    """List the questions of the forget set that retrieve passages; empty without a judge.

    Args:
        judged: The tested questions of the unlearned model, or the reason why there are none.
    """
    if isinstance(judged, str):
        return []
    return [
        Retrieved(
            question=row.question, expected=", ".join(row.expected), probability=p, passages=row.passages,
            text=row.text, text_on=row.text_on, text_deny=row.text_deny,
        )
        for row, p in zip(judged.rows, judged.proxy, strict=True)
        if row.purpose == "forget" and p < judged.threshold
    ]  # fmt: skip


def shown_numbers(data: ReportData) -> list[str]:
    """List the numbers of the probe; none for ``probe=none``."""
    return [each.name for each in data.results.definitions if each.name.startswith(f"{GROUP}/")]


def section(data: ReportData, numbers: NumberTable) -> Markup:
    """Render the section as HTML; empty for ``probe=none``.

    Args:
        data: The run.
        numbers: The numbers of the probe.
    """
    if not numbers.rows:
        return Markup("")
    return render_template("slim.html", numbers=numbers, rows=data.retrieved if data.texts else [])
