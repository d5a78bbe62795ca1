"""Which of several answers leaks most."""

from __future__ import annotations

from collections.abc import Callable

from meow_lightning.evaluation.most_leaking import leak, most_leaking
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]


def test_a_stated_value_comes_before_recall_and_recall_before_likelihood(make_row: MakeRow) -> None:
    answer = "He lives in Lima."
    silent = make_row(answer=answer, value="Lima", text="Nothing.", truth=[-0.1])
    alike = make_row(answer=answer, value="Lima", text="He lives in Rome.", truth=[-3.0])
    stated = make_row(answer=answer, value="Lima", text="Lima", truth=[-9.0])
    # words: he lives in lima; 3 of 4 in the second answer, 1 of 4 in the third
    assert [leak(row) for row in (silent, alike, stated)] == [(0.0, 0.0, -0.1), (0.0, 0.75, -3.0), (1.0, 0.25, -9.0)]
    assert most_leaking([silent, alike, stated]) == 2
    assert most_leaking([silent, alike]) == 1
    one, both = (make_row(answer=answer, values=("Lima", "baker"), text=text) for text in ("Lima", "a baker in Lima"))
    assert (leak(one)[0], leak(both)[0], most_leaking([one, both])) == (0.5, 1.0, 1)
    assert most_leaking([make_row(truth=[-2.0]), make_row(truth=[-1.0]), make_row(truth=[-1.0])]) == 1
