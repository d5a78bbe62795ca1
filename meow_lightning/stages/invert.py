"""invert: the forget set in, answers that contradict it out, cleaned and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from meow_lightning.config import build
from meow_lightning.inversion.clean import cleaned
from meow_lightning.stages.shared import facts, unchanged
from meow_lightning.stages.work import Work, write_lines
from meow_lightning.store import digest, write_json
from meow_lightning.types import Fact, InvertedFact, UserError

VERSION = 3
MAKES = ("inverted.jsonl", "cleaning.json")


def run(work: Work) -> None:
    """Write ``inverted.jsonl`` (the candidates that survive) and ``cleaning.json`` (what did not, and why)."""
    forget = facts(work, ["forget"])
    if "file" in work.settings["inversion"]:
        path = Path(work.inputs["inversion"]["path"])
        unchanged(f"inversion.path={path}", digest(path), work.settings["inversion"]["file"])
    writer = build(work.inputs["inversion"], allow=work.inputs["allow"])
    others = facts(work, ["forget", "retain"])
    written = {fact.id: writer.invert(fact, others=others) for fact in forget}
    found = cleaned(forget, written)
    inverted = found.inverted
    _enough(work, forget, inverted)
    write_lines(work.folder / "inverted.jsonl", [asdict(candidate) for candidate in inverted])
    write_json(work.folder / "cleaning.json", {
        "written": sum(len(answers) for answers in written.values()), "kept": len(inverted), "dropped": found.dropped,
        "examples": found.examples,
        "fewest": min(Counter(each.fact for each in inverted)[fact.id] for fact in forget),
    })  # fmt: skip


def _enough(work: Work, forget: Sequence[Fact], inverted: Sequence[InvertedFact]) -> None:
    """Nothing, when every fact keeps as many candidates as the method will select: found now, not after training."""
    left = Counter(candidate.fact for candidate in inverted)
    short = [fact for fact in forget if left[fact.id] < work.inputs["at_least"]]
    if short:
        first, least = short[0], work.inputs["at_least"]
        raise UserError(
            f"{len(short)} of {len(forget)} facts keep fewer inverted facts than method.select.k={least} "
            f"after cleaning, the first is {first.id} with {left[first.id]} (question: {first.question[:80]!r}); "
            "bring more (the key `inverted` of a fact, or inversion=file inversion.path=FILE) or select fewer, such as "
            "method.select.k=1"
        )
