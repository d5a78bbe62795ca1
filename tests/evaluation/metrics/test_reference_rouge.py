from __future__ import annotations

from collections.abc import Callable

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics import optional_metrics
from meow_lightning.evaluation.suite.inputs import SideInputs
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.types import AnswerRow, Fact, Results

MakeRow = Callable[..., AnswerRow]
PARAPHRASE, PERTURBED = "forget/paraphrase_rouge_l_recall", "forget/perturbed_rouge_l_recall"
EXTRA = ("paraphrase_rouge_l_recall", "perturbed_rouge_l_recall")
FACT = Fact("forget-0", "Where?", "In Rome.", paraphrase="Born in Rome", perturbed=("Born in Oslo", "Rome or Lima"))


def results(row: AnswerRow, *facts: Fact) -> Results:
    side = SideInputs(extra_metrics=EXTRA, examples={fact.id: fact for fact in facts})
    return evaluate({"target": [row]}, {}, truth_ratio_mean="geometric", side_inputs=side)


def test_recall_of_the_other_answers(make_row: MakeRow) -> None:
    row = make_row(text="in Rome", paraphrase=[-1.0], perturbed=[[-1.0], [-1.0]])
    found = results(row, FACT).values["target"]
    assert found[PARAPHRASE] == pytest.approx(2 / 3, rel=1e-12)  # "in Rome" of "Born in Rome"
    assert found[PERTURBED] == pytest.approx((1 / 3 + 1 / 3) / 2, rel=1e-12)  # "in" of one, "Rome" of the other


def test_a_question_without_a_paraphrase_does_not_count(make_row: MakeRow) -> None:
    bare = Fact("forget-0", "Where?", "In Rome.")
    found = results(make_row(text="in Rome"), bare).missing["target"]
    assert found[PARAPHRASE] == "none of its questions counts"
    assert found[PERTURBED].startswith("1 of 1 questions of set 'forget' have no wrong (perturbed) answers")


def test_predictions_without_their_texts_are_not_measured(make_row: MakeRow) -> None:
    found = results(make_row(text="in Rome", perturbed=[[-1.0]])).missing["target"]
    assert found[PARAPHRASE] == found[PERTURBED]
    assert found[PARAPHRASE].startswith("the texts of set 'forget' are not at hand")


def test_an_unknown_metric_is_refused(make_row: MakeRow) -> None:
    assert {*EXTRA, "truth_probability"} <= set(optional_metrics())
    side = SideInputs(extra_metrics=("perturbed_rouge",))
    with pytest.raises(UserError, match=r"^evaluation\.extra_metrics=perturbed_rouge is invalid: .* mean perturbed_r"):
        evaluate({"target": [make_row()]}, {}, truth_ratio_mean="geometric", side_inputs=side)
