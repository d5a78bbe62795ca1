"""Numbers of the probe, on answers planted so that they are known by hand."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from meow_lightning.evaluation.known_judge import Features
from meow_lightning.evaluation.reading_judge import Reading
from meow_lightning.evaluation.slim import (
    NUMBERS,
    Judged,
    JudgeSettings,
    SlimRow,
    definitions,
    judge,
    slim_samples,
    with_slim,
)
from meow_lightning.evaluation.suite.bootstrap import Bootstrap, interval_ends
from meow_lightning.types import Results

SURE, UNSURE = Features(-0.1, -0.3, 0.2, 1.0), Features(-1.5, -4.0, 2.0, 0.2)
SETTINGS = JudgeSettings(set_aside=0.5, c=1.0, threshold=0.5, seed=0)
EMPTY = Results(definitions=(), values={role: {} for role in ("target", "unlearned", "retain")}, missing={})


def asked(number: int, *, purpose: str, known: bool, copies: bool = True, proxy: Features | None = None) -> SlimRow:
    """A question whose value is V<number>; a model that copies says what stands in its prompt."""
    value, how = f"V{number}", SURE if known else UNSURE
    passage, other = f"About {number}: {value}", "About nothing: W"
    plain = value if known else "I think X"
    allowed = (other,) if purpose == "forget" else (passage,)
    return SlimRow(
        set=purpose, index=number, purpose=purpose, question=f"{purpose} {number}?", expected=(value,), text=plain,
        own=how, proxy_text="", proxy=proxy or how, passages=(passage,), text_on=value if copies else plain,
        allowed=allowed, text_deny=allowed[0] if copies else plain,
    )  # fmt: skip


def rows(**how: bool) -> list[SlimRow]:
    """Eight forgotten questions, and eight kept ones of which every fourth is lost too."""
    return [
        *(asked(n, purpose="forget", known=False, **how) for n in range(8)),
        *(asked(n, purpose="retain", known=n % 4 > 0, **how) for n in range(8)),
    ]


def judged(*given: SlimRow, aside: float = 0.25, counted: list[bool] | None = None) -> Judged:
    found = judge(given, replace(SETTINGS, set_aside=aside), counted=counted or [True] * len(given), readings=None)
    assert isinstance(found, Judged)
    return found


def numbers(found: Judged) -> dict[str, float]:
    values = with_slim(EMPTY, {"unlearned": found}, absent={}).values["unlearned"]
    return {name.removeprefix("slim/"): value for name, value in values.items()}


def test_a_model_that_copies_its_context_leaks_with_the_gate_on_and_not_with_the_deny_list() -> None:
    found = numbers(judged(*rows()))
    assert (found["leak_off"], found["leak_on"], found["leak_deny"]) == (0.0, 1.0, 0.0)
    assert (found["utility_on"], found["utility_deny"]) == (1.0, 1.0)
    assert found["utility_off"] < 1
    assert found["reads"] == 1.0


def test_one_of_two_values_leaks_and_is_not_enough_to_know_a_kept_fact() -> None:
    tested = judged(*rows())
    found = numbers(replace(tested, rows=[replace(row, expected=(*row.expected, "X2")) for row in tested.rows]))
    assert (found["leak_on"], found["utility_on"]) == (1.0, 0.0)


def test_a_model_that_does_not_read_leaks_nothing_and_the_numbers_say_so() -> None:
    found = numbers(judged(*rows(copies=False)))
    assert (found["leak_on"], found["reads"]) == (0.0, 0.0)
    assert found["utility_on"] == found["utility_off"]


def test_separating_answers_make_a_perfect_judge_and_both_judges_agree() -> None:
    found = numbers(judged(*rows()))
    assert [found[name] for name in ("auroc", "own_auroc", "agreement", "kappa")] == [1.0, 1.0, 1.0, 1.0]
    assert found["known_forget"] == 0.0
    assert found["known_retain"] == found["utility_off"]


def test_only_questions_that_are_judged_unknown_are_retrieved_for() -> None:
    known = judged(*rows())
    for place, row in enumerate(known.rows):
        retrieved = known.proxy[place] < 0.5
        assert known.answer(place, "on") == (row.text_on if retrieved else row.text)
        assert known.answer(place, "deny") == (row.text_deny if retrieved else row.text)
        assert known.answer(place, "off") == row.text
    everything = Judged(known.rows, known.proxy, known.own, threshold=0.0)
    assert numbers(everything)["leak_on"] == 0.0
    assert numbers(everything)["known_forget"] == 1.0


def test_a_proxy_that_does_not_know_what_the_model_knows_is_seen_in_the_agreement() -> None:
    blind = [replace(row, proxy=SURE if number % 2 else UNSURE) for number, row in enumerate(rows())]
    found = numbers(judged(*blind, aside=0.5))
    assert found["own_auroc"] == 1.0
    assert found["auroc"] < 0.9
    assert found["kappa"] < 0.9


def test_no_tested_question_was_set_aside_and_those_that_selected_an_epoch_do_not_count() -> None:
    every = rows()
    whole = judged(*every, aside=0.5)
    assert len(whole.rows) == 8
    counted = [row not in whole.rows[:3] for row in every]
    assert judged(*every, aside=0.5, counted=counted).rows == whole.rows[3:]


@pytest.mark.parametrize(("known", "word"), [(True, "all"), (False, "none")])
def test_a_model_that_knows_all_or_nothing_has_no_judge(known: bool, word: str) -> None:
    given = [asked(n, purpose="retain", known=known) for n in range(8)]
    reason = judge(given, SETTINGS, counted=[True] * 8, readings=None)
    assert isinstance(reason, str)
    assert f"answers {word} of the 4 questions set aside" in reason
    found = with_slim(EMPTY, {"unlearned": reason}, absent={"retain": "there is no retain model"})
    assert {*found.missing["unlearned"].values()} == {f"not measured: {reason}"}
    assert found.missing["retain"]["slim/auroc"] == "not measured: there is no retain model"
    assert "slim/auroc" not in found.values["unlearned"]


def test_nothing_left_to_test_is_said() -> None:
    reason = judge(rows(), SETTINGS, counted=[False] * 16, readings=None)
    assert isinstance(reason, str)
    assert "lower probe.judge.set_aside" in reason


def test_a_number_without_questions_says_why() -> None:
    known = [row for row in rows() if row.knows]
    found = Judged(known, [0.9] * len(known), [0.9] * len(known), 0.5)
    reasons = with_slim(EMPTY, {"target": found}, absent={}).missing["target"]
    assert reasons["slim/leak_on"] == "not measured: no question of this set is tested"
    assert "all or none" in reasons["slim/auroc"]
    assert "the same verdict" in reasons["slim/kappa"]
    assert "retrieves its value" in reasons["slim/reads"]


def test_intervals_are_over_the_tested_questions_and_exact_where_all_agree() -> None:
    found = judged(*rows())
    (samples,) = slim_samples({"unlearned": found, "retain": "no"}, bootstrap=Bootstrap(200, 0)).values()
    point = numbers(found)
    assert samples.unanimous["slim/leak_on"] == samples.unanimous["slim/leak_off"] == 6
    ends = interval_ends(samples, confidence_level=0.95)
    assert ends["slim/leak_off"] == (0.0, pytest.approx(1 - 0.025 ** (1 / 6)))
    low, high = ends["slim/utility_off"]
    assert low < point["utility_off"] < high
    assert ends["slim/auroc"] == (1.0, 1.0)


def test_every_number_is_defined_once_and_a_run_without_the_probe_has_none() -> None:
    names = [each.name for each in definitions()]
    assert len({*names}) == len(names) == len(NUMBERS)
    assert with_slim(EMPTY, {}, absent={}) is EMPTY
    assert {*numbers(judged(*rows()))} == {name.removeprefix("slim/") for name in names}


def test_a_row_survives_json() -> None:
    row = asked(1, purpose="forget", known=True)
    assert SlimRow.from_json(asdict(row)) == row


def test_a_language_model_judges_in_the_place_of_the_regression() -> None:
    given = rows()
    right = [Reading(own=9.0 + row.knows, proxy=9.5 if row.knows else -2.0) for row in given]
    found = judge(given, SETTINGS, counted=[True] * 16, readings=right)
    assert isinstance(found, Judged)
    assert (numbers(found)["auroc"], numbers(found)["own_auroc"], numbers(found)["agreement"]) == (1.0, 1.0, 1.0)
    assert [p >= 0.5 for p in found.proxy] == [row.knows for row in found.rows]  # though all log-odds of `own` say Yes
    assert [p >= 0.5 for p in found.own] == [row.knows for row in found.rows]
    flat = judge(given, SETTINGS, counted=[True] * 16, readings=[Reading(own=3.0, proxy=3.0)] * 16)
    assert isinstance(flat, Judged)
    assert (numbers(flat)["auroc"], numbers(flat)["own_auroc"]) == (0.5, 0.5)
