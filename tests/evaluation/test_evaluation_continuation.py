"""NLG ability: numbers worked out by hand, and what of a passage is continued, compared and scored."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
import torch

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.errors import UserError
from meow_lightning.evaluation.continuation import Continuations, bleu, mean_with_error, perplexity
from meow_lightning.evaluation.local_questions import LocalQuestions

ARGUMENTS: dict[str, Any] = {
    "format": "plain", "prompt_tokens": 4, "new_tokens": 6, "compared": "continuation", "features": "target",
    "mauve_scaling_factor": 5,
}  # fmt: skip
PUBLISHED = {"new_tokens": None, "compared": "published", "features": None}
PASSAGES = (
    "Where was Ada born? Ada was born in Lima, near the sea.",
    "Ada.",
    "Who writes books about the sea in Lima? Ada",
)


def task(**changes: Any) -> Continuations:
    return Continuations(**{**ARGUMENTS, **changes})


def files(folder: Path, *lines: str) -> LocalQuestions:
    (folder / "text.txt").write_text("\n".join(lines))
    return LocalQuestions(task="nlg", files={"test": {"questions": "text.txt"}}, folder=str(folder))


def row(reference: str, continuation: str, nll: float = 1.0) -> dict[str, Any]:
    return {"prompt": "p", "reference": reference, "continuation": continuation, "nll": nll, "tokens": 6}


def numbers(made: Continuations, rows: list[dict[str, Any]], featurize: Any = None) -> dict[str, Any]:
    return {each.metric: each for each in made.result("nlg", rows, featurize).numbers}


def test_perplexity_by_hand() -> None:
    # Mean of 1, 2 and 3 nats: e^2; s = 1, so its standard error is e^2 / sqrt(3).
    value, error, reason = perplexity([1.0, 2.0, 3.0], mean_of_exp=False)
    assert (value, error, reason) == (pytest.approx(math.e**2), pytest.approx(math.e**2 / math.sqrt(3)), "")
    published = perplexity([1.0, 3.0], mean_of_exp=True)
    assert published.value == pytest.approx((math.e + math.e**3) / 2)
    assert published.stderr == pytest.approx((math.e**3 - math.e) / 2)  # s / sqrt(2) of two values: half their distance
    assert perplexity([2.0], mean_of_exp=False)[:2] == (pytest.approx(math.e**2), None)


def test_a_perplexity_beyond_every_float_is_missing_with_the_reason() -> None:
    assert perplexity([1.0, 800.0], mean_of_exp=False) == (
        None,
        None,
        "a passage has 800 nats per token, whose exponential overflows",
    )


def test_mean_with_error_by_hand() -> None:
    assert mean_with_error([0.0, 1.0]) == (0.5, pytest.approx(0.5), "")  # s = sqrt(1/2), over sqrt(2)


def test_bleu_is_sacrebleus_and_its_error_comes_from_resampled_passages(capfd: pytest.CaptureFixture[str]) -> None:
    same, other = (
        ("the cat sat on the mat", "the cat sat on the mat"),
        ("a dog ran to a big house", "books by the sea in Lima"),
    )
    found = bleu([same, other])
    assert found.value == sacrebleu.corpus_bleu([same[1], other[1]], [[same[0], other[0]]]).score
    assert 0.0 < found.value < 100.0
    assert found.stderr is not None
    assert found.stderr > 1.0  # samples hold one of them, the other or both
    assert bleu([same, same]) == (pytest.approx(100.0), pytest.approx(0.0, abs=1e-9), "")
    assert capfd.readouterr() == ("", "")


def test_rep3_by_hand() -> None:
    # "a b a b a b": trigrams aba bab aba bab, 2 distinct of 4; the other text repeats none.
    rep3 = numbers(task(features=None), [row("x", "a b a b a b"), row("x", "a b c d")])["rep3"]
    assert (rep3.value, rep3.stderr, rep3.direction) == (pytest.approx(0.25), pytest.approx(0.25), "lower")


def test_mauve_takes_the_features_of_human_and_model_texts_in_order() -> None:
    asked: list[list[str]] = []

    def featurize(texts: list[str]) -> Any:
        asked.append(list(texts))
        return np.eye(4, dtype=np.float32)[: len(texts)]

    rows = [row("one", "two"), row("three", "four")]
    found = numbers(task(), rows, featurize)["mauve"]
    assert asked == [["one", "three"], ["two", "four"]]
    assert found.value == pytest.approx(1.0)
    assert "target model" in found.text
    assert numbers(task(features=None), rows)["mauve"].value is None
    assert numbers(task(), rows[:1], featurize)["mauve"].value is None  # no clusters of one passage


def test_a_passage_is_cut_into_prompt_and_truth_and_short_ones_are_left_out(tmp_path: Path, codec: Any) -> None:
    found = task().questions(files(tmp_path, *PASSAGES), codec, None)
    assert [each.text for each in found] == [PASSAGES[0], PASSAGES[2]]
    ids = tuple(codec.encode_plain(PASSAGES[0]))
    assert (found[0].prompt, found[0].truth, found[0].budget) == (ids[:4], ids[4:10], 6)
    assert found[0].whole[:2] == (ids[:10], 4)
    assert task().questions(files(tmp_path, *PASSAGES), codec, 1) == found[:1]


def test_the_published_code_takes_texts_of_100_to_200_characters_and_keeps_their_beginning(
    tmp_path: Path, tiny: Any, tokenizer: Any
) -> None:
    codec = PromptEncoder(
        tokenizer=tokenizer, template="{question}", answer_prefix="", system=None, date=None, context=512,
        end_ids=frozenset(),
    )  # fmt: skip
    text = " ".join(["Ada was born in Lima, near the sea."] * 3)
    made = task(**PUBLISHED)
    (found,) = made.questions(files(tmp_path, PASSAGES[0], text, 2 * text), codec, None)
    ids = codec.encode_plain(text)
    assert (found.text, len(found.prompt), found.budget) == (text, 4, len(ids) - 4)
    assert codec.decode(found.whole.ids, keep_special=False) == f"[INST]{text}[/INST]"
    assert found.whole.prompt == 1  # every token but the first is scored
    (answer,) = made.answer(tiny.eval(), codec, [found], slots=2)
    assert answer.reference == text
    assert answer.continuation.startswith(answer.prompt)


def test_a_continuation_is_greedy_and_compared_without_its_prompt(tmp_path: Path, tiny: Any, codec: Any) -> None:
    model, made = tiny.eval(), task()
    questions = made.questions(files(tmp_path, *PASSAGES), codec, None)
    rows = list(made.answer(model, codec, questions, slots=2))
    assert rows == list(made.answer(model, codec, questions, slots=1))
    for passage, answer in zip(questions, rows, strict=True):
        ids = torch.tensor([passage.prompt])
        expected = model.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=codec.pad_id)[0, 4:].tolist()
        assert answer.continuation == codec.decode(expected, keep_special=False).strip()
        assert answer.reference == codec.decode(passage.truth, keep_special=False).strip()
        logits = model(torch.tensor([[*passage.prompt, *passage.truth]])).logits[0, 3:-1].log_softmax(-1)
        nll = -logits[list(range(6)), list(passage.truth)].mean().item()
        assert (answer.nll, answer.tokens) == (pytest.approx(nll, rel=1e-5), 6)


def test_files_without_a_long_passage_and_a_short_context_are_refused(tmp_path: Path, codec: Any) -> None:
    with pytest.raises(UserError, match=r"ability\.local\.nlg\.data has no passage of 4 \+ 6 tokens"):
        task().questions(files(tmp_path, "Ada."), codec, None)
    long = files(tmp_path, " ".join(PASSAGES * 9))
    with pytest.raises(UserError, match="context 64"):
        task(new_tokens=70).questions(long, codec, None)


def test_the_number_of_new_tokens_fits_what_is_compared() -> None:
    for changes in ({"new_tokens": None}, {"compared": "published"}):
        with pytest.raises(UserError, match="new_tokens"):
            task(**changes)


def test_only_mauve_needs_its_packages() -> None:
    assert "mauve-text" in task().packages
    assert "mauve-text" not in task(features=None).packages


def test_what_is_scored_stands_in_the_definition() -> None:
    rows = [row("a b c", "a b c"), row("a b d", "a b d")]
    clean, published = (numbers(task(**changes), rows)["bleu"].text for changes in ({"features": None}, PUBLISHED))
    assert "the prompt not compared" in clean
    assert "published code" in published
    assert "prompt (4 tokens) and special tokens included" in published
