from __future__ import annotations

import pytest
import torch

from meow_lightning.data.examples import Passage
from meow_lightning.errors import UserError
from meow_lightning.evaluation.gradient import gradient_norms
from meow_lightning.evaluation.loglikelihood import loglikelihoods
from meow_lightning.evaluation.predict import MARGIN, generation_budget, predict
from meow_lightning.types import Fact

FULL = Fact(
    id="a", question="Where was Ada born?", answer="In Lima.", paraphrase="Lima it was.", value="Lima",
    perturbed=("Oslo it was.", "Rome it was.", "Bern."),
)  # fmt: skip
BARE = Fact(id="b", question="Who?", answer="Ada", perturbed=("Otto",))
LONE = Fact(id="c", question="What did she write?", answer="12 books")
QUESTIONS = [("forget", 0, FULL), ("retain", 0, BARE), ("retain", 1, LONE), ("holdout", 0, FULL)]


def ask(
    model, codec, questions=QUESTIONS, *, budget: int = 5, slots: int = 3, batch: int = 2, gradients=(), progress=None
):
    return list(
        predict(
            model, codec, questions, max_new_tokens=budget, batch=batch, slots=slots, gradients=gradients,
            progress=progress,
        )
    )  # fmt: skip


def greedy(model, codec, question: str, budget: int) -> list[int]:
    ids = codec.prompt_ids(question)
    said: list[int] = []
    while len(said) < budget:
        token = int(model(torch.tensor([ids + said])).logits[0, -1].argmax())
        if token == codec.end_id:
            break
        said.append(token)
    return said


def test_rows_are_complete_and_in_order(tiny, codec) -> None:
    rows = ask(tiny.eval(), codec)
    assert [(row.set, row.index, row.fact) for row in rows] == [
        ("forget", 0, "a"), ("retain", 0, "b"), ("retain", 1, "c"), ("holdout", 0, "a"),
    ]  # fmt: skip
    assert [(row.question, row.answer, row.value) for row in rows[:2]] == [
        ("Where was Ada born?", "In Lima.", "Lima"), ("Who?", "Ada", None),
    ]  # fmt: skip
    assert [row.paraphrase is None for row in rows] == [False, True, True, False]
    assert [len(row.perturbed) for row in rows] == [3, 1, 0, 3]


def test_every_reference_has_its_own_likelihood(tiny, codec) -> None:
    tiny.eval()
    for row, (_, _, fact) in zip(ask(tiny, codec), QUESTIONS, strict=True):
        found = [row.truth, *([row.paraphrase] if row.paraphrase else []), *row.perturbed]
        texts = [fact.answer, *([fact.paraphrase] if fact.paraphrase else []), *fact.perturbed]
        for likelihood, text in zip(found, texts, strict=True):
            encoded = codec.encode(fact.question, text)
            assert list(likelihood.ids) == [*codec.answer_ids(text), codec.end_id]
            ((_, alone),) = loglikelihoods(tiny, [encoded], pad_id=codec.pad_id, batch=1, progress=None)
            assert likelihood.logps == pytest.approx(alone.logps, abs=1e-6)


def test_the_greedy_answer_is_the_one_of_one_by_one_generation(tiny, codec) -> None:
    tiny.eval()
    for row in ask(tiny, codec, budget=30):
        expected = greedy(tiny, codec, row.question, 30)
        assert list(row.generated) == expected
        assert row.stop == ("length" if len(expected) == 30 else "end")
        assert row.text == codec.decode(expected, keep_special=False).strip()


def test_the_budget_ends_an_answer(tiny, codec) -> None:
    with torch.no_grad():  # the end token is never said
        tiny.lm_head.weight = torch.nn.Parameter(tiny.lm_head.weight.clone())
        tiny.lm_head.weight[codec.end_id] = 0
    rows = ask(tiny.eval(), codec, budget=30)
    assert all(len(row.generated) == 30 and row.stop == "length" for row in rows)


def test_a_true_answer_is_never_cut_short(tiny, codec) -> None:
    with torch.no_grad():  # the end token is never said
        tiny.lm_head.weight = torch.nn.Parameter(tiny.lm_head.weight.clone())
        tiny.lm_head.weight[codec.end_id] = 0
    true = [len(codec.answer_ids(fact.answer)) for _, _, fact in QUESTIONS]
    rows = ask(tiny.eval(), codec, budget=1)
    assert [len(row.generated) for row in rows] == [tokens + 1 + MARGIN for tokens in true]
    assert generation_budget(codec, FULL, max_new_tokens=40) == 40
    long = Fact(id="l", question="Who?", answer="In Lima. " * 30)
    room = codec.context - len(codec.generation_prompt_ids("Who?"))
    with pytest.raises(UserError, match="the model's context 64: shorten it or use a model with a longer"):
        generation_budget(codec, long, max_new_tokens=1)
    assert generation_budget(codec, BARE, max_new_tokens=999) == room


def test_the_context_ends_an_answer_earlier(tiny, codec) -> None:
    with torch.no_grad():
        tiny.lm_head.weight = torch.nn.Parameter(tiny.lm_head.weight.clone())
        tiny.lm_head.weight[codec.end_id] = 0
    rows = ask(tiny.eval(), codec, budget=999)
    assert [len(row.generated) for row in rows] == [64 - len(codec.prompt_ids(row.question)) for row in rows]
    assert all(row.stop == "length" for row in rows)


def test_the_end_token_ends_an_answer_and_is_not_part_of_it(tiny, codec) -> None:
    with torch.no_grad():  # every state points along axis 0, where the end token's logit is the largest
        tiny.lm_head.weight = torch.nn.Parameter(torch.zeros_like(tiny.lm_head.weight))
        tiny.lm_head.weight[codec.end_id, 0] = 1.0
        tiny.model.embed_tokens.weight.zero_()
        tiny.model.embed_tokens.weight[:, 0] = 1.0
        tiny.model.layers[0].self_attn.o_proj.weight.zero_()
        tiny.model.layers[0].mlp.down_proj.weight.zero_()
    rows = ask(tiny.eval(), codec)
    assert all((list(row.generated), row.text, row.stop) == ([], "", "end") for row in rows)


def test_slots_and_batch_change_nothing(tiny, codec) -> None:
    tiny.eval()
    one, other = ask(tiny, codec, slots=1, batch=1), ask(tiny, codec, slots=64, batch=64)
    for a, b in zip(one, other, strict=True):
        assert (a.generated, a.text, a.stop) == (b.generated, b.text, b.stop)
        assert a.truth.logps == pytest.approx(b.truth.logps, abs=1e-6)


def test_no_questions_are_no_rows(tiny, codec) -> None:
    assert ask(tiny.eval(), codec, []) == []


def test_progress_ends_at_all_questions(tiny, codec) -> None:
    told: list[int] = []
    ask(tiny.eval(), codec, progress=told.append)
    assert told[-1] == 4


def test_gradients_are_those_of_the_true_answers_of_the_sets_named(tiny, codec) -> None:
    rows = ask(tiny.eval(), codec, gradients=("retain", "holdout"))
    truths = [codec.reference(fact.question, fact.answer) for _, _, fact in QUESTIONS]
    alone = dict(gradient_norms(tiny, truths, pad_id=codec.pad_id, mask_pad_ids=False))
    assert [row.gradient for row in rows] == [None, alone[1], alone[2], alone[3]]
    assert [row.gradient for row in ask(tiny, codec)] == [None] * 4
    assert [row.gradient for row in ask(tiny, codec, batch=99, slots=1, gradients=("holdout",))][3] == alone[3]


@pytest.mark.parametrize("ends", [True, False])
def test_a_passage_is_continued_and_scored_as_raw_text(tiny, codec, ends: bool) -> None:
    passage = Passage("p", "Ada was born in Lima.", 7, ends=ends)
    row, _ = ask(tiny.eval(), codec, [("forget", 0, passage), ("world_facts", 0, BARE)], budget=30)
    scored = [*codec.encode_plain(" born in Lima."), *([codec.end_id] if ends else [])]
    assert (row.question, row.answer) == ("Ada was", " born in Lima.")
    assert list(row.truth.ids) == scored
    prompt = codec.encode_plain("Ada was")
    log_probs = tiny(torch.tensor([[*prompt, *scored]])).logits.detach().log_softmax(-1)[0, len(prompt) - 1 : -1]
    expected = [float(log_probs[place, token]) for place, token in enumerate(scored)]
    assert row.truth.logps == pytest.approx(expected, abs=1e-5)
    assert generation_budget(codec, passage, max_new_tokens=30) == len(scored) >= len(row.generated)
    assert (row.paraphrase, row.perturbed, row.value) == (None, (), None)
