"""The words that carry the facts of TOFU's forget10."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from importlib import resources

from meow_lightning.types import Fact


@cache
def marked_values() -> dict[str, str]:
    """Read the words that carry the fact of forget10's questions, by question: 367 of the 400 have some.

    They come from the Unlearning Depth Score's data (Apache-2.0, see the file). Evaluation alone reads them: inverted
    facts and their filter stay as they are without them.
    """
    file = resources.files("meow_lightning.data") / "tofu_values.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))["values"])


def with_value(fact: Fact) -> Fact:
    """Mark the words that carry a fact, if its question has some."""
    value = marked_values().get(fact.question)
    return fact if value is None or value not in fact.answer else replace(fact, values=(value,))
