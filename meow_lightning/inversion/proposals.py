"""Language models that propose prompts for an attack: chat models, asked for other wordings of a question."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from meow_lightning.config.ranges import Count, Probability, Range, Retries, Seconds, Seed, Temperature
from meow_lightning.config.signature import checked_ranges
from meow_lightning.inversion.base import GenerationRequest
from meow_lightning.inversion.chat import SERVER_OPTIONS, ChatWriter
from meow_lightning.inversion.chat_model import ChatModel
from meow_lightning.inversion.chat_server import ChatServer
from meow_lightning.inversion.filters import keys_of
from meow_lightning.inversion.prompt_template import chat, check_placeholders
from meow_lightning.inversion.reply_parser import answers

PLACEHOLDERS = {"system": ("count",), "user": ("question", "count"), "tried": ("tried",)}
REQUIRED = {"user": ("question",), "tried": ("tried",)}
# Labels of chat models before what they propose, which the parser of answers would take for the question itself.
_LABEL = re.compile(
    r"^(\s*(?:[-*•]|\(?\d{1,2}[.):])?\s*)\**(?:question|prompt|wording|rewording|rephrasing|version)\s*\d{0,2}\s*:\**\s*",
    re.IGNORECASE | re.MULTILINE,
)
_ENDS = (".", "!", "?", "…", '"', "”", "_")


class ProposalTemplate:
    """Chat messages that ask for other wordings of a question.

    A request's ``previous_answers`` are the prompts tried so far, each with its score; its true answer is not shown.

    Args:
        version: Version of the texts, incremented when one changes.
        system: System message, with ``{count}`` for the number of prompts wanted; empty for none.
        user: User message, with ``{question}``.
        tried: Appended if prompts were tried already, with ``{tried}``: one per line.

    Raises:
        UserError: A required placeholder is missing from a text, or an unknown one is used.
    """

    def __init__(self, *, version: int, system: str, user: str, tried: str) -> None:
        self.version, self._texts = version, {"system": system, "user": user, "tried": tried}
        check_placeholders("inversion.prompt", self._texts, allowed=PLACEHOLDERS, required=REQUIRED)

    def messages(self, request: GenerationRequest, *, context: str | None) -> list[dict[str, str]]:
        """Build the chat of a request, the system message first.

        Args:
            request: The request.
            context: Unused: the question says all that the model is to know.
        """
        values = {
            "count": str(request.count), "question": request.fact.question, "tried": "\n".join(request.previous_answers)
        }  # fmt: skip
        return chat(self._texts, values, user=["user", *["tried"] * bool(request.previous_answers)])


@checked_ranges("inversion")
class LocalProposer(ChatWriter):
    """Local language model that proposes prompts; see :class:`~meow_lightning.inversion.chat_model.ChatModel`.

    Args:
        model: Name given by the user, for messages.
        dtype: float32, float64, bfloat16 or float16.
        attention: transformers' attention implementation, such as ``sdpa`` or ``eager``.
        prompt: Arguments of :class:`ProposalTemplate`.
        temperature: 0 or more; 0 is greedy decoding.
        top_p: Nucleus sampling threshold, above 0, at most 1.
        max_new_tokens: Token limit of a reply, 1 or more; the model's context may leave fewer.
        seed: Seed of sampling.
        folder: Model and tokenizer as written by ``save_pretrained``.
        device: Device of the model, such as ``cpu`` or ``cuda:0``.
        adaptive_batch_size: As for :class:`~meow_lightning.inversion.chat_model.ChatModel`.

    Raises:
        UserError: An option is out of its range, or a placeholder of the prompt is missing or unknown.
    """

    unkeyed_options: ClassVar[tuple[str, ...]] = ("model",)  # its weights enter the key by their content
    runs_locally: ClassVar[bool] = True

    def __init__(  # noqa: PLR0913 - one per key of the YAML
        self, *, model: str, dtype: str, attention: str, prompt: Mapping[str, Any], temperature: Temperature,
        top_p: Probability, max_new_tokens: Count, seed: Seed, folder: Path, device: str,
        adaptive_batch_size: Callable[..., Any],
    ) -> None:  # fmt: skip
        super().__init__(
            ChatModel(
                model=model, dtype=dtype, attention=attention, template=ProposalTemplate(**prompt), candidates=1,
                context=None, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, seed=seed,
                written="prompts", heading="Prompts:", folder=folder, device=device,
                adaptive_batch_size=adaptive_batch_size,
            )
        )  # fmt: skip


@checked_ranges("inversion")
class EndpointProposer(ChatWriter):
    """Server that proposes prompts; see :class:`~meow_lightning.inversion.chat_server.ChatServer`.

    It gets at most one request for every ``per_reply`` prompts of every round, fact and model.

    Args:
        base_url: The server's URL, http or https; usually ends in ``/v1``.
        model: The model's name on that server.
        key_env: Environment variable with the API key, read when connecting; ``None`` for no key.
        prompt: Arguments of :class:`ProposalTemplate`.
        temperature: 0 or more.
        top_p: Above 0, at most 1.
        max_new_tokens: Token limit of a reply, 1 or more.
        seed: Base seed of sampling; each request gets its own seed.
        extra: Further fields of every request; a value of ``None`` omits a default field.
        concurrency: Concurrent requests, 1 or more.
        requests_per_minute: Evenly spaced requests per minute, without retries, 1 or more; ``None`` for no limit.
        timeout: Seconds to wait without receiving a byte, above 0.
        deadline: Seconds allowed for a whole reply, above 0.
        reply_bytes: Size limit of a reply in bytes, 1 or more; longer ones count as refused.
        retries: Retries of a request, 0 or more.
        max_requests: Limit on requests about one attacked model, 1 or more; ``None`` for no limit.
        max_total_tokens: Limit on tokens read and written for them, 1 or more; ``None`` for no limit.

    Raises:
        UserError: An option is out of its range, or a placeholder of the prompt is missing or unknown.
    """

    paid: ClassVar[bool] = True
    unkeyed_options: ClassVar[tuple[str, ...]] = SERVER_OPTIONS

    def __init__(  # noqa: PLR0913 - one per key of the YAML
        self, *, base_url: str, model: str, key_env: str | None, prompt: Mapping[str, Any], temperature: Temperature,
        top_p: Probability, max_new_tokens: Count, seed: Seed, extra: dict | None,
        concurrency: Annotated[int, Range(1, 10**4)], requests_per_minute: Count | None, timeout: Seconds,
        deadline: Seconds, reply_bytes: Count, retries: Retries,
        max_requests: Annotated[int, Range(1, 10**12)] | None,
        max_total_tokens: Annotated[int, Range(1, 10**15)] | None,
    ) -> None:  # fmt: skip
        super().__init__(
            ChatServer(
                base_url=base_url, model=model, key_env=key_env, template=ProposalTemplate(**prompt), context=None,
                sampling={"temperature": temperature, "top_p": top_p, "max_tokens": max_new_tokens}, seed=seed,
                extra=extra, concurrency=concurrency, requests_per_minute=requests_per_minute, timeout=timeout,
                deadline=deadline, reply_bytes=reply_bytes, retries=retries,
            )
        )  # fmt: skip
        self.max_requests, self.max_total_tokens = max_requests, max_total_tokens


def parse_proposals(reply: str, question: str, *, cut: bool) -> list[str]:
    """Extract the prompts from a raw reply, in order and without surrounding markup.

    A line that shares no word with the question, function words apart, asks about something else; one that ends in a
    colon announces a prompt. Both are left out.

    Args:
        reply: The reply, one prompt per line.
        question: The question that they are to ask.
        cut: Whether the token budget ended it; a last prompt that does not end like a sentence is then left out.
    """
    found, about = answers(_LABEL.sub(r"\1", reply)), keys_of(question)
    if found and cut and not reply.endswith("\n") and not found[-1].endswith(_ENDS):
        found.pop()
    return [each for each in found if not each.endswith(":") and (not about or about & keys_of(each))]
