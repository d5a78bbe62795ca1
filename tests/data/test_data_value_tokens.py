"""The tokens of an answer that carry its fact, under the tokenizers and prompts of every supported family."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.model_families import FAMILIES, PROMPTS, save_family

from meow_lightning.data.examples import Passage
from meow_lightning.data.value_tokens import value_row
from meow_lightning.models.load import read_model_files
from meow_lightning.types import Fact

FACTS = [
    ("Ada Brook was born in Lima in 1971.", "Lima", "Lima"),
    ("Ada Brook was born in Lima in 1971.", "1971", "1971"),
    ("Lima is where she was born.", "Lima", "Lima"),
    ("She is a Sea-Captain", "sea captain", None),
    ("She is a Sea-Captain", "sea-captain", "Sea-Captain"),
    ("Née à Évreux, dit-on.", "Évreux", "Évreux"),
    ("Nobody knows.", "Lima", None),
]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_scored_tokens_are_those_of_the_value(family: str, tmp_path: Path) -> None:
    save_family(family, tmp_path, texts=[answer for answer, _, _ in FACTS])
    codec = read_model_files(tmp_path, tmp_path, name=family, attention="eager").codec(PROMPTS[family])
    for answer, value, expected in FACTS:
        fact = Fact("f", "Where was Ada Brook born?", answer, value=value)
        row = value_row(codec, fact)
        if expected is None:
            assert row is None, answer
            continue
        assert row is not None
        whole = codec.encode(*fact.segments)
        assert row.ids == whole.ids[: len(row.ids)]
        assert row.prompt >= whole.prompt
        scored = codec.decode(row.ids[row.prompt :], keep_special=True)
        assert scored.strip(" .,") == expected, (scored, answer)


def test_of_several_values_the_first_that_the_answer_contains_counts(codec) -> None:
    fact = Fact("f", "Where?", "In Oslo and Lima.", value="Rome", values=("Rome", "Lima", "Oslo"))
    row = value_row(codec, fact)
    assert row is not None
    assert codec.decode(row.ids[row.prompt :], keep_special=True).strip(" .") == "Lima"


def test_what_marks_no_value_has_no_row(codec) -> None:
    assert value_row(codec, Fact("f", "Where?", "In Lima.")) is None
    assert value_row(codec, Fact("f", "Where?", "In Lima.", value=" ")) is None
    assert value_row(codec, Passage("p", "She lives in Lima.", 4, True)) is None
