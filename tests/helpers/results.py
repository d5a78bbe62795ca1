"""Stored results of the stages, with what a test is about and neutral values elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from meow_lightning.stages.results.filter import FilterResult, FilterSummary
from meow_lightning.stages.results.predict import PredictResult
from meow_lightning.stages.results.propose import ProposeResult, RequestSummary
from meow_lightning.stages.results.score import ScoreResult
from meow_lightning.types import AnswerRow, InvertedFact, Likelihood, ScoredText


def store_inverted(
    folder: Path, inverted: Iterable[InvertedFact], *, kept: int = 0, counts: Mapping[str, int] | None = None
) -> None:
    summary = FilterSummary(written=kept, kept=kept, filled=0, dropped={}, examples={}, counts=counts or {})
    FilterResult(list(inverted), summary).write(folder)


def store_scores(folder: Path, scores: Iterable[tuple[str, int, float]]) -> None:
    """Scores by fact and position of an inverted fact."""
    ScoreResult([ScoredText(fact, "candidate", at, "", score, (score,)) for fact, at, score in scores]).write(folder)


def store_requests(folder: Path, *, calls: int, tokens: int) -> None:
    summary = RequestSummary(
        facts=0, calls=calls, calls_so_far=calls, tokens_so_far=tokens, still_memorized=[], memo=None, worst=None,
        requests=calls, prompt_tokens=tokens, completion_tokens=0, refused=0,
    )  # fmt: skip
    ProposeResult([], summary).write(folder)


def store_answers(folder: Path, answers: Iterable[tuple[str, str, str]]) -> None:
    """A model's answers: evaluation set, fact and text."""
    unknown = Likelihood(ids=(), logps=(), hits=(), mean=(), std=())
    rows = [
        AnswerRow(
            set=name, index=index, fact=fact, question="", answer="", value=None, truth=unknown, paraphrase=None,
            perturbed=(), generated=(), text=text, stop="end", gradient=None,
        )
        for index, (name, fact, text) in enumerate(answers)
    ]  # fmt: skip
    PredictResult(rows).write(folder)
