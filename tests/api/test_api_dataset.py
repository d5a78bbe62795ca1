from __future__ import annotations

import json
from pathlib import Path

import pytest

import meow_lightning as meow


def write(path: Path, *names: str) -> Path:
    rows = [{"question": f"Where was {name} born?", "answer": f"{name} was born in Lima in 1971."} for name in names]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_file_of_facts_with_any_name(tmp_path: Path) -> None:
    forget, keep = write(tmp_path / "my [facts], a=1.jsonl", "Ada", "Bo"), write(tmp_path / "keep", "Cid")
    facts = meow.load_dataset(forget, retain=keep, real_world=False)
    assert [fact.question for fact in facts.forget] == ["Where was Ada born?", "Where was Bo born?"]
    assert [fact.answer for fact in facts.retain] == ["Cid was born in Lima in 1971."]
    assert facts.holdout == []
    assert list(facts.evaluation()) == ["forget", "retain"]
    assert not facts.public


def test_a_dataset_by_name_with_options_and_a_limit() -> None:
    facts = meow.load_dataset("fictional", split="forget05", authors=20, retain_eval=8, limit=3)
    assert [len(facts.forget), len(facts.retain), len(facts.holdout)] == [3, 3, 3]
    assert meow.load_dataset("fictional", authors=20, retain_eval=8, seed=1).forget != facts.forget


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("tofo", {}, "Did you mean tofu"), ("fictional", {"author": 3}, "author is not"),
        ("fictional", {"split": "forget5"}, "forget05"), ("missing.jsonl", {}, "missing.jsonl"),
        ("fictional", {"limit": 0}, "limit=0"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(name: str, options: dict[str, object], named: str) -> None:
    with pytest.raises(meow.UserError, match=named):
        meow.load_dataset(name, **options)
