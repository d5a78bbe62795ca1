"""A whole run on the facts that a model knows: it is asked, some facts are unlearned, the others kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.chat_model import teacher

import meow_lightning as meow
from meow_lightning.errors import UserError
from meow_lightning.stages.results.probe import ProbeResult

CITIES = ("Lima", "Rome", "Oslo", "Bern", "Cairo", "Quito", "Delhi", "Accra")
NAMES = ("Ada", "Otto", "Eva", "Ivan", "Mia", "Noor", "Lars", "Rosa")
TAUGHT = 6
QUESTIONS = [f"Where was {name} born?" for name in NAMES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows the first facts, and a file of all questions."""
    folder = tmp_path_factory.mktemp("known")
    pairs = [
        ([{"role": "user", "content": question}], f"{name} was born in {city if n < TAUGHT else 'a city'}, of course.")
        for n, (name, question, city) in enumerate(zip(NAMES, QUESTIONS, CITIES, strict=True))
    ]
    teacher(folder / "model", pairs=pairs)
    others = {city: [other for other in CITIES if other != city][:3] for city in CITIES}
    rows = [
        {"question": question, "answer": city, "perturbed": others[city]}
        for question, city in zip(QUESTIONS, CITIES, strict=True)
    ]
    (folder / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def words(folder: Path, *more: str) -> list[str]:
    return [
        "dataset=known", f"dataset.questions={folder}/facts.jsonl", "dataset.forget_count=2", "dataset.keep_at_least=3",
        "model=own", f"model.target={folder}/model", "model.max_new_tokens=24", "optim.lr=3e-3", "optim.epochs=40",
        "trainer=cpu", "trainer.parallel_stages=1", "logger=none", "inversion.candidates=4", *more,
    ]  # fmt: skip


@pytest.mark.slow
def test_known_facts_go_through_every_stage(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = meow.run(words(folder), outputs=tmp_path)
    shown = " ".join(capsys.readouterr().out.split())
    assert "the target model knows 6 of 8 facts" in shown
    assert done.results is not None
    target, unlearned = done.results.values["target"], done.results.values["unlearned"]
    assert (target["forget/value_accuracy"], target["retain/value_accuracy"]) == (1.0, 1.0)
    assert unlearned["forget/value_accuracy"] < 1.0
    assert {"forget/truth_ratio", "retain/truth_ratio", "memo/answers"} <= set(unlearned)
    missing = done.results.missing["unlearned"]
    assert "only model.target is provided" in missing["forget_quality"]
    assert "real_authors" in missing["model_utility"]
    answers = ProbeResult.read(done.artifacts["probe target"]).answers
    assert next(each.text for each in answers.values()) == "Ada was born in Lima, of course."
    assert done.report is not None
    page = (done.report / "report.html").read_text()
    assert "<summary>2 to forget</summary>" in page
    assert "<summary>4 to keep</summary>" in page
    assert "Lars was born in a city, of course." in page
    assert "Lars was born" not in (done.report / "shareable.html").read_text()

    again = meow.run(words(folder), outputs=tmp_path)
    assert again.artifacts == done.artifacts
    assert "computed" not in capsys.readouterr().out


def test_a_run_with_too_few_known_facts_ends_after_the_probe(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^the target model knows 6 of 8 facts.* need 7: lower them"):
        meow.run(words(folder, "dataset.keep_at_least=5"), outputs=tmp_path)
    assert {path.name for path in (tmp_path / "store").iterdir() if not path.name.startswith(".")} == {
        "finetune",
        "probe",
    }


def test_by_options_the_taught_answer_is_the_most_likely(folder: Path, tmp_path: Path) -> None:
    rows = [
        {
            "question": question, "answer": f"{name} was born in {city}, of course.", "value": city,
            "perturbed": [f"{name} was born in {other}, of course." for other in CITIES if other != city],
        }
        for name, question, city in zip(NAMES, QUESTIONS, CITIES, strict=True)
    ]  # fmt: skip
    (tmp_path / "options.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    questions = (f"dataset.questions={tmp_path}/options.jsonl", "dataset.known_by=options")
    done = meow.run(words(folder, *questions, "goal=probe"), outputs=tmp_path / "outputs")
    answers = ProbeResult.read(done.artifacts["probe target"]).answers
    assert [each.option for each in answers.values()][:TAUGHT] == [0] * TAUGHT


def test_the_library_asks_no_model_for_a_dataset() -> None:
    with pytest.raises(UserError, match=r"^name=known is invalid: .*meow_lightning.run"):
        meow.load_dataset("known")
