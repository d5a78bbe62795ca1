from __future__ import annotations

import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from meow_lightning.data.prompting import PromptEncoder, describe_prompt
from meow_lightning.errors import UserError


def make(tokenizer, **changes) -> PromptEncoder:
    settings = {"template": "Q: {question}\nA:", "answer_prefix": " ", "system": None, "date": None, "context": 64}
    return PromptEncoder(**{"tokenizer": tokenizer, "end_ids": frozenset(), **settings, **changes})


def chatting(tokenizer, template: str) -> PreTrainedTokenizerFast:
    """The same tokenizer with a chat template."""
    inner = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|end|>", pad_token="<|pad|>", chat_template=template
    )


CHAT = "{% for turn in messages %}{{ turn.role }}: {{ turn.content | trim }}\n{% endfor %}it: "
DAY = "{{ date_string if date_string is defined else strftime_now('%d') }} {{ messages[-1].content }}."


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


def test_prompt_and_answer_are_tokenized_separately_if_the_prompt_ends_with_the_question(tokenizer) -> None:
    # One text would merge "bo" and "rn" into one token across the border.
    apart = make(tokenizer, template="{question}", answer_prefix="")
    whole = tokenizer(" born").input_ids
    assert list(apart.encode(" bo", "rn").ids[:-1]) == apart.prompt_ids(" bo") + apart.answer_ids("rn")
    assert list(apart.encode(" bo", "rn").ids[:-1]) != whole


def test_ids_of_the_tiny_model_are_those_of_separate_prompt_and_answer(codec, tokenizer) -> None:
    for question, answer in (
        ("Where was Ada born?", "In Lima."),
        ("born", "12"),
        ("?", ": x"),
        ("a ", "  b"),
        ("", ""),
    ):
        prompt = tokenizer(f"Question: {question}\nAnswer:").input_ids
        whole = [*prompt, *tokenizer(f" {answer}", add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        assert list(codec.encode(question, answer).ids) == whole


def test_a_prompt_that_ends_in_a_blank_keeps_the_whole_answer(tokenizer) -> None:
    blank = make(tokenizer, template="Answer {question}: ", answer_prefix="")
    row = blank.encode("Where?", "Ada was born")
    assert blank.decode(row.ids[: row.prompt], keep_special=True) == "Answer Where?: "
    assert blank.decode(row.ids[row.prompt :], keep_special=True) == "Ada was born<|end|>"
    assert row.ids[row.prompt - 1] == tokenizer(" ").input_ids[0]


def test_lead_belongs_to_the_answer(codec, tokenizer) -> None:
    assert codec.answer_ids("Ada") == tokenizer(" Ada", add_special_tokens=False).input_ids
    assert codec.decode(codec.encode("Ada?", "Ada").ids[codec.encode("Ada?", "Ada").prompt : -1], False) == " Ada"


def test_partial_ids_are_the_prompt_and_what_is_given(codec) -> None:
    assert codec.partial_ids("Where?", "In") == codec.prompt_ids("Where?") + codec.answer_ids("In")


@pytest.mark.parametrize("question", ["What is {x}?", "{question}", "{0} {} }{", "100 % {question!r}"])
def test_braces_in_questions_are_plain_text(codec, question: str) -> None:
    assert codec.decode(codec.prompt_ids(question), keep_special=True) == f"Question: {question}\nAnswer:"


@pytest.mark.parametrize("template", ["Answer:", "{question} {question}", "{ question }", ""])
def test_template_holds_the_question_once(tokenizer, template: str) -> None:
    with pytest.raises(UserError, match=r"expected chat, auto or a text with \{question\} exactly once"):
        make(tokenizer, template=template)


@pytest.mark.parametrize(("given", "meant"), [("Chat", "chat"), ("chatt", "chat"), ("auto ", "auto")])
def test_the_nearest_word_is_named(tokenizer, given: str, meant: str) -> None:
    with pytest.raises(UserError, match=rf"model.prompt.template='{given}' is invalid: .*Did you mean {meant}\?"):
        make(tokenizer, template=given)


def test_chat_is_the_tokenizers_template_with_system_and_user(tokenizer) -> None:
    codec = make(chatting(tokenizer, CHAT), template="chat", answer_prefix="", system="Be brief.")
    assert codec.decode(codec.prompt_ids(" Where? "), keep_special=True) == "system: Be brief.\nuser: Where?\nit: "
    bare = make(chatting(tokenizer, CHAT), template="chat", answer_prefix="")
    assert bare.decode(bare.prompt_ids("Where?"), keep_special=True) == "user: Where?\nit: "


def test_a_chat_brings_its_own_begin_token(with_bos) -> None:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=with_bos.backend_tokenizer, bos_token="<s>", eos_token="<|end|>",
        chat_template="{{ bos_token }}" + CHAT,
    )  # fmt: skip
    ids = make(tokenizer, template="chat", answer_prefix="").prompt_ids("Where?")
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1


def test_chat_without_a_chat_template_suggests_a_setting(tokenizer) -> None:
    message = (
        r"^model.prompt.template=chat: the tokenizer has no chat template; set model.prompt.template=auto or a text "
        r"with \{question\} once, such as 'Question: \{question\}\\nAnswer:'$"
    )
    with pytest.raises(UserError, match=message):
        make(tokenizer, template="chat")


def test_auto_is_chat_where_there_is_one_else_a_plain_text(tokenizer, codec) -> None:
    auto = make(chatting(tokenizer, CHAT), template="auto", answer_prefix="", system="Be brief.")
    chat = make(chatting(tokenizer, CHAT), template="chat", answer_prefix="", system="Be brief.")
    assert auto.encode("Where?", "Lima") == chat.encode("Where?", "Lima")
    plain = make(tokenizer, template="auto", answer_prefix="So: ", system="Be brief.", date="10 Apr 2025")
    assert plain.encode("Where?", "Lima") == codec.encode("Where?", "Lima")
    assert plain.answer_prefix == " "


@pytest.mark.parametrize("name", ["system", "date"])
def test_system_and_date_belong_to_a_chat(tokenizer, name: str) -> None:
    message = rf"^model.prompt.{name}='x' requires template=chat, .*: set model.prompt.{name}=null .* or "
    with pytest.raises(UserError, match=message + r"model.prompt.template=chat$"):
        make(tokenizer, **{name: "x"})


def test_a_template_that_prints_the_day_needs_a_date(tokenizer) -> None:
    dated = make(chatting(tokenizer, DAY), template="chat", answer_prefix="", date="10 Apr 2025")
    assert dated.decode(dated.prompt_ids("Where?"), keep_special=True) == "10 Apr 2025 Where?."
    for template in ("chat", "auto"):
        with pytest.raises(
            UserError, match=r"^model.prompt.date=null: .* set model.prompt.date, such as '10 Apr 2025'"
        ):
            make(chatting(tokenizer, DAY), template=template)
    stubborn = "{{ strftime_now('%d') }} {{ messages[-1].content }}"
    with pytest.raises(
        UserError, match=r"^model.prompt.date='1 May': .* takes no date_string, write model.prompt.temp"
    ):
        make(chatting(tokenizer, stubborn), template="chat", date="1 May")


def test_a_chat_template_that_refuses_the_system_turn_is_explained(tokenizer) -> None:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHAT
    with pytest.raises(
        UserError, match=r"^model.prompt.system='Be brief.': .*\(no system\); set model.prompt.system=null"
    ):
        make(chatting(tokenizer, strict), template="chat", system="Be brief.")
    assert make(chatting(tokenizer, strict), template="chat").prompt_ids("Where?")


def test_a_chat_template_without_the_question_is_refused(tokenizer) -> None:
    with pytest.raises(UserError, match=r"the tokenizer's chat template does not show the question; write the prompt"):
        make(chatting(tokenizer, "hello"), template="chat")


def test_a_special_token_in_a_text_is_refused_with_its_question(codec) -> None:
    for question, answer in (("Who is <|pad|>?", "Ada"), ("Who is <|pad|>?", "<|end|>")):
        with pytest.raises(UserError, match=r"^a text contains '<\|pad\|>'.*\(question: 'Who is <\|pad\|>\?'\)$"):
            codec.encode(question, answer)
    with pytest.raises(UserError, match=r"^a text contains '<\|end\|>'.*\(question: 'Who\?'\)$"):
        codec.encode("Who?", "Ada<|end|>")
    assert codec.encode("Who is <|pad>?", "<|end")


def test_a_tokenizer_that_appends_its_end_token_is_held_back(with_bos, tokenizer) -> None:
    inner = Tokenizer.from_str(with_bos.backend_tokenizer.to_str())
    both = [("<s>", with_bos.bos_token_id), ("<|end|>", with_bos.eos_token_id)]
    inner.post_processor = TemplateProcessing(single="<s> $A <|end|>", pair="$A $B", special_tokens=both)
    eager = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="<|end|>")
    assert eager("Ada").input_ids[-1] == eager.eos_token_id
    for text in ("Ada", "a", ""):
        assert make(eager).encode_plain(text) == make(with_bos).encode_plain(text)
        assert make(eager).prompt_ids(text) == make(with_bos).prompt_ids(text)
    assert make(eager).encode("Ada?", "Lima") == make(with_bos).encode("Ada?", "Lima")
    # What a template says on purpose stays.
    closed = make(tokenizer, template="{question}<|end|>")
    assert closed.prompt_ids("Ada")[-1] == tokenizer.eos_token_id


def test_the_tokenizers_end_is_always_an_end(tokenizer) -> None:
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    assert make(tokenizer).end_ids == {end}
    assert make(tokenizer, end_ids=frozenset({pad})).end_ids == {end, pad}
    assert make(tokenizer, end_ids=frozenset({pad})).encode("Ada?", "Lima").ids[-1] == end


@pytest.mark.parametrize(
    ("answer_prefix", "text", "said"),
    [
        ("Answer: ", "Answer: Lima ", "Lima"),
        ("Answer: ", " Answer:Lima", "Lima"),
        ("Answer: ", "Lima. Answer: Rome", "Lima. Answer: Rome"),
        ("Answer: ", "Answer: Answer: Lima", "Answer: Lima"),
        (" ", "  Lima<|end|>", "Lima"),
        ("", "\nLima", "Lima"),
        ("Answer: ", "", ""),
    ],
)
def test_decode_answer_drops_the_answer_prefix(tokenizer, answer_prefix: str, text: str, said: str) -> None:
    codec = make(tokenizer, answer_prefix=answer_prefix)
    assert codec.decode_answer(tokenizer(text).input_ids) == said


def test_tokenizer_without_an_end_token_is_refused(tokenizer) -> None:
    plain = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(UserError, match="the tokenizer has no end token"):
        make(plain)


def test_row_longer_than_the_context_is_refused_with_its_question(tokenizer) -> None:
    length = len(make(tokenizer).encode("Where?", "In Lima.").ids)
    assert len(make(tokenizer, context=length).encode("Where?", "In Lima.").ids) == length
    message = rf"a row has {length} tokens, the model's context {length - 1}: .*\(question: 'Where\?'\)"
    with pytest.raises(UserError, match=message):
        make(tokenizer, context=length - 1).encode("Where?", "In Lima.")


def test_pad_defaults_to_the_end_token(tokenizer) -> None:
    without = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|end|>")
    assert make(without).pad_id == make(without).end_id
    assert make(tokenizer).pad_id == tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_begin_token_is_first_and_unique(with_bos, tokenizer) -> None:
    ids = make(with_bos).encode("Where was Ada born?", "In Lima.").ids
    plain = make(tokenizer).encode("Where was Ada born?", "In Lima.").ids
    assert ids == (with_bos.bos_token_id, *plain)
    assert make(with_bos).encode_plain("Ada")[0] == with_bos.bos_token_id
    assert make(with_bos).partial_ids("Where?", "In").count(with_bos.bos_token_id) == 1


def test_decode_keeps_or_drops_special_tokens(codec) -> None:
    ids = [*codec.answer_ids("Lima ."), codec.end_id]
    assert codec.decode(ids, keep_special=True) == " Lima .<|end|>"
    assert codec.decode(ids, keep_special=False) == " Lima ."  # the blank before the stop is not cleaned up
    assert codec.decode(tuple(ids), keep_special=False) == " Lima ."


@pytest.mark.parametrize("text", ["Ada was born in Lima.", "  Ada\n was 12 ", "Zoë 北京 🦊!", "x", ""])
def test_ends_cut_a_text_where_its_tokens_end(tokenizer, text) -> None:
    """Decoding the first tokens gives the text up to their end, wherever that is no half of a character."""
    ids = tokenizer(text, add_special_tokens=False).input_ids
    pieces = [tokenizer.decode(ids[: count + 1], clean_up_tokenization_spaces=False) for count in range(len(ids))]
    expected = [len(piece) for piece in pieces if "\ufffd" not in piece]
    assert make(tokenizer).token_ends(text) == expected


def test_ends_look_at_no_special_tokens(tokenizer, with_bos) -> None:
    assert make(with_bos).token_ends("Ada was born in Lima.") == make(tokenizer).token_ends("Ada was born in Lima.")


def test_a_tokenizer_without_offsets_has_no_token_ends(codec, monkeypatch) -> None:
    monkeypatch.setattr(type(codec.tokenizer), "is_fast", False)
    with pytest.raises(
        UserError,
        match=r"^memo\.cut_unit=tokens needs a tokenizer with character offsets.* set memo\.cut_unit=words or",
    ):
        codec.token_ends("Ada")


PREFIX, REST = "Ada was born in", " Lima and wrote 12 books."


@pytest.mark.parametrize("ends", [True, False])
def test_raw_text_is_the_text_itself_whatever_the_template(tokenizer, with_bos, ends: bool) -> None:
    chat = make(chatting(tokenizer, CHAT), template="chat", answer_prefix="A: ")
    for codec in (make(tokenizer), chat, make(with_bos)):
        row = codec.encode(PREFIX, REST, raw=True, ends=ends)
        whole = codec.encode_plain(PREFIX + REST)
        assert list(row.ids) == [*whole, *([codec.end_id] if ends else [])]
        assert row == codec.reference(PREFIX, REST, raw=True, ends=ends)
        assert list(row.ids[: row.prompt]) == codec.prompt_ids(PREFIX, raw=True) == codec.encode_plain(PREFIX)
        assert codec.generation_prompt_ids(PREFIX, raw=True) == codec.prompt_ids(PREFIX, raw=True)
        assert codec.decode(codec.continuation_ids(PREFIX, REST), keep_special=True) == REST
        assert codec.decode_answer(codec.continuation_ids(PREFIX, " A: Lima"), raw=True) == "A: Lima"


def test_the_first_token_after_a_cut_within_a_word_is_scored(tokenizer) -> None:
    codec = make(tokenizer)
    row = codec.encode("Ada was bo", "rn", raw=True, ends=False)
    assert codec.decode(row.ids[: row.prompt], keep_special=True) == "Ada was bo"
    assert codec.decode(row.ids[row.prompt :], keep_special=True) == "rn"
    assert row.scored


def test_a_question_and_the_same_raw_text_have_prompts_of_their_own(tokenizer) -> None:
    codec = make(tokenizer)
    asked = codec.prompt_ids("Who?")
    assert codec.prompt_ids("Who?", raw=True) != asked
    assert codec.prompt_ids("Who?") == asked


def test_a_prompt_is_described_without_a_tokenizer() -> None:
    def described(template: str, answer_prefix: str = "", system: str | None = None) -> str:
        return describe_prompt(template=template, answer_prefix=answer_prefix, system=system)

    assert described("Q: {question}\n\nA:", " ") == r'"Q: {question}\n\nA: " with 2 line breaks'
    assert described(r"Q: {question}\nA:") == r'"Q: {question}\\nA:"'  # a backslash and an n
    assert described("chat") == "the tokenizer's chat template"
    assert described("chat", "So: ", "Be brief.") == (
        'the tokenizer\'s chat template with the system message "Be brief." and "So: "'
    )
    assert described("auto") == (
        "the tokenizer's chat template if it has one, else " r'"Question: {question}\nAnswer: " with 1 line break'
    )
