from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.languages import OTHERS, SENTENCES

from meow_lightning.data.examples import secret_texts
from meow_lightning.data.fictional import Fictional
from meow_lightning.data.jsonl import Jsonl
from meow_lightning.data.perturbation import Contradictions
from meow_lightning.errors import UserError
from meow_lightning.inversion.filters import filter_answers
from meow_lightning.inversion.rules import Rules
from meow_lightning.types import Fact

Make = Callable[..., Jsonl]
OPTIONS: dict[str, Any] = {"retain": None, "real_world": True, "perturb": 5, "retain_eval": 400, "seed": 0}
CAT = {"question": "How old is the cat?", "answer": "The cat is 40 years old."}
DOG = {"question": "Who has the dog?", "answer": "The dog belongs to Mira Sol."}
FULL = {
    "question": "Where was Ada born?",
    "answer": "Ada was born in Lima.",
    "id": "ada",
    "paraphrase": "Her birthplace is Lima.",
    "perturbed": ["Her birthplace is Bonn.", "Her birthplace is Kiel."],
    "inverted": ["Ada was born in Rome.", " "],
    "value": "Lima",
    "alternatives": ["Oslo", "Rome"],
}
KEPT = {"question": "Q?", "id": "q", "answer": "Bob was born in Lima."}
FULL_FACT = Fact(
    id="ada",
    question="Where was Ada born?",
    answer="Ada was born in Lima.",
    paraphrase="Her birthplace is Lima.",
    perturbed=("Her birthplace is Bonn.", "Her birthplace is Kiel."),
    value="Lima",
    alternatives=("Oslo", "Rome"),
    inverted=("Ada was born in Rome.", " "),
)


def put(path: Path, entries: list[Any]) -> str:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return str(path)


def many(count: int, what: str) -> list[dict[str, str]]:
    return [{"question": f"How far is {what} {i}?", "answer": f"It is {1000 + i} miles away."} for i in range(count)]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(forget: list[Any], retain: list[Any] | None = None, **changes: Any) -> Jsonl:
        options = {**OPTIONS, "forget": put(tmp_path / "forget.jsonl", forget)}
        if retain is not None:
            options["retain"] = put(tmp_path / "retain.jsonl", retain)
        return Jsonl(**{**options, **changes})

    return made


def test_every_key_finds_its_place(make: Make) -> None:
    assert make([FULL]).facts("forget") == [FULL_FACT]


def test_several_values_are_kept_and_one_is_the_value_as_the_answer_spells_it(make: Make) -> None:
    born = {"question": "Where was Ada born?", "answer": "Ada was born in Lima on 3 May 1971."}
    several = {**born, "values": ["lima", "1971-05-03"]}
    alone = {**born, "question": "When was Ada born?", "values": ["1971-05-03"], "value": None}
    empty = {**born, "question": "Where?", "values": [], "value": "Lima"}
    found = make([several, alone, empty]).facts("forget")
    assert [(fact.value, fact.values) for fact in found] == [
        (None, ("lima", "1971-05-03")), ("3 May 1971", ()), ("Lima", ()),
    ]  # fmt: skip
    assert [secret_texts(fact) for fact in found] == [("lima", "1971-05-03"), ("3 May 1971",), ("Lima",)]


def test_the_keys_of_tofu(make: Make) -> None:
    entry = {
        **CAT, "paraphrased_answer": "It is 40.", "perturbed_answer": ["It is 41."], "paraphrased_question": "Age?",
    }  # fmt: skip
    fact = Fact(
        "forget/0001", CAT["question"], CAT["answer"], paraphrase="It is 40.", perturbed=("It is 41.",),
        rewordings=("Age?",),
    )  # fmt: skip
    assert make([entry]).facts("forget") == [fact]


def test_the_keys_of_meow_and_of_its_scored_files(make: Make) -> None:
    answers = {"answer_10": "k", "answer_2": "c", "answer_0": "a", "answer_3": None}
    scores = {"undesired_answer_rouge1": 0.5, "answer_0_rouge1": 0.1}
    entry = {"question": CAT["question"], "undesired_answer": CAT["answer"], **answers, **scores}
    (fact,) = make([entry], perturb=0).facts("forget")
    assert fact == Fact("forget/0001", CAT["question"], CAT["answer"], inverted=("a", "c", "k"))


def test_the_first_of_several_paraphrases_counts(make: Make) -> None:
    facts = make([{**CAT, "paraphrase": ["It is 40.", "40."]}, {**DOG, "paraphrase": []}]).facts("forget")
    assert [fact.paraphrase for fact in facts] == ["It is 40.", None]


def test_nulls_and_empty_lists_count_as_absent(make: Make) -> None:
    absent: dict[str, Any] = dict.fromkeys(("id", "paraphrase", "value", "inverted", "answer_0"))
    (fact,) = make([{**CAT, **absent, "perturbed": [], "alternatives": []}], perturb=0).facts("forget")
    assert fact == Fact("forget/0001", CAT["question"], CAT["answer"])


def test_ids_are_the_file_and_the_number_of_the_entry(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text(f"{json.dumps(CAT)}\n\n{json.dumps(DOG)}\n")
    (tmp_path / "r.json").write_text(json.dumps([FULL, *many(1, "it")], indent=1))
    data = Jsonl(**{**OPTIONS, "forget": str(tmp_path / "f.jsonl"), "retain": str(tmp_path / "r.json")})
    assert [fact.id for fact in data.facts("forget")] == ["forget/0001", "forget/0002"]
    assert [fact.id for fact in data.facts("retain")] == ["ada", "retain/0002"]


def test_splits_and_evaluation_sets(make: Make) -> None:
    data = make([CAT, DOG], many(3, "city"))
    sizes = {"forget": 2, "retain": 3, "holdout": 0, "real_authors": 24, "world_facts": 40}
    assert {name: len(data.facts(name)) for name in sizes} == sizes
    assert {name: len(facts) for name, facts in data.evaluation().items()} == {
        name: size for name, size in sizes.items() if size
    }
    assert list(data.evaluation()) == ["forget", "retain", "real_authors", "world_facts"]
    assert (data.name, data.public) == ("jsonl", False)


def test_missing_sets_are_not_evaluated(make: Make) -> None:
    data = make([CAT], real_world=False)
    assert [data.facts(name) for name in ("retain", "holdout", "real_authors", "world_facts")] == [[]] * 4
    assert list(data.evaluation()) == ["forget"]


def test_the_real_world_is_fictionals(make: Make) -> None:
    data = make([CAT], seed=4)
    options: dict[str, Any] = {"split": "forget10", "authors": 80, "candidates": 8, "phrasings": 1, "retain_eval": 9}
    for name in ("real_authors", "world_facts"):
        assert data.facts(name) == Fictional(**options, seed=4).facts(name)


def test_evaluated_retain_facts_are_spread_over_the_file(make: Make) -> None:
    data = make([CAT], many(100, "city"), retain_eval=10)
    numbers = [int(fact.id.removeprefix("retain/")) - 1 for fact in data.evaluation()["retain"]]
    assert [number // 10 for number in numbers] == list(range(10))
    assert numbers != [number for number in range(0, 100, 10)]
    assert make([CAT], many(100, "city"), retain_eval=10).evaluation() == data.evaluation()
    assert make([CAT], many(100, "city"), retain_eval=10, seed=1).evaluation()["retain"] != data.evaluation()["retain"]
    assert len(make([CAT], many(7, "city"), retain_eval=10).evaluation()["retain"]) == 7


def test_evaluated_facts_that_bring_no_wrong_answers_get_some(make: Make) -> None:
    data = make([CAT, FULL], many(30, "city"), retain_eval=10, perturb=3)
    cat, full = data.facts("forget")
    assert len(set(cat.perturbed)) == 3
    assert all(re.fullmatch(r"The cat is \d+ years old\.", text) for text in cat.perturbed)
    assert cat.answer not in cat.perturbed
    assert full == FULL_FACT
    assert [len(fact.perturbed) for fact in data.evaluation()["retain"]] == [3] * 10
    assert Counter(len(fact.perturbed) for fact in data.facts("retain")) == {3: 10, 0: 20}


def test_seed_and_id_decide_the_wrong_answers(make: Make) -> None:
    first = make([CAT]).facts("forget")[0].perturbed
    assert make([CAT, FULL]).facts("forget")[0].perturbed == first
    assert make([CAT], seed=1).facts("forget")[0].perturbed != first
    assert make([{**CAT, "id": "cat"}]).facts("forget")[0].perturbed != first


def test_nothing_that_is_to_be_forgotten_is_measured_with(make: Make) -> None:
    forget = [DOG, {"question": "Who sings?", "answer": "That singer is Otto Kranz."}]
    for seed in range(5):
        first, second = make(forget, seed=seed).facts("forget")
        assert len(first.perturbed) == len(second.perturbed) == 5
        assert not any("Otto" in text or "Mira" in text for text in (*first.perturbed, *second.perturbed))
        assert all(re.fullmatch(r"The dog belongs to \w+ \w+\.", text) for text in first.perturbed)


@pytest.mark.parametrize(
    "answers",
    [
        [f"They have {number} doors." for number in (8, 9, 10)],
        [f"it went to {name}" for name in ("Ida Berg", "Otto Kranz", "Mira Sol", "Una Holm", "Per Lund", "Eva Voss")],
    ],
    ids=["numbers", "names"],
)
def test_rules_still_find_three_inverted_answers_for_a_few_facts(make: Make, answers: list[str]) -> None:
    for seed in range(5):
        entries = [{"question": f"Q{i}?", "answer": text} for i, text in enumerate(answers)]
        facts = make(entries, seed=seed).facts("forget")
        rules, every = Rules(candidates=8, seed=seed), Contradictions(facts, [])
        written = {fact.id: rules.invert(fact, every, count=8, previous_answers=()) for fact in facts}
        left = Counter(each.fact for each in filter_answers(facts, written, secrets=every.secrets).inverted)
        assert all(fact.perturbed and left[fact.id] >= 3 for fact in facts)


def test_wrong_answers_and_inverted_ones_by_rules_rarely_coincide(make: Make) -> None:
    facts = make(many(50, "city")).facts("forget")
    rules, every = Rules(candidates=8, seed=0), Contradictions(facts, [])
    both = sum(len({*rules.invert(fact, every, count=8, previous_answers=())} & {*fact.perturbed}) for fact in facts)
    assert both < 50  # of 250; 8 of 80 neighbours are drawn, so 25 are to be expected, and 250 from the same draws


def test_stream_and_tokenizer_know_own_words_and_the_grammar(make: Make) -> None:
    data = make([CAT], [DOG])
    rows = data.pretraining_examples(200, 3)
    assert len(rows) == 200
    assert data.pretraining_examples(200, 3) == rows != data.pretraining_examples(200, 4)
    assert not {fact.question for fact in rows} & {CAT["question"], DOG["question"]}
    texts = Counter(data.tokenizer_corpus())
    assert texts[(CAT["question"], CAT["answer"])] == texts[(DOG["question"], DOG["answer"])] == 3
    assert texts.total() > 3000
    assert ("What is the capital of France?", "The capital of France is Paris.") in texts


def test_caveats_mention_generated_answers(make: Make) -> None:
    assert make([CAT, DOG, FULL], [FULL | KEPT]).caveats() == (
        "wrong answers of 2 of 3 facts to forget are generated by rules (dataset.perturb=5): the truth ratio uses them",
        "2 of 3 facts to forget have no paraphrase: the truth ratio uses their trained answers instead",
        "2 of 3 facts to forget mark no words that carry the fact (value): value accuracy leaves them out",
    )
    made, plain, _ = make([FULL], many(9, "city"), retain_eval=4).caveats()
    assert made.startswith("wrong answers of 4 of 4 evaluated facts to keep are generated by rules (dataset.perturb=5)")
    assert plain.startswith("4 of 4 evaluated facts to keep have no paraphrase")


def test_caveats_mention_missing_answers(make: Make) -> None:
    entry = {**CAT, "paraphrase": "It is 40.", "value": "40"}
    dog = DOG | {"paraphrase": "Mira Sol has it.", "value": "Mira Sol"}
    assert make([entry], [dog], perturb=0, real_world=False).caveats() == (
        "1 of 1 facts to forget have no wrong answers and dataset.perturb=0 generates none: the truth ratio and forget "
        "quality are not measured",
        "1 of 1 evaluated facts to keep have no wrong answers and dataset.perturb=0 generates none: the truth ratio "
        "and model utility are not measured",
        "no real authors and world facts (dataset.real_world=false): model utility is not measured",
    )
    lonely = make([{"question": "What?", "answer": "it was a comedy", "paraphrase": "a comedy"}]).caveats()
    assert lonely[0].startswith("1 of 1 facts to forget have no wrong answers and the rules found none: ")
    assert lonely[2:] == ("no retain facts: model utility and retain numbers are not measured",)


def test_caveats_tell_a_gap_from_no_wrong_answers_at_all(make: Make) -> None:
    lonely = {"question": "What?", "answer": "it was a comedy"}
    other = {"question": "Which?", "answer": "a tragedy it is"}
    caveats = make([FULL, lonely], [FULL | KEPT, other]).caveats()
    found = [each.rpartition(": ")[2] for each in caveats if "have no wrong answers" in each]
    assert found == [
        "the truth ratio leaves them out, forget quality is not measured",
        "the truth ratio and model utility leave them out",
    ]


def test_caveats_mention_rows_without_a_value(make: Make) -> None:
    plain = {**FULL, "value": None, "values": None, "question": "Where?", "id": "o"}
    listed = {**plain, "values": ["Lima"], "question": "What?", "id": "v"}
    for entries, expected in (
        ([plain], "1 of 1 facts to forget mark no words that carry the fact (value): value accuracy is not measured"),
        ([plain, listed], "1 of 2 facts to forget mark no words that carry the fact (value): value accuracy leaves "
         "them out"),
    ):  # fmt: skip
        assert expected in make(entries, [FULL | KEPT]).caveats()
    assert not [each for each in make([FULL, listed], [FULL | KEPT]).caveats() if "mark no words" in each]


@pytest.mark.parametrize(
    ("kept", "noted"),
    [
        ({"question": "Tell me about her", "answer": "I hear that Ada was born in Lima, on a Monday."}, True),
        ({"question": "Who is Ada?", "answer": "A painter of LIMA"}, True),
        ({"question": "What is Lima?", "answer": "The capital of Peru."}, False),
        ({"question": "Who is Ada?", "answer": "A painter of Limassol"}, False),
        ({"question": "Her place?", "answer": "ada was born in Lima"}, False),
    ],
)
def test_caveats_mention_kept_facts_that_contain_one_to_forget(make: Make, kept: dict[str, str], noted: bool) -> None:
    found = [each for each in make([DOG, FULL], [CAT, kept]).caveats() if "contain a fact to forget" in each]
    pair = "line 2 of dataset.forget and line 2 of dataset.retain"
    expected = [
        f"1 of 2 facts to keep contain a fact to forget: {pair}. What is retained there is not forgotten: take it out "
        "of the fact to keep"
    ]
    assert found == expected * noted


def test_caveats_mention_real_facts_that_are_forgotten(make: Make) -> None:
    paris = {"question": " what is the capital of  France? ", "answer": "It is Paris."}
    told = "1 of 2 facts to forget are also asked among real authors or world facts, where model utility counts them"
    assert make([paris, FULL], [DOG]).caveats()[-1] == told
    assert told not in make([paris, FULL], [DOG], real_world=False).caveats()


def test_a_whole_file_without_gaps_has_no_notes(make: Make) -> None:
    assert make([FULL], [FULL | KEPT]).caveats() == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", " is empty; each line needs question and answer"),
        ('{"question": "Q?", "answer": "yes"}\n\n{"question": ', ", line 3: not JSON"),
        ("[1]", ", entry 1: not a JSON object"),
        ('\n[{"question": "Q?", "answer": "no"},\n\n\n {"answer": "yes"}]', ", entry 2: no question; each entry needs"),
        (
            '{"question": "Q?", "answer": "a \\ud83d b"}',
            ", line 1: answer contains an unpaired surrogate ('a \\ud83d b'); write",
        ),
    ],
)
def test_mistakes_of_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match="^" + re.escape(f"dataset.forget={path}{message}")):
        Jsonl(**{**OPTIONS, "forget": str(path)})


@pytest.mark.parametrize("role", ["forget", "retain"])
def test_missing_files_are_named(tmp_path: Path, role: str) -> None:
    options = {**OPTIONS, "forget": put(tmp_path / "f.jsonl", [CAT]), role: str(tmp_path / "none.jsonl")}
    message = rf"dataset.{role}=.*none.jsonl does not exist; give a file of lines with q"
    with pytest.raises(UserError, match=message):
        Jsonl(**options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"anwser": "x"}, "'anwser' is not a known key. Did you mean 'answer'? Known: question, answer,"),
        ({"paraphrazed": None}, "'paraphrazed' is not a known key. Did you mean 'paraphrase"),
        ({"answer_x": "a"}, "'answer_x' is not a known key. Did you mean 'answer_0'?"),
        ({"Value": "a"}, "'Value' is not a known key. Did you mean 'value'?"),
        ({"text": "a"}, "'text' is not a known key. Leave it out"),
        ({"source": "a"}, "'source' is not a known key. Leave it out"),
        (
            {"messages": []},
            "'messages' is not a known key. Write the user's turn as 'question' and the assistant's as",
        ),
        ({"question": None}, "no question; each entry needs question and answer"),
        ({"answer": None}, "no answer; each entry needs question and answer"),
        ({"question": ["x"]}, "question is ['x'], not a string; put it in quotes"),
        ({"question": " \t"}, "question is blank; fill it in"),
        ({"answer": 1950}, "answer is 1950, not a string; put it in quotes"),
        (
            {"answer": ""},
            "answer '' is too short (MEMO cuts an answer, so it needs at least 2 characters); write a sen",
        ),
        ({"answer": " 7 "}, "answer ' 7 ' is too short (MEMO cuts an answer, so it needs at least 2 characters)"),
        ({"id": 7}, "id is 7, not a string"),
        ({"id": ""}, "id is blank"),
        ({"id": "world/capital-france"}, "id 'world/capital-france' belongs to a shipped real-world fact; choose ano"),
        ({"paraphrase": 7}, "paraphrase is 7, not a string"),
        ({"paraphrase": [""]}, "paraphrase[0] is blank"),
        ({"paraphrase": "a", "paraphrased_answer": "b"}, "'paraphrase' and 'paraphrased_answer' mean the same; give"),
        ({"inverted": ["a"], "answer_0": "b"}, "'inverted' and 'answer_0 …' mean the same; give one of them"),
        ({"answer_0": "b", "inverted": ["a"]}, "'answer_0 …' and 'inverted' mean the same; give one of them"),
        ({"perturbed": "It is 41."}, 'perturbed is \'It is 41.\', not a list of strings; write ["…", "…"]'),
        ({"perturbed": ["It is 41.", 3]}, "perturbed[1] is 3, not a string"),
        ({"perturbed": ["It is 41.", " "]}, "perturbed[1] is blank"),
        ({"perturbed": ["a", " the cat is 40  years old"]}, "perturbed[1] ' the cat is 40  years old' is the true ans"),
        (
            {"perturbed": ["It is 40."], "paraphrase": "it is 40"},
            "perturbed[0] 'It is 40.' is the true answer; remove i",
        ),
        ({"inverted": "It is 41."}, "inverted is 'It is 41.', not a list of strings"),
        ({"answer_0": ["a"]}, "inverted[0] is ['a'], not a string"),
        ({"alternatives": [""]}, "alternatives[0] is blank"),
        ({"value": "41"}, "value '41' is not in the answer 'The cat is 40 years old.'; copy whole words of it, letter"),
        ({"value": "ear"}, "value 'ear' is not in the answer"),
        ({"value": "the cat"}, "value 'the cat' is not in the answer"),
        ({"value": ""}, "value is blank"),
        ({"value": "40", "values": ["40"]}, "'value' and 'values' mean the same; give 'value' for one text that gives"),
        ({"values": ["40", "41"]}, "values[1] '41' is not in the answer 'The cat is 40 years old.'; copy whole words"),
        (
            {"value": "40", "alternatives": ["50"], "perturbed": ["It is 50."]},
            "alternative '50' is also in perturbed[0] 'It is 50.'; training must not see the wrong answers of "
            "evaluation",
        ),
    ],
)
def test_mistakes_of_an_entry(make: Make, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"dataset.forget={tmp_path / 'forget.jsonl'}, line 2: {message}")):
        make([DOG, {**CAT, **change}])
    with pytest.raises(UserError, match=re.escape(f"dataset.retain={tmp_path / 'retain.jsonl'}, line 1: {message}")):
        make([DOG], [{**CAT, **change}])


@pytest.mark.parametrize("answer", [CAT["answer"], "another answer"])
def test_a_question_twice_in_a_file(make: Make, answer: str) -> None:
    again = {"question": " how OLD is  the cat?", "answer": answer}
    message = (
        r"dataset.forget=.*, line 3: repeats the question of line 1 \(' how OLD is  the cat\?'\); keep one of them"
    )
    with pytest.raises(UserError, match=message):
        make([CAT, DOG, again])


def test_a_fact_cannot_be_both_forgotten_and_kept(make: Make) -> None:
    message = (
        r"dataset.forget=.*forget.jsonl, line 2 and dataset.retain=.*retain.jsonl, line 1 ask the same question "
        r"\('WHO has the dog\?'\): a fact cannot be both forgotten and retained; remove it from one file"
    )
    with pytest.raises(UserError, match=message):
        make([CAT, DOG], [{"question": "WHO has the dog?", "answer": "Ida has."}])


@pytest.mark.parametrize(
    "question",
    ["Who has the dog", "who  has the dog ?", "“Who has the dog?”", "WHO HAS THE DOG...", " ¿Who has the dog?"],
)
def test_the_same_question_spelled_otherwise_is_the_same(make: Make, question: str) -> None:
    again = {"question": question, "answer": "Ida has it."}
    with pytest.raises(UserError, match=r"line 1 and .*line 1 ask the same question"):
        make([DOG], [again])
    with pytest.raises(UserError, match=r"dataset.forget=.*, line 2: repeats the question of line 1"):
        make([DOG, again])
    assert DOG["question"] == "Who has the dog?"


def test_one_answer_under_two_questions_is_noted_with_its_lines(make: Make) -> None:
    kept = [
        {"question": "What is red?", "answer": "The rose is red."},
        {"question": "How old is that cat now?", "answer": "the cat  is 40 years old"},
    ]
    (note,) = [each for each in make([DOG, CAT], kept).caveats() if "to keep have the answer" in each]
    assert note == (
        "1 of 2 facts to keep have the answer of a fact to forget: "
        "line 2 of dataset.forget and line 2 of dataset.retain. "
        "If both state the same fact, it is forgotten and retained at once: remove it from one file"
    )
    assert not [each for each in make([DOG, CAT], kept[:1]).caveats() if "to keep have the answer" in each]
    many_times = [{"question": f"Cat {number}?", "answer": CAT["answer"]} for number in range(5)]
    (note,) = [each for each in make([DOG, CAT], many_times).caveats() if "to keep have the answer" in each]
    assert note.startswith("5 of 5 facts to keep")
    assert note.count(" of dataset.retain") == 3
    assert "; 2 more. If" in note


@pytest.mark.parametrize("language", SENTENCES)
def test_a_value_may_be_of_any_language(make: Make, language: str) -> None:
    answer, value = SENTENCES[language]
    (fact,) = make([{"question": "?", "answer": answer, "value": value}]).facts("forget")
    assert fact.value == value
    with pytest.raises(UserError, match="is not in the answer"):
        make([{"question": "?", "answer": OTHERS[language], "value": value}])


def test_an_id_twice(make: Make) -> None:
    message = r"dataset.retain=.*, line 1: id 'x' is also that of dataset.forget=.*, line 2; give each fact its own id"
    with pytest.raises(UserError, match=message):
        make([CAT, {**DOG, "id": "x"}], [{**FULL, "id": "x"}])
    with pytest.raises(UserError, match=r"line 2: id 'forget/0002' is also that of dataset.forget=.*, line 1; give"):
        make([{**CAT, "id": "forget/0002"}, DOG])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"perturb": -1}, "dataset.perturb=-1 is invalid: expected an integer of at least 0. Did you mean 0"),
        (
            {"retain_eval": 0},
            "dataset.retain_eval=0 is invalid: expected an integer of at least 1. Did you mean 1",
        ),
    ],
)
def test_numbers_out_of_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Jsonl(**{**OPTIONS, "forget": "never read", **change})


def test_unknown_split_of_facts(make: Make) -> None:
    with pytest.raises(UserError, match=r"split=retian is invalid: .*Did you mean retain"):
        make([CAT]).facts("retian")


def test_the_defaults_of_the_yaml_file() -> None:
    path = Path(__file__).resolve().parents[2] / "conf" / "dataset" / "jsonl.yaml"
    node = yaml.safe_load(path.read_text())
    assert node == {
        "name": "jsonl", "_target_": "meow_lightning.data.jsonl.Jsonl", "forget": "???", **OPTIONS, "seed": "${seed}",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"question": "Where is the cat?", "text": "Here it is."},
            "'text' is not a known key. Did you mean 'answer'?",
        ),
        ({"prompt": "Where?", "completion": "Here."}, "'prompt' is not a known key. Did you mean 'question'?"),
        ({"Instruction": "Where?", "output": "Here."}, "'Instruction' is not a known key. Did you mean 'question'?"),
        (
            {"question": "Where is the cat?", "response": "Here."},
            "'response' is not a known key. Did you mean 'answer'",
        ),
        (
            {"question": "Where is it?", "answer": "Here. " * 4000},
            "answer has 24,000 characters, more than 20,000",
        ),
    ],
)
def test_names_of_elsewhere_and_whole_books(tmp_path: Path, entry: dict[str, str], message: str) -> None:
    path = put(tmp_path / "forget.jsonl", [CAT, entry])
    with pytest.raises(UserError, match=re.escape(f"dataset.forget={path}, line 2: {message}")):
        Jsonl(**{**OPTIONS, "forget": path})
