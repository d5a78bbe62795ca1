from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.html import compact

from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.report.data import Dropped, ReportData
from meow_lightning.report.page import write_report
from meow_lightning.report.selection import rows, section, selection_of
from meow_lightning.types import ScoredText

# Per fact four candidates whose scores fall as they grow longer; the second fact's two middle ones score the same.
SCORES = {"f0": (0.8, 0.6, 0.4, 0.2), "f1": (0.7, 0.5, 0.5, 0.1)}


def data(*, k: int, strategy: str) -> ReportData:
    texts = [
        ScoredText(fact, "candidate", place, "zanzibarium " * (place + 1), score, (score,))
        for fact, scores in SCORES.items()
        for place, score in enumerate(scores)
    ]
    return ReportData(
        name="run", key="abc", settings={"method": {"name": "meow", "select": {"k": k, "strategy": strategy}}},
        settings_origin={}, results=evaluate({}, {}, truth_ratio_mean="geometric"), rows={},
        memo={"target": {"candidates": texts}}, baseline=[], selected={"f0": [0], "f1": [0]},
        inverted=[], curves={}, stages=[], dropped=Dropped(counts={}, examples={}), weights="w",
        public=True, texts=False, disclaimer="", notes=["First."], loop=None, spread=None, intervals={}, known=[],
        neighbours={},
    )  # fmt: skip


def test_figures_in_words() -> None:
    found = selection_of(data(k=2, strategy="largest"))
    assert found is not None
    # largest takes 0, 1 and 0, 1; smallest 3, 2 and 3, 1: of two, one is shared in one of two facts
    assert [(value, against) for _, value, against in rows(found)][:4] == [
        ("0.5 of 2", "possibly none; a random choice shares 1.0 with largest"),
        ("0.600", "mean over the facts; 0: all are equal"),
        ("1 of 2", "the order of the answers decided"),
        ("0%", "by chance 25%"),
    ]
    _, (_, within, ranked) = rows(found)[3:5]
    # lengths -1.5 -.5 .5 1.5 twice; scores .3 .1 -.1 -.3 and .25 .05 .05 -.35: -1.9 / sqrt(10 * .39)
    assert within == "−0.96"
    assert ranked.startswith("of the ranks (Spearman) −0.")


@pytest.mark.parametrize(
    ("k", "strategy", "expected"),
    [
        (1, "random", "Of 4 inverted answers per fact, 1 is selected, at random, whatever their MEMO; 2 facts.</p>"),
        (2, "smallest", "Of 4 inverted answers per fact, 2 are selected, the smallest MEMO first; 2 facts.</p>"),
    ],
)
def test_the_section_describes_the_selection(k: int, strategy: str, expected: str) -> None:
    html = compact(section(selection_of(data(k=k, strategy=strategy))))
    assert expected in html
    assert html.count("<tr>") == 1 + 6


def test_three_of_four_must_share_two() -> None:
    found = selection_of(data(k=3, strategy="largest"))
    assert found is not None
    assert rows(found)[0][1:] == ("2.0 of 3", "necessarily at least 2.0; a random choice shares 2.2 with largest")


def test_undefined_correlations_are_dashes_and_zero_is_never_negative() -> None:
    found = selection_of(data(k=1, strategy="largest"))
    assert found is not None
    bare = rows(replace(found, pearson=None, spearman=None, pearson_within=-0.001, spearman_within=0.001))
    assert [line[1:] for line in bare[4:]] == [
        ("0.00", "of the ranks (Spearman) 0.00"),
        ("—", "of the ranks (Spearman) —"),
    ]


def test_a_page_shows_the_figures_and_the_warning_but_no_text(tmp_path: Path) -> None:
    html = compact(write_report(data(k=3, strategy="largest"), tmp_path).read_text(encoding="utf-8"))
    assert html.index("<h2>Figures</h2>") < html.index("<h2>Selection</h2>") < html.index("Questions before and after")
    notes = re.search(r"About these models and facts</h2><ul>(.*?)</ul>", html)
    assert notes is not None
    assert notes[1].startswith(
        "<li>First.</li><li>Selecting k=3 of 4 candidates: largest and smallest share 2.0 of 3, so "
    )
    assert "zanzibarium" not in html


@pytest.mark.parametrize(
    "changes",
    [{"settings": {}}, {"settings": {"method": "none"}}, {"settings": {"method": {"name": "n"}}}, {"memo": {}},
     {"memo": {"target": {"answers": []}}}, {"selected": {}}],
)  # fmt: skip
def test_without_a_choice_there_is_no_section(changes: dict, tmp_path: Path) -> None:
    bare = replace(data(k=3, strategy="largest"), **changes)
    assert selection_of(bare) is None
    assert section(None) == ""
    html = compact(write_report(bare, tmp_path).read_text(encoding="utf-8"))
    assert "Selection</h2>" not in html
    assert "<ul><li>First.</li></ul>" in html


def test_a_baseline_adds_its_agreement() -> None:
    plain = data(k=2, strategy="largest")
    found = selection_of(replace(plain, baseline=plain.memo["target"]["candidates"]))
    assert found is not None
    assert [line[1] for line in rows(found)[6:]] == ["2.0 of 2", "1.00"]
