from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from meow_lightning.errors import UserError
from meow_lightning.generation.batching import Continuation
from meow_lightning.memo.baselines import Extraction, Memorization, ngram_overlap, tokens_of
from meow_lightning.memo.measure import Text, score_texts

BEGIN, END = 1, 2
TEXT = Text("f1", "answer", 0, "ab", "cd")
MA = Memorization(name="ma", mode="suffix", template=True)
EL = Extraction(name="el", mode="suffix", template=True, n=1)


class Characters:
    """A codec whose tokens are characters, with a token before each text."""

    end_ids = frozenset({END})
    pad_id = 0
    context = 12

    def prompt_ids(self, question: str) -> list[int]:
        return self.encode_plain(f"{question}:")

    def answer_ids(self, answer: str) -> list[int]:
        return [*map(ord, answer)]

    def partial_ids(self, question: str, given: str) -> list[int]:
        return self.prompt_ids(question) + self.answer_ids(given)

    def encode_plain(self, text: str) -> list[int]:
        return [BEGIN, *map(ord, text)]

    def token_ends(self, text: str) -> list[int]:
        return [*range(1, len(text) + 1)]

    def decode(self, ids: Sequence[int], keep_special: bool) -> str:
        raise AssertionError("tokens are compared, not texts")


class Pairs(Characters):
    """Tokens are pairs of characters, so that a token may hold the question's end and the answer's beginning."""

    def encode_plain(self, text: str) -> list[int]:
        return [BEGIN, *(sum(map(ord, text[at : at + 2])) for at in range(0, len(text), 2))]


def said(*tokens: str | int) -> Continuation:
    ids = tuple(ord(token) for token in tokens if isinstance(token, str))
    return Continuation(ids, END if END in tokens else None)


@pytest.mark.parametrize(
    ("mode", "template", "context", "tested"),
    [
        ("suffix", True, [BEGIN, *map(ord, "ab:")], "cd"),
        ("suffix", False, [BEGIN, *map(ord, "ab")], " cd"),
        ("prefix", True, [BEGIN, ord("a")], "b cd"),
        ("prefix", False, [BEGIN, ord("a")], "b cd"),
    ],
)
def test_context_and_tested_tokens(mode, template, context, tested):
    assert tokens_of(TEXT, Characters(), mode=mode, template=template) == (context, [*map(ord, tested)])


def test_a_token_of_question_and_answer_is_tested():
    # "abc de" is ab|c |de, the question by itself ab|c
    context, tested = tokens_of(Text("f", "answer", 0, "abc", "de"), Pairs(), mode="suffix", template=False)
    assert context == [BEGIN, ord("a") + ord("b")]
    assert tested == [ord("c") + ord(" "), ord("d") + ord("e")]


def test_a_passage_is_tested_as_it_stands_in_its_document():
    text = Text("p", "answer", 0, "ab", " cd", raw=True)
    assert tokens_of(text, Characters(), mode="suffix", template=True) == ([BEGIN, *map(ord, "ab")], [*map(ord, " cd")])


def test_memorization_asks_for_one_token_after_another():
    cuts = MA.cuts(TEXT, Characters())
    shown = [BEGIN, *map(ord, "ab:")]
    assert [(cut.prompt, cut.budget) for cut in cuts] == [(shown, 1), ([*shown, ord("c")], 1)]
    assert [cut.score(said("c")) for cut in cuts] == [1.0, 0.0]
    assert [cut.score(said(END)) for cut in cuts] == [0.0, 0.0]
    assert MA.count(TEXT, Characters()) == 2


def test_the_text_is_put_in_bit_by_bit_for_extraction():
    cuts = EL.cuts(Text("f", "answer", 0, "ab", "cdef"), Characters())
    shown = [BEGIN, *map(ord, "ab:")]
    # T = 4, n = 1: t = 1, 2, 3, with 4, 3 and 2 tokens left
    assert [(cut.prompt, cut.budget) for cut in cuts] == [
        (shown, 4), ([*shown, *map(ord, "c")], 3), ([*shown, *map(ord, "cd")], 2),
    ]  # fmt: skip
    assert [cut.score(said("c", "d", "x", "x")) for cut in cuts] == [2 / 4, 1 / 4, 0.0]
    assert [cut.score(said("f", END)) for cut in cuts] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("one", "other", "n", "share"),
    [
        ("abab", "ab", 1, 1.0),
        ("abcc", "xcb", 1, 3 / 4),  # b, c and c of a list of four
        ("abab", "xab", 2, 2 / 3),  # ab, ba, ab
        ("abc", "cab", 3, 0.0),
        ("ab", "abc", 3, 0.0),  # says fewer than n
        ("", "abc", 1, 0.0),
        ("abcd", "zabcdz", 3, 1.0),
    ],
)
def test_overlaps_by_hand(one, other, n, share):
    assert ngram_overlap([*map(ord, one)], [*map(ord, other)], n=n) == pytest.approx(share)


def test_texts_with_too_few_tokens_and_too_long_ones_are_reported():
    with pytest.raises(
        UserError, match=r"^MA cuts no window from the answer of fact f1: it has 0 tokens to test, but "
    ):
        MA.check(TEXT._replace(answer=""), Characters())
    three = Extraction(name="el", mode="suffix", template=True, n=2)
    with pytest.raises(UserError, match=r"EL_2 cuts no .* f1: it has 2 tokens to test, but EL_2 needs 3, .*lengthen"):
        three.check(TEXT, Characters())
    three.check(TEXT._replace(answer="cde"), Characters())
    for by in (MA, EL):
        by.check(TEXT._replace(answer="12345678"), Characters())
        with pytest.raises(UserError, match="fact f1: a MEMO prompt has 12 tokens, but the model's context of 12 "):
            by.check(TEXT._replace(answer="123456789" if by is MA else "1234567890"), Characters())
        with pytest.raises(ValueError, match="without the codec"):
            by.count(TEXT, None)


def test_impossible_values():
    with pytest.raises(UserError, match=r"^memo\.n=0 is invalid: expected a number from 1 to "):
        Extraction(name="el", mode="suffix", template=True, n=0)
    with pytest.raises(UserError, match=r"memo\.mode=sufix is invalid"):
        Memorization(name="ma", mode="sufix", template=True)  # type: ignore[arg-type]


def texts() -> list[Text]:
    facts = [("Where was Ada born?", "Ada was born in Lima."), ("What did she write?", "She wrote 12 books.")]
    found = [Text(f"f{number}", "answer", 0, *fact) for number, fact in enumerate(facts)]
    return [*found, Text("f0", "candidate", 0, facts[0][0], "Ada was born by the sea.")]


def teacher_forced(model: Any, codec: Any, text: Text, by: Memorization) -> tuple[float, ...]:
    context, tested = tokens_of(text, codec, mode=by.mode, template=by.template)
    with torch.inference_mode():
        likeliest = model(torch.tensor([[*context, *tested]])).logits[0].argmax(-1).tolist()
    return tuple(float(likeliest[len(context) + t - 1] == token) for t, token in enumerate(tested))


@pytest.fixture
def learned(tiny, codec):
    """A model that has half learnt the first fact, so that hits are neither all 0 nor all 1."""
    ids = torch.tensor([codec.encode(texts()[0].question, texts()[0].answer).ids])
    optimizer = torch.optim.AdamW(tiny.parameters(), lr=3e-2)
    for _ in range(12):
        optimizer.zero_grad()
        tiny(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    return tiny.eval()


@pytest.mark.parametrize(("mode", "template"), [("suffix", True), ("suffix", False), ("prefix", False)])
def test_hits_are_those_of_a_plain_forward_pass(learned, codec, mode, template):
    by = Memorization(name="ma", mode=mode, template=template)
    found = score_texts(learned, codec, texts(), by=by, slots=4, progress=None, done=(), alone=None)
    hits = {(text.fact, text.kind): text for text in found}
    for text in texts():
        expected = teacher_forced(learned, codec, text, by)
        assert hits[text.fact, text.kind].windows == expected
        assert hits[text.fact, text.kind].score == sum(expected) / len(expected)
    assert len({hit for text in hits.values() for hit in text.windows}) == 2  # or the comparison would say nothing


def test_memorization_reads_a_batch_of_texts_in_one_pass(learned, codec, monkeypatch):
    monkeypatch.setattr(
        "meow_lightning.generation.engine.supports_prefix_sharing", lambda *_, **__: True
    )  # the probe has passes of its own
    passes: list[int] = []
    learned.register_forward_pre_hook(lambda *given: passes.append(given[2]["input_ids"].numel()), with_kwargs=True)
    list(score_texts(learned, codec, texts(), by=MA, slots=8, progress=None, done=(), alone=None))
    assert len(passes) == 1


def test_extraction_of_a_model_that_knows_the_text(learned, codec):
    found = list(score_texts(learned, codec, texts(), by=EL, slots=4, progress=None, done=(), alone=None))
    scores = {(text.fact, text.kind): text.score for text in found}
    assert scores["f0", "answer"] > scores["f1", "answer"]
    assert [len(text.windows) for text in found] == [EL.count(each, codec) for each in map(asked, found)]


def asked(scored: Any) -> Text:
    return next(text for text in texts() if (text.fact, text.answer) == (scored.fact, scored.answer))
