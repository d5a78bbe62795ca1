from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.common import runtime
from helpers.results import store_inverted

from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.encoding import fingerprint
from meow_lightning.errors import UserError
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.filter import Filter
from meow_lightning.stages.propose import Propose
from meow_lightning.types import InvertedFact

RUNTIME = runtime(micro_batch_size=1, eval_batch_size=1, generation_batch_size=1)
DATASET: dict[str, Any] = {
    "_target_": "meow_lightning.data.fictional.Fictional", "split": "forget01", "authors": 5, "candidates": 4,
    "phrasings": 1, "retain_eval": 4, "seed": 0,
}  # fmt: skip
RULES = {"_target_": "meow_lightning.inversion.rules.Rules", "candidates": 4, "seed": 0}
FACTS = instantiate(DATASET, allow=[]).facts("forget")


def work(stage: str, folder: Path, *, settings: dict[str, Any], needs: dict[str, Path], **inputs: Any) -> StageContext:
    content = fingerprint(instantiate(DATASET, allow=[]))
    shared = {"dataset": DATASET, "content": content, "limit": None, "allow": []}
    folder.mkdir(parents=True, exist_ok=True)
    return StageContext(
        stage=stage, label="", folder=folder, settings=settings, inputs={**shared, **inputs}, needs=needs,
        runtime=RUNTIME,
    )  # fmt: skip


def asked(folder: Path, inversion: dict[str, Any], *, count: int | None) -> Path:
    settings = {"inversion": {}, "max_retries_per_fact": 0, "rounds": None, "count": count}
    Propose().run(work("propose", folder / "propose", settings=settings, needs={}, inversion=inversion, reuse=True))
    return folder / "propose"


def inverted(
    folder: Path, replies: Path, *, at_least: int, on_shortage: str = "error", fill: dict | None = None
) -> StageContext:
    task = work(
        "filter",
        folder / "filter",
        settings={"fill": fill},
        needs={"proposed": replies},
        at_least=at_least,
        on_shortage=on_shortage,
    )
    Filter().run(task)
    return task


def from_file(folder: Path, answers: Callable[[Any], list[str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "inverted.json"
    path.write_text(json.dumps([{"question": fact.question, "answers": answers(fact)} for fact in FACTS]))
    return asked(folder, {"_target_": "meow_lightning.inversion.file.File", "path": str(path)}, count=None)


def test_candidates_are_written_cleaned_and_counted(tmp_path: Path) -> None:
    inverted(tmp_path, asked(tmp_path, RULES, count=4), at_least=4)
    # one author of 8 facts, 4 alternatives each, none of them wrong in a way that cleaning drops
    lines = [json.loads(line) for line in (tmp_path / "filter" / "inverted.jsonl").read_text().splitlines()]
    assert [line["position"] for line in lines] == [0, 1, 2, 3] * 8
    counts = json.loads((tmp_path / "filter" / "cleaning.json").read_text())
    assert (counts["written"], counts["kept"], sum(counts["dropped"].values())) == (32, 32, 0)
    assert counts["counts"] == {fact.id: 4 for fact in FACTS}


def test_candidates_of_an_earlier_round_are_kept_first_and_not_counted_as_new(tmp_path: Path) -> None:
    replies = from_file(tmp_path, lambda fact: list(fact.inverted))
    (tmp_path / "former").mkdir()
    former = [InvertedFact(fact.id, 0, fact.question, fact.inverted[0]) for fact in FACTS]
    store_inverted(tmp_path / "former", former)
    task = work(
        "filter", tmp_path / "filter", settings={"fill": None}, at_least=2, on_shortage="error",
        needs={"proposed": replies, "previous_filtered": tmp_path / "former"},
    )  # fmt: skip
    Filter().run(task)
    rows = [json.loads(line) for line in (tmp_path / "filter" / "inverted.jsonl").read_text().splitlines()]
    firsts = {row["fact"]: row["answer"] for row in rows if row["position"] == 0}
    assert firsts == {fact.id: fact.inverted[0] for fact in FACTS}
    cleaning = json.loads((tmp_path / "filter" / "cleaning.json").read_text())
    # four of each were written, of which one was known
    assert (cleaning["written"], cleaning["kept"], len(rows)) == (32, 24, 32)


def test_too_few_candidates_are_reported_here_and_not_after_training(tmp_path: Path) -> None:
    # of three lines for each question one is the truth and one says nothing
    replies = from_file(tmp_path, lambda fact: [fact.inverted[0], fact.answer, " "])
    expected = (
        r"^8 of 8 facts have fewer inverted facts than method\.select\.k=2 after filtering: author004/\w+ with 1, "
        r"author004/\w+ with 1, author004/\w+ with 1 … \(of 24 written, dropped: 8 blank, 8 true\); set "
        r"inversion.on_shortage=warn \(train on the available ones\), or inversion.on_shortage=rules \(.*\), or "
        r"method.select.k=1; or provide at least 2 "
        r"contradictions for each .*inversion.path=FILE\), or let a language model write them .*$"
    )
    for on_shortage in ("error", "few"):  # few: at most half of the facts
        with pytest.raises(UserError, match=expected):
            inverted(tmp_path, replies, at_least=2, on_shortage=on_shortage)
        assert not (tmp_path / "filter" / "inverted.jsonl").exists()


def test_every_remedy_that_is_named_ends_well(tmp_path: Path) -> None:
    replies = from_file(tmp_path, lambda fact: [fact.inverted[0], fact.answer, " "])
    for name, wish in {
        "warn": {"at_least": 2, "on_shortage": "warn"},
        "rules": {"at_least": 2, "on_shortage": "rules", "fill": {"least": 2, "candidates": 8, "seed": 0}},
        "k": {"at_least": 1, "on_shortage": "error"},
    }.items():
        inverted(tmp_path / name, replies, **wish)
        counts = json.loads((tmp_path / name / "filter" / "cleaning.json").read_text())
        assert counts["dropped"]["true"] == counts["dropped"]["blank"] == 8
        assert set(counts["counts"].values()) == {2 if name == "rules" else 1}
    brought = from_file(tmp_path / "file", lambda fact: list(fact.inverted[:2]))
    inverted(tmp_path / "file", brought, at_least=2)


def test_options_that_would_not_help_are_not_named(tmp_path: Path) -> None:
    replies = from_file(tmp_path, lambda fact: [fact.answer])
    with pytest.raises(UserError) as raised:
        inverted(tmp_path, replies, at_least=3, on_shortage="rules", fill={"least": 0, "candidates": 1, "seed": 0})
    assert "; provide at least 3 contradictions for each" in str(raised.value)
    assert not any(
        word in str(raised.value) for word in ("on_shortage=warn", "on_shortage=rules", "select.k=0", "select.k=1")
    )


def test_few_facts_without_are_named_and_left_out(tmp_path: Path) -> None:
    # 2 of 8 facts keep nothing, 2 too few
    places = {fact.id: place for place, fact in enumerate(FACTS)}
    replies = from_file(tmp_path, lambda fact: list(fact.inverted[: max(0, places[fact.id] - 1)]) or [fact.answer])
    task = inverted(tmp_path, replies, at_least=3, on_shortage="few")
    (note,) = task.manifest_entries()["notes"]
    names = [fact.id for fact in FACTS[:3]]
    assert note == (
        f"4 of 8 facts have fewer inverted facts than method.select.k=3 after filtering: {names[0]} with 0, "
        f"{names[1]} with 0, {names[2]} with 1 …; training uses the available ones; 2 of them have none and are "
        "excluded from unlearning"
    )
    with pytest.raises(UserError, match=r"^5 of 8 facts have fewer"):
        inverted(tmp_path / "five", replies, at_least=4, on_shortage="few")


def test_no_candidate_at_all_is_always_an_error(tmp_path: Path) -> None:
    replies = from_file(tmp_path, lambda fact: [fact.answer])
    with pytest.raises(
        UserError,
        match=r"^8 of 8 facts have fewer .*=3 after filtering: author004/\w+ with 0, .*; set inversion.on_shortage=",
    ):
        inverted(tmp_path, replies, at_least=3, on_shortage="warn")


def test_rules_complete_missing_answers_and_report_it(tmp_path: Path) -> None:
    replies = from_file(tmp_path, lambda fact: list(fact.inverted[: 1 if fact.id.endswith("city") else 3]))
    task = inverted(
        tmp_path, replies, at_least=3, on_shortage="rules", fill={"least": 3, "candidates": 8, "seed": 0}
    )  # fmt: skip
    counts = json.loads((tmp_path / "filter" / "cleaning.json").read_text())
    assert (counts["filled"], set(counts["counts"].values())) == (2, {3})
    assert counts["written"] == 1 + 7 * 3
    (note,) = task.manifest_entries()["notes"]
    assert note == (
        "1 of 8 facts kept fewer than 3 inverted facts: rules added 2 to the 22 that the chosen source wrote"
    )


def test_what_rules_cannot_complete_is_named_and_does_not_stop_the_run(tmp_path: Path) -> None:
    replies = from_file(tmp_path, lambda fact: list(fact.inverted[: 1 if fact.id.endswith("city") else 3]))
    task = inverted(
        tmp_path, replies, at_least=3, on_shortage="rules", fill={"least": 0, "candidates": 1, "seed": 0}
    )  # fmt: skip
    (note,) = task.manifest_entries()["notes"]
    assert note.startswith("1 of 8 facts have fewer inverted facts than method.select.k=3 after filtering: author")


def test_facts_that_changed_since_the_plan_are_reported(tmp_path: Path) -> None:
    task = work("filter", tmp_path, settings={"fill": None}, needs={}, at_least=1, on_shortage="error")
    task.inputs["content"] = "what the plan has read"  # type: ignore[index]
    with pytest.raises(UserError, match=r"^dataset=fictional changed during the run; run again: results that are"):
        Filter().run(task)
    assert list(tmp_path.iterdir()) == []
