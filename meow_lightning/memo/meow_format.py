"""MEOW's published format: one JSON object per fact, with its answers and their scores by key.

This module only converts data; ``__main__`` reads, computes and writes.
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
OWN = "answer"  # key of the true answer in a user's own dataset
INVERTED = "inverted"  # key of its list of contradicting answers
# Description of the format for messages.
HOLDS = f"`question` and its answers: `{TRUE}` (or `{OWN}`), `answer_0`, `answer_1` and so on (or a list `{INVERTED}`)"
_CANDIDATE = re.compile(r"answer_(0|[1-9][0-9]*)")


def answers(entry: Entry) -> list[tuple[str, Kind, int]]:
    """Return key, kind and position of every answer of an entry, in the order of its keys.

    ``undesired_answer``, or ``answer`` in its absence, is the true answer (position 0); ``answer_N`` is candidate N;
    other keys are ignored.
    """
    keys: list[tuple[str, Kind, int]] = []
    true = TRUE if TRUE in entry else OWN
    for key in entry:
        if key == true:
            keys.append((key, "answer", 0))
        elif match := _CANDIDATE.fullmatch(key):
            keys.append((key, "candidate", int(match[1])))
    return keys


def normalize_entries(entries: Sequence[tuple[int, Entry]], *, source: str) -> list[tuple[int, Entry]]:
    """Convert entries of a user's own dataset to the published format: ``inverted`` to ``answer_0``, ``answer_1`` ….

    Nulls count as absent, as in a user's own dataset.

    Args:
        entries: Pairs of number and object.
        source: Name of the file, for the messages.

    Raises:
        UserError: An entry uses both formats, or its ``inverted`` is not a list.

    """
    converted: list[tuple[int, Entry]] = []
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
        converted.append((number, normalized))
    return converted


def texts(
    entries: Sequence[tuple[int, Entry]],
    *,
    source: str,
    by: Measure | None,
    codec: PromptEncoder | None,
    skip_short: bool,
) -> list[Text]:
    """Convert all answers to texts for :func:`meow_lightning.memo.measure.score_texts`, in the file's order.

    The entry's number serves as fact id. Blank answers and texts without a window have no score. The published code
    caught the division by zero windows and stored 0, as for an answer that is not memorised.

    Args:
        entries: Pairs of number and object; the numbers are distinct.
        source: Name of the file, for the messages.
        by: The measure; ``None`` to skip the check of windows.
        codec: Codec of the model; ``None`` if the measure does not need it.
        skip_short: Skip texts that cannot be scored instead of raising.

    Raises:
        UserError: An entry has no question or no answer, a value is not a string, or a text has no window.

    """
    measurable: list[Text] = []
    for number, entry in entries:
        where = f"{source}, entry {number}"
        _check(entry, where=where)
        for key, kind, position in answers(entry):
            text = Text(str(number), kind, position, entry["question"], entry[key])
            reason = _unmeasurable_reason(text, by, codec)
            if reason is None:
                measurable.append(text)
            elif not skip_short:
                raise UserError(
                    f"{where}, {key}: MEMO cuts no window from it, since {reason}; lengthen it, leave it out, or add "
                    "--skip-short to store null for it"
                )
    return measurable


def _unmeasurable_reason(text: Text, by: Measure | None, codec: PromptEncoder | None) -> str | None:
    """Explain why a text cannot be scored; ``None`` if it can."""
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
            raise UserError(f"{where}, {key}: {json.dumps(entry[key])[:40]} is not a string; put it in quotes")
    try:
        json.dumps(entry, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        # Neither a tokenizer nor the output file accepts it, and the latter is written after hours of work.
        raise UserError(f"{where}: contains an unpaired surrogate such as \\ud800; write valid UTF-8") from error


def windows(requested: Iterable[Text], *, by: Measure, codec: PromptEncoder | None) -> int:
    """Count the windows of all texts; ``codec`` may be ``None`` if the measure does not need it."""
    return sum(by.count(text, codec) for text in requested)


def chunks(requested: Sequence[Text], *, by: Measure, codec: PromptEncoder | None, least: int) -> Iterator[list[Text]]:
    """Split texts into chunks of whole entries with at least ``least`` windows each; the last may have fewer.

    A chunk is scored as a whole or not at all: batch composition changes the last bits of a result, and a resumed
    command must form the same batches as an uninterrupted one.
    """
    entries = (list(group) for _, group in itertools.groupby(requested, key=lambda text: text.fact))
    return chunk_groups(entries, size=lambda text: by.count(text, codec), minimum=least)


def means(scored: Sequence[ScoredText]) -> list[str]:
    """Format the number and mean score of the true answers and of the candidates, one line each."""
    lines: list[str] = []
    for kind, name in (("answer", "true answers"), ("candidate", "candidates")):
        scores = [text.score for text in scored if text.kind == kind]
        mean = f"{math.fsum(scores) / len(scores):.4f}" if scores else "-"
        lines.append(f"{name:<13} {len(scores):>6}   mean score {mean}")
    return lines


def with_scores(
    entries: Sequence[tuple[int, Entry]], scored: Iterable[ScoredText], *, requested: Iterable[Text], suffix: str
) -> list[Entry]:
    """Add a score ``<key>_<suffix>`` to the entries for each answer, such as ``answer_0_rouge1``.

    An entry's own keys come first, in their order, then the scores in the order of the answers' keys. Existing scores
    with the same suffix are dropped, since they may be another model's. Answers that were not requested get ``None``.

    Args:
        entries: Entries passed to :func:`texts`.
        scored: Results of all requested texts, in any order.
        requested: Result of :func:`texts`.
        suffix: Suffix of the score keys, such as ``rouge1``.

    Raises:
        ValueError: The result of a text is missing.

    """
    scores = {(text.fact, text.kind, text.position): text.score for text in scored}
    requested_keys = {text[:3] for text in requested}
    results: list[Entry] = []
    for number, entry in entries:
        former = [key for key in entry if key.endswith(f"_{suffix}") and _is_answer(key.removesuffix(f"_{suffix}"))]
        result = {key: value for key, value in entry.items() if key not in former}
        for key, kind, position in answers(entry):
            place = (str(number), kind, position)
            if place in requested_keys and place not in scores:
                raise ValueError(f"entry {number}, {key} has no score")
            result[f"{key}_{suffix}"] = scores[place] if place in requested_keys else None
        results.append(result)
    return results


def part(scored: Iterable[ScoredText], *, head: Mapping[str, Any] | None) -> str:
    """Serialize finished texts as JSON lines, to be appended to a partial file that :func:`from_part` reads.

    Args:
        scored: Finished texts.
        head: Settings as plain JSON values for the file's first line; ``None`` if the file has them already.

    """
    rows = [*([] if head is None else [head]), *map(asdict, scored)]
    return "".join(map(checked_line, rows))


def from_part(
    rows: Sequence[Mapping[str, Any]], *, damaged: int, head: Mapping[str, Any], source: str
) -> list[ScoredText]:
    """Restore the finished texts of an interrupted run; empty without rows.

    Args:
        rows: Parsed complete lines of its partial file.
        damaged: Number of lines that :func:`part` cannot have written.
        head: Current settings, which must match those of the file.
        source: Name of the file, for the message.

    Raises:
        UserError: The file has no valid header, or other settings.

    """
    if not rows and not damaged:
        return []
    if not rows or rows[0] != head:
        what = "is not a partial result of this command"
        if rows:
            what = f"has other settings ({', '.join(key for key in head if rows[0].get(key) != head[key])})"
        raise UserError(f"{source} {what}; give another --out, or remove that file to start over")
    return [ScoredText(**{**row, "windows": tuple(row["windows"])}) for row in rows[1:]]
