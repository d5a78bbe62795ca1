from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.sweeps import swept

from meow_lightning.report.paper_comparison import Published, comparable_run, paper_figures

SOURCE = Published(
    source="somebody", note="untuned", dataset="tofu", truth_ratio_mean="geometric",
    figures={"phi15": {"forget05": {"kl": {"forget_quality": 3e-8, "model_utility": 0.5}}}},
)  # fmt: skip
WORDS = ("model=phi15", "dataset=tofu", "dataset.split=forget05", "method=kl")
OURS = {"unlearned": {"forget_quality": 0.25}, "target": {"model_utility": 0.75}}


def test_our_numbers_are_listed_with_published_ones_and_their_source() -> None:
    found = paper_figures(
        [swept("seed=1", values=OURS), swept(*WORDS, values=OURS)], [SOURCE, replace(SOURCE, figures={})]
    )
    assert found is not None
    (title, rows), notes = found
    assert title == "compared with published numbers"
    assert rows == [
        ["run", "number", "ours", "published", "source"],
        [" ".join(WORDS), "forget quality (p) ↑", "0.25", "3e-08", "somebody"],
        [" ".join(WORDS), "model utility", "—", "0.500", "somebody"],
    ]
    assert notes == ["somebody: untuned"]


def test_sources_are_listed_below_each_other() -> None:
    found = paper_figures([swept(*WORDS, values=OURS)], [SOURCE, replace(SOURCE, source="another")])
    assert found is not None
    assert [row[-1] for row in found[0][1][1:]] == ["somebody", "somebody", "another", "another"]
    assert found[1] == ["somebody: untuned", "another: untuned"]


@pytest.mark.parametrize("position", range(4))
def test_another_model_dataset_split_or_method_matches_nothing(position: int) -> None:
    others = ("model=tiny", "dataset=fictional", "dataset.split=forget10", "method=npo")
    other = swept(*WORDS[:position], others[position], *WORDS[position + 1 :], values=OURS)
    assert comparable_run(other, SOURCE) == {}
    assert paper_figures([other], [SOURCE]) is None


@pytest.mark.parametrize(
    "changes",
    [{"limit": 16}, {"disclaimer": "debug"}, {"evaluation.truth_ratio_mean": "arithmetic"},
     {"dataset.name": "jsonl"}],
)  # fmt: skip
def test_a_run_cut_short_or_measured_otherwise_matches_nothing(changes: dict) -> None:
    assert comparable_run(swept(*WORDS), SOURCE) != {}
    assert comparable_run(swept(*WORDS, **changes), SOURCE) == {}
