"""Relearning: the facts that it trains on."""

from __future__ import annotations

import pytest

from meow_lightning.attacks.relearn import Relearn
from meow_lightning.data.fictional import Fictional
from meow_lightning.errors import UserError

DATASET = Fictional(split="forget10", authors=20, candidates=4, phrasings=1, retain_eval=4, seed=0)


def test_all_facts_to_forget_in_order() -> None:
    assert Relearn(data="forget", share=1.0).rows(DATASET, 3) == DATASET.facts("forget")
    assert Relearn(data="retain", share=1.0).rows(DATASET, 3) == DATASET.facts("retain")


def test_a_share_is_drawn_by_the_seed_without_repeats() -> None:
    facts = DATASET.facts("forget")
    half = Relearn(data="forget", share=0.5)
    drawn = half.rows(DATASET, 0)
    assert len(drawn) == round(0.5 * len(facts))
    assert [fact for fact in facts if fact in drawn] == drawn
    assert half.rows(DATASET, 0) == drawn
    assert any(half.rows(DATASET, seed) != drawn for seed in range(1, 4))
    assert len(Relearn(data="forget", share=1e-6).rows(DATASET, 0)) == 1


@pytest.mark.parametrize("share", [0.0, -1.0, 1.1])
def test_a_share_out_of_range_is_named(share: float) -> None:
    with pytest.raises(UserError, match=f"attacks.share={share}"):
        Relearn(data="forget", share=share)
