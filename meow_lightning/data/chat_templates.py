"""Chat templates: rendering of prompts and the token that ends an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from meow_lightning.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SWITCH = "enable_thinking"  # name of the reasoning switch in chat templates
ANSWER = "Which-Answer-Stands-Here?"  # marks the answer in a rendered chat
OPENED = "<think>"


def render(
    tokenizer: PreTrainedTokenizerBase, question: str, *, earlier: Sequence[tuple[str, str]], system: str | None,
    date: str | None,
) -> str:  # fmt: skip
    """Render a chat up to the answer, including the begin token, with reasoning disabled if possible.

    Args:
        tokenizer: A tokenizer with a chat template.
        question: The last user turn.
        earlier: Questions and answers of the turns before it; empty for none.
        system: System turn; ``None`` for no such turn.
        date: Date passed to the template; ``None`` if it needs none.

    Raises:
        UserError: The template rejects the chat.
    """
    from jinja2 import TemplateError

    try:
        text = _rendered(tokenizer, question, None, earlier=earlier, system=system, date=date)
    except TemplateError as error:
        raise UserError(
            f"model.prompt.system={'null' if system is None else repr(system)}: the tokenizer's chat template rejects "
            f"the chat ({error}); set model.prompt.system=null, or model.prompt.template to a text with {{question}}"
        ) from error
    return text


def turn_end(tokenizer: PreTrainedTokenizerBase, question: str, *, system: str | None, date: str | None) -> int | None:
    """Find the token that a chat template puts after an answer; ``None`` if it puts none or supports no answers.

    It may differ from the tokenizer's end token: Gemma ends turns with ``<end_of_turn>``, Phi-3 with ``<|end|>``.
    Blanks between answer and token are ignored.
    """
    from jinja2 import TemplateError

    try:
        text = _rendered(tokenizer, question, ANSWER, earlier=(), system=system, date=date)
    except TemplateError:
        return None
    _, marker, tail = text.rpartition(ANSWER)
    ids = list(tokenizer(tail.lstrip(), add_special_tokens=False).input_ids) if marker else []
    # Some families do not mark the token that ends their turns as special.
    return ids[0] if ids and ids[0] in {*tokenizer.added_tokens_decoder, tokenizer.eos_token_id} else None


def reasoning_note(tokenizer: PreTrainedTokenizerBase, prompt: str) -> str | None:
    """Describe how reasoning is disabled, for the results; ``None`` if the chat template has no reasoning.

    Args:
        tokenizer: A tokenizer with a chat template.
        prompt: A rendered chat up to the answer.
    """
    if SWITCH in tokenizer.get_chat_template():
        return f"its chat template supports reasoning, which is switched off ({SWITCH}=false)"
    if prompt.rstrip().endswith(OPENED):
        return (
            f"its chat template opens every answer with {OPENED} and has no switch for it: the scored answer takes "
            "the place of the reasoning; use a model that answers directly, or set model.prompt.template to a text "
            "with {question}"
        )
    return None


def _rendered(
    tokenizer: PreTrainedTokenizerBase, question: str, answer: str | None, *, earlier: Sequence[tuple[str, str]],
    system: str | None, date: str | None,
) -> str:  # fmt: skip
    turns = [] if system is None else [{"role": "system", "content": system}]
    for asked, answered in earlier:
        turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    turns.append({"role": "user", "content": question})
    if answer is not None:
        turns.append({"role": "assistant", "content": answer})
    more: dict[str, Any] = {SWITCH: False} | ({} if date is None else {"date_string": date})
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer is None, **more))
