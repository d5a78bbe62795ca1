from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from helpers.common import clean_profile

from meow_lightning.errors import UserError
from meow_lightning.memo.measure import Text, score_texts
from meow_lightning.memo.memo import Profile
from meow_lightning.types import ScoredText

PAD, BEGIN, END = 0, 1, 2
SPECIAL = {PAD: "<pad>", BEGIN: "<s>", END: "</s>"}
QUESTION, ANSWER = "What is Basil?", "Basil is male"
CLEAN = clean_profile(40)
OFFICIAL = dataclasses.replace(
    CLEAN, name="official", template=False, keep_special=True, empty_windows="zero", words="published"
)
PREFIX = dataclasses.replace(CLEAN, mode="prefix")

TRUE = Text("f1", "answer", 0, QUESTION, ANSWER)
GREY = Text("f1", "candidate", 0, QUESTION, "Basil is grey")


class Characters:
    """A codec whose tokens are characters."""

    end_ids = frozenset({END})
    pad_id = PAD

    def __init__(self, context: int = 200) -> None:
        self.context = context

    def prompt_ids(self, question: str) -> list[int]:
        return self.encode_plain(f"Q: {question} A:")

    def partial_ids(self, question: str, given: str) -> list[int]:
        return [*self.prompt_ids(question), *map(ord, f" {given}")]

    def encode_plain(self, text: str) -> list[int]:
        return [BEGIN, *map(ord, text)]

    def answer_ids(self, answer: str) -> list[int]:
        return [*map(ord, f" {answer}")]

    def token_ends(self, text: str) -> list[int]:
        return [*range(1, len(text) + 1)]

    def decode(self, ids: Sequence[int], keep_special: bool) -> str:
        return "".join(chr(each) if each not in SPECIAL else SPECIAL[each] * keep_special for each in ids)


class Parrot(torch.nn.Module):
    """Goes on with the first memorised text that begins with what it was shown, else says ``otherwise`` and ends.

    It sees what was shown before through the cache alone, as a real model does.
    """

    def __init__(self, *memorised: str, otherwise: str = "") -> None:
        super().__init__()
        self.memorised = [[BEGIN, *map(ord, text), END] for text in memorised]
        self.otherwise = otherwise
        self.calls = 0
        self.rows = 0

    def _next(self, seen: list[int]) -> int:
        for text in self.memorised:
            if text[: len(seen)] == seen and len(text) > len(seen):
                return text[len(seen)]
        said = next((n for n in range(len(self.otherwise), 0, -1) if self._ends(seen, self.otherwise[:n])), 0)
        return ord(self.otherwise[said]) if said < len(self.otherwise) else END

    def _ends(self, seen: list[int], text: str) -> bool:
        return seen[-len(text) :] == [*map(ord, text)]

    def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any, past_key_values: Any, **rest: Any) -> Any:
        assert position_ids[:, -1].tolist() == (attention_mask.sum(-1) - 1).tolist()
        self.calls += 1
        self.rows += len(input_ids) if input_ids.shape[1] > 1 else 0
        ids, _ = past_key_values.update(input_ids[:, None, :, None].float(), input_ids[:, None, :, None].float(), 0)
        rows = [row[mask.bool()].int().tolist() for row, mask in zip(ids[:, 0, :, 0], attention_mask, strict=True)]
        tokens = torch.tensor([self._next(row) for row in rows])
        return type("Output", (), {"logits": torch.nn.functional.one_hot(tokens, 128)[:, None].float()})


def scored(model: Parrot, texts: Sequence[Text], profile: Profile, **changes: Any) -> list[ScoredText]:
    settings: dict[str, Any] = {
        "codec": Characters(),
        "slots": 4,
        "progress": None,
        "done": frozenset(),
        "alone": None,
    } | changes
    return list(score_texts(model.eval(), settings.pop("codec"), texts, by=profile, **settings))


def test_a_memorised_text_is_held_wholly_in_the_clean_profile() -> None:
    model = Parrot(f"Q: {QUESTION} A: {ANSWER}")
    assert scored(model, [TRUE], CLEAN) == [ScoredText("f1", "answer", 0, ANSWER, 1.0, (1.0, 1.0, 1.0))]


@pytest.mark.parametrize("otherwise", ["", " xyz"])
@pytest.mark.parametrize("measure_", ["precision", "recall", "fmeasure"])
def test_a_model_that_knows_nothing_scores_nothing(otherwise: str, measure_: Any) -> None:
    profile = dataclasses.replace(CLEAN, rouge_stat=measure_)
    (text,) = scored(Parrot(otherwise=otherwise), [TRUE], profile)
    assert (text.score, text.windows) == (0.0, (0.0, 0.0, 0.0))


def test_special_tokens_hold_perfect_recall_below_one_in_the_official_profile() -> None:
    # labels "asil is male", "is male", "le"; said "<s>" + label + "</s>", so two words "s" too many each time
    (text,) = scored(Parrot(f"{QUESTION} {ANSWER}"), [TRUE], OFFICIAL)
    assert text.windows == pytest.approx((3 / 5, 2 / 4, 1 / 3))
    assert text.score == pytest.approx((3 / 5 + 2 / 4 + 1 / 3) / 3)


def test_official_without_an_end_has_one_special_word_only() -> None:
    profile = dataclasses.replace(OFFICIAL, max_new_tokens=2)
    # "<s>as", "<s>is", and "<s>le" (the end would be the third token)
    (text,) = scored(Parrot(f"{QUESTION} {ANSWER}"), [TRUE], profile)
    assert text.windows == pytest.approx((0 / 2, 1 / 2, 1 / 2))


def test_official_removes_the_prompt_wherever_it_comes_back() -> None:
    row: Text = Text("f1", "answer", 0, "ab", "cd")  # one window: shown "ab c", expected "d"
    model = Parrot("ab cd ab c")
    # "<s>ab cd ab c</s>" without both "ab c" is "<s>d </s>": the words s, d, s against d
    assert scored(model, [row], OFFICIAL)[0].windows == pytest.approx((1 / 3,))
    # nothing is removed from the continuation alone, "d ab c"
    kept = dataclasses.replace(OFFICIAL, keep_special=False)
    assert scored(model, [row], kept)[0].windows == pytest.approx((1 / 3,))


def test_template_with_special_tokens_counts_the_end_only() -> None:
    (text,) = scored(Parrot(f"Q: {QUESTION} A: {ANSWER}"), [TRUE], dataclasses.replace(CLEAN, keep_special=True))
    assert text.windows == pytest.approx((3 / 4, 2 / 3, 1 / 2))


def test_prefix_mode_shares_prompts_between_the_candidates() -> None:
    texts: list[Text] = [
        TRUE,
        Text("f1", "candidate", 0, QUESTION, "Basil is grey"),
        Text("f1", "candidate", 1, QUESTION, "No"),
    ]
    model = Parrot(f"{QUESTION} {ANSWER}")
    found = {each.position if each.kind == "candidate" else "true": each for each in scored(model, texts, PREFIX)}
    # shown "W", "What i", "What is Bas"; left of the true text "hat is Basil Basil is male" and so on
    assert found["true"].windows == (1.0, 1.0, 1.0)
    assert found[0].windows == pytest.approx((5 / 6, 4 / 5, 3 / 4))
    assert found[1].windows == pytest.approx((3 / 6, 2 / 5, 1 / 4))
    assert model.rows == 3


def test_done_texts_are_left_out_and_progress_counts_windows() -> None:
    told: list[tuple[int, int, str]] = []
    texts: list[Text] = [
        TRUE,
        Text("f1", "candidate", 0, QUESTION, "Basil is grey"),
        Text("f2", "answer", 0, "Who?", "Ann Le"),
    ]
    found = scored(
        Parrot(),
        texts,
        CLEAN,
        done={("f1", "answer", 0)},
        progress=lambda done, total, unit: told.append((done, total, unit)),
    )
    assert {(each.fact, each.kind, each.position) for each in found} == {("f1", "candidate", 0), ("f2", "answer", 0)}
    assert told == [(count, 4, "windows") for count in range(1, 5)]


def test_windows_requested_again_alone_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from meow_lightning.generation import engine

    def doubtful(model: Any, prompts: Sequence[list[int]], *, alone: Any, **rest: Any) -> Any:
        alone(1)
        alone(0)
        return engine_itself(model, prompts, alone=None, **rest)

    engine_itself = engine.continue_greedily
    monkeypatch.setattr(engine, "continue_greedily", doubtful)
    counted: list[Text] = []
    found = scored(Parrot(f"Q: {QUESTION} A: {ANSWER}"), [TRUE], CLEAN, alone=counted.append)
    assert (counted, found[0].score) == ([Text(*TRUE)] * 2, 1.0)


def test_texts_come_before_all_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meow_lightning.memo.measure.BATCHES_PER_CHUNK", 8)
    texts: list[Text] = [Text(f"f{n}", "answer", 0, f"{QUESTION} {n}", ANSWER) for n in range(30)]
    model = Parrot().eval()
    stream = score_texts(model, Characters(), texts, by=CLEAN, slots=1, progress=None, done=frozenset(), alone=None)
    assert model.calls == 0
    next(stream)
    assert model.calls <= 9  # 8 batches of one window make a chunk, rounded up to whole texts
    assert len(list(stream)) == 29
    assert model.calls == 90


@pytest.mark.parametrize("slots", [1, 3, 100])
def test_slots_change_nothing(slots: int) -> None:
    texts: list[Text] = [Text(f"f{n}", "answer", 0, f"Item {n}?", f"{ANSWER} and {n}") for n in range(12)]
    model = Parrot(*[f"Q: Item {n}? A: {ANSWER} and {n}" for n in range(0, 12, 2)], otherwise=" is grey")
    by_fact = {each.fact: each for each in scored(model, texts, CLEAN, slots=slots)}
    assert [by_fact[f"f{n}"].score for n in range(0, 12, 2)] == [1.0] * 6
    # label "asil is male and 1" holds 1 of the 2 words said, "is male and 1" also, "le and 1" and " 1" none
    assert by_fact["f1"].windows == (0.5, 0.5, 0.0, 0.0)


def test_the_context_lowers_the_budget() -> None:
    # the prompts have 24 + 1, 24 + 6 and 24 + 11 tokens: room for 11, 6 and 1 of "asil is male", "is male", "le"
    room = len(Characters().partial_ids(QUESTION, "")) + 12
    (text,) = scored(Parrot(f"Q: {QUESTION} A: {ANSWER}"), [TRUE], CLEAN, codec=Characters(context=room))
    assert text.windows == pytest.approx((2 / 3, 1 / 2, 0.0))  # "asil is mal", "is mal", "l"


def test_a_prompt_that_fills_the_context_names_the_fact() -> None:
    context = len(Characters().partial_ids(QUESTION, ANSWER[:11]))
    with pytest.raises(
        UserError, match=rf"fact f1: a MEMO prompt has {context} tokens, but the model's context of {context} "
    ):
        # refused before the first result is asked for
        score_texts(
            Parrot(), Characters(context), [TRUE], by=CLEAN, slots=1, progress=None, done=frozenset(), alone=None
        )


def test_texts_too_short_to_cut_are_named() -> None:
    with pytest.raises(UserError, match="no window from the answer of fact f3: it has fewer than 2 characters"):
        scored(Parrot(), [Text("f3", "answer", 0, QUESTION, "x")], CLEAN)
    with pytest.raises(UserError, match="no window from candidate 2 of f3:"):
        scored(Parrot(), [Text("f3", "candidate", 2, QUESTION, "")], CLEAN)
    with pytest.raises(UserError, match="no window from the question of fact f3:"):
        scored(Parrot(), [Text("f3", "answer", 0, "?", ANSWER)], PREFIX)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"mode": "suffx"},
            r"memo\.mode=suffx is invalid: .*Did you mean suffix",
        ),
        ({"rouge": "rouge3"}, r"memo\.rouge=rouge3 is invalid"),
        ({"rouge_stat": "recal"}, r"memo\.rouge_stat=recal is invalid: .*Did you mean recall"),
        ({"stride": 0}, r"^memo\.stride=0 is invalid: expected a number from 1 to "),
        ({"max_new_tokens": 0}, r"memo\.max_new_tokens=0 is invalid"),
    ],
)
def test_profiles_refuse(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(CLEAN, **changes)
