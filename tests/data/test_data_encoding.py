from __future__ import annotations

from dataclasses import replace

from meow_lightning.data.encoding import content_digest, digest_of, encode, training_segments
from meow_lightning.data.examples import Passage
from meow_lightning.types import Fact, Segments

FACT = Fact(id="a", question="Wo?", answer="In Köln.", phrasings=(("Wo denn?", "Köln."), ("Ort?", "Köln")))


def test_training_sees_the_fact_and_then_its_phrasings() -> None:
    other = Fact(id="b", question="Q", answer="A")
    expected = [("Wo?", "In Köln."), ("Wo denn?", "Köln."), ("Ort?", "Köln"), ("Q", "A")]
    assert training_segments([FACT, other]) == [Segments(*pair) for pair in expected]


def test_encode_keeps_the_order(codec) -> None:
    rows = encode(codec, [Segments("b", "x"), Segments("a", "y")])
    assert rows == [codec.encode("b", "x"), codec.encode("a", "y")]


def test_digest_is_sixteen_hex_digits_that_any_field_moves() -> None:
    first = content_digest([FACT])
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert content_digest([replace(FACT)]) == first
    changed = [
        replace(FACT, id="b"), replace(FACT, question="?"), replace(FACT, answer="In Koln."),
        replace(FACT, paraphrase="x"), replace(FACT, perturbed=("x",)), replace(FACT, value="Köln"),
        replace(FACT, alternatives=("x",)), replace(FACT, inverted=("x",)), replace(FACT, phrasings=()),
        replace(FACT, values=("Köln",)), replace(FACT, values=("Köln", "in")),
    ]  # fmt: skip
    assert len({first, *(content_digest([fact]) for fact in changed)}) == 12


def test_facts_without_values_have_the_digest_of_a_dataset_that_knows_none() -> None:
    marked = replace(FACT, values=("Köln",))
    assert digest_of([FACT], ("id", "values")) == digest_of([FACT], ("id",)) == digest_of([marked], ("id",))
    assert digest_of([marked], ("id", "values")) != digest_of([marked], ("id",))


def test_digest_minds_the_order_of_items_but_not_of_keys() -> None:
    assert content_digest([1, 2]) != content_digest([2, 1])
    assert content_digest([{"a": 1, "b": 2}]) == content_digest([{"b": 2, "a": 1}])


def test_a_passage_enters_a_digest_in_full_and_not_as_a_fact_of_the_same_texts() -> None:
    passage = Passage("a", "In Köln wohnt Ada.", 7, ends=True)
    fact = Fact(id="a", question=passage.question, answer=passage.answer)
    digests = [digest_of([each], ("question", "answer")) for each in (
        passage, fact, replace(passage, prefix=8), replace(passage, ends=False),
        replace(passage, text="In Köln wohnt Eva."),
    )]  # fmt: skip
    assert len(set(digests)) == 5
