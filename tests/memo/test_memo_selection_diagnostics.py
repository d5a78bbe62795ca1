from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from scipy import stats

from meow_lightning.memo.selection_diagnostics import (
    Agreement,
    Selection,
    agreement,
    centred,
    pearson,
    ranks,
    selection,
    shared,
    shared_at_least,
    spearman,
    tied,
    warnings,
    wordiest_first,
    words,
)
from meow_lightning.types import ScoredText


def scored(fact: str, *candidates: tuple[float, int]) -> list[ScoredText]:
    """Candidates of a fact from scores and lengths in words."""
    return [
        ScoredText(fact, "candidate", place, " ".join(["word"] * length), score, (score,))
        for place, (score, length) in enumerate(candidates)
    ]


# What choosing 3 of 8 might look like where it says something.
TELLING = Selection(
    facts=40, candidates=320, fewest=8, most=8, k=3, strategy="largest", shared=0.0, shared_at_least=0.0,
    shared_by_chance=0.375, wordiest_first=0.2, wordiest_by_chance=0.125, pearson=0.2, spearman=0.3,
    pearson_within=0.4, spearman_within=0.4, spread=0.15, tied=1,
)  # fmt: skip


def test_all_figures_of_two_facts() -> None:
    texts = [*scored("a", (0.2, 3), (0.6, 5), (0.1, 2), (0.4, 4)), *scored("b", (0.5, 1), (0.5, 6))]
    found = selection(texts, k=1, strategy="largest")
    assert (found.facts, found.candidates, found.fewest, found.most, found.k) == (2, 6, 2, 4, 1)
    # fact a: 1 and 2, nothing shared; fact b: equal scores, both take the first one
    assert found.shared == 0.5
    assert found.shared_at_least == 0.0
    assert found.shared_by_chance == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert found.wordiest_first == 0.5
    assert found.wordiest_by_chance == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert found.spread == pytest.approx((0.5 + 0.0) / 2)
    assert found.tied == 1
    assert found.pearson == pytest.approx(stats.pearsonr([0.2, 0.6, 0.1, 0.4, 0.5, 0.5], [3, 5, 2, 4, 1, 6])[0])
    # within fact a the means are .325 and 3.5, within b .5 and 3.5:
    # dx = -.125 .275 -.225 .075 0 0, dy = -.5 1.5 -1.5 .5 -2.5 2.5: 0.85 / sqrt(.1475 * 17.5)
    assert found.pearson_within == pytest.approx(0.85 / (0.1475 * 17.5) ** 0.5)
    # ranks 2 6 1 5 3.5 3.5 and 3 5 2 4 1 6, both with mean 3.5: 9 / sqrt(17 * 17.5)
    assert found.spearman_within == pytest.approx(9 / (17 * 17.5) ** 0.5)


def test_three_of_four_share_two_whatever_the_scores() -> None:
    texts = [text for fact in "abc" for text in scored(fact, (0.2, 3), (0.6, 5), (0.1, 2), (0.4, 4))]
    found = selection(texts, k=3, strategy="smallest")
    assert found.shared == found.shared_at_least == 2 / 3, "to the last bit: it is held against two thirds"
    assert found.shared_by_chance == pytest.approx(0.75)
    assert found.tied == 0


def test_facts_need_not_lie_together() -> None:
    first, second = scored("a", (0.9, 1), (0.1, 1)), scored("b", (0.3, 1), (0.2, 1))
    mixed = [first[0], second[0], first[1], second[1]]
    assert selection(mixed, k=1, strategy="largest") == selection(first + second, k=1, strategy="largest")


def test_nothing_to_select_from() -> None:
    with pytest.raises(ValueError, match="no candidates to select from"):
        selection([], k=1, strategy="largest")


def test_a_fact_with_fewer_candidates_gives_all_it_has() -> None:
    texts = [*scored("a", (0.1, 1)), *scored("b", (0.1, 1), (0.2, 1), (0.3, 1), (0.4, 1))]
    found = selection(texts, k=2, strategy="largest")
    assert found.shared == found.shared_at_least == 1 / 3  # one of one and none of two
    assert found.shared_by_chance == pytest.approx((1 + 1 / 2) / 2)
    assert (found.fewest, found.most, found.tied) == (1, 4, 0)


@pytest.mark.parametrize(
    ("scores", "k", "both"),
    [
        ([0.1, 0.2, 0.3, 0.4], 1, 0),
        ([0.1, 0.2, 0.3, 0.4], 2, 0),
        ([0.1, 0.2, 0.3, 0.4], 3, 2),
        ([0.1, 0.2, 0.3, 0.4], 4, 4),
        ([0.5] * 8, 3, 3),  # the first three, twice
        ([0.5, 0.5, 0.5, 0.9, 0.1], 2, 1),  # 3, 0 and 4, 0
    ],
)
def test_overlap_of_largest_and_smallest(scores: list[float], k: int, both: int) -> None:
    assert shared(scores, k=k) == both


def test_results_that_must_be_shared() -> None:
    assert [shared_at_least(4, k=k) for k in (1, 2, 3, 4)] == [0, 0, 2, 4]
    assert shared_at_least(8, k=3) == 0


def test_the_wordiest_first_and_a_share_of_it_among_equals() -> None:
    assert wordiest_first([0.1, 0.9], [2, 7]) == 1
    assert wordiest_first([0.9, 0.1], [2, 7]) == 0
    assert wordiest_first([0.9, 0.1, 0.2], [7, 7, 3]) == 0.5
    assert wordiest_first([0.4, 0.4, 0.4, 0.4], [5, 5, 5, 5]) == 0.25, "as by chance"


def test_ties_count_where_they_lie_across_the_cut() -> None:
    scores = [0.9, 0.4, 0.4, 0.1]
    assert [tied(scores, k=k, strategy="largest") for k in (1, 2, 3, 4)] == [False, True, False, False]
    assert [tied([0.9, 0.1, 0.1, 0.1], k=k, strategy="largest") for k in (1, 2, 3)] == [False, True, True]
    assert [tied([0.9, 0.1, 0.1, 0.1], k=k, strategy="smallest") for k in (1, 2, 3)] == [True, True, False]
    assert not tied(scores, k=2, strategy="random")


def test_groups_are_centred_on_their_own_mean() -> None:
    assert centred([[1.0, 3.0], [10.0], [0.0, 0.0, 6.0]]) == [-1.0, 1.0, 0.0, -2.0, -2.0, 4.0]


def test_correlations() -> None:
    # dx = -1.5 -.5 .5 1.5, dy = -1 -2 1 2: sum of products 6, of squares 5 and 10
    assert pearson([1, 2, 3, 4], [2, 1, 4, 5]) == pytest.approx(6 / 50**0.5)
    assert pearson([1, 2, 3], [-1, -2, -3]) == -1.0
    assert spearman([1, 2, 3, 4], [1, 10, 100, 1000]) == 1.0
    values, others = [0.3, 0.1, 0.3, 0.7, 0.2], [4, 4, 9, 2, 4]
    assert ranks(others) == [3, 3, 5, 1, 3]
    assert spearman(values, others) == pytest.approx(stats.spearmanr(values, others).statistic)


@pytest.mark.parametrize(
    ("first", "second"),
    [([], []), ([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [0.3, 0.1 + 0.2, 0.3])],
)
def test_undefined_correlations_are_none(first: list[float], second: list[float]) -> None:
    assert pearson(first, second) is None
    assert spearman(first, second) is None


def test_rounding_of_equal_scores_makes_no_correlation() -> None:
    texts = [text for fact in "abc" for text in scored(fact, *((0.1, length) for length in (3, 1, 2)))]
    found = selection(texts, k=1, strategy="largest")
    assert found.pearson_within is found.spearman_within is found.pearson is found.spearman is None


def test_words_stand_between_blanks() -> None:
    assert words("  In Lima,\nin 1950. ") == 4
    assert words("") == 0


def test_a_telling_choice_is_left_alone() -> None:
    assert warnings(TELLING) == []


def test_a_full_selection_is_the_only_message() -> None:
    (said,) = warnings(selection(scored("a", (0.1, 1), (0.1, 2)), k=2, strategy="largest"))
    assert said == (
        "selecting k=2 of 2 candidates: all are selected, so MEMO has no influence; "
        "write more candidates per fact or use a smaller k"
    )


def test_too_many_shared_by_count() -> None:
    found = replace(TELLING, fewest=4, most=4, shared=0.7, shared_at_least=2 / 3)
    expected = (
        "selecting k=3 of 4 candidates: largest and smallest share 2.1 of 3, so the strategy makes hardly any "
        "difference; write more candidates per fact or use a smaller k"
    )
    assert warnings(found) == [expected]
    assert warnings(replace(found, strategy="random", spread=0.0, tied=0)) == [expected]
    assert warnings(replace(found, fewest=3))[0].startswith("selecting k=3 of 3 to 4 candidates: ")
    assert warnings(replace(TELLING, shared=0.66, shared_at_least=0.66)) == []


def test_too_many_shared_by_ties() -> None:
    expected = (
        "in 9 of 40 facts the last selected and the first unselected candidate have equal scores, so their order "
        "decided instead of MEMO (largest and smallest share 2.1 of 3); write candidates that differ more"
    )
    assert warnings(replace(TELLING, shared=0.7, tied=9)) == [expected]
    assert warnings(replace(TELLING, tied=9)) == []
    (said,) = warnings(replace(TELLING, tied=10))
    assert said.startswith("in 10 of 40 facts ")
    assert said.count("share 0.0 of 3") == 1


def test_candidates_that_score_alike() -> None:
    (said,) = warnings(replace(TELLING, spread=0.0114))
    assert "largest and smallest score differ by 0.011 on average (expected: at least 0.02)" in said
    assert warnings(replace(TELLING, spread=0.02)) == []


def test_scores_that_follow_length() -> None:
    (said,) = warnings(replace(TELLING, pearson_within=0.65, wordiest_first=0.54, wordiest_by_chance=0.25))
    assert said == (
        "scores follow length: within a fact MEMO and the number of words correlate by 0.65, and the wordiest "
        "candidate scores highest in 54% of the facts (by chance 25%), so MEMO ranks by length rather than memory; "
        "write candidates of similar length, or check that the model ends its answers"
    )
    (said,) = warnings(replace(TELLING, pearson_within=-0.9))
    assert "correlate by -0.90" in said
    assert said.endswith("write candidates of similar length")
    assert warnings(replace(TELLING, pearson_within=0.59)) == []
    assert warnings(replace(TELLING, pearson_within=0.99, candidates=39)) == [], "so few may do so by chance"


def test_a_random_choice_does_not_look_at_scores() -> None:
    assert warnings(replace(TELLING, strategy="random", spread=0.0, pearson_within=1.0)) == []


@pytest.mark.parametrize(
    ("wordy", "within", "spread", "count"),
    [
        (
            0.54,
            0.65,
            0.0115,
            2,
        ),  # Phi-1.5 of MEOW's score files; the correlation that fits such a share of the wordiest
        (0.43, 0.45, 0.082, 0),  # Llama2-7B
    ],
)
def test_published_scores_of_phi_would_warn_and_those_of_llama_not(
    wordy: float, within: float, spread: float, count: int
) -> None:
    found = replace(
        TELLING, k=1, fewest=4, most=4, candidates=160, wordiest_first=wordy, pearson_within=within, spread=spread
    )
    assert len(warnings(found)) == count


def test_it_needs_neither_torch_nor_scipy() -> None:
    code = (
        "import sys, meow_lightning.memo.selection_diagnostics; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_agreement_of_two_models_on_the_candidates_both_scored() -> None:
    target = [*scored("a", (0.2, 3), (0.6, 5), (0.1, 2), (0.4, 4)), *scored("b", (0.5, 1), (0.7, 6))]
    baseline = [*scored("a", (0.3, 3), (0.1, 5), (0.2, 2), (0.9, 4)), *scored("b", (0.4, 1))]
    found = agreement(target, baseline, k=2)
    # fact a: the target prefers 1 and 3, the baseline 3 and 0, one of two; fact b: one candidate, and both select it
    assert found.shared == pytest.approx((1 + 1) / (2 + 1))
    # fact a, means .325 and .375: dx = -.125 .275 -.225 .075, dy = -.075 -.275 -.175 .525; fact b: 0 and 0
    dx, dy = [-0.125, 0.275, -0.225, 0.075, 0.0], [-0.075, -0.275, -0.175, 0.525, 0.0]
    assert found.correlation == pytest.approx(stats.pearsonr(dx, dy)[0])


def test_with_a_baseline_the_differences_are_selected_by() -> None:
    target, baseline = scored("a", (0.5, 1), (0.5, 2), (0.75, 3)), scored("a", (0.5, 1), (0.25, 2), (0.75, 3))
    found = selection(target, k=1, strategy="largest", baseline=baseline)
    assert found.spread == 0.25
    assert found.agreement == agreement(target, baseline, k=1)
    assert selection(target, k=1, strategy="largest").agreement is None


def test_a_selection_that_follows_wording_is_reported() -> None:
    (sentence,) = warnings(replace(TELLING, agreement=Agreement(correlation=0.78, shared=2.5 / 3)))
    assert sentence.startswith(
        "a model that never saw the facts scores the candidates of a fact alike (correlation 0.78"
    )
    assert "2.5 of the target's 3, by chance 1.1" in sentence
    assert warnings(replace(TELLING, agreement=Agreement(correlation=0.5, shared=0.5))) == []
