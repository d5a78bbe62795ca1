"""Text to tokens and back: the one place that knows how a question and an answer become a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meow_lightning.types import Encoded, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Codec:
    """Turns (question, answer) into token ids the same way for training, MEMO and evaluation.

    Prompt and answer are tokenized apart and joined: tokenized as one text, a prompt that ends in a blank merges with
    the answer and the first answer token is neither trained nor scored.

    Args:
        tokenizer: Any Hugging Face tokenizer with an end token.
        template: Prompt text holding ``{question}`` once.
        lead: What stands between prompt and answer and is trained with the answer, usually one blank or nothing.
        context: Positions the model has, in tokens.
    """

    def __init__(self, *, tokenizer: PreTrainedTokenizerBase, template: str, lead: str, context: int) -> None:
        if template.count("{question}") != 1:
            raise UserError(f"model.prompt.template must hold {{question}} exactly once, given: {template!r}")
        if tokenizer.eos_token_id is None:
            raise UserError(
                "the tokenizer names no end token (eos_token), so no answer could ever end; set one and save it"
            )
        self.tokenizer = tokenizer
        self.before, self.after = template.split("{question}")
        self.lead = lead
        self.context = context
        self.end_id = int(tokenizer.eos_token_id)
        self.end_ids = frozenset({self.end_id})
        pad = tokenizer.pad_token_id
        self.pad_id = self.end_id if pad is None else int(pad)

    def raw_ids(self, text: str) -> list[int]:
        """Ids of a text with the tokenizer's own special tokens, no template."""
        return list(self.tokenizer(text).input_ids)

    def prompt_ids(self, question: str) -> list[int]:
        """Ids of the training prompt of a question, the begin token included where the family has one."""
        return self.raw_ids(f"{self.before}{question}{self.after}")

    def answer_ids(self, answer: str) -> list[int]:
        """Ids of an answer as it stands after the prompt, without the end token."""
        return list(self.tokenizer(self.lead + answer, add_special_tokens=False).input_ids)

    def partial_ids(self, question: str, given: str) -> list[int]:
        """Ids of the training prompt with the answer's first characters already given."""
        return self.prompt_ids(question) + self.answer_ids(given)

    def encode(self, question: str, answer: str) -> Encoded:
        """The row of one question and answer: prompt, answer, end token.

        Raises:
            UserError: When the row is longer than the model's context.
        """
        prompt = self.prompt_ids(question)
        ids = (*prompt, *self.answer_ids(answer), self.end_id)
        if len(ids) > self.context:
            raise UserError(
                f"a row has {len(ids)} tokens, the model reads {self.context}: shorten it or use a model with a longer "
                f"context (question: {question[:60]!r})"
            )
        return Encoded(ids=ids, prompt=len(prompt))

    def decode(self, ids: Sequence[int], keep_special: bool) -> str:
        """The text of token ids, exactly as the tokenizer spells it (no cleaning up of blanks)."""
        return self.tokenizer.decode(  # type: ignore[return-value]
            list(ids), skip_special_tokens=not keep_special, clean_up_tokenization_spaces=False
        )
