"""Prompt encoding: the single place that turns questions and answers into token rows and back."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from meow_lightning.data.chat_templates import reasoning_note, render, turn_end
from meow_lightning.errors import UserError, invalid_option, nearest
from meow_lightning.types import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN = "Question: {question}\nAnswer:"  # for "auto" if the tokenizer has no chat template
PLAIN_PREFIX = " "
PROBE = "Which-Question-Stands-Here?"  # marks the question in a rendered chat


class PromptEncoder:
    """Encoder of prompts and targets, shared by training, MEMO and evaluation.

    A prompt is a question, which the template surrounds; or, as ``raw``, the beginning of a text, which the target
    continues as it stands, without template and answer prefix. The first scored token is the one after the prompt.

    The answer's tokens are those that follow the prompt in the tokenized joint text, as long as the prompt's own tokens
    stay unchanged: SentencePiece-like tokenizers then insert no blank before the answer. If the two would merge (a
    prompt that ends in a blank), they are tokenized separately; otherwise the first answer token would be neither
    trained nor scored.

    Args:
        tokenizer: Any Hugging Face tokenizer with an end token.
        template: Prompt text with ``{question}`` once; or ``chat``, the tokenizer's chat template; or ``auto``:
            ``chat`` if the tokenizer has one, else a plain question-and-answer text with its own answer prefix.
        answer_prefix: Text between prompt and answer, trained with the answer; usually one blank or nothing.
        system: System turn of a chat; ``None`` for no such turn.
        date: Date passed to the chat template (``date_string``); ``None`` if the template needs none.
        context: Context length of the model, in tokens.
        end_ids: Tokens that end a generated answer in addition to the tokenizer's end token.

    Attributes:
        end_id: The token after a trained and scored answer: the one of the chat template; without it, the tokenizer's
            end token, unless the model's config names only others.
        end_ids: All tokens that end a generated answer, including ``end_id``.
        notes: What readers of the results must know about the prompt.
    """

    def __init__(
        self,
        *,
        tokenizer: PreTrainedTokenizerBase,
        template: str,
        answer_prefix: str,
        system: str | None,
        date: str | None,
        context: int,
        end_ids: frozenset[int],
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise UserError(
                "the tokenizer has no end token (eos_token), so answers would never end; set one and save it"
            )
        self.tokenizer = tokenizer
        self.answer_prefix = answer_prefix
        if template == "auto" and tokenizer.chat_template is None:
            template, self.answer_prefix = PLAIN, PLAIN_PREFIX
        else:
            _check(tokenizer, template, system=system, date=date)
        self.context = context
        self.template = "chat" if template == "auto" else template
        self.system, self.date = system, date
        eos, pad = int(tokenizer.eos_token_id), tokenizer.pad_token_id
        self.end_id = self._turn_end(eos, end_ids) if self.template == "chat" else eos
        self.end_ids = end_ids | {self.end_id, eos}
        self.pad_id = eos if pad is None else int(pad)
        special = {self.end_id: str(tokenizer.convert_ids_to_tokens(self.end_id))} | special_tokens(tokenizer)
        spelled = sorted(special.values(), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, spelled)))
        self._appended = _appended(tokenizer)
        self._last_prompt: tuple[tuple[str, bool], list[int]] = (("", False), [])  # the last prompt and its ids
        self._glue = self._after_the_question()
        self._glue_ids = self._plain_ids(self._glue)
        self._prefix_word_ids = self._prefix_ids()
        note = reasoning_note(tokenizer, self._prompt(PROBE)) if self.template == "chat" else None
        self.notes = () if note is None else (note,)

    def encode_plain(self, text: str) -> list[int]:
        """Encode a text with the tokenizer's own special tokens, without a template or an appended end token."""
        ids = list(self.tokenizer(text).input_ids)
        begin = self.tokenizer.bos_token_id
        if begin is not None and ids[:2] == [begin, begin]:
            del ids[0]  # the text already contains the begin token that the tokenizer adds
        return ids[: len(ids) - self._appended]

    def token_ends(self, text: str) -> list[int]:
        """Return the end offsets of a text's tokens, in characters, ascending; without special tokens.

        Tokens that only together form a character count as one, since a text cannot be cut between them.

        Raises:
            UserError: The tokenizer provides no offsets.
        """
        if not self.tokenizer.is_fast:
            kind = type(self.tokenizer).__name__
            raise UserError(
                f"memo.cut_unit=tokens needs a tokenizer with character offsets, and {kind} has "
                "none; set memo.cut_unit=words or memo.cut_unit=characters, or save a fast tokenizer "
                "(tokenizer.json)"
            )
        spans = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
        starts = [start for start, _ in spans[1:]] + [len(text)]
        ends = {end for (_, end), following in zip(spans, starts, strict=False) if 0 < end <= following}
        return sorted(ends)

    def prompt_ids(self, question: str, raw: bool = False) -> list[int]:
        """Encode a training prompt, including the begin token if the tokenizer has one."""
        if not self._last_prompt[1] or self._last_prompt[0] != (question, raw):
            text = question if raw else self._prompt(question)
            chat = self.template == "chat" and not raw
            self._last_prompt = (question, raw), self._plain_ids(text) if chat else self.encode_plain(text)
        return list(self._last_prompt[1])

    def generation_prompt_ids(self, question: str, raw: bool = False) -> list[int]:
        """Encode the prompt that evaluation lets a model continue: training prompt and words of the answer prefix."""
        return self.prompt_ids(question, raw) + ([] if raw else self._prefix_word_ids)

    def demonstrated_prompt_ids(
        self, question: str, *, demonstrations: Sequence[tuple[str, str]], begun: str
    ) -> list[int]:
        """Encode a prompt to generate from: answered questions, then this one, then the beginning of its answer.

        In a chat the demonstrations are earlier turns; in a text they are separated by blank lines.

        Args:
            question: The question.
            demonstrations: Other questions with their answers, in this order; empty for none.
            begun: First words of the answer, without a blank at their end; may be empty.
        """
        if self.template == "chat":
            text = render(self.tokenizer, question, earlier=demonstrations, system=self.system, date=self.date)
            ids = self._plain_ids(text)
        else:
            shown = [f"{self._prompt(asked)}{self.answer_prefix}{answer}" for asked, answer in demonstrations]
            ids = self.encode_plain("\n\n".join([*shown, self._prompt(question)]))
        return ids + (self.answer_ids(begun) if begun else self._prefix_word_ids)

    def answer_ids(self, answer: str) -> list[int]:
        """Encode an answer as a continuation of the prompt, without the end token."""
        return self._after_the_prompt(self.answer_prefix + answer)

    def continuation_ids(self, prompt: str, text: str) -> list[int]:
        """Encode a raw text as a continuation of another, without an end token."""
        before, joined = self.prompt_ids(prompt, raw=True), self.encode_plain(prompt + text)
        return joined[len(before) :] if joined[: len(before)] == before else self._plain_ids(text)

    def partial_ids(self, question: str, given: str) -> list[int]:
        """Encode the training prompt followed by the answer's first characters."""
        return self.prompt_ids(question) + self.answer_ids(given)

    def encode(self, question: str, answer: str, raw: bool = False, ends: bool = True) -> Encoded:
        """Encode two segments as a row: prompt, target, end token.

        Args:
            question: The question, or the beginning of a raw text.
            answer: Its answer, or the rest of the raw text.
            raw: Whether the segments are raw text.
            ends: Whether an end token follows.

        Raises:
            UserError: A text contains a special token, or the row exceeds the model's context length.
        """
        self.check_spelling(question, answer)
        prompt = self.prompt_ids(question, raw)
        target = self.continuation_ids(question, answer) if raw else self.answer_ids(answer)
        ids = (*prompt, *target, *([self.end_id] if ends else ()))
        if len(ids) > self.context:
            raise UserError(
                f"a row has {len(ids)} tokens, the model's context {self.context}: shorten it or use a model with a "
                f"longer context (question: {question[:60]!r})"
            )
        return Encoded(ids=ids, prompt=len(prompt))

    def check_spelling(self, question: str, answer: str) -> None:
        """Reject texts that contain a special token.

        Raises:
            UserError: The question or the answer contains one.
        """
        for text in (question, answer):
            if token := self._special.search(text):
                raise UserError(
                    f"a text contains {token[0]!r}, which the tokenizer reads as a special token: spell it differently "
                    f"or drop the row (question: {question[:60]!r})"
                )

    def reference(self, question: str, answer: str, raw: bool = False, ends: bool = True) -> Encoded:
        """Encode a reference text for scoring: the words of the answer prefix are part of the prompt.

        A tag such as ``Answer:`` is trained with the answer, but every model predicts it: scoring it would inflate all
        likelihoods, most of all for short answers. The tokens are those of :meth:`encode`, which describes the
        arguments; a raw text has no answer prefix.
        """
        row = self.encode(question, answer, raw, ends)
        if raw:
            return row
        answer_ids = row.ids[row.prompt : -1]
        same = [one == other for one, other in zip(answer_ids, self._prefix_word_ids, strict=False)]
        return row._replace(prompt=row.prompt + (same.index(False) if False in same else len(same)))

    def decode(self, ids: Sequence[int], keep_special: bool) -> str:
        """Decode token ids exactly, without cleaning up blanks."""
        return self.tokenizer.decode(  # type: ignore[return-value]
            list(ids), skip_special_tokens=not keep_special, clean_up_tokenization_spaces=False
        )

    def decode_answer(self, ids: Sequence[int], raw: bool = False) -> str:
        """Decode a generated answer without special tokens, surrounding blanks and the words of the answer prefix."""
        prefix = "" if raw else self.answer_prefix.strip()
        return self.decode(ids, keep_special=False).strip().removeprefix(prefix).strip()

    def _prompt(self, question: str) -> str:
        if self.template != "chat":
            return self.template.replace("{question}", question)
        return render(self.tokenizer, question, earlier=(), system=self.system, date=self.date)

    def _turn_end(self, eos: int, named: frozenset[int]) -> int:
        end = turn_end(self.tokenizer, PROBE, system=self.system, date=self.date)
        if end is not None:
            return end
        return eos if eos in named or not named else min(named)

    def _after_the_question(self) -> str:
        text = self._prompt(PROBE)
        if PROBE not in text:
            raise UserError(
                "model.prompt.template=chat: the tokenizer's chat template does not show the question; write the "
                f"prompt as a text with {{question}} once, such as {PLAIN!r}"
            )
        return text.rpartition(PROBE)[2]

    def _after_the_prompt(self, text: str) -> list[int]:
        if self._glue:
            joined, border = self._plain_ids(self._glue + text), len(self._glue_ids)
            if joined[:border] == self._glue_ids:
                return joined[border:]
        return self._plain_ids(text)

    def _prefix_ids(self) -> list[int]:
        words = self.answer_prefix.rstrip()
        return self._after_the_prompt(words) if words else []

    def _plain_ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)


def describe_prompt(*, template: str, answer_prefix: str, system: str | None) -> str:
    """Describe how a question is put to a model, on one line with JSON's escapes; no tokenizer is needed.

    Args:
        template: ``model.prompt.template``.
        answer_prefix: ``model.prompt.answer_prefix``.
        system: ``model.prompt.system``.
    """
    chat = "the tokenizer's chat template" + (f" with the system message {_quoted(system)}" if system else "")
    own = f" and {_quoted(answer_prefix)}" if answer_prefix else ""
    described = {"chat": f"{chat}{own}", "auto": f"{chat}{own} if it has one, else {_quoted(PLAIN + PLAIN_PREFIX)}"}
    return described.get(template) or _quoted(template + answer_prefix)


def _quoted(text: str) -> str:
    """Quote a text; the number of line breaks tells them from a backslash followed by an n."""
    breaks = text.count("\n")
    quoted = json.dumps(text, ensure_ascii=False)
    return f"{quoted} with {breaks} line break{'s' * (breaks > 1)}" if breaks else quoted


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Map the ids of a tokenizer's special tokens to their texts, including tokens without a role."""
    added = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))


def _check(tokenizer: PreTrainedTokenizerBase, template: str, *, system: str | None, date: str | None) -> None:
    """Reject an invalid prompt, or one that depends on the current date."""
    if template not in ("chat", "auto"):
        if template.count("{question}") != 1:
            expected = "chat, auto or a text with {question} exactly once"
            near = nearest(template, ("chat", "auto"))
            raise invalid_option("model.prompt.template", repr(template), expected, did_you_mean=near)
        for name, value in (("system", system), ("date", date)):
            if value is not None:
                raise UserError(
                    f"model.prompt.{name}={value!r} requires template=chat, but the template is the text {template!r}: "
                    f"set model.prompt.{name}=null (and write it into the text) or model.prompt.template=chat"
                )
        return
    if tokenizer.chat_template is None:
        raise UserError(
            "model.prompt.template=chat: the tokenizer has no chat template; set model.prompt.template=auto or a text "
            f"with {{question}} once, such as {PLAIN!r}"
        )
    own = tokenizer.get_chat_template()
    if "strftime_now" in own and (date is None or "date_string" not in own):
        raise UserError(
            f"model.prompt.date={'null' if date is None else repr(date)}: the tokenizer's chat template prints the day "
            "of the run, so numbers would change with it; set model.prompt.date, such as '10 Apr 2025', or, where the "
            "template takes no date_string, write model.prompt.template as a text with {question} once"
        )


def _appended(tokenizer: PreTrainedTokenizerBase) -> int:
    """Count the tokens that the tokenizer appends to every text, such as its end token."""
    ids, bare = list(tokenizer("a").input_ids), list(tokenizer("a", add_special_tokens=False).input_ids)
    before = next((at for at in range(len(ids)) if ids[at : at + len(bare)] == bare), len(ids) - len(bare))
    return len(ids) - before - len(bare)
