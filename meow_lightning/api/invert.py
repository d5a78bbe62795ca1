"""Inverted facts as a function: a writer's answers that contradict the facts to forget, after filtering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meow_lightning.config.composition import library_options, words_of
from meow_lightning.config.files import CONF
from meow_lightning.config.instantiate import component_class
from meow_lightning.data.examples import Dataset
from meow_lightning.data.values.secrets import Secrets
from meow_lightning.errors import UserError, check_choice
from meow_lightning.inversion.base import DatasetFacts, GenerationRequest, Writer
from meow_lightning.inversion.candidates import keep_candidates, parse_replies
from meow_lightning.types import Fact, InvertedFact


def invert(
    dataset: Dataset, *, writer: str | Writer = "rules", candidates: int | None = None, seed: int = 0, **options: Any
) -> list[InvertedFact]:
    """Write answers that contradict the facts to forget, and keep those that pass the filter.

    Args:
        dataset: The facts to forget; rules also borrow values from those to keep. Passages of documents are left out.
        writer: Name of a file in ``conf/inversion`` (``rules``, ``file``, ``endpoint``), or a writer.
        candidates: Inverted facts per fact, from 1; ``None`` for the number in the writer's file.
        seed: Seed of a named writer's choices, from 0.
        **options: Further options of the named writer, as in its file, such as ``path=`` for ``file``.

    Returns:
        The inverted facts, fact by fact; a fact of which all answers were dropped has none.

    Raises:
        UserError: An option is invalid, or the writer cannot be used.
    """
    built, count = _writer(writer, seed, {**options, "candidates": candidates})
    forget, retain = (
        [each for each in dataset.facts(split) if isinstance(each, Fact)] for split in ("forget", "retain")
    )
    requests = [
        GenerationRequest(fact=fact, attempt=0, count=count, previous_answers=(), model_answer=None) for fact in forget
    ]
    built.check()
    replies = built.write(requests, load_facts=lambda: DatasetFacts(forget, retain), should_continue=lambda: True)
    return keep_candidates(forget, {}, parse_replies(replies), secrets=Secrets.of(forget, retain)).inverted


def _writer(writer: str | Writer, seed: int, options: dict[str, Any]) -> tuple[Writer, int | None]:
    """Build a writer, and return it with the number of answers to request per fact.

    Raises:
        UserError: The name or an option is invalid, or the writer runs a model of its own.
    """
    if not isinstance(writer, str):
        extra = [name for name, value in options.items() if value is not None and name != "candidates"]
        if extra:
            raise UserError(f"{extra[0]} has no effect beside a writer; set it in the writer")
        return writer, options["candidates"]
    check_choice("writer", writer, _names())
    words = [f"inversion={writer}", f"seed={seed}", *words_of("inversion", options)]
    inversion = library_options(words).inversion
    if component_class(inversion.keyed, allow=()).runs_locally:
        raise UserError(
            f"writer={writer} runs a language model of its own; use meow.run(['inversion={writer}', …]), or serve the "
            "model and use writer='endpoint'"
        )
    return inversion.instantiate(allow=()), inversion.candidates


def _names() -> Sequence[str]:
    return sorted(path.stem for path in (CONF / "inversion").glob("*.yaml"))
