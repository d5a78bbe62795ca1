"""Prompts and scored rows as published code bases build them, defects included; see ``PromptEncoder`` for ours."""

from __future__ import annotations

from typing import Any

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.errors import UserError
from meow_lightning.types import Encoded

TOFU_LENGTH = 200  # tokens of question and answer together; longer rows are truncated
OPEN_UNLEARNING_LENGTH = 512


def tofu_prompt(codec: PromptEncoder, question: str) -> list[int]:
    """Build the generation prompt of TOFU's code: without the answer prefix, which the model has to generate itself.

    Raises:
        UserError: The prompt is a chat template; TOFU's code supports only tags.
    """
    return list(codec.tokenizer(_tofu_template(codec, question)).input_ids)


def tofu_row(codec: PromptEncoder, question: str, answer: str) -> Encoded:
    """Encode an answer as TOFU's ``convert_raw_data_to_model_format`` scores it.

    The answer prefix is scored as part of the answer. Prompt and answer are tokenized together, and as many tokens are
    skipped as the prompt has by itself. Rows are truncated to 200 tokens, and then no end token is scored.

    Raises:
        UserError: As for :func:`tofu_prompt`, or no token is left to score.
    """
    text = _tofu_template(codec, question)
    ids = list(codec.tokenizer(text + codec.answer_prefix + answer, truncation=True, max_length=TOFU_LENGTH).input_ids)
    ended = [*ids, codec.tokenizer.eos_token_id] if len(ids) < TOFU_LENGTH else ids
    return _row(ended, skipped=len(codec.tokenizer(text).input_ids), question=question)


def open_unlearning_prompt(codec: PromptEncoder, question: str) -> list[int]:
    """Build the generation prompt of open-unlearning: the chat template, or prompt and full answer prefix."""
    if codec.template == "chat":
        return _chat(codec, question, None)
    return list(codec.tokenizer(_prompt_and_prefix(codec, question)).input_ids)


def open_unlearning_row(codec: PromptEncoder, question: str, answer: str) -> Encoded:
    """Encode an answer as open-unlearning's ``preprocess_chat_instance`` scores it.

    Prompt and answer are tokenized together, and as many tokens are skipped as the prompt has by itself. If the prompt
    ends in a space, that space is a token of the prompt alone but part of the first word of the joint text, so the
    first answer token is never scored, and for a one-token answer only the end token is.

    Raises:
        UserError: No token is left to score.
    """
    if codec.template == "chat":
        ids = _chat(codec, question, answer)
    else:
        text = _prompt_and_prefix(codec, question) + answer
        ids = list(codec.tokenizer(text, truncation=True, max_length=OPEN_UNLEARNING_LENGTH).input_ids)
    if not ids or ids[-1] != codec.tokenizer.eos_token_id:
        ids.append(codec.tokenizer.eos_token_id)
    return _row(ids, skipped=len(open_unlearning_prompt(codec, question)), question=question)


def check_tags(template: str) -> None:
    """Check that TOFU's code supports this prompt.

    Args:
        template: ``model.prompt.template``.

    Raises:
        UserError: It does not.
    """
    if template in ("chat", "auto"):
        raise UserError(
            f"evaluation.protocol=tofu does not support chat templates (model.prompt.template={template}): set "
            "evaluation.protocol=open_unlearning or none, or model.prompt.template to a text with {question} once"
        )


def _row(ids: list[int], *, skipped: int, question: str) -> Encoded:
    if skipped >= len(ids):
        raise UserError(
            f"a question of {skipped} tokens leaves no answer token to score under this protocol, whose published code "
            f"then divides by 0: set evaluation.protocol=none or remove the question ({question[:60]!r})"
        )
    return Encoded(ids=tuple(ids), prompt=skipped)


def _tofu_template(codec: PromptEncoder, question: str) -> str:
    check_tags(codec.template)
    return codec.template.replace("{question}", question)


def _prompt_and_prefix(codec: PromptEncoder, question: str) -> str:
    return codec.template.replace("{question}", question) + codec.answer_prefix


def _chat(codec: PromptEncoder, question: str, answer: str | None) -> list[int]:
    turns = [{"role": "user", "content": question}]
    if codec.system is not None:
        turns.insert(0, {"role": "system", "content": codec.system})
    if answer is not None:
        turns.append({"role": "assistant", "content": answer})
    variables: dict[str, Any] = {} if codec.date is None else {"date_string": codec.date}
    text = codec.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer is None, **variables)
    return list(codec.tokenizer(str(text), add_special_tokens=False).input_ids)
