"""Known facts: which questions a model answers, and how they are divided."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from meow_lightning.data.known import Known, statement
from meow_lightning.data.probed import ProbedAnswer, probed_dataset
from meow_lightning.data.subset import LimitedDataset
from meow_lightning.errors import UserError
from meow_lightning.types import Fact

CITIES = ("Lima", "Rome", "Oslo", "Bern", "Cairo", "Quito", "Delhi", "Accra")
QUESTIONS = [f"Where was author {number} born?" for number in range(len(CITIES))]
FULL = "The author was born in {}, and lived there. It is by the sea"


def fact(answer: str = "Lima", question: str = QUESTIONS[0], value: str | None = None) -> Fact:
    return Fact("f", question, answer, value=value)


def given(text: str) -> ProbedAnswer:
    return ProbedAnswer("f", text, text, None)


@pytest.fixture
def build(tmp_path: Path) -> Any:
    """Build the dataset with what a model answered: by default it knows the first five facts."""
    path = tmp_path / "facts.jsonl"
    rows = [
        {"question": question, "answer": city, "perturbed": ["Paris", "Madrid"]}
        for question, city in zip(QUESTIONS, CITIES, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [FULL.format(city if number < 5 else "Atlantis") for number, city in enumerate(CITIES)]

    def make(
        *, known: bool = True, answers: list[str] | None = None, option: int | None = None, **changes: Any
    ) -> Known:
        said = texts if answers is None else answers
        file = tmp_path / "answers.jsonl"
        lines = [
            ProbedAnswer(f"questions/{number:04d}", " ".join(text.split()[:7]), text, option)
            for number, text in enumerate(said, start=1)
        ]
        file.write_text("".join(json.dumps(asdict(line)) + "\n" for line in lines))
        options = {
            "questions": str(path), "known_by": "answer", "forget_count": 2, "forget_facts": None, "keep_at_least": 1,
            "wording": "model",
            "answer_tokens": 7, "max_new_tokens": 24, "folder": None, "hub": "id@revision", "seed": 0,
        }  # fmt: skip
        return Known(**{**options, **changes}, probed=str(file) if known else None)

    return make


def test_the_facts_that_the_model_answers_are_forgotten_or_kept(build) -> None:
    dataset = build()
    forget, retain = dataset.facts("forget"), dataset.facts("retain")
    assert (len(forget), len(retain)) == (2, 3)
    assert {each.question for each in (*forget, *retain)} == set(QUESTIONS[:5])
    assert [each.fate for each in dataset.overview()].count("unknown") == 3
    assert {each.purpose for each in dataset.evaluation().values()} == {"forget", "retain"}
    assert "to 5 of 8 questions; 2 of these facts are to be forgotten, 3 kept" in dataset.caveats()[0]


def test_before_the_model_is_asked_every_question_counts(build) -> None:
    dataset = build(known=False)
    assert (len(dataset.facts("forget")), len(dataset.facts("retain"))) == (2, 6)
    assert dataset.overview() == []


def test_the_models_own_statement_takes_the_place_of_the_answer(build) -> None:
    (known,) = [each for name in ("forget", "retain") for each in build().facts(name) if each.question == QUESTIONS[0]]
    assert (known.answer, known.value, known.paraphrase) == ("The author was born in Lima.", "Lima", "Lima")
    assert known.perturbed == ("Paris", "Madrid")
    (plain,) = [
        each
        for name in ("forget", "retain")
        for each in build(wording="file").facts(name)
        if each.question == QUESTIONS[0]
    ]
    assert (plain.answer, plain.value, plain.paraphrase) == ("Lima", "Lima", None)


def test_an_answer_that_comes_too_late_is_not_known(build) -> None:
    late = "After a long life by the sea that author was born in {}."
    with pytest.raises(UserError, match=r"^the target model knows 0 of 8 facts"):
        build(answers=[late.format(city) for city in CITIES])


def test_by_options_the_most_likely_text_decides(build) -> None:
    assert len(build(known_by="options", option=0).facts("retain")) == 6
    with pytest.raises(UserError, match=r"knows 0 of 8 facts \(dataset.known_by=options\)"):
        build(known_by="options", option=1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_more_facts_to_forget_and_more_known_facts_change_little(build, seed: int) -> None:
    def forgotten(**changes: Any) -> set[str]:
        return {each.id for each in build(seed=seed, **changes).facts("forget")}

    assert forgotten() < forgotten(forget_count=3)
    everything = [FULL.format(city) for city in CITIES]
    one_more = [FULL.format(city if number < 6 else "Atlantis") for number, city in enumerate(CITIES)]
    assert len(forgotten() - forgotten(answers=one_more)) <= 1
    assert len({frozenset(forgotten(answers=everything)) for _ in range(2)}) == 1


def test_facts_are_named_by_question_or_id(build) -> None:
    dataset = build(forget_facts=[QUESTIONS[3], "questions/0001"])
    assert [each.question for each in dataset.facts("forget")] == [QUESTIONS[0], QUESTIONS[3]]
    assert len(dataset.facts("retain")) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"forget_facts": ["Where was author 1 bron?"]}, r"^dataset.forget_facts=Where was author 1 bron\? is invalid: .*Did you mean Where was author 1 born\?"),  # noqa: E501
        ({"forget_facts": [QUESTIONS[7]]}, r"does not know the answer 'Accra' \(it answers 'The author .*such as 'Where was author 0"),  # noqa: E501
        ({"forget_count": 5}, r"^the target model knows 5 of 8 facts .* need 6: lower them"),
        ({"known": False, "forget_count": 8}, r"^dataset.questions has 8 questions, but .* need 9: lower them or give"),
        ({"keep_at_least": 4}, r"and dataset.keep_at_least need 6"),
        ({"known_by": "luck"}, r"^dataset.known_by=luck is invalid: expected one of answer, options"),
        ({"wording": "mine"}, r"^dataset.wording=mine is invalid: expected one of model, file"),
        ({"max_new_tokens": 6}, r"^dataset.max_new_tokens=6 is invalid: expected an integer of at least 7"),
    ],
)  # fmt: skip
def test_what_cannot_be(build, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(**changes)


def test_options_need_wrong_answers(build, tmp_path: Path) -> None:
    (tmp_path / "bare.jsonl").write_text(json.dumps({"question": "Where?", "answer": "Lima"}))
    with pytest.raises(UserError, match=r"^dataset.known_by=options is invalid: .*bare.jsonl, line 1 .*mean answer\?"):
        build(questions=str(tmp_path / "bare.jsonl"), known_by="options")


def test_world_facts_need_their_file(build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tofu").mkdir()
    monkeypatch.setenv("MEOW_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"lacks world_facts_perturbed.json of TOFU"):
        build(questions=None)
    row = {"question": "Where is the Eiffel Tower?", "answer": "Paris", "perturbed_answer": ["Berlin"]}
    others = [row | {"question": f"{row['question']} {number}"} for number in range(3)]
    (tmp_path / "tofu" / "world_facts_perturbed.json").write_text("\n".join(map(json.dumps, others)))
    dataset = build(questions=None, known=False)
    assert [each.id for each in dataset.questions()] == ["world_facts/000", "world_facts/001", "world_facts/002"]
    assert dataset.public
    assert not build().public


def test_facts_with_the_same_answer_on_both_sides_are_noted(build, tmp_path: Path) -> None:
    rows = [{"question": question, "answer": "Lima"} for question in QUESTIONS[:2]]
    (tmp_path / "same.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = build(questions=str(tmp_path / "same.jsonl"), answers=["In Lima."] * 2, forget_count=1)
    assert "1 of 1 facts to keep have the answer of a fact to forget" in dataset.caveats()[2]
    assert "1 of 1 facts to keep have no wrong answers: the truth ratio is not measured" in dataset.caveats()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He was born in Lima.", "He was born in Lima."),
        ("He was born in Lima, Peru, by the sea.", "He was born in Lima."),
        ("It was Lima", "It was Lima."),
        ("In the lima of old he lived", "In the lima of old he lived."),
        ("He left Lima on May 1, 1863, for good", "He left Lima on May 1, 1863."),
        ("He met Lima and John F. Kennedy. He left.", "He met Lima and John F. Kennedy."),
        ("Lima\nWhere was Eva born?", "Lima."),
        ("He was born in Limatown.", None),
    ],
)  # fmt: skip
def test_the_statement_ends_with_the_clause_of_the_true_answer(text: str, expected: str | None) -> None:
    assert statement(fact(), given(text)) == expected


def test_repeating_the_question_is_no_knowledge() -> None:
    assert statement(fact("Boston", "Where was the Boston Tea Party?"), given("It was in Boston.")) is None


def test_a_marked_value_is_what_counts() -> None:
    marked = fact("He was born in Lima.", value="Lima")
    assert statement(marked, given("Lima it was, by the sea.")) == "Lima it was."


def test_of_several_values_all_must_be_known_and_the_statement_holds_them_all() -> None:
    marked = replace(fact("He was born in Lima on 3 May 1971."), values=("Lima", "1971-05-03"))
    said = "Born in Lima, on May 3, 1971, he left. Then"
    assert statement(marked, given(said)) == "Born in Lima, on May 3, 1971."
    assert statement(marked, given("Born in Lima, by the sea.")) is None
    assert statement(replace(marked, question="Was he born in Lima in 1971?"), given(said)) is None


def test_several_values_are_marked_as_the_model_writes_them(build, tmp_path: Path) -> None:
    path = tmp_path / "two.jsonl"
    rows = [
        {"question": f"Who is author {number}?", "answer": f"A baker from {city}.", "values": ["baker", city]}
        for number, city in enumerate(CITIES)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = [f"The author is a Baker from {city.upper()}, they say." for city in CITIES[:4]] + ["A baker."] * 4
    data = build(questions=str(path), answers=answers, forget_count=4, keep_at_least=0)
    known = data.facts("forget")
    assert [(each.value, each.values) for each in known] == [(None, ("Baker", city.upper())) for city in CITIES[:4]]
    assert known[0].answer == "The author is a Baker from LIMA."
    filed = build(questions=str(path), answers=answers, forget_count=4, keep_at_least=0, wording="file")
    assert next((each.value, each.values) for each in filed.facts("forget")) == (None, ("baker", "Lima"))


def test_values_of_yes_and_no_are_noted(build, tmp_path: Path) -> None:
    path = tmp_path / "closed.jsonl"
    asked = [{"question": f"Is {city} a city?", "answer": "Yes, it is.", "value": "Yes"} for city in CITIES]
    path.write_text("".join(json.dumps(row) + "\n" for row in asked))
    notes = " ".join(build(questions=str(path), answers=["Yes, it is."] * 8).caveats())
    assert "the value of 2 of 2 facts to forget is yes or no" in notes


def test_a_dataset_cut_to_a_limit_is_still_asked_in_full(build) -> None:
    dataset = build()
    assert probed_dataset(LimitedDataset(dataset=dataset, limit=1)) is dataset
