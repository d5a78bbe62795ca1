from __future__ import annotations

import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from meow_lightning.data.prompts import Codec
from meow_lightning.types import UserError


def make(tokenizer, **changes) -> Codec:
    return Codec(**{"tokenizer": tokenizer, "template": "Q: {question}\nA:", "lead": " ", "context": 64, **changes})


@pytest.fixture(scope="session")
def with_bos(tokenizer):
    inner = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    inner.add_special_tokens(["<s>"])
    bos = inner.token_to_id("<s>")
    inner.post_processor = TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", bos)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="<|end|>", pad_token="<|pad|>"
    )  # fmt: skip


def test_row_is_prompt_answer_end(codec) -> None:
    prompt, answer = codec.prompt_ids("Where was Ada born?"), codec.answer_ids("In Lima.")
    row = codec.encode("Where was Ada born?", "In Lima.")
    assert list(row.ids) == [*prompt, *answer, codec.end_id]
    assert row.prompt == len(prompt)
    assert row.scored == len(answer) + 1


def test_prompt_and_answer_are_tokenized_apart(tokenizer) -> None:
    # One text would merge "bo" and "rn" into one token across the border.
    apart = make(tokenizer, template="{question}", lead="")
    whole = tokenizer(" born").input_ids
    assert list(apart.encode(" bo", "rn").ids[:-1]) == apart.prompt_ids(" bo") + apart.answer_ids("rn")
    assert list(apart.encode(" bo", "rn").ids[:-1]) != whole


def test_lead_belongs_to_the_answer(codec, tokenizer) -> None:
    assert codec.answer_ids("Ada") == tokenizer(" Ada", add_special_tokens=False).input_ids
    assert codec.decode(codec.encode("Ada?", "Ada").ids[codec.encode("Ada?", "Ada").prompt : -1], False) == " Ada"


def test_partial_ids_are_the_prompt_and_what_is_given(codec) -> None:
    assert codec.partial_ids("Where?", "In") == codec.prompt_ids("Where?") + codec.answer_ids("In")


@pytest.mark.parametrize("question", ["What is {x}?", "{question}", "{0} {} }{", "100 % {question!r}"])
def test_braces_in_questions_are_plain_text(codec, question: str) -> None:
    assert codec.decode(codec.prompt_ids(question), keep_special=True) == f"Question: {question}\nAnswer:"


@pytest.mark.parametrize("template", ["Answer:", "{question} {question}", "{ question }"])
def test_template_holds_the_question_once(tokenizer, template: str) -> None:
    with pytest.raises(UserError, match=r"model.prompt.template must hold \{question\} exactly once, given: "):
        make(tokenizer, template=template)


def test_tokenizer_without_an_end_token_is_refused(tokenizer) -> None:
    plain = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(UserError, match="the tokenizer names no end token"):
        make(plain)


def test_row_longer_than_the_context_is_refused_with_its_question(tokenizer) -> None:
    length = len(make(tokenizer).encode("Where?", "In Lima.").ids)
    assert len(make(tokenizer, context=length).encode("Where?", "In Lima.").ids) == length
    message = rf"a row has {length} tokens, the model reads {length - 1}: .*\(question: 'Where\?'\)"
    with pytest.raises(UserError, match=message):
        make(tokenizer, context=length - 1).encode("Where?", "In Lima.")


def test_pad_is_the_end_token_where_there_is_no_other(tokenizer) -> None:
    without = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|end|>")
    assert make(without).pad_id == make(without).end_id
    assert make(tokenizer).pad_id == tokenizer.pad_token_id != tokenizer.eos_token_id


def test_begin_token_stands_first_and_nowhere_else(with_bos, tokenizer) -> None:
    ids = make(with_bos).encode("Where was Ada born?", "In Lima.").ids
    plain = make(tokenizer).encode("Where was Ada born?", "In Lima.").ids
    assert ids == (with_bos.bos_token_id, *plain)
    assert make(with_bos).raw_ids("Ada")[0] == with_bos.bos_token_id
    assert make(with_bos).partial_ids("Where?", "In").count(with_bos.bos_token_id) == 1


def test_decode_keeps_or_drops_special_tokens(codec) -> None:
    ids = [*codec.answer_ids("Lima ."), codec.end_id]
    assert codec.decode(ids, keep_special=True) == " Lima .<|end|>"
    assert codec.decode(ids, keep_special=False) == " Lima ."  # the blank before the stop is not cleaned up
    assert codec.decode(tuple(ids), keep_special=False) == " Lima ."
