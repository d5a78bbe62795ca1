"""Language models that propose prompts for an attack: chat models, asked for other wordings of a question."""

from __future__ import annotations

import re

from meow_lightning.inversion.base import GenerationRequest
from meow_lightning.inversion.filters import keys_of
from meow_lightning.inversion.prompt_template import chat, check_placeholders
from meow_lightning.inversion.question_writers import EndpointQuestionWriter, LocalQuestionWriter
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


class LocalProposer(LocalQuestionWriter):
    """Local language model that proposes prompts."""

    template = ProposalTemplate
    written = "prompts"
    heading = "Prompts:"


class EndpointProposer(EndpointQuestionWriter):
    """Server that proposes prompts: at most one request for every ``per_reply`` prompts of a round, fact and model."""

    template = ProposalTemplate


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
