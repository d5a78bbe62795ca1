"""Bounds on the requests to language models that write texts for a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from meow_lightning.attacks.extraction import ExtractionAttack
from meow_lightning.attacks.proposer import replies_per_fact
from meow_lightning.config.instantiate import component_class, instantiate
from meow_lightning.config.schema import RunConfig
from meow_lightning.data.examples import Dataset
from meow_lightning.data.requests import during_request
from meow_lightning.stages.common.prompts import translated_questions
from meow_lightning.stages.common.proposer import PROPOSER
from meow_lightning.stages.translate import TRANSLATOR
from meow_lightning.store.artifact import Artifact


class PendingRequests(NamedTuple):
    """Requests to a language model.

    Attributes:
        model: The model.
        least: Smallest number of requests.
        most: Largest number of requests.
        tokens: Largest number of tokens per reply.
    """

    model: str
    least: int
    most: int
    tokens: int


def pending_requests(config: RunConfig, dataset: Dataset, missing: Sequence[Artifact]) -> list[PendingRequests]:
    """Estimate the requests to every language model that writes texts.

    Args:
        config: The options of the run.
        dataset: Its dataset.
        missing: Its results that are not stored.
    """
    return [*_inverted_facts(config, dataset, missing), *_proposals(dataset, missing), *_translations(dataset, missing)]


def _inverted_facts(config: RunConfig, dataset: Dataset, missing: Sequence[Artifact]) -> Iterator[PendingRequests]:
    """Yield the requests for inverted facts, if a language model writes them."""
    missing, inversion = [each for each in missing if each.stage == "propose"], config.inversion
    if not missing or "max_new_tokens" not in inversion.arguments:
        return
    rounds, arguments = config.method.rounds, inversion.arguments
    facts = [len(during_request(dataset, each.inputs).facts("forget")) for each in missing]
    # Later rounds may ask about fewer facts, or none.
    least = sum(count for count, each in zip(facts, missing, strict=True) if "scores" not in each.needs)
    most = sum(facts) * (inversion.max_retries_per_fact + 1)
    most = min(each for each in (most, rounds and rounds.max_requests, arguments.get("max_requests")) if each)
    writer = component_class(inversion.keyed, allow=config.trusted_packages)
    model = arguments.get("model", f"the {writer.samples} model")
    yield PendingRequests(model, least, most, arguments["max_new_tokens"])


def _proposals(dataset: Dataset, missing: Sequence[Artifact]) -> Iterator[PendingRequests]:
    """Yield the requests for the prompts of a search, by model that is attacked.

    At least none is sent to a server: the searches of other models may have had the same replies.
    """
    for each in missing:
        if each.stage != "extract" or PROPOSER not in each.settings:
            continue
        attack: ExtractionAttack = instantiate(each.settings["attack"], allow=each.inputs["allow"])
        node, per_reply = each.inputs[PROPOSER]["node"], each.settings[PROPOSER]["per_reply"]
        facts = len(dataset.evaluation()[each.settings["set"]])
        most = facts * replies_per_fact(attack.proposals, per_reply)
        # The first prompt is the plain question, unless that gives too much away.
        first, *later = attack.proposals
        least = facts * replies_per_fact([first - 1, *later], per_reply)
        if each.inputs[PROPOSER]["paid"]:
            least, most = 0, min(most, node["max_requests"] or most)
        yield PendingRequests(node["model"], least, most, node["max_new_tokens"])


def _translations(dataset: Dataset, missing: Sequence[Artifact]) -> Iterator[PendingRequests]:
    """Yield the requests for translations: one per question and language, none for a reply that the store has."""
    for each in missing:
        if each.stage == "translate":
            node, settings = each.inputs[TRANSLATOR]["node"], each.settings
            most = len(translated_questions(dataset, settings)) * len(settings["languages"])
            least = most
            if each.inputs[TRANSLATOR]["paid"]:
                least, most = 0, min(most, node["max_requests"] or most)
            yield PendingRequests(node["model"], least, most, node["max_new_tokens"])
