"""Report section on extraction attacks: the most leaking prompt and answer per fact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from meow_lightning.evaluation.extraction import Extraction
from meow_lightning.evaluation.metrics.rouge import rouge_l_recall
from meow_lightning.report.templating import render_template
from meow_lightning.types import Role

SHOWN: Role = "unlearned"


class Said(NamedTuple):
    """What a model said about a fact under an attack, at its worst.

    Attributes:
        question: The question.
        answer: The true answer.
        prompt: What stood in the place of the question; empty for the question itself.
        text: What the model said.
        score: How much of the fact it gives away, 0 to 1, as the attack measures it.
    """

    question: str
    answer: str
    prompt: str
    text: str
    score: float


def worst_texts(extractions: Sequence[Extraction]) -> dict[str, list[Said]]:
    """Choose the attempt on every fact that gives most away, by label of the attack and the worst fact first.

    Args:
        extractions: What the attacks found.
    """
    chosen: dict[str, list[Said]] = {}
    for each in extractions:
        rows = [(row, *each.attack.best(row, rouge_l_recall)) for row in each.rows.get(SHOWN, ())]
        said = [Said(row.question, row.answer, best.prompt, best.text, score) for row, best, score in rows]
        chosen[each.label] = sorted(said, key=lambda one: -one.score)
    return chosen


def section(said: Mapping[str, Sequence[Said]]) -> Markup:
    """Render the section as HTML; empty for a run without such attacks."""
    return render_template("extraction.html", said=said) if said else Markup("")
