from __future__ import annotations

import re

import pytest
from helpers.html import compact
from helpers.reports import DEFINITIONS, SWEEP

from meow_lightning.report.sweep_cost import Cost, mean_cost, total_cost
from meow_lightning.report.sweep_figures import Plane, pareto_front, plane_picture
from meow_lightning.report.sweep_formats import Column
from meow_lightning.report.sweep_page import stacked, sweep_page, sweep_pictures


@pytest.fixture(scope="module")
def html() -> str:
    return compact(sweep_page(SWEEP, sweep_pictures(SWEEP)))


def row(html: str, name: str) -> str:
    found = re.search(rf"<tr[^>]*><th>{re.escape(name)}.*?</tr>", html)
    assert found is not None, name
    return found[0]


def test_methods_stand_by_metrics_with_best_and_second_marked(html: str) -> None:
    assert '<td><b>0.625</b><div class="interval">0.500 to 0.750</div>' in row(html, "method=b")
    assert "<td><u>0.500</u>" in row(html, "method=a&lt;b&gt;")
    assert "<b>−0.5</b>" in row(html, "method=a&lt;b&gt;")
    assert not re.search(r"<b>|<u>", row(html, "method=none")), "a reference is not ranked"
    assert not re.search(r"<b>|<u>", row(html, "method=c"))


def test_the_front_is_marked_and_its_dominated_rows_are_not(html: str) -> None:
    marked = [
        name for name in ("method=none", "method=a&lt;b&gt;", "method=b", "method=c") if ">front<" in row(html, name)
    ]
    assert marked == ["method=a&lt;b&gt;", "method=b"]


def test_runs_link_to_their_pages_and_cost_is_told(html: str) -> None:
    assert '<td><a href="../b-1/report.html">report</a></td>' in row(html, "method=b")
    assert "<td>—</td>" in row(html, "method=c")
    cost = html[html.index("Cost of unlearning") : html.index("All tables")]
    assert '<td data-sort="150.0">2.5 min</td><td>512</td>' in cost
    assert "2 × 10<sup>12</sup>" in cost
    assert "<td>—</td><td>—</td><td>—</td>" in row(cost, "method=c")


def test_the_page_holds_all_tables_and_lines_escaped_and_loads_nothing(html: str) -> None:
    assert "<h1>mine&lt;1&gt;</h1>" in html
    assert "<summary>Runs, twice</summary>" in html
    assert '<a href="../b-1/report.html">method=b</a></th><td>1<div class="interval">[0, 2]</div>' in html
    assert "made by <code>run.py</code> &lt;today&gt;" in html
    assert "default-src &#39;none&#39;" in html
    assert html.count("<svg ") == 2
    assert "a<b>" not in html


def test_rows_without_a_name_belong_to_the_row_before() -> None:
    cells = stacked([["a", "1", "2"], ["", "[0]", ""], ["", "x", "y"], ["b", "3", "4"]])
    assert [[(cell.text, list(cell.below)) for cell in each] for each in cells] == [
        [("a", []), ("1", ["[0]", "x"]), ("2", ["y"])], [("b", []), ("3", []), ("4", [])],
    ]  # fmt: skip


def test_disclaimers_and_runs_without_numbers_are_told_above_the_numbers(html: str) -> None:
    before = html[: html.index("Methods and metrics")]
    assert "only a &lt;try&gt;" in before
    assert f"1 of {len(SWEEP.runs) + 1} runs failed and has" in before


def test_the_pareto_front_has_the_points_that_nothing_dominates() -> None:
    points = {"low": (0.0, 3.0), "mid": (1.0, 2.0), "worse": (1.0, 1.0), "high": (2.0, 0.0), "under": (0.5, 0.5)}
    assert pareto_front(points) == ["high", "mid", "low"]
    assert pareto_front({"one": (1.0, 1.0), "same": (1.0, 1.0)}) == ["one", "same"]
    assert pareto_front({}) == []


def test_rows_above_the_threshold_tie_and_only_candidates_count() -> None:
    kept = Column("model_utility", "utility", "higher", {"a": 0.5, "b": 0.6, "c": 0.9}, (), ())
    quality = Column("forget_quality_log10", "quality", "higher", {"a": -0.1, "b": -0.9, "c": 0.0, "d": 0.0}, (), ())
    plane = Plane("plane", "Plane", kept, quality, tied_above=-1.3)
    assert plane.front({"a", "b"}) == ["b"], "p of .8 is no better than p of .13"
    assert plane.front({"a", "b", "c"}) == ["c"]
    assert plane.front({"a"}) == [], "one row is compared with nothing"
    free = Plane("plane", "Plane", kept, quality)
    assert free.front({"a", "b"}) == ["b", "a"]


def test_less_forgotten_values_said_is_better() -> None:
    retained = Column("retain/value_accuracy", "retain", "higher", {"a": 1.0, "b": 0.5}, (), ())
    said = Column("forget/value_accuracy", "forget", "lower", {"a": 0.5, "b": 0.5}, (), ())
    assert Plane("values", "", retained, said).front({"a", "b"}) == ["a"]


def test_a_plane_without_points_says_why() -> None:
    empty = Column("model_utility", "utility", "higher", {}, (), ())
    picture = plane_picture(Plane("plane", "Plane", empty, empty), {}, candidates=(), references=())
    assert picture.svg is None
    assert picture.missing == "no run has both utility and utility"


def test_a_p_value_of_zero_is_drawn_below_the_others() -> None:
    kept = Column("model_utility", "utility", "higher", {"a": 0.5, "b": 0.6}, (), ())
    quality = Column("forget_quality_log10", "quality", "higher", {"a": -2.0, "b": float("-inf")}, (), ())
    picture = plane_picture(Plane("plane", "Plane", kept, quality), {}, candidates={"a", "b"}, references=())
    assert picture.svg is not None
    assert "inf" not in picture.svg.replace("infinite", "")


def test_cost_adds_up_stages_and_averages_over_seeds() -> None:
    first = total_cost([
        {"seconds": 10.0, "flops": 1e9, "peak_memory_mib": 700.0, "peak_gpu_memory_mib": 90.0},
        {"seconds": 5.0, "flops": None, "peak_memory_mib": 80.0}, {"seconds": 1.0},
    ])  # fmt: skip
    assert first == Cost(flops=1e9, seconds=16.0, memory_mib=90.0)
    assert total_cost([]) is None
    second = Cost(flops=3e9, seconds=4.0, memory_mib=None)
    assert mean_cost([first, second]) == Cost(flops=2e9, seconds=10.0, memory_mib=90.0)


def test_a_run_without_numbers_is_a_row_of_dashes(html: str) -> None:
    assert row(html, "method=e").count("<td>—</td>") == len(DEFINITIONS) + 1
