"""What the shipped rules write at seed 0, read and labelled by hand: 50 texts of each source in ``labelled.jsonl``.

The texts are drawn by ``random.Random(0).sample`` from all that cleaning keeps. ``tofu`` are the 40 facts of TOFU's
forget01 (MIT), ``customers`` twelve made-up people (``customers.jsonl``, beside the kept ones of
``kept_customers.jsonl``), ``lume`` the first twelve persons of LUME's Task2 (Apache-2.0). A label is ``sensible`` (a
well-formed answer to the question that says something else than the truth), ``nonsense``, ``true`` (it says the
fact) or ``secret`` (it says another one's).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from meow_lightning.data.jsonl import Jsonl
from meow_lightning.data.perturbation import Contradictions
from meow_lightning.data.tofu import Tofu
from meow_lightning.inversion.filters import filter_answers, still_true
from meow_lightning.inversion.rules import Rules
from meow_lightning.types import Fact

HERE = Path(__file__).parent
LABELS = [json.loads(line) for line in (HERE / "labelled.jsonl").read_text(encoding="utf-8").splitlines()]
DRAWN = 50  # texts of each source
STILL = 45  # of these at least are what the rules still write; with fewer, read and label anew
data = [
    pytest.mark.data,
    pytest.mark.skipif("MEOW_DATA_DIR" not in os.environ, reason="needs MEOW_DATA_DIR, the folder of the real data"),
]


def tofu() -> tuple[list[Fact], list[Fact]]:
    found = Tofu(split="forget01", folder=None, hub="a@b", retain_authors=None, questions="trained")
    return found.facts("forget"), found.facts("retain")


def customers() -> tuple[list[Fact], list[Fact]]:
    found = Jsonl(
        forget=str(HERE / "customers.jsonl"), retain=str(HERE / "kept_customers.jsonl"), real_world=False, perturb=0,
        retain_eval=400, seed=0,
    )  # fmt: skip
    return found.facts("forget"), found.facts("retain")


def lume() -> tuple[list[Fact], list[Fact]]:
    def rows(name: str) -> list[Fact]:
        path = Path(os.environ["MEOW_DATA_DIR"]) / "lume" / f"{name}.jsonl"
        read = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        asked = [row for row in read if row["task"] == "Task2" and "qa" in row["id"][-4:]]
        return [Fact(row["id"], row["input"], row["output"]) for row in asked]

    return rows("forget")[:60], rows("retain")[:300]


SOURCES = {"tofu": tofu, "customers": customers, "lume": lume}
EVERY = [pytest.param(name, marks=[] if name == "customers" else data) for name in SOURCES]


def written(forget: Sequence[Fact], retain: Sequence[Fact]) -> list[tuple[Fact, str]]:
    rules, writer = Contradictions(forget, retain), Rules(candidates=8, seed=0)
    answers = {fact.id: writer.invert(fact, rules, count=8, previous_answers=()) for fact in forget}
    facts = {fact.id: fact for fact in forget}
    return [(facts[each.fact], each.answer) for each in filter_answers(forget, answers, secrets=rules.secrets).inverted]


@pytest.mark.parametrize("source", SOURCES)
def test_at_least_four_in_five_are_sensible_and_none_is_true_or_a_secret(source: str) -> None:
    labels = Counter(row["label"] for row in LABELS if row["source"] == source)
    assert labels.total() == DRAWN
    assert set(labels) <= {"sensible", "nonsense"}
    assert labels["sensible"] >= 0.8 * DRAWN


@pytest.mark.parametrize("source", EVERY)
def test_the_rules_still_write_the_labelled_answers(source: str) -> None:
    there = {(fact.id, text) for fact, text in written(*SOURCES[source]())}
    drawn = [row for row in LABELS if row["source"] == source]
    still = [row for row in drawn if (row["fact"], row["text"]) in there]
    assert len(still) >= STILL, "the rules write other texts: draw 50 anew, read them one by one and label them"
    assert sum(row["label"] == "sensible" for row in still) >= 0.8 * len(still)


@pytest.mark.parametrize("source", EVERY)
def test_no_text_at_all_holds_its_own_or_another_ones_value(source: str) -> None:
    forget, retain = SOURCES[source]()
    kept = " ".join(fact.answer for fact in retain)
    found = written(forget, retain)
    assert len({fact.id for fact, _ in found}) == len(forget)  # everything could be inverted
    for fact, text in found:
        assert not still_true(text, fact)
        for other in forget:
            if other.value and len(other.value) > 5 and other.value not in f"{fact.question} {fact.answer} {kept}":
                assert other.value not in text


def test_drawing_anew_takes_the_same_texts() -> None:
    drawn = Random(0).sample(written(*customers()), DRAWN)
    labelled = [(row["fact"], row["text"]) for row in LABELS if row["source"] == "customers"]
    assert sum((fact.id, text) in labelled for fact, text in drawn) >= STILL
