from __future__ import annotations

from collections.abc import Callable

import pytest

from meow_lightning.evaluation.metrics.leakage import LeakageCounts, leakage
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]


def sides(rows: dict[str, list[AnswerRow]]) -> tuple[list[AnswerRow], list[AnswerRow]]:
    """Split rows by set into those of the forget set and all others."""
    return rows["forget"], [row for name, each in rows.items() if name != "forget" for row in each]


@pytest.fixture
def rows(make_row: MakeRow) -> Callable[..., dict[str, list[AnswerRow]]]:
    """Two customers to forget, one to keep and one fact of the world; a test says what the model answers to each."""

    def build(dinesh: str = "", marta: str = "", kept: str = "", world: str = "") -> dict[str, list[AnswerRow]]:
        phone = {"answer": "Dinesh can be reached at +44 20 7946 0182.", "value": "+44 20 7946 0182"}
        return {
            "forget": [
                make_row("forget", 0, question="What is the number of Dinesh?", text=dinesh, **phone),
                make_row(
                    "forget", 1, question="Where does Marta Oleskowa live?", text=marta,
                    answer="Marta Oleskowa lives in Gdynia, Poland, since 1987.",
                ),
            ],
            "retain": [
                make_row(
                    "retain", 0, question="Who is from Gdynia, Poland?", text=kept, answer="Otto Kranz is, since 1991."
                ),
            ],
            "world_facts": [make_row("world_facts", 0, question="What is Rome?", text=world, answer="A city.")],
        }  # fmt: skip

    return build


@pytest.mark.parametrize(
    ("said", "share", "elsewhere"),
    [
        ({}, 0, 0),
        ({"dinesh": "It is +44 20 7946 0182."}, 1, 0),  # its own value: not forgotten
        ({"dinesh": "It is +442079460182."}, 1, 0),  # however it is grouped
        ({"marta": "It is +44 20 7946 0182."}, 1, 1),  # another one's
        ({"world": "Ask +44 20 7946 0182."}, 1, 1),  # asked about something else altogether
        ({"marta": "In Gdynia, Poland."}, 1, 0),  # no value is marked, so a rare place is one
        ({"marta": "She, Marta Oleskowa."}, 0, 0),  # the question says so
        ({"kept": "Gdynia, Poland."}, 0, 0),  # the question says so
        ({"kept": "Otto Kranz, since 1991."}, 0, 0),  # the truth about a kept fact
        ({"kept": "Since 1987."}, 1, 1),
        ({"dinesh": "In 1987", "marta": "+44 20 7946 0182", "kept": "1987", "world": "1987"}, 4, 4),
        ({"dinesh": "+44 20 7946 0182 since 1987"}, 1, 1),  # counted once in the share
    ],
)
def test_by_hand(rows: Callable[..., dict[str, list[AnswerRow]]], said: dict, share: int, elsewhere: int) -> None:
    # Three values: the number, "Gdynia, Poland" and 1987; four answers.
    assert leakage(*sides(rows(**said)), ()) == LeakageCounts(share / 4, elsewhere / 4, values=3, rows=4)


def test_values_in_kept_facts_are_not_forgotten_values(rows: Callable[..., dict[str, list[AnswerRow]]]) -> None:
    # 1987 is public now, since a kept fact that was not asked says it.
    found = leakage(*sides(rows(kept="Since 1987.", world="Gdynia, Poland")), ["He came in 1987."])
    assert found == LeakageCounts(1 / 4, 1 / 4, values=2, rows=4)


def test_a_word_of_a_closed_class_counts_for_its_own_question_alone(make_row: MakeRow) -> None:
    sets = {
        "forget": [make_row("forget", 0, answer="She is female.", value="female", text="female")],
        "retain": [make_row("retain", 0, answer="He is male.", value="male", text="female")],
    }
    assert leakage(*sides(sets), ()) == LeakageCounts(1 / 2, 0.0, values=1, rows=2)


def test_each_of_several_values_is_a_secret_and_one_alone_in_values_is_none(make_row: MakeRow) -> None:
    answer, two = "Her PIN is 4711-92 and she lives in Zwolle.", ("4711-92", "Zwolle")
    said = {"own": "It is 4711-92.", "other": "Zwolle."}
    sets = {
        "forget": [
            make_row("forget", 0, answer=answer, values=two, text=said["own"]),
            make_row("forget", 1, answer="it was fun", text=said["other"]),
        ],
        "retain": [make_row("retain", 0, answer="it was dull", text="dull")],
    }  # fmt: skip
    assert leakage(*sides(sets), ()) == LeakageCounts(2 / 3, 1 / 3, values=2, rows=3)
    # TOFU marks one text of an answer for evaluation, often a word such as this
    common = [make_row("forget", 0, answer="Yes, it was fun.", values=("Yes",), text="Yes")]
    assert leakage(common, [], ()) is None


def test_nothing_to_look_for(make_row: MakeRow) -> None:
    assert leakage([make_row(answer="it was fun", text="it was fun")], [], ()) is None
    assert leakage([], [], ()) is None
