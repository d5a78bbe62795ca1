"""invert: what a writer said in, answers that contradict the forget set out, cleaned and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from meow_lightning.inversion.clean import Cleaned
from meow_lightning.inversion.gather import REMEDY, Written, kept, lacking, read, too_few
from meow_lightning.inversion.rules import Rules
from meow_lightning.stages.replies import reply_of
from meow_lightning.stages.shared import facts, former
from meow_lightning.stages.work import Work, read_lines, write_lines
from meow_lightning.store import write_json
from meow_lightning.types import Fact, UserError

VERSION = 4
MAKES = ("inverted.jsonl", "cleaning.json")


def run(work: Work) -> None:
    """Write ``inverted.jsonl`` (the candidates that survive) and ``cleaning.json`` (what did not, and why)."""
    forget = facts(work, ["forget"])
    earlier = former(work)
    written = read(map(reply_of, read_lines(work.needs["asked"] / "replies.jsonl")))
    found = kept(forget, earlier, written)
    before = sum(map(len, earlier.values()))
    count = written.count
    filled = _fill(work, forget, written, found) if work.settings["fill"] else 0
    if filled:
        found = kept(forget, earlier, written)
    counts = Counter(candidate.fact for candidate in found.inverted)
    said = too_few({fact.id: counts[fact.id] for fact in forget}, least=work.inputs["at_least"])
    if said and (work.inputs["short"] != "warn" or not found.inverted):
        dropped = Counter(found.dropped) + Counter(written.dropped)
        why = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common()) or "nothing"
        raise UserError(f"{said} (of {written.count} written, dropped: {why}); {REMEDY}")
    write_lines(work.folder / "inverted.jsonl", [asdict(candidate) for candidate in found.inverted])
    write_json(work.folder / "cleaning.json", {
        "written": count, "kept": len(found.inverted) - before, "filled": filled,
        "dropped": {**found.dropped, **{why: found.dropped.get(why, 0) + n for why, n in written.dropped.items()}},
        "examples": {**written.examples, **found.examples},
        "counts": {fact.id: counts[fact.id] for fact in forget},
    })  # fmt: skip


def _fill(work: Work, forget: Sequence[Fact], written: Written, found: Cleaned) -> int:
    """How many candidates rules wrote for facts that kept too few, added to what is written."""
    fill = work.settings["fill"]
    rules = Rules(candidates=fill["candidates"], seed=fill["seed"])
    short = lacking(forget, found, wanted={fact.id: fill["least"] for fact in forget})
    others = facts(work, ["forget", "retain"])
    filled = 0
    for fact in forget:
        if fact.id in short:
            there = written.answers.setdefault(fact.id, [])
            made = rules.invert(fact, others=others, count=fill["candidates"], tried=there)
            good = kept([fact], {}, Written(answers={fact.id: [*there, *made]})).inverted
            new = [each.answer for each in good if each.answer not in there][: short[fact.id]]
            there += new
            filled += len(new)
    if short:
        work.note(
            f"{len(short)} of {len(forget)} facts kept fewer than {fill['least']} inverted facts; rules added {filled}"
        )
    return filled
