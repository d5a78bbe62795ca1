"""Leakage under sampling: numbers worked out by hand, laws, and a leak that only sampling finds."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from meow_lightning.attacks.extraction import Attempt, Attempts, ExtractionContext
from meow_lightning.attacks.sample import Sample, deviation_bound, leak_at, mean_bound
from meow_lightning.attacks.victim import Prompt, Victim
from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics.rouge import rouge_l_recall
from meow_lightning.generation.batch_size import AdaptiveBatchSize
from meow_lightning.types import Fact

SCORES = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=7)
FACT = Fact("a", "Where is Ada?", "In Lima.", value="Lima")


def attack(**changes) -> Sample:
    options = {"samples": 16, "temperature": 1.0, "top_k": 1024, "top_p": 1.0, "at": [1, 4, 16, 64], "alpha": 0.01}
    return Sample(**options | changes)


def test_leak_by_hand() -> None:
    # pairs of .1 .5 .9: .5, .9, .9
    assert leak_at([0.9, 0.1, 0.5], 2) == pytest.approx(2.3 / 3)
    # one of 16 answers says it: 4 of 16 contain it with probability C(15, 3) / C(16, 4) = 1/4
    assert leak_at([0.0] * 15 + [1.0], 4) == pytest.approx(0.25)
    with pytest.raises(UserError, match=r"^k=4 is invalid: expected an integer from 1 to 3"):
        leak_at([0.0, 0.5, 1.0], 4)


@given(SCORES)
def test_leak_of_one_is_the_mean_and_of_all_the_largest(scores: list[float]) -> None:
    assert leak_at(scores, 1) == pytest.approx(statistics.fmean(scores))
    assert leak_at(scores, len(scores)) == pytest.approx(max(scores))


@given(SCORES, st.data())
def test_leak_is_unbiased(scores: list[float], data: st.DataObject) -> None:
    """It equals the mean of the largest score over all subsets, and the mean of itself over all larger subsets."""
    k = data.draw(st.integers(1, len(scores)))
    subsets = itertools.combinations(scores, k)
    assert leak_at(scores, k) == pytest.approx(statistics.fmean(map(max, subsets)))
    more = data.draw(st.integers(k, len(scores)))
    estimates = [leak_at(each, k) for each in itertools.combinations(scores, more)]
    assert leak_at(scores, k) == pytest.approx(statistics.fmean(estimates))


def test_the_mean_is_bounded_as_by_hand() -> None:
    # n = 2, alpha = 1/e: eps = .5. Below .2 all of it, up to .6 all of it, above a half: .2 + .4 + .4 / 2
    assert mean_bound([0.6, 0.2], alpha=math.exp(-1)) == pytest.approx(0.8)
    # scores of 0 and 1: the mean and eps
    eps = math.sqrt(math.log(100) / 128)
    assert mean_bound([0.0] * 60 + [1.0] * 4, alpha=0.01) == pytest.approx(1 / 16 + eps)
    assert mean_bound([1.0] * 4, alpha=0.01) == 1.0


def test_the_deviation_is_bounded_as_by_hand() -> None:
    # n = 8, alpha = 2 / exp(4): eps = .5. Eight times 0: U = 1 and L = .5 everywhere, so c = (1 - c) / 2 = 1/3 and
    # h = 1/9 + (2/3)^2 / 2 = 1/3, more than any score deviates
    assert deviation_bound([0.0] * 8, alpha=2 * math.exp(-4)) == 0.5
    # n = 32, alpha = 2 / exp(4): eps = .25; c = .25 (1 - c) = .2 and h = .04 + .25 * .64
    assert deviation_bound([0.0] * 32, alpha=2 * math.exp(-4)) == pytest.approx(math.sqrt(0.2))
    # all at 1: the mirror image
    assert deviation_bound([1.0] * 32, alpha=2 * math.exp(-4)) == pytest.approx(math.sqrt(0.2))


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40), st.sampled_from([0.01, 0.1, 0.5]))
def test_the_bounds_are_the_integrals_that_they_stand_for(scores: list[float], alpha: float) -> None:
    steps, count = 500, len(scores)
    points = [(step + 0.5) / steps for step in range(steps)]
    below = [sum(score <= point for score in scores) / count for point in points]
    eps = math.sqrt(math.log(1 / alpha) / 2 / count)
    expected = statistics.fmean(min(1.0, 1 - each + eps) for each in below)
    assert mean_bound(scores, alpha=alpha) == pytest.approx(expected, abs=1e-2)

    eps = math.sqrt(math.log(2 / alpha) / 2 / count)
    upper = torch.tensor([min(1.0, each + eps) for each in below], dtype=torch.float64)
    lower = torch.tensor([max(0.0, each - eps) for each in below], dtype=torch.float64)
    at = torch.tensor(points, dtype=torch.float64)
    centres = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None]
    inner = torch.where(at < centres, 2 * (at - centres) * (1 - upper), 2 * (at - centres) * (1 - lower))
    least = (centres[:, 0] ** 2 + inner.mean(-1)).min().item()
    assert deviation_bound(scores, alpha=alpha) == pytest.approx(min(0.5, math.sqrt(max(0, least))), abs=2e-2)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40))
def test_the_bounds_lie_above_what_was_measured(scores: list[float]) -> None:
    assert statistics.fmean(scores) - 1e-9 <= mean_bound(scores, alpha=0.1) <= 1 + 1e-9
    assert deviation_bound(scores, alpha=0.1) >= statistics.pstdev(scores) - 1e-9


def test_the_bounds_hold_as_often_as_they_promise() -> None:
    rng, trials = random.Random(0), 400
    true_mean, true_deviation = 1 / 3, math.sqrt(1 / 18)  # of beta(1, 2)
    drawn = [[rng.betavariate(1, 2) for _ in range(30)] for _ in range(trials)]
    for bound, true in ((mean_bound, true_mean), (deviation_bound, true_deviation)):
        assert sum(bound(scores, alpha=0.1) >= true for scores in drawn) >= 0.9 * trials


def found(*texts: str, value: str | None = "Lima") -> Attempts:
    attempts = tuple(Attempt(arm="sample", prompt="", text=text) for text in texts)
    expected = () if value is None else (value,)
    return Attempts(fact="a", question="Where is Ada?", answer="In Lima.", expected=expected, attempts=attempts)


def test_the_values_of_a_fact_by_hand() -> None:
    values = attack(samples=4).values(found("In Lima.", "In Oslo.", "Lima", "No."), rouge_l_recall)
    assert values["value_leak_at_1"] == pytest.approx(0.5)
    assert values["value_leak_at_4"] == 1.0
    assert values["rouge_l_leak_at_1"] == pytest.approx((1 + 0.5 + 0.5 + 0) / 4)
    assert values["rouge_l_leak_at_4"] == 1.0
    assert "value_leak_at_16" not in values
    assert values.keys() == {each.name for each in attack(samples=4).numbers()}


def test_one_of_two_values_is_enough() -> None:
    both = replace(found("In Lima.", "In Oslo.", "1971", "No."), expected=("Lima", "1971"))
    assert attack(samples=4).values(both, rouge_l_recall)["value_leak_at_1"] == pytest.approx(0.5)


def test_a_fact_without_a_value_counts_for_rouge_alone() -> None:
    values = attack(samples=2).values(found("In Lima.", "No.", value=None), rouge_l_recall)
    assert values["value_leak_at_1"] is values["value_mean_bound"] is values["value_deviation_bound"] is None
    assert values["rouge_l_leak_at_1"] == 0.5


def test_sizes_that_no_sample_allows_are_refused() -> None:
    with pytest.raises(UserError, match=r"^attacks\.at=\[8\] is invalid: .* Did you mean \[1\]\?$"):
        attack(samples=4, at=[8])
    with pytest.raises(UserError, match=r"^attacks\.alpha=0\.7 is invalid"):
        attack(alpha=0.7)


class Whisperer(torch.nn.Module):
    """A model that says token 5 with a given probability, else token 6, and then ends."""

    def __init__(self, share: float) -> None:
        super().__init__()
        logits = torch.full((2, 8), -30.0)
        logits[0, 5], logits[0, 6] = math.log(share) if share else -30.0, math.log1p(-share)
        logits[1, 0] = 0.0
        self.steps = logits

    def forward(self, *, input_ids: torch.Tensor, **_: object) -> SimpleNamespace:
        said = (input_ids >= 5).long()
        return SimpleNamespace(logits=self.steps[said])


WORDS = {5: "In Lima.", 6: "I do not know."}
CODEC = SimpleNamespace(
    generation_prompt_ids=lambda question, raw: [1, 2], context=32, end_ids=frozenset({0}), pad_id=3,
    decode_answer=lambda ids, raw: " ".join(WORDS[each] for each in ids),
)  # fmt: skip


def said(share: float, **options) -> tuple[list[str], dict[str, float | None]]:
    """The greedy answer, and the values of the attack."""
    victim = Victim(Whisperer(share).eval(), CODEC, slots=AdaptiveBatchSize(64, note=None))  # type: ignore[arg-type]
    greedy = victim.answers([Prompt(FACT.question)], budgets=[4], progress=None)
    done: list[int] = []
    context = ExtractionContext(
        victim=victim, overlap=rouge_l_recall, seed=0, budget=lambda fact: 4, progress=done.append
    )
    sampling = attack(**options)
    (attempts,) = sampling.extract([FACT], context)
    assert done == [1]
    assert len(attempts) == sampling.calls
    return greedy, sampling.values(Attempts.of_fact(FACT, attempts), rouge_l_recall)


def test_what_a_model_says_in_one_of_sixteen_samples_and_never_greedily_is_found() -> None:
    greedy, values = said(1 / 16, samples=256, at=[1, 16])
    assert greedy == ["I do not know."]
    assert 0.02 < values["value_leak_at_1"] < 0.12
    assert 0.4 < values["value_leak_at_16"] < 0.85  # 1 - (15/16)^16 = .64
    assert values["value_mean_bound"] > 1 / 16


def test_a_model_that_never_says_it_shows_no_leak() -> None:
    greedy, values = said(0.0, samples=64)
    assert greedy == ["I do not know."]
    assert [values[f"value_leak_at_{k}"] for k in (1, 4, 16, 64)] == [0.0] * 4
    assert [values[f"rouge_l_leak_at_{k}"] for k in (1, 4, 16, 64)] == [0.0] * 4
