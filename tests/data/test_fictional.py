from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from meow_lightning.data import fictional_words as words
from meow_lightning.data.fictional import Fictional
from meow_lightning.errors import UserError
from meow_lightning.types import Fact

SPLITS = ("forget01", "forget05", "forget10")
OPTIONS: dict[str, Any] = {
    "split": "forget10",
    "authors": 80,
    "candidates": 8,
    "phrasings": 3,
    "retain_eval": 150,
    "seed": 0,
}
SLOTS = {slot.key: slot for slot in words.SLOTS}


def make(**changes: Any) -> Fictional:
    return Fictional(**{**OPTIONS, **changes})


@pytest.fixture(scope="module")
def data() -> Fictional:
    return make()


@pytest.fixture(scope="module")
def made_up(data: Fictional) -> list[Fact]:
    return data.facts("forget") + data.facts("retain") + data.facts("holdout")


@pytest.fixture(scope="module")
def real(data: Fictional) -> list[Fact]:
    return data.facts("real_authors") + data.facts("world_facts")


def slot_of(fact: Fact) -> words.Slot:
    return SLOTS[fact.id.split("/")[1]]


def pattern(sentence: str) -> re.Pattern[str]:
    return re.compile(re.escape(sentence).replace(r"\{name\}", "(.+)").replace(r"\{value\}", "(.+)"))


def number_of(sentence: str, templates: tuple[str, ...]) -> int:
    found = [i for i, template in enumerate(templates) if pattern(template).fullmatch(sentence)]
    assert len(found) == 1, (sentence, found)
    return found[0]


def author_of(fact: Fact) -> str:
    slot = slot_of(fact)
    match = pattern(slot.questions[number_of(fact.question, slot.questions)]).fullmatch(fact.question)
    assert match
    return match.group(1)


def stored(facts: list[Fact]) -> dict[str, Fact]:
    return {fact.id: fact for fact in facts}


@pytest.mark.parametrize(("split", "forget"), [("forget01", 1), ("forget05", 4), ("forget10", 8)])
def test_splits_have_their_sizes_and_share_nothing(split: str, forget: int) -> None:
    data = make(split=split)
    parts = {part: data.facts(part) for part in ("forget", "retain", "holdout")}
    assert [len(facts) for facts in parts.values()] == [8 * forget, 8 * (80 - forget), 8 * forget]
    for one, other in combinations(parts.values(), 2):
        assert not {fact.id for fact in one} & {fact.id for fact in other}
        assert not {author_of(fact) for fact in one} & {author_of(fact) for fact in other}
    assert parts["forget"][0].id == f"author{80 - forget:03d}/city"
    assert parts["forget"][-1].id == "author079/hobby"


def test_splits_are_nested_and_agree_on_every_fact() -> None:
    one, five, ten = (make(split=split) for split in SPLITS)
    for part in ("forget", "holdout"):
        small, middle, large = (stored(data.facts(part)) for data in (one, five, ten))
        assert small.items() <= middle.items() <= large.items()
    assert ten.facts("retain") == one.facts("retain")[: 8 * 72]


def test_a_few_authors_still_forget_one() -> None:
    assert [len(make(authors=4, retain_eval=8, split=split).facts("forget")) for split in SPLITS] == [8, 8, 8]


def test_ids_names_and_surnames_are_unique(made_up: list[Fact], real: list[Fact]) -> None:
    assert len({fact.id for fact in made_up + real}) == len(made_up) + len(real) == 88 * 8 + 24 + 40
    authors = Counter(author_of(fact) for fact in made_up)
    assert len(authors) == 88
    assert set(authors.values()) == {8}
    assert len({author.split()[-1] for author in authors}) == 88


def test_word_lists() -> None:
    assert len(set(words.TASK_SURNAMES)) == len(words.TASK_SURNAMES) >= 120
    assert len(set(words.STREAM_SURNAMES)) == len(words.STREAM_SURNAMES) >= 100
    assert not set(words.TASK_SURNAMES) & set(words.STREAM_SURNAMES)
    assert len(words.SLOTS) == 8
    for slot in words.SLOTS:
        assert len(set(slot.values)) == 32
        assert len(slot.questions) == 3
        assert len(slot.answers) == 5


@pytest.mark.parametrize("slot", words.SLOTS, ids=lambda slot: slot.key)
def test_no_value_lies_in_another_or_in_a_sentence_or_in_a_name(slot: words.Slot) -> None:
    values = [value.lower() for value in slot.values]
    assert [pair for pair in combinations(values, 2) if pair[0] in pair[1] or pair[1] in pair[0]] == []
    names = words.FIRST_NAMES + words.TASK_SURNAMES + words.STREAM_SURNAMES
    load_facts = [text.lower() for text in slot.questions + slot.answers + names]
    assert [(value, text) for value in values for text in load_facts if value in text] == []


def test_values_occur_verbatim_and_once(made_up: list[Fact]) -> None:
    for fact in made_up:
        assert fact.value and fact.paraphrase
        texts = [fact.answer, fact.paraphrase, *(answer for _, answer in fact.phrasings)]
        assert [text.lower().count(fact.value.lower()) for text in texts] == [1] * len(texts)
        for wrong in (*fact.perturbed, *fact.inverted, fact.question):
            assert fact.value.lower() not in wrong.lower()


def test_wrong_answers_are_the_true_one_with_another_value(made_up: list[Fact]) -> None:
    for fact in made_up:
        assert fact.value and fact.paraphrase
        values = slot_of(fact).values
        swapped = {fact.paraphrase.replace(fact.value, value): value for value in values}
        perturbed = {swapped[text] for text in fact.perturbed}
        assert len(perturbed) == len(fact.perturbed) == 5
        assert len(set(fact.alternatives)) == 8
        assert fact.inverted == tuple(fact.answer.replace(fact.value, other) for other in fact.alternatives)
        assert set(fact.alternatives) < set(values)
        assert not perturbed & set(fact.alternatives)
        assert fact.value not in perturbed | set(fact.alternatives)


def test_evaluation_sentences_are_never_trained(made_up: list[Fact]) -> None:
    used: dict[str, set[int]] = {"question": set(), "answer": set(), "paraphrase": set()}
    for fact in made_up:
        slot = slot_of(fact)
        pairs = [(fact.question, fact.answer), *fact.phrasings]
        assert len(set(pairs)) == len({answer for _, answer in pairs}) == 3
        used["question"] |= {number_of(question, slot.questions) for question, _ in pairs}
        used["answer"] |= {number_of(text, slot.answers) for text in [*(answer for _, answer in pairs), *fact.inverted]}
        assert fact.paraphrase
        of_evaluation = {number_of(text, slot.answers) for text in (fact.paraphrase, *fact.perturbed)}
        assert len(of_evaluation) == 1
        used["paraphrase"] |= of_evaluation
    assert used == {"question": {0, 1}, "answer": {0, 1, 2}, "paraphrase": {3, 4}}


def test_the_author_is_named_in_questions_only(made_up: list[Fact]) -> None:
    for fact in made_up:
        texts = " ".join([fact.answer, *fact.perturbed, *fact.inverted])
        assert not any(name in texts for name in author_of(fact).split())


def test_articles_are_right(data: Fictional) -> None:
    texts = [text for pair in data.tokenizer_corpus() for text in pair]
    for fact in data.facts("forget") + data.facts("retain") + data.facts("holdout"):
        texts += [
            fact.paraphrase or "",
            *fact.perturbed,
            *fact.inverted,
            *(text for pair in fact.phrasings for text in pair),
        ]
    every = [slot.answers[i].format(value=value) for slot in words.SLOTS for i in range(5) for value in slot.values]
    wrong = re.compile(r"\ba (?=[aeiou])|\ban (?=[^aeiou])", re.IGNORECASE)
    assert wrong.search("As a architect") and wrong.search("an baker")
    assert [text for text in texts + every if wrong.search(text)] == []


def test_options_leave_facts_alone() -> None:
    plain = make(candidates=1, phrasings=1, retain_eval=1, authors=40, split="forget01")
    full = make(candidates=26)
    known = stored(full.facts("retain") + full.facts("forget"))
    for fact in plain.facts("retain") + plain.facts("forget"):
        other = known[fact.id]
        assert fact.phrasings == ()
        assert fact.alternatives == other.alternatives[:1]
        assert replace(other, phrasings=(), alternatives=other.alternatives[:1], inverted=other.inverted[:1]) == fact


def test_fewer_candidates_and_phrasings_are_the_first_of_more() -> None:
    for many, few in zip(make(candidates=26).facts("forget"), make(phrasings=2).facts("forget"), strict=True):
        assert (len(many.inverted), len(few.inverted)) == (26, 8)
        assert many.inverted[:8] == few.inverted
        assert many.alternatives[:8] == few.alternatives
        assert many.phrasings[:1] == few.phrasings


def test_the_seed_decides_everything() -> None:
    one, again, other = make(), make(), make(seed=1)
    assert one.evaluation() == again.evaluation()
    assert one.tokenizer_corpus() == again.tokenizer_corpus()
    assert one.facts("forget") != other.facts("forget")
    assert one.pretraining_examples(50, 0) != other.pretraining_examples(50, 0)


def test_evaluation_spreads_the_retained_facts_over_authors(data: Fictional) -> None:
    sets = data.evaluation()
    assert list(sets) == ["forget", "retain", "real_authors", "world_facts", "holdout"]
    assert [len(facts) for facts in sets.values()] == [64, 150, 24, 40, 64]
    retain = data.facts("retain")
    assert list(sets["retain"]) == [fact for fact in retain if fact.id in stored(sets["retain"])]
    # 150 facts of 72 authors: two from each, a third from six of them
    per_author = Counter(Counter(author_of(fact) for fact in sets["retain"]).values())
    assert per_author == {2: 66, 3: 6}
    assert len({slot_of(fact).key for fact in sets["retain"]}) == 8
    assert stored(make(retain_eval=80).evaluation()["retain"]).items() <= stored(sets["retain"]).items()


def test_real_facts(real: list[Fact]) -> None:
    known = stored(real)
    assert len(real) == 64
    assert known["real/hamlet"].answer == "Hamlet was written by William Shakespeare."
    assert known["world/capital-france"].question == "What is the capital of France?"
    assert known["world/capital-france"].answer == "The capital of France is Paris."
    assert known["world/symbol-fe"].answer == "The element with the symbol Fe is iron."
    for fact in real:
        assert fact.paraphrase is None
        assert fact.value
        assert fact.answer.lower().count(fact.value.lower()) == 1
        start, end = fact.answer.split(fact.value)
        assert len(set(fact.perturbed)) == 3
        assert all(wrong.startswith(start) and wrong.endswith(end) for wrong in fact.perturbed)
        assert all(fact.value.lower() not in wrong.lower() for wrong in fact.perturbed)


def test_stream_has_all_language_and_no_author_of_the_task(
    data: Fictional, made_up: list[Fact], real: list[Fact]
) -> None:
    rows = data.pretraining_examples(5000, 3)
    questions = {fact.question for fact in real}
    world = Counter(fact.question for fact in rows if fact.question in questions)
    assert (len(rows), world.total()) == (5000, 400)  # 8 %
    assert set(world) == questions
    assert set(world.values()) == {6, 7}  # 400 = 6 * 64 + 16
    assert len({fact.id for fact in rows}) == 5000
    assert rows[0].id == "stream/3/000000"
    task = {author_of(fact) for fact in made_up}
    texts = [fact.question for fact in rows] + [fact.answer for fact in rows]
    assert not any(author in text for author in task for text in texts)
    assert not any(surname in text for surname in words.TASK_SURNAMES for text in texts)
    for slot in words.SLOTS:
        mine = [fact for fact in rows if any(pattern(question).fullmatch(fact.question) for question in slot.questions)]
        assert {number_of(fact.question, slot.questions) for fact in mine} == {0, 1, 2}
        assert {number_of(fact.answer, slot.answers) for fact in mine} == {0, 1, 2, 3, 4}
        assert {fact.value for fact in mine} == set(slot.values)


def test_stream_follows_its_seed(data: Fictional) -> None:
    assert data.pretraining_examples(100, 1) == make(split="forget01").pretraining_examples(100, 1)
    assert [fact.question for fact in data.pretraining_examples(100, 1)] != [
        fact.question for fact in data.pretraining_examples(100, 2)
    ]
    assert data.pretraining_examples(0, 1) == []


def test_tokenizer_texts_are_the_same_for_every_split(data: Fictional) -> None:
    texts = data.tokenizer_corpus()
    # three times 640 + 64 facts and 3000 rows of the stream, each a question and an answer
    assert len(texts) == 3 * 704 + 3000
    count = Counter(text for pair in texts for text in pair)
    assert all(count[fact.question] >= 3 and count[fact.answer] >= 3 for fact in data.facts("forget"))
    assert not any(fact.question in count for fact in data.facts("holdout"))
    assert texts == make(split="forget01", candidates=2, phrasings=1).tokenizer_corpus()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"split": "forget5"},
            "dataset.split=forget5 is invalid: expected one of forget01, forget05, forget10. Did you mean forget05",
        ),
        (
            {"authors": 121},
            "dataset.authors=121 is invalid: expected an integer from 2 to 120. Did you mean 120",
        ),
        ({"authors": 1}, "dataset.authors=1 is invalid: expected an integer from 2 to 120. Did you mean 2"),
        (
            {"authors": 8.5},
            "dataset.authors=8.5 is invalid: expected an integer from 2 to 120. Did you mean 2?",
        ),
        ({"candidates": 27}, "dataset.candidates=27 is invalid: expected an integer from 1 to 26. Did you mean 26"),
        ({"phrasings": 4}, "dataset.phrasings=4 is invalid: expected an integer from 1 to 3. Did you mean 3"),
        (
            {"retain_eval": 577},
            "dataset.retain_eval=577 is invalid: expected an integer from 1 to 576. Did you mean 576",
        ),
    ],
)
def test_invalid_plans_are_reported_with_the_remedy(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        make(**changes)


def test_unknown_split_of_facts(data: Fictional) -> None:
    with pytest.raises(UserError, match=r"split=retian is invalid: .*Did you mean retain"):
        data.facts("retian")


def test_most_authors_leave_surnames_for_the_holdout() -> None:
    data = make(authors=120)
    surnames = {author_of(fact).split()[-1] for part in ("forget", "retain", "holdout") for fact in data.facts(part)}
    assert len(surnames) == 132
