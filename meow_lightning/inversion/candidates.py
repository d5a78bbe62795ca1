"""From raw replies to candidates: which answers each fact got, and which facts still have too few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from meow_lightning.data.values.secrets import Secrets
from meow_lightning.inversion.base import GenerationResponse
from meow_lightning.inversion.filters import EXAMPLES, FilterResult, filter_answers
from meow_lightning.inversion.reply_parser import answers
from meow_lightning.types import Fact

UNFINISHED = "unfinished"  # a reason beside those of cleaning: the reply ended in the middle of an answer
NAMED = 3  # facts named in a message
_ENDS = (".", "!", "?", "…", '"', "”", "’", "'", ")", "]", "。")


@dataclass(slots=True)
class ParsedReplies:
    """The answers within replies, before cleaning.

    Attributes:
        answers: Per fact, in the order they were written.
        dropped: How many were no answer at all, by reason.
        examples: Some of these: (``Fact.id``, text).
    """

    answers: dict[str, list[str]] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def drop(self, why: str, fact: str, text: str) -> None:
        """Count something that was no answer."""
        self.dropped[why] = self.dropped.get(why, 0) + 1
        if self.dropped[why] <= EXAMPLES:
            self.examples.setdefault(why, []).append((fact, text))

    @property
    def count(self) -> int:
        """All that was written, answers or not."""
        return sum(map(len, self.answers.values())) + sum(self.dropped.values())


def parse_replies(replies: Iterable[GenerationResponse]) -> ParsedReplies:
    """The answers in replies; what a budget cut off is ``unfinished``, what holds none ``blank`` or ``refusal``.

    Args:
        replies: In the order in which their answers count as written.
    """
    found = ParsedReplies()
    for reply in replies:
        answers_of_fact = found.answers.setdefault(reply.fact, [])
        if reply.refused:
            found.drop("refusal", reply.fact, reply.refused)
        elif reply.text is None:
            answers_of_fact += reply.answers or ()
        else:
            parsed = answers(reply.text)
            if parsed and reply.cut and not reply.text.endswith("\n") and not parsed[-1].endswith(_ENDS):
                found.drop(UNFINISHED, reply.fact, parsed.pop())
            elif not parsed:
                found.drop("blank", reply.fact, reply.text[:200])
            answers_of_fact += parsed
    return found


def keep_candidates(
    facts: Sequence[Fact], former: Mapping[str, Sequence[str]], written: ParsedReplies, *, secrets: Secrets
) -> FilterResult:
    """What survives cleaning of former and new answers; the former, cleaned before, come first and stay.

    Args:
        facts: The facts, in the order of the result.
        former: Answers of earlier rounds by fact; empty for none.
        written: The new ones.
        secrets: What only facts to forget say.
    """
    every = {fact.id: [*former.get(fact.id, ()), *written.answers.get(fact.id, ())] for fact in facts}
    return filter_answers(facts, every, secrets=secrets)


def missing_counts(facts: Sequence[Fact], found: FilterResult, *, wanted: Mapping[str, int]) -> dict[str, int]:
    """How many answers facts lack to what is wanted of each, in the order of the facts; only those that lack some."""
    have = Counter(candidate.fact for candidate in found.inverted)
    return {fact.id: wanted[fact.id] - have[fact.id] for fact in facts if have[fact.id] < wanted[fact.id]}


def describe_shortage(counts: Mapping[str, int], *, least: int) -> str:
    """Which facts have fewer inverted facts than are selected, in words; empty where none has.

    Args:
        counts: Inverted facts by fact, after cleaning.
        least: Inverted facts that are selected per fact.
    """
    short_facts = [f"{fact} with {count}" for fact, count in counts.items() if count < least]
    if not short_facts:
        return ""
    named = ", ".join(short_facts[:NAMED]) + (" …" if len(short_facts) > NAMED else "")
    return (
        f"{len(short_facts)} of {len(counts)} facts keep fewer inverted facts than method.select.k={least} after "
        f"cleaning: {named}"
    )


def may_continue(counts: Mapping[str, int], *, least: int, on_shortage: str) -> bool:
    """Whether a run goes on although facts have fewer inverted facts than are selected.

    Args:
        counts: Inverted facts by fact, after cleaning.
        least: Inverted facts that are selected per fact.
        on_shortage: ``warn`` always does, as long as there is any inverted fact; ``few`` where these are at most half
            of the facts; any other word where no fact has too few.
    """
    shortfall = sum(count < least for count in counts.values())
    if on_shortage == "warn":
        return any(counts.values())
    return not shortfall or (on_shortage == "few" and 2 * shortfall <= len(counts))


def suggestions(counts: Mapping[str, int], *, least: int, on_shortage: str, rules: bool) -> str:
    """What helps where facts have too few inverted facts, in words: only what does end well with these counts.

    Args:
        counts: Inverted facts by fact, after cleaning.
        least: Inverted facts that are selected per fact.
        on_shortage: What the run says of such facts now.
        rules: Whether rules can write what lacks.
    """
    found = []
    if any(counts.values()) and on_shortage != "warn":
        found.append("inversion.on_shortage=warn (train on what there is)")
    if rules:
        found.append("inversion.on_shortage=rules (rules write what lacks)")
    if (fewest := min(counts.values(), default=0)) >= 1:
        found.append(f"method.select.k={fewest}")
    found.append(
        f"{least} or more contradictions of your own for each of them (the key `inverted` of a fact in dataset.forget, "
        "or inversion=file inversion.path=FILE), or let a language model write them (inversion=local or endpoint)"
    )
    return f"say {', or '.join(found[:-1])}; or give {found[-1]}" if found[:-1] else f"give {found[-1]}"


def shortage_notes(counts: Mapping[str, int], *, least: int) -> list[str]:
    """The same as a remark of a run that trains on what there is; empty where no fact has too few."""
    description = describe_shortage(counts, least=least)
    if not description:
        return []
    none = sum(not count for count in counts.values())
    left = f"; {none} of them have none and are left out of unlearning" if none else ""
    return [f"{description}; these train on what there is{left}"]
