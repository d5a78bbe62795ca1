"""Which of a dataset's questions the target model answered before unlearning, and what happened to these facts."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from meow_lightning.data.probed import Fate, Overview
from meow_lightning.report.templating import render_template

FATES: dict[Fate, str] = {"forget": "to forget", "keep": "to keep", "unknown": "not known"}


def section(questions: Sequence[Overview]) -> Markup:
    """Render the questions by fate; empty for a dataset that does not depend on the model's answers."""
    if not questions:
        return Markup("")
    groups = [(words, [each for each in questions if each.fate == fate]) for fate, words in FATES.items()]
    return render_template("known.html", groups=groups, total=len(questions))


def sentences(questions: Sequence[Overview]) -> list[str]:
    """List the facts by fate for a terminal: those to forget with their questions, the others by their answers."""
    by_fate = {fate: [each for each in questions if each.fate == fate] for fate in FATES}
    known = len(by_fate["forget"]) + len(by_fate["keep"])
    forgotten = "; ".join(f"{each.question} {each.answer}" for each in by_fate["forget"])
    return [
        f"the target model knows {known} of {len(questions)} facts",
        f"{len(by_fate['forget'])} to forget: {forgotten}",
        f"{len(by_fate['keep'])} to keep: {'; '.join(each.answer for each in by_fate['keep'])}",
    ]
