"""invert: the forget set in, answers that contradict it out, cleaned and counted."""

from __future__ import annotations

from dataclasses import asdict

from meow_lightning.config import build
from meow_lightning.inversion.clean import clean
from meow_lightning.stages.shared import facts
from meow_lightning.stages.work import Work, write_lines
from meow_lightning.store import write_json

VERSION = 1


def run(work: Work) -> None:
    """Write ``inverted.jsonl`` (the candidates that survive) and ``cleaning.json`` (what did not, and why)."""
    forget = facts(work, ["forget"])
    writer = build(work.inputs["inversion"], allow=work.inputs["allow"])
    written = {fact.id: writer.invert(fact, others=forget) for fact in forget}
    inverted, dropped = clean(forget, written)
    write_lines(work.folder / "inverted.jsonl", [asdict(candidate) for candidate in inverted])
    write_json(work.folder / "cleaning.json", {
        "written": sum(len(answers) for answers in written.values()), "kept": len(inverted), "dropped": dropped,
    })  # fmt: skip
