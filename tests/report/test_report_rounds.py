from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import pytest
from helpers.html import compact

from meow_lightning.report import rounds as report_rounds
from meow_lightning.report.data import Loop, Round
from meow_lightning.report.rounds import cumulative_requests, picture, sentence
from meow_lightning.report.svg import COLOURS


def one(number: int, *, queried: int, calls: int, still_memorized: int, same: bool = False, tokens: int = 0) -> Round:
    return Round(
        number=number, queried=queried, calls=calls, written=4 * calls, kept=3 * calls, trained=1000 + number,
        still_memorized=still_memorized,
        facts=40, memo=0.21, worst=0.605, tokens=tokens, same=same,
    )  # fmt: skip


FIRST = one(1, queried=40, calls=44, still_memorized=22)
SECOND = one(2, queried=22, calls=25, still_memorized=9)
IDLE = one(3, queried=9, calls=9, still_memorized=9, same=True)
LAST = one(4, queried=9, calls=12, still_memorized=0)


def loop(*rounds: Round, ended: str = "below", memorized_above: float = 0.3) -> Loop:
    return Loop(memorized_above=memorized_above, rounds=rounds, ended=ended, measure="MEMO")


def section(found: Loop | None) -> str:
    return report_rounds.section(found, picture(found))


def words(html: str) -> list[list[str]]:
    """The table's cells, row by row, without their tags."""
    lines = re.findall(r"<tr>(.*?)</tr>", compact(html))
    return [
        [unescape(re.sub("<.*?>", "", text)).replace("\xa0", " ") for text in re.findall(r"<t[hd]>(.*?)</t[hd]>", line)]
        for line in lines
    ]


def test_querying_all_facts_takes_the_first_rounds_calls_and_every_fact_once_in_each_later_round() -> None:
    assert cumulative_requests(loop(FIRST)) == ([44], [44])
    # for each later round all 40, and the repeats it took: 25 requests for 22 facts, 9 for 9, 12 for 9
    assert cumulative_requests(loop(FIRST, SECOND)) == ([44, 69], [44, 44 + 40 + 3])
    _, for_all = cumulative_requests(loop(FIRST, SECOND, IDLE, LAST))
    assert for_all[-1] == 44 + 3 * 40 + 3 + (IDLE.calls - IDLE.queried) + (LAST.calls - LAST.queried)


def test_rounds_that_queried_all_facts_have_no_comparison() -> None:
    every = loop(FIRST, one(2, queried=40, calls=47, still_memorized=9))
    assert cumulative_requests(every) == ([44, 91], [44, 91])
    assert "querying all" not in sentence(every)


def test_the_sentence_names_a_better_round() -> None:
    worse = loop(
        one(1, queried=40, calls=40, still_memorized=2),
        one(2, queried=2, calls=2, still_memorized=4),
        one(3, queried=4, calls=4, still_memorized=3),
    )
    assert sentence(worse).endswith("2, 4, 3 (fewest after round 1: method.rounds.count=1 gives that model)")


def test_a_later_round_without_queries_counts_for_nothing() -> None:
    assert cumulative_requests(loop(FIRST, one(2, queried=0, calls=0, still_memorized=22, same=True)))[1] == [44, 44]


def test_sentence() -> None:
    # 44 + 25 + 12 of 44 + 43 + 43: 130 / 81 = 1.6
    assert sentence(loop(FIRST, SECOND, replace(LAST, number=3))) == (
        "3 rounds, 81 requests to the teacher (querying all facts each round: 130, 1.6 times as many); "
        "facts above 0.30 (MEMO): 22, 9, 0"
    )


def test_the_sentence_counts_rounds_without_anything_new() -> None:
    # 44 + 25 + 9 + 12 of 44 + 43 + 40 + 43: 170 / 90 = 1.89
    assert sentence(loop(FIRST, SECOND, IDLE, LAST)) == (
        "4 rounds (1 without anything new), 90 requests to the teacher (querying all facts each round: 170, 1.9 "
        "times as many); facts above 0.30 (MEMO): 22, 9, 9, 0"
    )


@pytest.mark.parametrize(
    ("rounds", "memorized_above", "expected"),
    [
        ((FIRST,), 0.125, "1 round, 44 requests to the teacher; facts above 0.125 (MEMO): 22"),
        ((one(1, queried=40, calls=1, still_memorized=2),), 0.0,
         "1 round, 1 request to the teacher; facts above 0.00 (MEMO): 2"),
        # the inverted facts came from a file: nothing was requested, and there is nothing to compare
        ((one(1, queried=0, calls=0, still_memorized=3),), 0.3,
         "1 round, 0 requests to the teacher; facts above 0.30 (MEMO): 3"),
        # nearly all of it is repeats: no "times as many"
        (
            (FIRST, one(2, queried=22, calls=1956, still_memorized=9)), 0.3,
            "2 rounds, 2,000 requests to the teacher (querying all facts each round: 2,018); "
            "facts above 0.30 (MEMO): 22, 9",
        ),
        (
            (one(1, queried=0, calls=0, still_memorized=3), one(2, queried=3, calls=0, still_memorized=1)), 0.3,
            "2 rounds, 0 requests to the teacher (querying all facts each round: 40); facts above 0.30 (MEMO): 3, 1",
        ),
    ],
)  # fmt: skip
def test_sentence_of_odd_loops(rounds: tuple[Round, ...], memorized_above: float, expected: str) -> None:
    assert sentence(loop(*rounds, memorized_above=memorized_above)) == expected


@pytest.mark.parametrize(
    ("ended", "still_memorized", "expected"),
    [
        ("below", 0, "Ended after round 2: no true answer&#39;s MEMO is above 0.30 any more."),
        (
            "budget", 9,
            "Ended after round 2: no requests to the teacher were left, and 9 of 40 facts are still above 0.30.",
        ),
        ("rounds", 1, "Ended after round 2, the last one allowed: 1 of 40 facts is still above 0.30."),
        ("silent", 9, "Ended after round 2: the teacher returned nothing new, and 9 of 40 facts are still above 0.30."),
    ],
)  # fmt: skip
def test_the_section_explains_why_the_rounds_ended(ended: str, still_memorized: int, expected: str) -> None:
    found = loop(FIRST, replace(SECOND, still_memorized=still_memorized), ended=ended)
    html = compact(section(found))
    assert f"<h2>Rounds</h2><p>{expected}</p><p>{sentence(found)}.</p>" in html


def test_without_a_loop_there_is_neither_section_nor_figure() -> None:
    assert section(None) == ""
    assert picture(None).svg is None
    assert picture(None).missing == "this method has no rounds"


def test_the_table_has_a_row_per_round() -> None:
    head, *rows = words(section(loop(FIRST, SECOND)))
    assert head == [
        "round", "queried", "requests", "generated", "kept", "rows trained", "above 0.30", "mean MEMO",
        "highest MEMO",
    ]  # fmt: skip
    assert rows == [
        ["round 1", "all 40", "44", "176", "132", "1,001", "22", "0.210", "0.605"],
        ["round 2", "22 of 40", "25", "100", "75", "1,002", "9", "0.210", "0.605"],
    ]


def test_tokens_have_a_column_where_any_round_counts_them() -> None:
    head, *rows = words(section(loop(FIRST, replace(SECOND, tokens=12345))))
    assert [head[-1], *(row[-1] for row in rows)] == ["tokens", "0", "12,345"]


def test_a_round_without_anything_new_reuses_the_previous_model() -> None:
    html = section(
        loop(FIRST, replace(IDLE, number=2), one(3, queried=0, calls=0, still_memorized=9, same=True), ended="silent")
    )
    rows = words(html)
    assert [row[0] for row in rows[1:]] == ["round 1", "round 2", "round 3"]
    assert [row[1] for row in rows[1:]] == ["all 40", "9 of 40", "none"]
    assert [row[5] for row in rows[1:]] == ["1,001", "as before", "as before"]
    assert "As before: nothing new was returned" in html
    assert "Ringed: the teacher returned nothing new" in html
    plain = section(loop(FIRST, SECOND))
    assert "As before" not in plain
    assert "Ringed" not in plain


def test_names_are_escaped() -> None:
    html = section(replace(loop(FIRST, SECOND), measure="<b>&"))
    assert "mean &lt;b&gt;&amp;" in html
    assert "<b>&" not in html


def test_the_figure_follows_the_page_and_holds_its_numbers() -> None:
    drawn = picture(loop(FIRST, SECOND, IDLE, LAST))
    assert drawn.across
    assert drawn.svg is not None
    for text in ("share of facts above", "mean MEMO", "highest MEMO", "0.30", "sent", ">170<", ">90<"):
        assert text in drawn.svg
    html = section(loop(FIRST, SECOND, IDLE, LAST))
    assert 'id="rounds-' in html
    assert not [colour for colour in COLOURS.values() if colour in html]


def test_one_round_has_nothing_to_compare() -> None:
    drawn = picture(loop(FIRST))
    assert drawn.svg is not None
    assert "uerying all facts" not in drawn.svg + section(loop(FIRST))
    assert "querying all facts" in (picture(loop(FIRST, SECOND)).svg or "")
    assert "Querying all facts is calculated, not run" in section(loop(FIRST, SECOND))
