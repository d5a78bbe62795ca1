from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import pytest
import yaml
from helpers.common import clean_profile
from helpers.languages import OTHERS, SENTENCES

from meow_lightning.data.fictional import Fictional
from meow_lightning.errors import UserError
from meow_lightning.generation.batching import Continuation
from meow_lightning.memo.measure import Text
from meow_lightning.memo.memo import Profile

BEGIN, END = 0x110001, 0x110002  # no characters
QUESTION, ANSWER = "Who sang?", "Ada Lee sang !!!"
ENDS = [2, 3, 7, 10, 12, 13, 16]  # Ad|a| Lee| sa|ng| |!!!
CLEAN = clean_profile(40)
OFFICIAL = dataclasses.replace(
    CLEAN,
    name="official",
    template=False,
    keep_special=True,
    max_new_tokens=200,
    empty_windows="zero",
    words="published",
)
TRUE = Text("f1", "answer", 0, QUESTION, ANSWER)


class Spelling:
    """A codec whose tokens are characters; with or without a token before each text."""

    end_ids = frozenset({END})
    pad_id = END
    context = 10_000

    def __init__(self, *, begin: bool, end: str, ends: Sequence[int] = ()) -> None:
        self.begin = [BEGIN] * begin
        self.special = {BEGIN: "<s> ", END: end}
        self.ends_of_tokens = list(ends)

    def prompt_ids(self, question: str) -> list[int]:
        return self.encode_plain(f"Q: {question} A:")

    def answer_ids(self, answer: str) -> list[int]:
        return [*map(ord, f" {answer}")]

    def partial_ids(self, question: str, given: str) -> list[int]:
        return self.prompt_ids(question) + self.answer_ids(given)

    def encode_plain(self, text: str) -> list[int]:
        return [*self.begin, *map(ord, text)]

    def token_ends(self, text: str) -> list[int]:
        return self.ends_of_tokens

    def decode(self, ids: Sequence[int], keep_special: bool) -> str:
        return "".join(self.special[each] * keep_special if each in self.special else chr(each) for each in ids)


LLAMA = Spelling(begin=True, end="</s>", ends=ENDS)
END_ONLY = Spelling(begin=False, end="<|endoftext|>", ends=ENDS)


def recited(by: Profile, text: Text, codec: Spelling) -> list[float]:
    """The windows' scores of a model that says the rest of every text word for word and ends."""
    labels = [window.label for window in by.windows(text, codec)]
    cuts = by.cuts(text, codec)
    return [cut.score(Continuation((*map(ord, label),), END)) for cut, label in zip(cuts, labels, strict=True)]


@pytest.mark.parametrize(
    ("cut_unit", "stride", "labels", "official"),
    [
        # after 1, 5, 9 and 13 characters
        ("characters", 4, ["da Lee sang !!!", "ee sang !!!", "ang !!!", "!!!"], [3 / 5, 2 / 4, 1 / 3, 0]),
        ("words", 1, [" Lee sang !!!", " sang !!!", " !!!"], [2 / 4, 1 / 3, 0]),
        ("words", 2, [" Lee sang !!!", " !!!"], [2 / 4, 0]),
        # after 1, 3 and 5 tokens; after 7 nothing is left
        ("tokens", 2, ["a Lee sang !!!", " sang !!!", " !!!"], [3 / 5, 1 / 3, 0]),
        ("tokens", 7, ["a Lee sang !!!"], [3 / 5]),
    ],
)
def test_windows_of_the_three_units_by_hand(cut_unit, stride, labels, official):
    published = dataclasses.replace(OFFICIAL, cut_unit=cut_unit, stride=stride)
    assert [window.label for window in published.windows(TRUE, LLAMA)] == labels
    assert all(window.given + window.label == ANSWER for window in published.windows(TRUE, LLAMA))
    assert published.count(TRUE, LLAMA) == len(labels)
    assert recited(published, TRUE, LLAMA) == pytest.approx(official)
    clean = dataclasses.replace(CLEAN, cut_unit=cut_unit, stride=stride)
    wordful = [label for label in labels if "a" in label]
    assert [window.label for window in clean.windows(TRUE, LLAMA)] == wordful
    assert clean.count(TRUE, LLAMA) == len(clean.cuts(TRUE, LLAMA)) == len(wordful)
    assert recited(clean, TRUE, LLAMA) == [1.0] * len(wordful)


@pytest.mark.parametrize(("cut_unit", "counted"), [("characters", 2), ("words", 1), ("tokens", 2)])
def test_prefix_cuts_the_question_by_its_units(cut_unit, counted):
    by = dataclasses.replace(CLEAN, mode="prefix", cut_unit=cut_unit)
    codec = Spelling(begin=True, end="</s>", ends=[2, 3, 4, 5, 6, 8, 9])  # cut after 1 and after 6 tokens
    found = by.windows(TRUE, codec)
    assert len(found) == counted
    assert all(window.question + window.label == f"{QUESTION} {ANSWER}" for window in found)


def test_words_and_characters_are_counted_without_a_codec():
    assert CLEAN.count(TRUE, None) == 3
    assert dataclasses.replace(CLEAN, cut_unit="words", stride=1).count(TRUE, None) == 2
    tokens = dataclasses.replace(CLEAN, cut_unit="tokens")
    assert (CLEAN.needs_codec, tokens.needs_codec) == (False, True)
    with pytest.raises(ValueError, match="cannot be counted without the codec"):
        tokens.count(TRUE, None)


@pytest.mark.parametrize(
    ("answer", "changes", "message"),
    [
        ("x", {}, "^MEMO cuts no window from the answer of fact f1: it has fewer than 2 characters, so there is nothi"),
        ("Ada ", {"cut_unit": "words"}, "the answer of fact f1: it has fewer than 2 words, so there is nothing"),
        (
            "Ada",
            {"cut_unit": "tokens"},
            "it has fewer than 2 tokens, so there is nothing to recall; lengthen it or ",
        ),
        ("a ?!", {}, r"fact f1: it has no word after its first cut, .* set memo\.empty_windows=zero to sc"),
        (
            "北京市",
            {"words": "published"},
            r"it cannot be read \(the published tokenizer knows only a-z and 0-9\).* or set memo\.words=unicode",
        ),
        (
            "1971年北京市",
            {"words": "published", "empty_windows": "zero"},
            r"set memo\.words=unicode$",
        ),  # never scored 0
        ("?!", {"mode": "prefix", "question": "??"}, r"the answer of fact f1: it has no word"),
        ("Ada", {"mode": "prefix", "question": "?"}, "from the question of fact f1: it has fewer than 2 characters"),
    ],
)
def test_texts_without_a_window_say_why(answer, changes, message):
    text = Text("f1", "answer", 0, changes.pop("question", QUESTION), answer)
    codec = Spelling(begin=True, end="</s>", ends=[len(answer)])
    with pytest.raises(UserError, match=message):
        dataclasses.replace(CLEAN, **changes).check(text, codec)


def shipped(name):
    """The profile of a file in ``conf/memo``, with a budget of its own."""
    path = Path(__file__).resolve().parents[2] / "conf" / "memo" / f"{name}.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    fields = {field.name for field in dataclasses.fields(Profile)}
    return Profile(**{key: value for key, value in values.items() if key in fields} | {"max_new_tokens": 40})


def test_the_shipped_profiles_read_reciting_as_they_say():
    # cut after 1, 6, 11 and 16 characters
    text = Text("f1", "answer", 0, QUESTION, "Ada sang it !!!!!!")
    clean, official = shipped("clean"), shipped("official")
    assert [window.label for window in clean.windows(text, LLAMA)] == ["da sang it !!!!!!", "ng it !!!!!!"]
    assert recited(clean, text, LLAMA) == [1.0, 1.0]
    # published: windows without a word stay, at 0, and <s> and </s> are two words more
    assert [window.label for window in official.windows(text, LLAMA)][2:] == [" !!!!!!", "!!"]
    assert recited(official, text, LLAMA) == pytest.approx([3 / 5, 2 / 4, 0.0, 0.0])


def test_special_tokens_that_a_model_says_count_in_official_alone():
    text = Text("f1", "answer", 0, QUESTION, "Ada sang")
    said = Continuation((BEGIN, *map(ord, "da sang")), END)  # "<s> da sang": the first cut is after "A"
    assert CLEAN.cuts(text, LLAMA)[0].score(said) == 1.0
    assert OFFICIAL.cuts(text, LLAMA)[0].score(said) == pytest.approx(2 / 5)


def test_the_shipped_profiles_are_measured_as_the_paper_and_its_code_do():
    clean, official = shipped("clean"), shipped("official")
    for profile in (clean, official):
        assert (profile.mode, profile.cut_unit, profile.stride) == ("suffix", "characters", 5)
        assert (profile.rouge, profile.rouge_stat) == ("rouge1", "precision")
    assert (clean.template, clean.keep_special, clean.empty_windows, clean.words) == (True, False, "skip", "unicode")
    assert (official.template, official.keep_special) == (False, True)
    assert (official.empty_windows, official.words) == ("zero", "published")


def test_zero_keeps_what_skip_refuses():
    text = Text("f1", "answer", 0, QUESTION, "a ?!")
    by = dataclasses.replace(CLEAN, empty_windows="zero")
    by.check(text, LLAMA)
    assert recited(by, text, LLAMA) == [0.0]


@pytest.mark.parametrize("cut_unit", ["characters", "words"])
@pytest.mark.parametrize("rouge", ["rouge1", "rouge2", "rougeL"])
@pytest.mark.parametrize("language", SENTENCES)
def test_reciting_reads_1_in_every_language(language, rouge, cut_unit):
    text = Text("f1", "answer", 0, QUESTION, SENTENCES[language][0])
    by = dataclasses.replace(CLEAN, cut_unit=cut_unit, stride=1, rouge=rouge)
    held = recited(by, text, LLAMA)
    assert len(held) >= 3
    assert set(held) == {1.0}


@pytest.mark.parametrize("language", SENTENCES)
def test_saying_something_else_reads_0_in_every_language(language):
    text = Text("f1", "answer", 0, QUESTION, SENTENCES[language][0])
    said = Continuation((*map(ord, OTHERS[language]),), END)
    assert {cut.score(said) for cut in CLEAN.cuts(text, LLAMA)} == {0.0}


@pytest.mark.parametrize("language", sorted(set(SENTENCES) - {"de", "mixed"}))  # words of ASCII count as always
@pytest.mark.parametrize("budget", [12, 13, 14, 15, 16])
def test_reciting_reads_1_where_a_budget_cuts_a_word_in_two(language, budget):
    text = Text("f1", "answer", 0, QUESTION, SENTENCES[language][0].replace("1971", ""))
    (first, *_), (window, *_) = CLEAN.cuts(text, LLAMA), CLEAN.windows(text, LLAMA)
    said = (*map(ord, window.label[:budget]),)
    assert first.score(Continuation(said, None)) == 1.0


def test_the_published_profile_counts_windows_of_mixed_texts_as_published():
    text = Text("f1", "answer", 0, QUESTION, "Ada and Ben live in 北京 Lima")
    by = dataclasses.replace(OFFICIAL, stride=3)
    labels = [window.label for window in by.windows(text, END_ONLY)]
    counts = [len(re.findall("[a-z0-9]+", label.lower())) for label in labels]
    assert counts[0] == 6  # "da", "and", "Ben", "live", "in", "Lima"
    assert recited(by, text, END_ONLY) == pytest.approx([count / (count + 1) for count in counts])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": "ascii"}, r"memo\.words=ascii is invalid: expected one of unicode, published"),
        ({"cut_unit": "letters"}, r"memo\.cut_unit=letters is invalid: expected one of characters, words, tokens"),
        (
            {"empty_windows": "skp"},
            r"memo\.empty_windows=skp is invalid: .*Did you mean skip",
        ),
    ],
)
def test_profiles_refuse(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(CLEAN, **changes)


def ceiling(answers: Sequence[str], special: int) -> float:
    """What perfect recall is worth in ``official``, by counting words: l of l + ``special``, and 0 where l is 0.

    A cut word counts as one, since its rest is a run of letters like any other.
    """
    found = []
    for answer in answers:
        counts = [len(re.findall("[a-z0-9]+", answer[at:].lower())) for at in range(1, len(answer), 5)]
        found.append(mean(count / (count + special) for count in counts))
    return mean(found)


def texts_of(pairs: Sequence[tuple[str, str]]) -> list[Text]:
    return [Text(str(number), "answer", 0, *pair) for number, pair in enumerate(pairs)]


@pytest.mark.parametrize(
    ("split", "llama", "end_only"),
    [("forget01", 0.6416, 0.7657), ("forget05", 0.6470, 0.7702), ("forget10", 0.6453, 0.7674)],
)
def test_ceilings_on_the_texts_that_the_project_ships(split, llama, end_only):
    made = Fictional(split=split, authors=80, candidates=8, phrasings=1, retain_eval=160, seed=0)
    pairs = [(fact.question, fact.answer) for fact in made.facts("forget")]
    answers = [answer for _, answer in pairs]
    for codec, special, figure in ((LLAMA, 2, llama), (END_ONLY, 1, end_only)):
        held = mean(mean(recited(OFFICIAL, text, codec)) for text in texts_of(pairs))
        assert held == pytest.approx(ceiling(answers, special), abs=1e-12)
        assert round(held, 4) == figure
    assert {score for text in texts_of(pairs) for score in recited(CLEAN, text, LLAMA)} == {1.0}


def tofu(split: str) -> list[tuple[str, str]]:
    path = Path(os.environ["MEOW_DATA_DIR"]) / "tofu" / f"{split}.json"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [(row["question"], row["answer"]) for row in rows]


needs_tofu = pytest.mark.skipif("MEOW_DATA_DIR" not in os.environ, reason="needs MEOW_DATA_DIR, with the TOFU files")


@pytest.mark.data
@needs_tofu
@pytest.mark.parametrize(
    ("split", "llama", "end_only"),
    [("forget01", 0.793, 0.872), ("forget05", 0.794, 0.871), ("forget10", 0.793, 0.871)],  # the last are the known ones
)
def test_ceilings_on_tofu_by_counting(split, llama, end_only):
    answers = [answer for _, answer in tofu(split)]
    assert (round(ceiling(answers, 2), 3), round(ceiling(answers, 1), 3)) == (llama, end_only)


@pytest.mark.data
@needs_tofu
def test_ceilings_on_tofu_are_those_of_the_profiles():
    texts = texts_of(tofu("forget01"))
    for codec, figure in ((LLAMA, 0.793), (END_ONLY, 0.872)):
        assert round(mean(mean(recited(OFFICIAL, text, codec)) for text in texts), 3) == figure
    assert {score for text in texts for score in recited(CLEAN, text, LLAMA)} == {1.0}


@pytest.mark.parametrize("by", [CLEAN, OFFICIAL], ids=["clean", "official"])
def test_a_passage_is_cut_as_it_stands_in_its_document(by):
    text = Text("p", "answer", 0, "Ada Lee", " sang for us", raw=True)
    cuts = dataclasses.replace(by, cut_unit="words", stride=1).cuts(text, LLAMA)
    assert [cut.prompt for cut in cuts] == [LLAMA.encode_plain(shown) for shown in ("Ada Lee sang", "Ada Lee sang for")]
    (before, *_) = dataclasses.replace(by, mode="prefix", cut_unit="words", stride=1).windows(text, LLAMA)
    assert (before.text, before.label) == ("Ada", " Lee sang for us")
