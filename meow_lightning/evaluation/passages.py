"""Passages of held-out text: whole texts from files of running text, one paragraph per line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

Format = Literal["wikitext", "plain"]

UNKNOWN = "<unk>"  # WikiText-2 writes every rare word so
HEADING = "="
_SENTENCE_END = re.compile(r"(?<= [.!?]) ")


def passages(lines: Iterable[str], *, form: Format) -> Iterator[str]:
    """Yield the passages of a text, in order.

    Args:
        lines: Its paragraphs.
        form: ``plain``: every line that is not blank is a passage. ``wikitext``: the word-tokenized WikiText-2;
            headings are left out, and a passage is a run of sentences of one paragraph without an unknown word, still
            tokenized.
    """
    for line in map(str.strip, lines):
        if form == "plain" and line:
            yield line
        elif line and not line.startswith(HEADING):
            yield from known_runs(line)


def known_runs(paragraph: str) -> Iterator[str]:
    """Yield the longest runs of sentences of a tokenized paragraph without an unknown word, in order."""
    run: list[str] = []
    for sentence in _SENTENCE_END.split(paragraph):
        if UNKNOWN not in sentence:
            run.append(sentence)
        elif run:
            yield " ".join(run)
            run = []
    if run:
        yield " ".join(run)


def detokenized(text: str) -> str:
    """Remove the blanks and marks of WikiText's tokenization, as lm-evaluation-harness does for its task wikitext."""
    from lm_eval.tasks.wikitext.preprocess_wikitext import wikitext_detokenizer

    plain: str = wikitext_detokenizer({"page": f"{text} "})  # its last rule for a full stop needs a blank behind it
    return plain.strip()
