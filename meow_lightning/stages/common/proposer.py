"""A language model that writes prompts for an attack: a writer of `inversion` behind the attack's interface."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import chain
from typing import Any

from meow_lightning.attacks.proposer import ProposalRequest
from meow_lightning.config.instantiate import instantiate
from meow_lightning.distributed import device
from meow_lightning.errors import renaming
from meow_lightning.inversion.base import DatasetFacts, GenerationRequest, GenerationResponse, Writer
from meow_lightning.inversion.proposals import parse_proposals
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.chunks import adaptive_batch_size
from meow_lightning.stages.results.model import model_folder
from meow_lightning.types import Fact

PROPOSER = "proposer"  # name of its settings, of its inputs, and of its model among the needs
WRITERS = r"\binversion\.(?=\w)"  # how a writer names its options
ROUND = 10**6  # requests about a fact that a round may take


def stage_proposer(work: StageContext) -> WriterProposer | None:
    """Build the proposer of a stage, its model loaded; ``None`` for one without.

    Args:
        work: The stage's context.

    Raises:
        UserError: An option is invalid, or the model cannot be loaded.
    """
    if PROPOSER not in work.settings:
        return None
    chosen, arguments = work.inputs[PROPOSER], {}
    if PROPOSER in work.needs:
        arguments = {
            "folder": model_folder(work.needs[PROPOSER]), "device": str(device(work.runtime.accelerator)),
            "adaptive_batch_size": partial(adaptive_batch_size, work, shared=False),
        }  # fmt: skip
    with named_as(chosen["option"]):
        writer: Writer = instantiate(chosen["node"], allow=work.inputs["allow"], **arguments)
        writer.load()
    return WriterProposer(
        writer, option=chosen["option"], per_reply=work.settings[PROPOSER]["per_reply"], warn=work.warn
    )


def check_proposer(inputs: Mapping[str, Any], needs: Mapping[str, Any]) -> None:
    """Check that the server of a proposer answers; a model of one's own is checked as all models are.

    Args:
        inputs: The runtime inputs of an artifact.
        needs: The artifacts that it needs, by name.

    Raises:
        UserError: It does not.
    """
    if PROPOSER in inputs and PROPOSER not in needs:
        with named_as(inputs[PROPOSER]["option"]):
            instantiate(inputs[PROPOSER]["node"], allow=inputs["allow"]).check()


class WriterProposer:
    """Proposer that asks a writer for other wordings, several to a reply.

    What a reply holds depends on the question, the prompts shown, the options of the writer and a seed of its own, not
    on the requests beside it, as far as the writer promises that.

    Args:
        writer: The writer.
        option: The dotted option that configures it, for messages.
        per_reply: Prompts requested per reply, 1 or more.
        warn: Records a message for the user.
    """

    def __init__(self, writer: Writer, *, option: str, per_reply: int, warn: Callable[[str], None]) -> None:
        self._writer, self._option, self._per_reply, self._warn = writer, option, per_reply, warn

    def propose(self, wanted: Sequence[ProposalRequest]) -> list[list[str]]:
        """Return the prompts of every request, in order; a refused request gives none, and is noted.

        Args:
            wanted: The requests.

        Raises:
            UserError: The writer cannot continue.
        """
        requests = [self._requests(each) for each in wanted]
        replies: dict[tuple[str, int], GenerationResponse] = {}
        with named_as(self._option):
            for reply in self._writer.write([*chain(*requests)], load_facts=_no_facts, should_continue=lambda: True):
                replies[reply.fact, reply.attempt] = reply
                if reply.refused:
                    self._warn(f"{self._option}: rules replace the prompts of a refused request ({reply.refused})")
            for note in self._writer.notes():
                self._warn(re.sub(WRITERS, f"{self._option}.", note))
        return [
            [
                prompt for request in group
                for prompt in _parsed(replies[request.fact.id, request.attempt], request.fact.question)
            ]
            for group in requests
        ]  # fmt: skip

    def _requests(self, wanted: ProposalRequest) -> list[GenerationRequest]:
        """Split a request into as many as its prompts need; each has a number of its own, which seeds it."""
        tried = tuple(f"{worth:.2f}: {' '.join(prompt.split())}" for prompt, worth in wanted.tried)
        fact = Fact(id=wanted.fact, question=wanted.question, answer="")
        return [
            GenerationRequest(
                fact=fact, attempt=wanted.round * ROUND + number, count=min(self._per_reply, wanted.count - begun),
                previous_answers=tried, model_answer=None,
            )
            for number, begun in enumerate(range(0, wanted.count, self._per_reply))
        ]  # fmt: skip


def named_as(option: str) -> AbstractContextManager[None]:
    """Name the options of a writer in errors as in the run: it speaks of ``inversion``.

    Args:
        option: The dotted option that configures it.
    """
    return renaming(WRITERS, f"{option}.")


def _parsed(reply: GenerationResponse, question: str) -> list[str]:
    return parse_proposals(reply.text or "", question, cut=reply.cut)


def _no_facts() -> DatasetFacts:
    return DatasetFacts((), ())
