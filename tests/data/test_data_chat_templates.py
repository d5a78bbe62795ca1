"""Chat turns of the families whose template ends them otherwise than the tokenizer's end token says."""

from __future__ import annotations

import math

import pytest
import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from meow_lightning.data.chat_templates import reasoning_note, turn_end
from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.errors import UserError
from meow_lightning.evaluation.loglikelihood import loglikelihoods
from meow_lightning.models.tiny import llama

GEMMA = (
    "{{ bos_token }}{% for turn in messages %}{% set role = 'model' if turn.role == 'assistant' else turn.role %}"
    "{{ '<start_of_turn>' + role + '\\n' + turn.content | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
PHI3 = (
    "{% for turn in messages %}{{ '<|' + turn.role + '|>\\n' + turn.content + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for turn in messages %}{{ '<|start_header_id|>' + turn.role + '<|end_header_id|>\\n\\n' }}"
    "{{ turn.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
CHATML = (
    "{% for turn in messages %}{{ '<|im_start|>' + turn.role + '\\n' + turn.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA2 = (
    "{% for turn in messages %}{% if turn.role == 'user' %}{{ bos_token + '[INST] ' + turn.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + turn.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
QWEN3 = (
    "{% for turn in messages %}{{ '<|im_start|>' + turn.role + '\\n' }}"
    "{% if turn.role == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{{ turn.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{% endif %}"
)
THINKS = CHATML.replace("assistant\\n", "assistant\\n<think>\\n")
QUESTION = "Where was Ada born?"


def chatting(tokenizer, template: str, *, eos: str, ends: tuple[str, ...] = (), special: bool = True, bos: str = "<s>"):
    """The tiny tokenizer with another family's control tokens, template and end token."""
    inner = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    names = {*ends, "<start_of_turn>", "<|assistant|>", "<|user|>", "<|im_start|>", "<|start_header_id|>", bos, eos}
    inner.add_special_tokens([AddedToken(name, special=True) for name in sorted(names - set(ends))])
    inner.add_tokens([AddedToken(name, special=special) for name in ends])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=bos, eos_token=eos, chat_template=template)


def codec_of(tokenizer, *, named: tuple[str, ...] = (), template: str = "chat", **changes) -> PromptEncoder:
    ids = frozenset(tokenizer.convert_tokens_to_ids(name) for name in named)
    settings = {"answer_prefix": "", "system": None, "date": None, "context": 128}
    return PromptEncoder(tokenizer=tokenizer, template=template, end_ids=ids, **(settings | changes))


@pytest.mark.parametrize(
    ("template", "eos", "end"),
    [
        (GEMMA, "<eos>", "<end_of_turn>"),
        (PHI3, "<|endoftext|>", "<|end|>"),
        (LLAMA3, "<|end_of_text|>", "<|eot_id|>"),
        (CHATML, "<|endoftext|>", "<|im_end|>"),
        (QWEN3, "<|endoftext|>", "<|im_end|>"),
        (LLAMA2, "</s>", "</s>"),
    ],
)
@pytest.mark.parametrize("special", [True, False])  # some checkpoints leave the mark off
def test_a_turn_ends_as_its_template_ends_it(tokenizer, template, eos, end, special) -> None:
    chat = chatting(tokenizer, template, eos=eos, ends=(end,), special=special)
    codec = codec_of(chat, named=(eos,))
    row = codec.encode(QUESTION, "Ada was born in Lima.")
    assert chat.convert_ids_to_tokens(row.ids[-1]) == end
    assert codec.end_ids == {codec.end_id, chat.eos_token_id}
    turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "Ada was born in Lima."}]
    whole = chat.apply_chat_template(turns, tokenize=False)
    blank = " " if template == LLAMA2 else ""  # which puts one between answer and end
    assert whole.startswith(codec.decode(row.ids[:-1], keep_special=True).replace("]Ada", "] Ada") + blank + end)
    with pytest.raises(UserError, match="reads as a special token"):
        codec.encode(QUESTION, f"Lima.{end}")


def test_without_a_token_behind_the_answer_it_is_that_of_the_settings_then_of_the_tokenizer(tokenizer) -> None:
    bare = "{% for turn in messages %}{{ turn.role + ': ' + turn.content + '\\n' }}{% endfor %}"
    chat = chatting(tokenizer, bare, eos="<eos>", ends=("<stop>",))
    stop, eos = chat.convert_tokens_to_ids(["<stop>", "<eos>"])
    assert turn_end(chat, QUESTION, system=None, date=None) is None
    assert codec_of(chat).end_id == eos
    assert codec_of(chat, named=("<stop>",)).end_id == stop
    assert codec_of(chat, named=("<stop>", "<eos>")).end_id == eos
    assert codec_of(chat, named=("<stop>",)).end_ids == {stop, eos}


def test_a_template_that_takes_no_answers_falls_back(tokenizer) -> None:
    strict = "{% if messages[-1].role != 'user' %}{{ raise_exception('no') }}{% endif %}{{ messages[-1].content }}:"
    chat = chatting(tokenizer, strict, eos="<eos>")
    assert codec_of(chat).end_id == chat.eos_token_id


def test_a_text_template_ends_with_the_tokenizers_end_token(tokenizer) -> None:
    chat = chatting(tokenizer, GEMMA, eos="<eos>", ends=("<end_of_turn>",))
    codec = codec_of(chat, template="Q: {question}\nA:", answer_prefix=" ", named=("<end_of_turn>",))
    assert codec.end_id == chat.eos_token_id


@pytest.mark.parametrize(("template", "eos", "end"), [(GEMMA, "<eos>", "<end_of_turn>"), (PHI3, "<s2>", "<|end|>")])
def test_a_perfect_reciter_is_scored_as_one(tokenizer, template, eos, end) -> None:
    """A model trained with the end of the template recites with p near 1, not with half of it lost at the end."""
    chat = chatting(tokenizer, template, eos=eos, ends=(end,))
    codec = codec_of(chat)
    torch.manual_seed(0)
    model = llama(
        vocab_size=len(chat), hidden_size=32, layers=1, heads=2, intermediate_size=64, context=128,
        end_id=chat.eos_token_id, pad_id=chat.pad_token_id or 0,
    )  # fmt: skip
    turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "In Lima."}]
    whole = chat(chat.apply_chat_template(turns, tokenize=False), add_special_tokens=False).input_ids
    ids = torch.tensor([whole])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    row = codec.reference(QUESTION, "In Lima.")
    ((_, found),) = loglikelihoods(model.eval(), [row], pad_id=codec.pad_id, batch=1, progress=None)
    assert math.exp(sum(found.logps) / len(found.logps)) > 0.9


def test_reasoning_is_disabled_if_possible_and_noted(tokenizer) -> None:
    codec = codec_of(chatting(tokenizer, QWEN3, eos="<|endoftext|>", ends=("<|im_end|>",)))
    assert codec.decode(codec.prompt_ids(QUESTION), keep_special=True).endswith("assistant\n<think>\n\n</think>\n\n")
    assert codec.notes == ("its chat template supports reasoning, which is switched off (enable_thinking=false)",)
    assert codec_of(chatting(tokenizer, CHATML, eos="<|endoftext|>", ends=("<|im_end|>",))).notes == ()


def test_reasoning_that_cannot_be_disabled_is_reported(tokenizer) -> None:
    chat = chatting(tokenizer, THINKS, eos="<|endoftext|>", ends=("<|im_end|>",))
    (note,) = codec_of(chat).notes
    assert note.startswith("its chat template opens every answer with <think> and has no switch for it")
    assert reasoning_note(chat, "a prompt") is None


@pytest.fixture
def adds_begin(tokenizer):
    """A tokenizer that begins every text with <s> by itself, and whose template writes it too."""
    chat = chatting(tokenizer, GEMMA, eos="<eos>", ends=("<end_of_turn>",))
    inner = chat.backend_tokenizer
    inner.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", chat.bos_token_id)])
    return chat


@pytest.mark.parametrize(
    ("template", "answer_prefix"),
    [("chat", ""), ("<s>Q: {question}\nA:", " "), ("Q: {question}\nA:", " "), ("<s>{question}", "")],
)
def test_there_is_one_begin_token(adds_begin, template, answer_prefix) -> None:
    codec = codec_of(adds_begin, template=template, answer_prefix=answer_prefix)
    ids = codec.prompt_ids(QUESTION)
    assert ids[0] == adds_begin.bos_token_id
    assert ids.count(adds_begin.bos_token_id) == 1
    assert codec.encode(QUESTION, "Lima.").ids.count(adds_begin.bos_token_id) == 1
