"""Text to tokens and back: the one place that knows how a question and an answer become a row."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from meow_lightning.data.chat_templates import render, thinking, turn_end
from meow_lightning.errors import UserError
from meow_lightning.types import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN = "Question: {question}\nAnswer:"  # of "auto" where the tokenizer has no chat template
PLAIN_PREFIX = " "
PROBE = "Which-Question-Stands-Here?"  # finds the place of the question in a rendered chat


class PromptEncoder:
    """Turns (question, answer) into token ids the same way for training, MEMO and evaluation.

    The answer's tokens are those that the joined text has after the prompt, as long as the prompt's own tokens stay as
    they are: a SentencePiece-like tokenizer then puts no blank of its own before the answer. Where the two would merge
    (a prompt that ends in a blank), they are tokenized apart, or the first answer token would be neither trained nor
    scored.

    Args:
        tokenizer: Any Hugging Face tokenizer with an end token.
        template: Prompt text holding ``{question}`` once; or ``chat``, the tokenizer's chat template; or ``auto``:
            ``chat`` where the tokenizer has one, else a plain question-and-answer text with a prefix of its own.
        answer_prefix: What stands between prompt and answer and is trained with the answer, usually one blank or
            nothing.
        system: System turn of a chat; ``None`` for no such turn.
        date: Day that a chat template is told (``date_string``); ``None`` where the template asks for none.
        context: Positions the model has, in tokens.
        end_ids: Tokens that end a generated answer besides the tokenizer's end token.

    Attributes:
        end_id: The token after a trained and scored answer: what the chat template puts there; where it puts none, or
            there is no chat, the tokenizer's end token, unless the model's settings name others only.
        end_ids: Whatever ends a generated answer, ``end_id`` among them.
        notes: What a reader of the numbers must know of the prompt.
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
                "the tokenizer names no end token (eos_token), so no answer could ever end; set one and save it"
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
        known = {self.end_id: str(tokenizer.convert_ids_to_tokens(self.end_id))} | special_tokens(tokenizer)
        spelled = sorted(known.values(), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, spelled)))
        self._appended = _appended(tokenizer)
        self._asked: tuple[str, list[int]] = ("", [])  # the last question with its prompt: it has several answers
        self._glue = self._after_the_question()
        self._glue_ids = self._plain_ids(self._glue)
        self._prefix_word_ids = self._prefix_ids()
        said = thinking(tokenizer, self._prompt(PROBE)) if self.template == "chat" else None
        self.notes = () if said is None else (said,)

    def encode_plain(self, text: str) -> list[int]:
        """Ids of a text with the tokenizer's own special tokens, no template; an end token it appends is left out."""
        ids = list(self.tokenizer(text).input_ids)
        begin = self.tokenizer.bos_token_id
        if begin is not None and ids[:2] == [begin, begin]:
            del ids[0]  # the text spells the begin token that the tokenizer adds by itself
        return ids[: len(ids) - self._appended]

    def token_ends(self, text: str) -> list[int]:
        """Where the tokens of a text end, in characters, rising; tokenized by itself, without special tokens.

        Tokens that only together make up a character count as one, since a text cannot be cut between them.

        Raises:
            UserError: The tokenizer does not tell where its tokens stand in the text.
        """
        if not self.tokenizer.is_fast:
            kind = type(self.tokenizer).__name__
            raise UserError(
                f"memo.cut_unit=tokens needs a tokenizer that tells where its tokens stand, and {kind} "
                "does not; set memo.cut_unit=words or memo.cut_unit=characters, or save a fast tokenizer "
                "(tokenizer.json)"
            )
        spans = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
        starts = [start for start, _ in spans[1:]] + [len(text)]
        found = {end for (_, end), following in zip(spans, starts, strict=False) if 0 < end <= following}
        return sorted(found)

    def prompt_ids(self, question: str) -> list[int]:
        """Ids of the training prompt of a question, the begin token included where the family has one."""
        if not self._asked[1] or self._asked[0] != question:
            text = self._prompt(question)
            self._asked = question, self._plain_ids(text) if self.template == "chat" else self.encode_plain(text)
        return list(self._asked[1])

    def generation_prompt_ids(self, question: str) -> list[int]:
        """Ids of what evaluation lets a model continue: the training prompt and the words of the answer prefix."""
        return self.prompt_ids(question) + self._prefix_word_ids

    def answer_ids(self, answer: str) -> list[int]:
        """Ids of an answer as it stands after the prompt, without the end token."""
        return self._after_the_prompt(self.answer_prefix + answer)

    def partial_ids(self, question: str, given: str) -> list[int]:
        """Ids of the training prompt with the answer's first characters already given."""
        return self.prompt_ids(question) + self.answer_ids(given)

    def encode(self, question: str, answer: str) -> Encoded:
        """The row of one question and answer: prompt, answer, end token.

        Raises:
            UserError: When a text spells a special token, or the row is longer than the model's context.
        """
        self.check_spelling(question, answer)
        prompt = self.prompt_ids(question)
        ids = (*prompt, *self.answer_ids(answer), self.end_id)
        if len(ids) > self.context:
            raise UserError(
                f"a row has {len(ids)} tokens, the model reads {self.context}: shorten it or use a model with a longer "
                f"context (question: {question[:60]!r})"
            )
        return Encoded(ids=ids, prompt=len(prompt))

    def check_spelling(self, question: str, answer: str) -> None:
        """Refuse texts that spell a special token.

        Raises:
            UserError: One does.
        """
        for text in (question, answer):
            if found := self._special.search(text):
                raise UserError(
                    f"a text holds {found[0]!r}, which the tokenizer reads as a special token: spell it in another way "
                    f"or leave the row out (question: {question[:60]!r})"
                )

    def reference(self, question: str, answer: str) -> Encoded:
        """The row of a reference text as evaluation scores it: words of the answer prefix are given and do not count.

        A tag such as ``Answer:`` is trained with the answer, but every model is sure of it: counted, it would lift all
        likelihoods, and those of short answers most. Tokens are those of :meth:`encode`.
        """
        row = self.encode(question, answer)
        said = row.ids[row.prompt : -1]
        same = [one == other for one, other in zip(said, self._prefix_word_ids, strict=False)]
        return row._replace(prompt=row.prompt + (same.index(False) if False in same else len(same)))

    def decode(self, ids: Sequence[int], keep_special: bool) -> str:
        """The text of token ids, exactly as the tokenizer spells it (no cleaning up of blanks)."""
        return self.tokenizer.decode(  # type: ignore[return-value]
            list(ids), skip_special_tokens=not keep_special, clean_up_tokenization_spaces=False
        )

    def decode_answer(self, ids: Sequence[int]) -> str:
        """The text of a generated answer: no special tokens, no blanks around it, and no words of the answer prefix."""
        return self.decode(ids, keep_special=False).strip().removeprefix(self.answer_prefix.strip()).strip()

    def _prompt(self, question: str) -> str:
        if self.template != "chat":
            return self.template.replace("{question}", question)
        return render(self.tokenizer, question, system=self.system, date=self.date)

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


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """The special tokens of a tokenizer by their ids, those without a role included."""
    found = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return found | dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))


def _check(tokenizer: PreTrainedTokenizerBase, template: str, *, system: str | None, date: str | None) -> None:
    """Refuse a prompt that cannot be, or whose numbers would depend on the day."""
    if template not in ("chat", "auto"):
        if template.count("{question}") != 1:
            nearest = difflib.get_close_matches(template.lower(), ("chat", "auto"), n=1)
            hint = f"; did you mean model.prompt.template={nearest[0]}?" if nearest else "; or set it to chat or auto"
            raise UserError(f"model.prompt.template must hold {{question}} exactly once, given: {template!r}{hint}")
        for name, value in (("system", system), ("date", date)):
            if value is not None:
                raise UserError(
                    f"model.prompt.{name}={value!r} belongs to template=chat, the template is the text {template!r}: "
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
    """How many tokens the tokenizer puts behind a text by itself, such as its end token."""
    ids, bare = list(tokenizer("a").input_ids), list(tokenizer("a", add_special_tokens=False).input_ids)
    before = next((at for at in range(len(ids)) if ids[at : at + len(bare)] == bare), len(ids) - len(bare))
    return len(ids) - before - len(bare)
