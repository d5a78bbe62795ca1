"""Requests to forget that arrive one after another: how facts are divided, and the dataset during one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, NamedTuple, Protocol, runtime_checkable

from meow_lightning.data.examples import Dataset, EvalSet, Example
from meow_lightning.errors import UserError, check_choice, invalid_option
from meow_lightning.types import Segments

REQUEST = "request"


class Request(NamedTuple):
    """One request to forget.

    Attributes:
        facts: Ids of its facts, in the order of the dataset.
        groups: Names of its groups; empty if facts were divided one by one.
    """

    facts: tuple[str, ...]
    groups: tuple[str, ...]


@runtime_checkable
class Grouped(Protocol):
    """A dataset that knows groups of its facts to forget."""

    def groups(self) -> Mapping[str, Mapping[str, str]]:
        """Return the group of every fact, by fact id, under the name of each grouping."""
        ...


def groups_of(dataset: Dataset) -> Mapping[str, Mapping[str, str]]:
    """Return the group of every fact to forget, by name of the grouping and fact id; empty without any.

    Args:
        dataset: The dataset.
    """
    return dataset.groups() if isinstance(dataset, Grouped) else {}


def divide(dataset: Dataset, *, requests: int | None, group_by: str | None, order: int | None) -> tuple[Request, ...]:
    """Divide the facts to forget among requests whose numbers of facts, or of groups, differ by at most 1.

    Args:
        dataset: The dataset.
        requests: Number of requests, 2 or more; ``None`` for one per group.
        group_by: Grouping whose groups stay together; ``None`` to divide the facts one by one.
        order: Seed of a random order of facts or groups; ``None`` for the order of the dataset.

    Raises:
        UserError: Unknown grouping, a fact without a group, or more requests than facts or groups.
    """
    facts = dataset.facts("forget")
    grouped = _grouped(dataset, facts, group_by)
    units = list(grouped)
    if order is not None:
        Random(f"{order}/requests").shuffle(units)
    count = len(units) if requests is None else requests
    if not 2 <= count <= len(units):
        what = "facts to forget" if group_by is None else f"groups of protocol.group_by={group_by}"
        if len(units) < 2:
            raise invalid_option("protocol", "sequential", f"at least two {what}, but there is {len(units)}")
        raise invalid_option(
            "protocol.requests", count, f"at most {len(units)}, the number of {what}", did_you_mean=len(units)
        )
    places = {fact.id: place for place, fact in enumerate(facts)}
    made = []
    for number in range(count):
        chosen = units[number * len(units) // count : (number + 1) * len(units) // count]
        ids = sorted((each for unit in chosen for each in grouped[unit]), key=places.__getitem__)
        made.append(Request(tuple(ids), tuple(chosen) if group_by is not None else ()))
    return tuple(made)


def _grouped(dataset: Dataset, facts: Sequence[Example], group_by: str | None) -> dict[str, list[str]]:
    """List the ids of the facts of every group; without a grouping, each fact is one."""
    if group_by is None:
        return {fact.id: [fact.id] for fact in facts}
    known = groups_of(dataset)
    if not known:
        key = getattr(dataset, "grouping", None)
        remedy = f", or a key {key!r} in the rows of the facts to forget, which have none" if key else ""
        expected = f"null, since dataset={dataset.name} groups no facts (protocol.requests=N divides them){remedy}"
        raise invalid_option("protocol.group_by", group_by, expected)
    group = known[check_choice("protocol.group_by", group_by, known)]
    found: dict[str, list[str]] = {}
    for fact in facts:
        if fact.id not in group:
            raise UserError(
                f"protocol.group_by={group_by} needs a {group_by} of every fact to forget, but fact {fact.id} has "
                "none; add it, or set protocol.group_by=null"
            )
        found.setdefault(group[fact.id], []).append(fact.id)
    return found


class RequestDataset:
    """A dataset during one request: only its facts are to be forgotten, and those not requested yet are retained.

    Facts of earlier requests are in neither split: what is forgotten must not be taught again.

    Args:
        dataset: The dataset.
        forget: Ids of the facts of the request.
        later: Ids of the facts of later requests.
    """

    def __init__(self, *, dataset: Dataset, forget: Sequence[str], later: Sequence[str]) -> None:
        self.dataset, self._forget, self._later = dataset, frozenset(forget), frozenset(later)
        self.name, self.public = dataset.name, dataset.public

    def facts(self, split: str) -> Sequence[Example]:
        """Return the facts of a split: of ``forget`` those requested, of ``retain`` also those requested later."""
        examples = self.dataset.facts(split)
        if split == "forget":
            return [one for one in examples if one.id in self._forget]
        if split == "retain":
            return [*examples, *(one for one in self.dataset.facts("forget") if one.id in self._later)]
        return examples

    def evaluation(self) -> dict[str, EvalSet]:
        """Return the evaluation sets, of the forget set the requested facts alone."""
        return {
            name: replace(each, examples=tuple(one for one in each if one.id in self._forget))
            if each.purpose == "forget"
            else each
            for name, each in self.dataset.evaluation().items()
        }

    def pretraining_examples(self, rows: int, seed: int) -> Sequence[Example]:
        """Delegate to the dataset."""
        return self.dataset.pretraining_examples(rows, seed)

    def tokenizer_corpus(self) -> Sequence[tuple[str, str] | Segments]:
        """Delegate to the dataset."""
        return self.dataset.tokenizer_corpus()

    def caveats(self) -> tuple[str, ...]:
        """Delegate to the dataset."""
        return self.dataset.caveats()


def during_request(dataset: Dataset, inputs: Mapping[str, Any]) -> Dataset:
    """Return the dataset as an artifact's inputs describe it: during a request, or the dataset itself.

    Args:
        dataset: The dataset.
        inputs: Runtime inputs of the artifact; under ``request`` the arguments of :class:`RequestDataset`.
    """
    request = inputs.get(REQUEST)
    return dataset if request is None else RequestDataset(dataset=dataset, **request)
