"""Parsing of raw responses into candidates, and detection of facts with too few of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from meow_lightning.data.values.secrets import Secrets
from meow_lightning.inversion.base import GenerationResponse
from meow_lightning.inversion.filters import EXAMPLES, FilterResult, filter_answers
from meow_lightning.inversion.reply_parser import answers
from meow_lightning.types import Fact

UNFINISHED = "unfinished"  # a reason in addition to those of the filter: the response ended within an answer
NAMED = 3  # facts named in a message
_ENDS = (".", "!", "?", "…", '"', "”", "’", "'", ")", "]", "。")


@dataclass(slots=True)
class ParsedReplies:
    """Answers parsed from responses, before filtering.

    Attributes:
        answers: Answers per fact, in the order they were written.
        dropped: Number of items that are not answers, by reason.
        examples: Some of these items by reason: (``Fact.id``, text).
    """

    answers: dict[str, list[str]] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def drop(self, why: str, fact: str, text: str) -> None:
        """Record an item that is not an answer."""
        self.dropped[why] = self.dropped.get(why, 0) + 1
        if self.dropped[why] <= EXAMPLES:
            self.examples.setdefault(why, []).append((fact, text))

    @property
    def count(self) -> int:
        """Number of all items, answers or not."""
        return sum(map(len, self.answers.values())) + sum(self.dropped.values())


def parse_replies(replies: Iterable[GenerationResponse]) -> ParsedReplies:
    """Parse the answers in responses; truncated ones are ``unfinished``, empty responses ``blank`` or ``refusal``.

    Args:
        replies: Responses, in the order in which their answers count as written.
    """
    result = ParsedReplies()
    for reply in replies:
        answers_of_fact = result.answers.setdefault(reply.fact, [])
        for why, text in reply.rejected:
            result.drop(why, reply.fact, text)
        if reply.refused:
            result.drop("refusal", reply.fact, reply.refused)
        elif reply.text is None:
            answers_of_fact += reply.answers or ()
        else:
            parsed = answers(reply.text)
            if parsed and reply.cut and not reply.text.endswith("\n") and not parsed[-1].endswith(_ENDS):
                result.drop(UNFINISHED, reply.fact, parsed.pop())
            elif not parsed:
                result.drop("blank", reply.fact, reply.text[:200])
            answers_of_fact += parsed
    return result


def keep_candidates(
    facts: Sequence[Fact], former: Mapping[str, Sequence[str]], written: ParsedReplies, *, secrets: Secrets
) -> FilterResult:
    """Filter former and new answers; the former ones, filtered before, come first and are kept.

    Args:
        facts: The facts, in the order of the result.
        former: Answers of earlier rounds by fact; empty for none.
        written: The new answers.
        secrets: Values that occur only in forget facts.
    """
    every = {fact.id: [*former.get(fact.id, ()), *written.answers.get(fact.id, ())] for fact in facts}
    return filter_answers(facts, every, secrets=secrets)


def missing_counts(facts: Sequence[Fact], filtered: FilterResult, *, wanted: Mapping[str, int]) -> dict[str, int]:
    """Count the missing answers per fact, in the order of the facts, for facts that miss any."""
    kept = Counter(candidate.fact for candidate in filtered.inverted)
    return {fact.id: wanted[fact.id] - kept[fact.id] for fact in facts if kept[fact.id] < wanted[fact.id]}


def describe_shortage(counts: Mapping[str, int], *, least: int) -> str:
    """Describe which facts have fewer inverted facts than are selected; empty if none do.

    Args:
        counts: Number of inverted facts by fact, after filtering.
        least: Number of inverted facts selected per fact.
    """
    short_facts = [f"{fact} with {count}" for fact, count in counts.items() if count < least]
    if not short_facts:
        return ""
    named = ", ".join(short_facts[:NAMED]) + (" …" if len(short_facts) > NAMED else "")
    return (
        f"{len(short_facts)} of {len(counts)} facts have fewer inverted facts than method.select.k={least} after "
        f"filtering: {named}"
    )


def may_continue(counts: Mapping[str, int], *, least: int, on_shortage: str) -> bool:
    """Whether a run may continue although facts have fewer inverted facts than are selected.

    Args:
        counts: Number of inverted facts by fact, after filtering.
        least: Number of inverted facts selected per fact.
        on_shortage: ``warn`` continues if any inverted fact exists; ``few`` and ``rules`` if at most half of the facts
            have too few (``rules`` after they were filled up); ``error`` only if no fact has too few.
    """
    shortfall = sum(count < least for count in counts.values())
    if on_shortage == "warn":
        return any(counts.values())
    return not shortfall or (on_shortage in ("few", "rules") and 2 * shortfall <= len(counts))


def suggestions(counts: Mapping[str, int], *, least: int, on_shortage: str, rules: bool) -> str:
    """Suggest remedies for facts with too few inverted facts: only settings that work with these counts.

    Args:
        counts: Number of inverted facts by fact, after filtering.
        least: Number of inverted facts selected per fact.
        on_shortage: Current value of the option.
        rules: Whether the rules can write the missing ones.
    """
    settings = []
    if any(counts.values()) and on_shortage != "warn":
        settings.append("inversion.on_shortage=warn (train on the available ones)")
    if rules:
        settings.append("inversion.on_shortage=rules (rules write the missing ones)")
    if (fewest := min(counts.values(), default=0)) >= 1:
        settings.append(f"method.select.k={fewest}")
    provide = (
        f"provide at least {least} contradictions for each of them (the key `inverted` of a fact in dataset.forget, or "
        "inversion=file inversion.path=FILE), or let a language model write them (inversion=local or endpoint)"
    )
    return f"set {', or '.join(settings)}; or {provide}" if settings else provide


def shortage_notes(counts: Mapping[str, int], *, least: int) -> list[str]:
    """Caveat for a run that trains on the available inverted facts; empty if no fact has too few."""
    description = describe_shortage(counts, least=least)
    if not description:
        return []
    none = sum(not count for count in counts.values())
    excluded = f"; {none} of them have none and are excluded from unlearning" if none else ""
    return [f"{description}; training uses the available ones{excluded}"]
