"""A language model that says whether an answer is correct: log-odds, threshold and probabilities by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from meow_lightning.errors import UserError
from meow_lightning.evaluation.reading_judge import (
    best_threshold,
    log_odds,
    next_logits,
    read_probabilities,
    yes_no_tokens,
)
from meow_lightning.models.tiny import llama


class Spelled:
    """A tokenizer that encodes letter by letter, or word by word."""

    def __init__(self, *, letters: bool) -> None:
        self.known: dict[str, int] = {}
        self.letters = letters

    def __call__(self, text: str, *, add_special_tokens: bool) -> Any:
        parts = list(text) if self.letters else [text]
        ids = [self.known.setdefault(part, len(self.known)) for part in parts]
        return type("Encoding", (), {"input_ids": ids})


def test_log_odds_compare_all_spellings_of_yes_with_all_of_no() -> None:
    logits = torch.tensor([1.0, 2.0, 3.0, 0.5])
    assert log_odds(logits, [0, 1], [2]) == pytest.approx(math.log((math.e + math.e**2) / math.e**3))
    assert log_odds(logits + 7, [0, 1], [2]) == pytest.approx(log_odds(logits, [0, 1], [2]))  # of any constant
    assert log_odds(logits, [2], [0, 1]) == pytest.approx(-log_odds(logits, [0, 1], [2]))


def test_tokens_that_begin_both_words_count_for_neither() -> None:
    yes, no = yes_no_tokens(Spelled(letters=False))  # type: ignore[arg-type]
    assert (len(yes), len(no)) == (5, 5)
    letters = Spelled(letters=True)
    yes, no = yes_no_tokens(letters)  # type: ignore[arg-type]
    assert {*yes} == {letters.known["Y"], letters.known["y"]}
    assert {*no} == {letters.known["N"], letters.known["n"]}  # both words may begin with a space
    with pytest.raises(UserError, match="begins Yes and No with the same token"):
        yes_no_tokens(lambda text, *, add_special_tokens: type("Encoding", (), {"input_ids": [1]}))  # type: ignore[arg-type]


def test_the_threshold_separates_best_and_is_the_probability_of_one_half() -> None:
    scores, known = [4.0, 5.0, 1.0, 2.0, 4.4], [True, True, False, False, False]
    assert best_threshold([4.0, 5.0, 1.0, 2.0], known[:4]) == 3.0
    assert best_threshold(scores, known) == 3.0  # both known above, one of three unknown: better than 4.7
    assert read_probabilities(scores, known, [3.0, 3.0 + math.log(3), -2000.0, 2000.0]) == pytest.approx(
        [0.5, 0.75, 0.0, 1.0]
    )
    assert best_threshold([2.0, 2.0], [True, False]) == 2.0  # nothing to choose from
    assert best_threshold([1.0, 2.0], [True, False]) == 2.0  # worse than chance everywhere


@given(
    st.lists(st.floats(-50, 50), min_size=2, max_size=12, unique=True), st.integers(1, 11), st.floats(0.1, 5),
    st.floats(-9, 9),
)  # fmt: skip
def test_what_is_separable_is_separated_however_the_model_leans(
    scores: list[float], cut: int, scale: float, shift: float
) -> None:  # fmt: skip
    ranked = [scale * each + shift for each in sorted(scores)]
    cut = min(cut, len(ranked) - 1)
    if ranked[cut] - ranked[cut - 1] < 1e-6:
        return
    known = [place >= cut for place in range(len(ranked))]
    assert [p >= 0.5 for p in read_probabilities(ranked, known, ranked)] == known


def test_the_logits_are_those_of_the_last_position() -> None:
    torch.manual_seed(0)
    model = llama(
        vocab_size=20, hidden_size=16, layers=1, heads=2, intermediate_size=32, context=16, end_id=1, pad_id=0
    ).eval()  # fmt: skip
    whole = model(input_ids=torch.tensor([[3, 4, 5, 6]])).logits[0]
    assert torch.allclose(next_logits(model, [3, 4, 5]), whole[2], atol=1e-5)
    assert not torch.allclose(next_logits(model, [3, 4, 5]), whole[1], atol=1e-5)
