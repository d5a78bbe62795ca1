"""MEOW's published form: one object per fact, its answers by key, and their scores beside them.

Everything here is text in, text out; the command that reads, computes and writes is ``__main__``.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from meow_lightning.distributed import chunk_groups
from meow_lightning.errors import UserError
from meow_lightning.memo.measure import Kind, Measure, NoWindowsError, PromptEncoder, Text
from meow_lightning.store.durable import checked_line
from meow_lightning.types import ScoredText

Entry = dict[str, Any]
TRUE = "undesired_answer"
OWN = "answer"  # what a file of one's own facts calls the true answer
INVERTED = "inverted"  # and the list of what contradicts it
# The form in words.
HOLDS = f"`question` and its answers: `{TRUE}` (or `{OWN}`), `answer_0`, `answer_1` and so on (or a list `{INVERTED}`)"
_CANDIDATE = re.compile(r"answer_(0|[1-9][0-9]*)")


def answers(entry: Entry) -> list[tuple[str, Kind, int]]:
    """(key, kind, position) of every answer of an entry, in the order of its keys.

    ``undesired_answer`` is the true answer (position 0), ``answer`` where it is not there; ``answer_N`` is candidate N;
    every other key is no answer.
    """
    found: list[tuple[str, Kind, int]] = []
    true = TRUE if TRUE in entry else OWN
    for key in entry:
        if key == true:
            found.append((key, "answer", 0))
        elif match := _CANDIDATE.fullmatch(key):
            found.append((key, "candidate", int(match[1])))
    return found


def normalize_entries(entries: Sequence[tuple[int, Entry]], *, source: str) -> list[tuple[int, Entry]]:
    """Entries with one's own spelling brought into the published form: ``inverted`` as ``answer_0``, ``answer_1`` ….

    Nulls count as absent, as in a dataset of one's own facts.

    Args:
        entries: (number, object) of each.
        source: How the user named the file, for the messages.

    Raises:
        UserError: An entry says the same in both spellings, or its ``inverted`` is no list.

    """
    found: list[tuple[int, Entry]] = []
    for number, entry in entries:
        where = f"{source}, entry {number}"
        normalized = {
            key: value for key, value in entry.items() if value is not None or key not in (TRUE, OWN, INVERTED)
        }
        if INVERTED in normalized:
            candidates = normalized.pop(INVERTED)
            if not isinstance(candidates, list):
                raise UserError(f'{where}: `{INVERTED}` is {str(candidates)[:40]!r}, not a list; write ["…", "…"]')
            if any(map(_CANDIDATE.fullmatch, normalized)):
                raise UserError(f"{where}: `{INVERTED}` and `answer_0` mean the same; give one of them")
            normalized |= {f"answer_{place}": text for place, text in enumerate(candidates)}
        found.append((number, normalized))
    return found


def texts(
    entries: Sequence[tuple[int, Entry]],
    *,
    source: str,
    by: Measure | None,
    codec: PromptEncoder | None,
    skip_short: bool,
) -> list[Text]:
    """Every answer of every entry as a text for :func:`meow_lightning.memo.measure.score_texts`, in the file's order.

    The entry's number as text stands for the fact. Nothing can be said about a blank answer, and about a text without a
    window. The published code swallowed the division by no windows and stored 0, as for an answer that the model does
    not hold.

    Args:
        entries: (number, object) of each; the numbers differ.
        source: How the user named the file, for the messages.
        by: How they will be measured; ``None`` where that cannot be asked yet, and windows are not looked at.
        codec: Of the model; ``None`` where the measure needs none.
        skip_short: Leave out texts that nothing can be said about instead of refusing them.

    Raises:
        UserError: An entry without question or without any answer, one that is no text, one without a window.

    """
    found: list[Text] = []
    for number, entry in entries:
        where = f"{source}, entry {number}"
        _check(entry, where=where)
        for key, kind, position in answers(entry):
            text = Text(str(number), kind, position, entry["question"], entry[key])
            reason = _unmeasurable_reason(text, by, codec)
            if reason is None:
                found.append(text)
            elif not skip_short:
                raise UserError(
                    f"{where}, {key}: MEMO cuts no window from it, since {reason}; lengthen it, leave it out, or say "
                    "--skip-short to have null for it"
                )
    return found


def _unmeasurable_reason(text: Text, by: Measure | None, codec: PromptEncoder | None) -> str | None:
    """Why nothing can be said about a text, ``None`` when something can."""
    if not text.answer.strip():
        return "the answer is blank"
    if by is not None:
        try:
            by.check(text, codec)
        except NoWindowsError as error:
            return error.reason
    return None


def _is_answer(key: str) -> bool:
    return key in (TRUE, OWN) or _CANDIDATE.fullmatch(key) is not None


def _check(entry: Entry, *, where: str) -> None:
    question = entry.get("question")
    if not isinstance(question, str) or not question.strip():
        raise UserError(f"{where}: no question; each entry needs {HOLDS}")
    keys = [key for key, _, _ in answers(entry)]
    if not keys:
        raise UserError(f"{where}: no answer; each entry needs {HOLDS}")
    for key in keys:
        if not isinstance(entry[key], str):
            raise UserError(f"{where}, {key}: {json.dumps(entry[key])[:40]} is no text; give the answer in quotes")
    try:
        json.dumps(entry, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        # neither a tokenizer nor the file of scores takes it, and the latter is written after hours of work
        raise UserError(f"{where}: holds half a character (a lone surrogate such as \\ud800); mend it") from error


def windows(requested: Iterable[Text], *, by: Measure, codec: PromptEncoder | None) -> int:
    """How many windows some texts have; the codec may be ``None`` where the measure needs none."""
    return sum(by.count(text, codec) for text in requested)


def chunks(requested: Sequence[Text], *, by: Measure, codec: PromptEncoder | None, least: int) -> Iterator[list[Text]]:
    """Lists of whole entries with at least ``least`` windows each, the last one perhaps with fewer.

    A chunk is measured whole or not at all: windows beside other windows differ in the last bits, and a resumed command
    must batch as an undisturbed one does.
    """
    entries = (list(group) for _, group in itertools.groupby(requested, key=lambda text: text.fact))
    return chunk_groups(entries, size=lambda text: by.count(text, codec), minimum=least)


def means(scored: Sequence[ScoredText]) -> list[str]:
    """A line for the true answers and one for the candidates: how many, and their mean score."""
    found: list[str] = []
    for kind, name in (("answer", "true answers"), ("candidate", "candidates")):
        scores = [text.score for text in scored if text.kind == kind]
        mean = f"{math.fsum(scores) / len(scores):.4f}" if scores else "-"
        found.append(f"{name:<13} {len(scores):>6}   mean score {mean}")
    return found


def with_scores(
    entries: Sequence[tuple[int, Entry]], scored: Iterable[ScoredText], *, requested: Iterable[Text], suffix: str
) -> list[Entry]:
    """The entries with ``<key>_<ending>`` for each answer, such as ``answer_0_rouge1``.

    The entry's own keys come first, in their order, then the scores in the order of the answers' keys. Scores of
    answers that an entry brings with the same ending are dropped: they may be another model's. What was not wanted gets
    ``None``.

    Args:
        entries: What :func:`texts` was given.
        scored: The results of all wanted texts, in any order.
        requested: What :func:`texts` gave.
        suffix: Says what was measured, such as ``rouge1``.

    Raises:
        ValueError: The result of a text is missing.

    """
    scores = {(text.fact, text.kind, text.position): text.score for text in scored}
    requested_keys = {text[:3] for text in requested}
    found: list[Entry] = []
    for number, entry in entries:
        former = [key for key in entry if key.endswith(f"_{suffix}") and _is_answer(key.removesuffix(f"_{suffix}"))]
        result = {key: value for key, value in entry.items() if key not in former}
        for key, kind, position in answers(entry):
            place = (str(number), kind, position)
            if place in requested_keys and place not in scores:
                raise ValueError(f"entry {number}, {key}: no score came for it")
            result[f"{key}_{suffix}"] = scores[place] if place in requested_keys else None
        found.append(result)
    return found


def part(scored: Iterable[ScoredText], *, head: Mapping[str, Any] | None) -> str:
    """Finished texts as JSON lines, to be appended to a file that :func:`from_part` reads.

    Args:
        scored: The texts.
        head: What was asked for, as plain JSON values, when these are the file's first lines; else ``None``.

    """
    rows = [*([] if head is None else [head]), *map(asdict, scored)]
    return "".join(map(checked_line, rows))


def from_part(
    rows: Sequence[Mapping[str, Any]], *, damaged: int, head: Mapping[str, Any], source: str
) -> list[ScoredText]:
    """The finished texts of a broken-off run; none without rows.

    Args:
        rows: What the whole lines of its file hold.
        damaged: How many of its lines are not as :func:`part` writes them.
        head: What is asked for now; texts of anything else are not mixed with these.
        source: The file's name, for the message.

    Raises:
        UserError: The lines belong to something else.

    """
    if not rows and not damaged:
        return []
    if not rows or rows[0] != head:
        what = "no part of a scored file"
        if rows:
            what = f"of another setup (other: {', '.join(key for key in head if rows[0].get(key) != head[key])})"
        raise UserError(f"{source} is {what}; give another --out, or remove that file to begin anew")
    return [ScoredText(**{**row, "windows": tuple(row["windows"])}) for row in rows[1:]]
