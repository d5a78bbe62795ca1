from __future__ import annotations

from typing import Any

import pytest

from meow_lightning.data.examples import Passage
from meow_lightning.data.tinymem import SPLITS, TinyMem
from meow_lightning.errors import UserError


def tinymem(**changes: Any) -> TinyMem:
    options = {
        "forget": 8, "retain": 20, "held_out": 10, "prefix_terms": 4, "target_terms": 6, "steps": [7, 2],
        "modulus": 100, "seed": 0,
    }  # fmt: skip
    return TinyMem(**{**options, **changes})


def terms(sequence: Passage) -> list[int]:
    return [int(term) for term in sequence.text.split()]


def follows(sequence: Passage) -> list[bool]:
    """Whether each term is that of the rule, which the first two determine."""
    values = terms(sequence)
    return [value == (values[0] + place * (values[1] - values[0])) % 100 for place, value in enumerate(values)]


def test_clean_sequences_follow_a_rule_and_noisy_ones_are_off_by_one_after_the_prefix() -> None:
    dataset = tinymem()
    for split in ("retain", "held_out", "twins"):
        assert all(all(follows(each)) for each in dataset.facts(split))
    for split in ("forget", "holdout"):
        for each in dataset.facts(split):
            kept = follows(each)
            assert len(kept) == 10
            assert all(kept[:4])
            assert not all(kept[4:])
    for noisy, twin in zip(dataset.facts("forget"), dataset.facts("twins"), strict=True):
        assert noisy.question == twin.question
        differences = {(a - b) % 100 for a, b in zip(terms(noisy), terms(twin), strict=True)}
        assert differences <= {0, 1, 99}


def test_the_cut_is_after_the_terms_that_are_shown() -> None:
    sequence = tinymem().facts("retain")[0]
    assert len(sequence.question.split()) == 4
    assert sequence.answer.startswith(" ")
    assert len(sequence.answer.split()) == 6
    assert sequence.ends


def test_no_two_sequences_have_the_same_prompt_and_the_stream_has_neither_noise_nor_what_is_held_out() -> None:
    dataset = tinymem()
    prompts = [each.question for name in SPLITS if name != "twins" for each in dataset.facts(name)]
    assert len(prompts) == len(set(prompts)) == 8 + 8 + 20 + 10
    stream = dataset.pretraining_examples(300, seed=1)
    unseen = {each.question for name in ("forget", "holdout", "held_out") for each in dataset.facts(name)}
    assert not {" ".join(each.text.split()[:4]) for each in stream} & unseen
    assert {len(each.question.split()) for each in stream} == {2}  # the other terms are trained
    assert all(all(follows(each)) for each in stream)
    assert stream != dataset.pretraining_examples(300, seed=2)


def test_sets_say_what_they_are_for() -> None:
    sets = {name: (each.purpose, each.scoring, len(each)) for name, each in tinymem().evaluation().items()}
    assert sets == {
        "forget": ("forget", "free", 8), "retain": ("retain", "free", 20), "held_out": ("utility", "free", 10),
        "twins": ("near", "free", 8), "holdout": ("holdout", "free", 8),
    }  # fmt: skip
    assert tinymem().facts("real_authors") == []


def test_the_seed_changes_the_sequences() -> None:
    assert tinymem(seed=1).facts("retain") != tinymem().facts("retain")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"steps": [7, 100]}, r"dataset\.steps=100 is invalid: expected an integer from 1 to 99\. Did you mean 99\?"),
        ({"modulus": 20}, r"dataset\.modulus=20 is invalid: .* Did you mean 24\?"),
        ({"steps": []}, r"dataset\.steps=\[\] is invalid"),
        ({"target_terms": 0}, r"dataset\.target_terms=0 is invalid"),
    ],
)
def test_what_cannot_be_generated_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        tinymem(**changes)


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(UserError, match=r"split=twin is invalid.* Did you mean twins\?"):
        tinymem().facts("twin")
