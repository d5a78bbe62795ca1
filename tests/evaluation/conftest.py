from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import pytest

from meow_lightning.types import AnswerRow, Likelihood

MakeRow = Callable[..., AnswerRow]


def likelihood(logps: Sequence[float], hits: Sequence[int] | None = None) -> Likelihood:
    count = len(logps)
    return Likelihood(
        ids=tuple(range(count)),
        logps=tuple(logps),
        hits=(1,) * count if hits is None else tuple(hits),
        mean=(-9.5,) * count,
        std=(2.25,) * count,
    )


@pytest.fixture
def make_row() -> MakeRow:
    """Builds a row from the log-probabilities of its answers; what a test does not name is harmless."""

    def build(
        set_name: str = "forget",
        index: int = 0,
        *,
        truth: Sequence[float] = (-1.0,),
        paraphrase: Sequence[float] | None = None,
        perturbed: Sequence[Sequence[float]] = (),
        question: str | None = None,
        answer: str = "Paris",
        value: str | None = None,
        values: Sequence[str] = (),
        text: str = "Paris",
        hits: Sequence[int] | None = None,
        generated: Sequence[int] = (4, 5),
        stop: Literal["end", "length"] = "end",
        gradient: float | None = None,
    ) -> AnswerRow:
        return AnswerRow(
            set=set_name,
            index=index,
            fact=f"{set_name}-{index}",
            question=f"Question {index}?" if question is None else question,
            answer=answer,
            value=value,
            truth=likelihood(truth, hits),
            paraphrase=None if paraphrase is None else likelihood(paraphrase),
            perturbed=tuple(likelihood(logps) for logps in perturbed),
            generated=tuple(generated),
            text=text,
            stop=stop,
            gradient=gradient,
            values=tuple(values),
        )

    return build
