"""Chat templates: the text that a model is asked with, and the token that ends its turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meow_lightning.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SWITCH = "enable_thinking"  # what templates of models that think aloud call their switch
ANSWER = "Which-Answer-Stands-Here?"  # finds the place of the answer in a rendered chat
OPENED = "<think>"


def render(tokenizer: PreTrainedTokenizerBase, question: str, *, system: str | None, date: str | None) -> str:
    """The text of a chat up to the answer, its begin token included; thinking aloud is off where it can be.

    Raises:
        UserError: The template refuses the chat.
    """
    from jinja2 import TemplateError

    try:
        text = _rendered(tokenizer, question, None, system=system, date=date)
    except TemplateError as error:
        raise UserError(
            f"model.prompt.system={'null' if system is None else repr(system)}: the tokenizer's chat template refuses "
            f"the chat ({error}); set model.prompt.system=null, or model.prompt.template to a text with {{question}}"
        ) from error
    return text


def turn_end(tokenizer: PreTrainedTokenizerBase, question: str, *, system: str | None, date: str | None) -> int | None:
    """The token that a chat template puts after an answer, ``None`` where it puts none there or takes no answers.

    It need not be the tokenizer's end token: Gemma ends turns with ``<end_of_turn>``, Phi-3 with ``<|end|>``. Blanks
    between answer and token are left out.
    """
    from jinja2 import TemplateError

    try:
        text = _rendered(tokenizer, question, ANSWER, system=system, date=date)
    except TemplateError:
        return None
    _, found, tail = text.rpartition(ANSWER)
    ids = list(tokenizer(tail.lstrip(), add_special_tokens=False).input_ids) if found else []
    # Some families leave the mark of a special token off the one that ends their turns.
    return ids[0] if ids and ids[0] in {*tokenizer.added_tokens_decoder, tokenizer.eos_token_id} else None


def thinking(tokenizer: PreTrainedTokenizerBase, prompt: str) -> str | None:
    """What is to be said of a model that thinks aloud, ``None`` where its chat template does not provide for it.

    Args:
        tokenizer: Has a chat template.
        prompt: A rendered chat up to the answer.
    """
    if SWITCH in tokenizer.get_chat_template():
        return f"its chat template can let the model think aloud: that is switched off ({SWITCH}=false)"
    if prompt.rstrip().endswith(OPENED):
        return (
            f"its chat template opens every answer with {OPENED} and has no switch for it: what is scored as the "
            "answer stands where the model would think; give a model that answers at once, or write "
            "model.prompt.template as a text with {question}"
        )
    return None


def _rendered(
    tokenizer: PreTrainedTokenizerBase, question: str, answer: str | None, *, system: str | None, date: str | None
) -> str:
    turns = [{"role": "user", "content": question}]
    if system is not None:
        turns.insert(0, {"role": "system", "content": system})
    if answer is not None:
        turns.append({"role": "assistant", "content": answer})
    more: dict[str, Any] = {SWITCH: False} | ({} if date is None else {"date_string": date})
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer is None, **more))
