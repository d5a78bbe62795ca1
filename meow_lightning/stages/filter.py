"""filter: parse the proposed replies and keep the inverted facts that contradict the forget set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from meow_lightning.data.perturbation import Contradictions
from meow_lightning.errors import UserError
from meow_lightning.inversion.candidates import (
    ParsedReplies,
    describe_shortage,
    keep_candidates,
    may_continue,
    missing_counts,
    parse_replies,
    shortage_notes,
    suggestions,
)
from meow_lightning.inversion.filters import FilterResult as Filtered
from meow_lightning.inversion.rules import Rules
from meow_lightning.resources.requirements import ROW_BYTES, Planner
from meow_lightning.stages.base import Stage, StageContext
from meow_lightning.stages.common.loading import load_facts, previous_rounds
from meow_lightning.stages.results.filter import FilterResult, FilterSummary
from meow_lightning.stages.results.propose import ProposeResult
from meow_lightning.store.artifact import Artifact

FILLED = 8  # candidates that rules write to find out whether the error message may recommend them


class Filter(Stage):
    """Keep the inverted facts that contradict the forget set."""

    name = "filter"
    version = 5
    after = ("propose",)
    outputs = FilterResult.files

    def components(self, settings: Mapping[str, Any], *, allow: Iterable[str]) -> list[type]:
        """List the rules, if they may fill up the replies."""
        return [Rules] if settings.get("fill") else []

    def disk(self, artifact: Artifact, planner: Planner) -> int:
        """Estimate the bytes of the inverted facts, if all candidates are kept."""
        texts = sum(ROW_BYTES + len(each.question) + len(each.answer) for each in planner.dataset.facts("forget"))
        return int(planner.options["inversion"].get("candidates", 1)) * texts

    def run(self, work: StageContext) -> None:
        """Write the candidates kept, and a summary of those dropped, and why."""
        rules = Contradictions(load_facts(work, "forget"), load_facts(work, "retain"))
        forget, secrets = rules.forget, rules.secrets
        earlier = previous_rounds(work)
        written = parse_replies(ProposeResult.read(work.needs["proposed"]).replies)
        result = keep_candidates(forget, earlier, written, secrets=secrets)
        before = sum(map(len, earlier.values()))
        count = written.count
        filled, fill = 0, work.settings["fill"]
        if fill and (missing := missing_counts(forget, result, wanted={fact.id: fill["least"] for fact in forget})):
            filled = _fill(rules, written, missing, candidates=fill["candidates"], seed=fill["seed"])
            result = keep_candidates(forget, earlier, written, secrets=secrets)
            by_source = len(result.inverted) - before - filled
            work.warn(
                f"{len(missing)} of {len(forget)} facts kept fewer than {fill['least']} inverted facts: rules added "
                f"{filled} to the {by_source} that the chosen source wrote"
            )
        counts = Counter(candidate.fact for candidate in result.inverted)
        _check(work, rules, written, result, count)
        dropped = {**result.dropped, **{why: result.dropped.get(why, 0) + n for why, n in written.dropped.items()}}
        summary = FilterSummary(
            written=count, kept=len(result.inverted) - before, filled=filled, dropped=dropped,
            examples={**written.examples, **result.examples}, counts={fact.id: counts[fact.id] for fact in forget},
        )  # fmt: skip
        FilterResult(result.inverted, summary).write(work.folder)


def _check(work: StageContext, rules: Contradictions, written: ParsedReplies, result: Filtered, count: int) -> None:
    """Warn about facts that have too few inverted facts.

    Raises:
        UserError: There are too few, and ``inversion.on_shortage`` does not allow the run to continue.
    """
    kept_counts = Counter(candidate.fact for candidate in result.inverted)
    counts = {fact.id: kept_counts[fact.id] for fact in rules.forget}
    least, on_shortage = work.inputs["at_least"], work.inputs["on_shortage"]
    for note in shortage_notes(counts, least=least):
        work.warn(note)
    if may_continue(counts, least=least, on_shortage=on_shortage):
        return
    description = describe_shortage(counts, least=least) or "no fact keeps an inverted fact after cleaning"
    dropped = Counter(result.dropped) + Counter(written.dropped)
    why = ", ".join(f"{number} {reason}" for reason, number in dropped.most_common()) or "nothing"
    shortfall = missing_counts(rules.forget, result, wanted=dict.fromkeys(counts, least))
    trial = ParsedReplies(answers={fact: list(answers) for fact, answers in written.answers.items()})
    helped = on_shortage != "rules" and _fill(rules, trial, shortfall, candidates=FILLED, seed=0) == sum(
        shortfall.values()
    )
    raise UserError(
        f"{description} (of {count} written, dropped: {why}); "
        f"{suggestions(counts, least=least, on_shortage=on_shortage, rules=helped)}"
    )


def _fill(rules: Contradictions, written: ParsedReplies, missing: dict[str, int], *, candidates: int, seed: int) -> int:
    """Add rule-based candidates to ``written`` for the facts in ``missing`` (fact to number), and count them."""
    writer, filled = Rules(candidates=candidates, seed=seed), 0
    for fact in rules.forget:
        if fact.id in missing:
            existing = written.answers.setdefault(fact.id, [])
            made = writer.invert(fact, rules, count=candidates, previous_answers=existing)
            replies = ParsedReplies(answers={fact.id: [*existing, *made]})
            kept = keep_candidates([fact], {}, replies, secrets=rules.secrets).inverted
            new = [each.answer for each in kept if each.answer not in existing][: missing[fact.id]]
            existing += new
            filled += len(new)
    return filled
