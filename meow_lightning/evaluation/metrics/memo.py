"""MEMO of the true and of the inverted answers, averaged over the texts."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import Answers, MetricSettings, Scores
from meow_lightning.evaluation.metric import AFTER_SETS, Outcome, RunMetric, finite
from meow_lightning.types import Definition, SetInfo

if TYPE_CHECKING:
    from meow_lightning.evaluation.suite.bootstrap import Bootstrap, Floats

KINDS: Mapping[Literal["answer", "candidate"], tuple[str, str]] = {
    "answer": ("memo/answers", "true answers"),
    "candidate": ("memo/candidates", "inverted answers"),
}
"""Name of the number and of the texts, by kind of text."""


def memo_scores(role: str, scores: Scores | None, kind: Literal["answer", "candidate"]) -> list[float]:
    """List the MEMO scores of one model's true or inverted answers; empty if none were computed.

    Args:
        role: Role of the model, for the message.
        scores: Its MEMO scores in any grouping.
        kind: ``answer`` or ``candidate``.

    Raises:
        UserError: A text was scored more than once.
    """
    texts = [text for group in scores.values() for text in group] if scores is not None else []
    if len({(text.fact, text.kind, text.position) for text in texts}) < len(texts):
        raise UserError(
            f"MEMO scores of the {role} model are invalid: expected one per text; run the stage `score` again"
        )
    return [text.score for text in texts if text.kind == kind]


class Memo(RunMetric):
    """Mean MEMO score of a model's true and inverted answers."""

    from_predictions = False

    def definitions(self, sets: Sequence[SetInfo], settings: MetricSettings) -> list[Definition]:
        """Define both means."""
        (answers, true), (candidates, inverted) = KINDS.values()
        return [
            Definition(
                name=answers, id="memo_answers.1", unit="score", direction="lower", order=AFTER_SETS + 10,
                text="Mean MEMO score of the true answers of the forget set: how strongly the model has memorized "
                "them.", label=f"MEMO of the {true}", main=True,
            ),
            Definition(
                name=candidates, id="memo_candidates.1", unit="score", direction="none", order=AFTER_SETS + 20,
                text="Mean MEMO score of the inverted answers: how strongly the model has memorized answers that "
                "contradict the forget set.", label=f"MEMO of the {inverted}", main=True,
            ),
        ]  # fmt: skip

    def outcomes(self, answers: Answers, role: str, numbers: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Average the scores of each kind of text."""
        found: dict[str, Outcome] = {}
        for kind, (name, texts) in KINDS.items():
            scores = memo_scores(role, answers.memo.get(role), kind)
            missing = answers.absent.get(role, f"the {texts} have no MEMO scores of the {role} model")
            found[name] = finite(statistics.fmean(scores)) if scores else missing
        return found

    def samples(
        self, answers: Answers, role: str, bootstrap: Bootstrap, drawn: Mapping[str, Floats]
    ) -> dict[str, Floats]:
        """Average the true answers' scores in each bootstrap sample."""
        scores = memo_scores(role, answers.memo.get(role), "answer")
        samples = bootstrap.means("memo", scores) if scores else None
        return {} if samples is None else {KINDS["answer"][0]: samples}
