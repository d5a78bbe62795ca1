from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from meow_lightning.data.knowundo import KnowUnDo, private_value

DATA = os.environ.get("MEOW_DATA_DIR")


@pytest.mark.parametrize(
    ("question", "answer", "value"),
    [
        ("What is her email address?", "Write to ada.brook@mail.co.uk.", "ada.brook@mail.co.uk"),
        ("How can fans reach her?", "By ada@mail.org, for inquiries.", "ada@mail.org"),
        ("Where does she live?", "She lives at 666 Avenida del Terror, Mexico City.", "666 Avenida del Terror"),
        ("Where does she live?", "She lives at 59 Rue de l'Artiste, Paris.", "59 Rue de l'Artiste"),
        ("Where does he live?", "He resides at 221B Baker St, London", "221B Baker St"),
        ("Where does he live?", "He resides at 33 Unter den Linden, Berlin", "33 Unter den Linden"),
        ("Where is 12 Main Street?", "12 Main Street is in Ohio.", None),
        ("How does her address inspire her?", "Living at 12 Main Street inspires her.", None),
        ("What is a notable book?", "A family in 20th-century Europe.", None),
        ("Who are her parents?", "A baker and a nurse.", None),
    ],
)
def test_private_values(question: str, answer: str, value: str | None) -> None:
    assert private_value(question, answer) == value


def test_both_sets_are_read(tmp_path: Path) -> None:
    for name, given in {"unlearn_train": "a@b.org", "retention_train": "a novel"}.items():
        rows = [{"text": f"What does {name} hold?", "labels": f"It holds {given}."}]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    dataset = KnowUnDo(folder=str(tmp_path), real_world=False, perturb=2, retain_eval=9, seed=0)
    assert [dataset.facts(split)[0].value for split in ("forget", "retain")] == ["a@b.org", None]
    assert "validation questions" in dataset.caveats()[-1]


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="MEOW_DATA_DIR is not set: KnowUnDo is not here")
def test_the_published_files() -> None:
    dataset = KnowUnDo(folder=None, real_world=True, perturb=0, retain_eval=400, seed=0)
    forget = dataset.facts("forget")
    assert (len(forget), len(dataset.facts("retain"))) == (400, 441)
    assert sum(fact.value is not None for fact in forget) == 126
