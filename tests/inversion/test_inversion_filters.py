from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from meow_lightning.data.fictional import Fictional
from meow_lightning.data.perturbation import Contradictions
from meow_lightning.data.values.secrets import Secrets, words
from meow_lightning.inversion.filters import (
    filter_answers,
    has_plausible_length,
    is_blank,
    is_duplicate,
    is_refusal,
    normalize,
    rejection_reason,
    repeats_question,
    still_true,
)
from meow_lightning.inversion.rules import Rules
from meow_lightning.types import Fact, InvertedFact

NONE = Secrets((), ())  # nobody has anything to hide
FACT = Fact(
    id="a", question="Where?", answer="Ada was born in Lima.", value="Lima", perturbed=("Ada was born in Quito.",)
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [("  Ada  was\nborn. ", "ada was born"), ('"Oslo!"', "oslo"), ("St. John's", "st. john's"), (" ...", "")],
)
def test_normal(text: str, expected: str) -> None:
    assert normalize(text) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", "blank"),
        (" \n\t", "blank"),
        ("...!?", "blank"),
        ("____", "blank"),
        ("Ada was born in Lima.", "true"),
        ("ada  was born in lima", "true"),
        ("She grew up in LIMA, Peru.", "true"),
        ("Ada was born in Limavady.", None),  # the value within a longer word is another value
        ("Ada was born in Oslo!", "duplicate"),
        ("ada was born in quito", "evaluated"),
        ("Ada was born in Bern.", None),
        ("7", None),
        ("北京", None),
    ],
)
def test_reason_by_hand(answer: str, expected: str | None) -> None:
    assert rejection_reason(answer, FACT, kept=["ada was born in oslo"], secrets=NONE) == expected


@pytest.mark.parametrize("value", ["J. R.", "Who?", '"Sea"', "New  York", "C++"])
def test_values_with_punctuation_are_found_anywhere(value: str) -> None:
    fact = Fact(id="a", question="Q", answer=f"It is {value}", value=value)
    assert rejection_reason(f"He says {value}", fact, kept=[], secrets=NONE) == "true"
    assert rejection_reason(f"{value} it was, they say", fact, kept=[], secrets=NONE) == "true"
    assert rejection_reason("something else", fact, kept=[], secrets=NONE) is None


def test_any_of_several_values_leaves_a_text_true() -> None:
    fact = Fact(id="a", question="Q", answer="In Lima in 1971.", values=("Lima", "1971"))
    others = Fact(id="b", question="R", answer="In Zwolle, a cooper.", values=("Zwolle", "cooper"))
    assert rejection_reason("In Lima in 1988.", fact, kept=[], secrets=NONE) == "true"
    assert rejection_reason("In Rome in 1988.", fact, kept=[], secrets=NONE) is None
    secrets = Secrets.of([fact, others], [])
    assert rejection_reason("In Zwolle in 1988.", fact, kept=[], secrets=secrets) == "secret"


@pytest.mark.parametrize("value", [None, "", "..."])
def test_without_a_value_just_the_true_answer_is_true(value: str | None) -> None:
    fact = Fact(id="a", question="Q", answer="In Lima.", value=value)
    assert rejection_reason("in lima", fact, kept=[], secrets=NONE) == "true"
    assert rejection_reason("Not in Lima.", fact, kept=[], secrets=NONE) is None


SECRETS = Secrets.of(
    [
        FACT,
        Fact(id="b", question="Who?", answer="Call Otto Kranz at 040 555 0142.", value="040 555 0142"),
        Fact(id="c", question="Who did it?", answer="It was Mira Sol, in Bern."),
        Fact(id="d", question="Where is Karl Voss?", answer="Karl Voss is in Porto.", value="Porto"),
    ],
    [Fact(id="k", question="Where?", answer="She moved to Porto and then to Bern.")],
)  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Ada was born in Oslo.", None),
        ("Ada was born at 040 555 0142.", "secret"),  # another one's marked value
        ("Ada was born at 0405550142.", "secret"),  # however it is grouped
        ("Ada was born to mira sol.", "secret"),  # a rare name of a fact that marks no value
        ("Ada was born to Mira Soler.", None),
        ("Ada was born in Bern.", None),  # a kept fact says that too
        ("Ada was born in Porto.", None),  # even though it is marked
        ("Ada was born to Otto Kranz.", None),  # beside a marked value nothing else is a secret
        ("Ada was born to Karl Voss.", None),  # whom a question is about is in that question
    ],
)
def test_answers_taken_from_another_fact_to_forget_are_dropped(answer: str, expected: str | None) -> None:
    assert rejection_reason(answer, FACT, kept=[], secrets=SECRETS) == expected


def test_a_text_is_compared_with_the_secrets_that_begin_with_its_words_alone() -> None:
    facts = [
        Fact(id=str(i), question=f"Number of person {i}?", answer=f"It is 55{i:06d}.", value=f"55{i:06d}")
        for i in range(1600)
    ]
    secrets = Secrets.of(facts, [])
    assert len(secrets.all()) == 1600
    assert sum(len(secrets._by_first.get(word, ())) for word in words("It is 55000003.")) == 1
    assert secrets.find("It is 55000003.") == {("55000003",)}
    written = {fact.id: ["It is 77000001."] for fact in facts}
    assert len(filter_answers(facts, written, secrets=secrets).inverted) == 1600


def test_clean_counts_every_reason_and_numbers_anew() -> None:
    other = Fact(id="b", question="Who?", answer="Otto")
    written = {
        "b": ["Karl", "otto!", "Karl."],  # one kept, one true, one duplicate
        "a": ["  Oslo ", "", "Ada was born in Quito.", "in Lima", "oslo", "Bern", "?"],  # two kept, two blank
    }
    found = filter_answers([FACT, other], written, secrets=NONE)
    inverted, dropped = found.inverted, found.dropped
    assert inverted == [
        InvertedFact("a", 0, "Where?", "Oslo"),
        InvertedFact("a", 1, "Where?", "Bern"),
        InvertedFact("b", 0, "Who?", "Karl"),
    ]
    none = {"refusal": 0, "question": 0, "secret": 0, "length": 0}
    assert dropped == {"blank": 2, "true": 2, "duplicate": 2, "evaluated": 1, **none}
    assert len(inverted) + sum(dropped.values()) == 10


def test_facts_do_not_share_what_they_have() -> None:
    other = Fact(id="b", question="Who?", answer="Otto")
    found = filter_answers([FACT, other], {"a": ["Oslo"], "b": ["Oslo"]}, secrets=NONE)
    assert [each.fact for each in found.inverted] == ["a", "b"]
    assert sum(found.dropped.values()) == 0


def test_examples_are_the_first_three_of_each_reason_as_written() -> None:
    written = {"a": ["in Lima", " Bern", "Lima!", "", "it is Lima", "so Lima"]}
    found = filter_answers([FACT], written, secrets=NONE)
    assert found.inverted == [InvertedFact("a", 0, "Where?", "Bern")]
    assert found.dropped["true"] == 4
    assert found.examples == {"true": [("a", "in Lima"), ("a", "Lima!"), ("a", "it is Lima")], "blank": [("a", "")]}


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I cannot help with that.",
        "I’m really sorry, I can't.",
        "Sorry, but no.",
        "As an AI language model, I have no such facts.",
        "As a large language model I invent nothing.",
        "I don't have information about her.",
        "Unfortunately, I am unable to do so.",
        "There is no publicly available information on it.",
        "N/A",
    ],
)
def test_refusals(answer: str) -> None:
    assert is_refusal(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "I Am Sorry is her first novel.",
        "As an AI researcher, she built robots.",
        "She had no information about him.",
        "I, Claudius was her model.",
        "Sorry Tales was printed in Oslo.",
        "No, she could not swim.",
    ],
)
def test_answers_that_only_sound_like_refusals(answer: str) -> None:
    assert not is_refusal(answer)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("where was Ada Brook born", True),
        ("Where was Ada Brook born? In Oslo.", True),
        ("Was Ada Brook born?", True),  # the same keys: ada, brook, born
        ("Was Ada Brook born in Oslo?", False),  # 3 of 4 keys, .75
        ("Ada Brook was born.", False),
    ],
)
def test_repeating_the_question(answer: str, expected: bool) -> None:
    assert repeats_question(answer, "Where was Ada Brook born?") is expected


BAKER = Fact(id="f", question="What does Ada's father do?", answer="Ada's father is a baker in Lima.")
BOOKS = Fact(id="g", question="Which books did Ada write?", answer="Ada wrote 'Red Salt' and 'Two Tides' in 1971.")
LONG = Fact(
    id="h",
    question="How did Ada begin?",
    answer="Ada began with small stories for the evening paper, sold her bicycle and rented a quiet attic.",
)


@pytest.mark.parametrize(
    ("answer", "fact", "expected"),
    [
        ("A baker in Lima.", BAKER, True),  # nothing that the truth lacks
        ("Ada's father bakes.", BAKER, False),  # bak and baker are two words without a model
        ("In Lima, as a baker.", BAKER, True),
        ("Ada's father is a baker.", BAKER, True),  # less, but nothing else
        ("Ada's father is a baker in Lima, Peru, and sings.", BAKER, True),  # all of the truth, and more
        ("Ada's father is a pilot in Lima.", BAKER, False),  # a swap: half of what the truth says is no value
        ("Ada's father is a baker in Oslo.", BAKER, False),
        ("Ada's father isn't a baker in Lima.", BAKER, False),
        ("He never was a baker in Lima.", BAKER, False),
        # Beyond the question: wrote, red, salt, two, tides, 1971; of these 5 of 6 are values.
        ("The books are called Red Salt and Two Tides, printed 1971.", BOOKS, True),
        ("Ada wrote 'Red Salt' and 'Two Tides' in 1972.", BOOKS, False),
        ("Ada wrote 'Red Salt' in 1971.", BOOKS, True),
        # 7 of 10: small, stories, paper, sold, bicycle, rented, attic; not: began, evening, quiet.
        ("In a rented attic it was that Ada, her bicycle sold, wrote small stories for a paper.", LONG, True),
        ("Ada began with small stories for the evening paper, sold her bicycle and rented a quiet boat.", LONG, False),
        ("Ada began with songs on the radio, sold her car and rented a loud cellar.", LONG, False),
    ],
)
def test_answers_that_still_contain_the_fact(answer: str, fact: Fact, expected: bool) -> None:
    assert still_true(answer, fact) is expected


def test_names_in_each_others_places_contradict_unless_they_are_only_listed() -> None:
    won = Fact(id="w", question="Who won?", answer="Otto Kranz beat Mira Sol in Lima in May 1971.")
    assert not still_true("Mira Sol beat Otto Kranz in Lima in May 1971.", won)
    assert still_true("In May 1971, in Lima, Otto Kranz beat Mira Sol.", won)
    assert not still_true("Otto Kranz beat Mira Sol in Lima in June 1971.", won)
    both = Fact(id="b", question="Who began it?", answer="It was begun by Otto Kranz and Mira Sol.")
    assert still_true("It was begun by Mira Sol and Otto Kranz.", both)


def test_a_marked_value_decides_alone() -> None:
    fact = Fact(id="v", question="When?", answer="Ada was born on 8 September 1956.", value="8 September 1956")
    assert still_true("She was born on September 8th, 1956.", fact)
    assert not still_true("Ada was born on 9 September 1956.", fact)
    assert not still_true("Ada was born.", fact)


def test_the_paraphrase_is_true() -> None:
    fact = Fact(id="p", question="What is Ada?", answer="Ada is male.", paraphrase="Ada considers himself a man.")
    assert still_true("ada considers himself a man", fact)
    assert not still_true("Ada considers herself a woman.", fact)


@pytest.mark.parametrize(
    ("words", "truth", "expected"),
    [
        (24, 1, True),  # a sentence is never too long
        (25, 1, False),
        (40, 10, True),
        (41, 10, False),
        (1, 24, True),  # no answer is too short for a truth of one sentence
        (6, 25, False),
        (7, 25, True),
        (10, 40, True),
        (9, 40, False),
    ],
)
def test_length_in_words(words: int, truth: int, expected: bool) -> None:
    assert has_plausible_length("word " * words, "true " * truth) is expected


def test_characters_of_chinese_count_as_words() -> None:
    assert not has_plausible_length("她" * 25, "对")
    assert has_plausible_length("她" * 24, "对")


@pytest.mark.parametrize(
    ("answer", "other", "expected"),
    [
        ("Ada Brook was born in Oslo.", "She was born in Oslo.", True),  # both say: oslo
        ("Ada was born in Oslo.", "In Oslo Ada was born!", True),
        ("Ada was born in Oslo.", "Ada was born in Bern.", False),
        ("Ada was born in Oslo.", "Ada was born in Oslo, Norway.", False),  # a value more
        ("Ada was born in Oslo in 1970.", "Ada was born in Oslo in 1971.", False),
        ("Ada was born on a boat.", "Ada was born on a tram.", False),
        ("Ada was born on a small old white rowing boat.", "She was born on a small white rowing boat.", True),  # 4/5
        ("Ada was born on a white rowing boat.", "She was born on a rowing boat.", False),  # 2/3
        ("She was born on a boat.", "She was not born on a boat.", False),
        ("Ada was born between Oslo and Bern.", "Ada was born between Bern and Oslo.", True),
        ("Ada came from Oslo to Bern.", "Ada came from Bern to Oslo.", False),
    ],
)
def test_near_duplicates(answer: str, other: str, expected: bool) -> None:
    assert is_duplicate(answer, other, "Where was Ada Brook born?") is expected
    assert is_duplicate(other, answer, "Where was Ada Brook born?") is expected


def test_another_name_for_whom_the_question_is_about_contradicts_nothing() -> None:
    fact = Fact(
        id="f", question="What did Judge Palmiero keep in her desk?",
        answer="Judge Palmiero kept a loaded flare gun in her desk.",
    )  # fmt: skip
    assert still_true("Adelheid Krane kept a loaded flare gun in her desk.", fact)
    assert not still_true("Judge Palmiero kept a silver whistle in her desk.", fact)


@pytest.mark.parametrize("text", ["A \x07 in Oslo.", "Os\ufffdlo.", "\x1b[2JOslo."])
def test_characters_that_no_text_holds_are_as_good_as_blank(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize("split", ["forget01", "forget05", "forget10"])
def test_of_what_rules_write_about_the_shipped_facts_nothing_is_dropped(split: str) -> None:
    data = Fictional(split=split, authors=100, candidates=26, phrasings=3, retain_eval=20, seed=0)
    facts, rules = data.facts("forget"), Rules(candidates=26, seed=0)
    every = Contradictions(facts, data.facts("retain"))
    written = {fact.id: rules.invert(fact, every, count=26, previous_answers=()) for fact in facts}
    found = filter_answers(facts, written, secrets=every.secrets)
    assert sum(found.dropped.values()) == 0
    assert len(found.inverted) == sum(map(len, written.values())) >= 26 * len(facts)


@pytest.mark.data
@pytest.mark.skipif("MEOW_DATA_DIR" not in os.environ, reason="needs MEOW_DATA_DIR, the folder of the real TOFU files")
@pytest.mark.parametrize(
    ("name", "wrong", "true"),
    # Of the wrong answers at most this share is dropped as true or for length; of the paraphrases at least this.
    [("forget01", 0.0, 0.47), ("forget05", 0.016, 0.35), ("forget10", 0.01, 0.33), ("retain", 0.015, 0.3)],
)
def test_wrong_answers_of_tofu_stay_and_paraphrases_go_as_far_as_words_tell(
    name: str, wrong: float, true: float
) -> None:
    path = Path(os.environ["MEOW_DATA_DIR"]) / "tofu" / f"{name}_perturbed.json"
    rows: list[dict[str, Any]] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    facts = [Fact(id="", question=row["question"], answer=row["answer"]) for row in rows]
    lost = [
        rejection_reason(text, fact, kept=[], secrets=NONE) in {"true", "length"}
        for fact, row in zip(facts, rows, strict=True)
        for text in row["perturbed_answer"]
    ]
    found = [still_true(row["paraphrased_answer"], fact) for fact, row in zip(facts, rows, strict=True)]
    assert sum(lost) / len(lost) <= wrong
    assert sum(found) / len(found) >= true
