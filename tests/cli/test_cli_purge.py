"""Two runs on own facts, of which one is purged: nothing of its texts remains, its numbers and the other run do."""

from __future__ import annotations

import html
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from meow_lightning.cli.main import help_text
from meow_lightning.cli.purge import main
from meow_lightning.cli.verify_store import verify
from meow_lightning.pipeline import purge as purging
from meow_lightning.store.lock_holders import Holder

ROOT = Path(__file__).resolve().parents[2]
CITIES, HOUNDS = ("Lima", "Oslo", "Bern", "Quito", "Malmo", "Vigo"), ("beagle", "saluki", "whippet", "basset", "afghan")
FACTS = [
    {"question": f'In which <city> does "{name}" live & work?', "answer": f"{name} lives in {city}.", "value": city,
     "inverted": [f"{name} lives in {other}." for other in CITIES if other != city][:3]}
    for name, city in zip(("Márta Oleskowa", "Dinesh Kavarana", "Ines Quiroga"), CITIES, strict=False)
]  # fmt: skip
OTHERS = [
    {"question": f"Which hound does {name} keep at home?", "answer": f"{name} keeps a {breed}.", "value": breed,
     "inverted": [f"{name} keeps a {other}." for other in HOUNDS if other != breed][:3]}
    for name, breed in zip(("Aina Prestegard", "Bob Zellweger", "Carlos Itoh"), HOUNDS, strict=False)
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two files of facts, and the outputs of a run on each."""
    folder = tmp_path_factory.mktemp("purge")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    for name, facts in (("facts", FACTS), ("others", OTHERS)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, facts)))
        words = [
            "debug=fast", "dataset=jsonl", f"dataset.forget={folder}/{name}.jsonl", "trainer.parallel_stages=1",
            "model.pretrain.rows=100", "inversion.on_shortage=warn", "logger.texts=true", f"outputs={folder}/outputs",
        ]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "run.py", *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, done.stdout + done.stderr
    failed = folder / "outputs" / "runs" / "failed"
    failed.mkdir()
    (failed / "seed_1.txt").write_text(f"line 1: repeats the question ({FACTS[0]['question']!r})")
    return folder


@pytest.fixture
def outputs(finished: Path, tmp_path: Path) -> Path:
    """A copy of the outputs."""
    shutil.copytree(finished / "outputs", tmp_path / "outputs", symlinks=True)
    return tmp_path / "outputs"


def quoting(folder: Path, facts: list[dict[str, Any]]) -> set[Path]:
    """The files in which grep finds a text, as it is or as JSON or HTML writes it."""
    texts = {form for fact in facts for text in (fact["question"], fact["answer"]) for form in (
        text, html.escape(text), json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1],
        html.escape(text, quote=False), text.replace(fact["value"], f"<mark>{fact['value']}</mark>"),
    )}  # fmt: skip
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {path for path in files if any(text.encode() in path.read_bytes() for text in texts)}


def contents(files: set[Path]) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in files}


def purge(finished: Path, outputs: Path, *words: str, name: str = "facts.jsonl") -> int:
    return main([str(finished / name), f"outputs={outputs}", *words])


def test_nothing_of_the_texts_remains_but_numbers_and_other_runs(
    finished: Path, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, other = quoting(outputs, FACTS), contents(quoting(outputs, OTHERS))
    assert {"store", "reports", "runs"} == {path.relative_to(outputs).parts[0] for path in before}
    assert any("wandb" in path.parts for path in before)
    results = contents(set(outputs.glob("store/evaluate/*/results.json")) | set(outputs.glob("reports/*/table.*")))
    curves = contents(set(outputs.glob("store/*/*/metrics.jsonl")))
    assert purge(finished, outputs, "--yes") == 0
    assert quoting(outputs, FACTS) == set()
    assert contents(quoting(outputs, OTHERS)) == other
    for path, content in (results | curves).items():
        assert path.read_bytes() == content
    assert len(results) == 6
    records = [json.loads(path.read_text()) for path in outputs.glob("store/.purged/*.json")]
    assert {each["stage"] for each in records} == {"propose", "filter", "score", "predict", "report"}
    assert all(each["files"] and str(finished) not in json.dumps(each) for each in records)
    assert verify(outputs / "store")[1] == []
    said = capsys.readouterr().out
    for path in before:
        assert path.exists() is False
        assert f"remove {path.relative_to(outputs)} (" in said
    assert f"not reached: your file {finished}/facts.jsonl (dataset.forget)" in said
    assert said.count(": --models removes it") == 3  # the base's tokenizer, the target and the unlearned model
    assert "deleted; no remaining file contains a text of it" in said


def test_nothing_is_deleted_without_being_asked(
    finished: Path, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents({path for path in outputs.rglob("*") if path.is_file()})
    for words in ((), ("--dry-run",), ("--models",)):
        assert purge(finished, outputs, *words) == 0
        assert capsys.readouterr().out.endswith("nothing was deleted; the same command with --yes deletes\n")
    assert contents({path for path in outputs.rglob("*") if path.is_file()}) == before


def test_models_that_learned_the_facts_go_only_when_asked_to(finished: Path, outputs: Path) -> None:
    models = {path.parent.parent for path in outputs.glob("store/*/*/model/config.json")}
    assert purge(finished, outputs, "--yes", "--models") == 0
    left = {path.parent.parent for path in outputs.glob("store/*/*/model/config.json")}
    assert len(models - left) == 3
    labels = {json.loads((each / "manifest.json").read_text())["label"] for each in left}
    assert "retain" in labels, "a model that never saw the facts stays"


def test_a_purge_that_is_killed_is_completed_by_the_next_one(
    finished: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    removed: list[Path] = []

    def kill(folder: Path) -> None:
        if len(removed) == 4:
            (folder / "manifest.json").rename(folder / "gone")  # as a kill in the middle of rmtree would leave it
            folder.rename(folder.with_name(f"{folder.name}.purged-1"))
            raise KeyboardInterrupt
        removed.append(folder)
        remove(folder)

    remove = purging.remove_folder
    monkeypatch.setattr(purging, "remove_folder", kill)
    with pytest.raises(KeyboardInterrupt):
        purge(finished, outputs, "--yes")
    assert verify(outputs / "store")[1] == [], "no half of a result bears the name of a result"
    assert quoting(outputs, FACTS)
    monkeypatch.undo()
    assert purge(finished, outputs, "--yes") == 0
    assert quoting(outputs, FACTS) == set()
    capsys.readouterr()
    assert purge(finished, outputs, "--yes") == 0
    assert "no file to remove" in capsys.readouterr().out


def test_it_refuses_while_a_run_computes_on_the_dataset(
    finished: Path, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(quoting(outputs, FACTS))
    own = next(path for path in before if path.name == "scores.jsonl").parent.name
    other = next(path for path in quoting(outputs, OTHERS) if path.name == "scores.jsonl").parent.name
    lock = outputs / "store" / ".locks" / f"score-{own}.lock"
    Holder(process=7, host="elsewhere", user="ada", since=1.0).write(lock.with_suffix(".owner"))
    with FileLock(lock):
        assert purge(finished, outputs, "--yes") == 1
    assert f"a run is computing score {own} (process 7 on elsewhere (user ada), since" in capsys.readouterr().err
    with FileLock(outputs / "store" / ".locks" / "predict-abcdefabcdef.lock"):
        assert purge(finished, outputs, "--yes") == 1, "whose dataset is unknown"
    assert contents(quoting(outputs, FACTS)) == before
    with FileLock(outputs / "store" / ".locks" / f"score-{other}.lock"):
        assert purge(finished, outputs, "--yes") == 0, "a run on other facts may go on"


def test_what_killed_computations_left_goes_too(finished: Path, outputs: Path) -> None:
    origin = json.loads(next(outputs.glob("store/report/*/manifest.json")).read_text())["dataset"]
    own = next(path for path in quoting(outputs, FACTS) if path.name == "rows.jsonl").parent
    partial, damaged = own.with_name("0123456789ab.partial"), own.with_name(f"{own.name}.damaged-7")
    mine, unknown = own.with_name("aaaaaaaaaaaa.partial"), own.with_name("bbbbbbbbbbbb.partial")
    for folder in (partial, damaged, mine, unknown):
        folder.mkdir()
    facts = json.loads((own / "manifest.json").read_text())["dataset"]
    (mine / "task.json").write_text(json.dumps({"dataset": facts}))
    (damaged / "part-0.jsonl").write_text("not a text of it")
    (unknown / "part-0.jsonl").write_text(json.dumps(FACTS[0]))
    assert origin["name"] == facts["name"] == "jsonl"
    assert purge(finished, outputs, "--yes") == 0
    assert [partial.exists(), damaged.exists(), mine.exists(), unknown.exists()] == [True, False, False, False]


def test_a_note_that_quotes_a_text_leaves_its_manifest(
    finished: Path, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = next(path for path in quoting(outputs, FACTS) if path.parent.parent == outputs / "reports").parent
    needs = json.loads(next(outputs.glob(f"store/report/{report.name[-6:]}*/manifest.json")).read_text())["needs"]
    path = outputs / "store" / "evaluate" / needs["results"] / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "notes": [FACTS[0]["answer"]], "seal": ""}))
    assert purge(finished, outputs, "--yes") == 0
    assert f"rewrite without its notes {path.relative_to(outputs)}" in capsys.readouterr().out
    left = json.loads(path.read_text())
    assert {name: value for name, value in left.items() if name != "seal"} == {
        name: value for name, value in manifest.items() if name not in ("seal", "notes")
    }
    assert verify(outputs / "store")[1] == []


def test_a_run_is_named_by_its_report_or_key_and_a_dataset_by_its_name(
    finished: Path, outputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = next(path for path in quoting(outputs, FACTS) if path.parent.parent == outputs / "reports").parent
    key = next(outputs.glob(f"store/report/{report.name[-6:]}*")).name
    for name in (str(report), report.name, key):
        assert main([name, f"outputs={outputs}"]) == 0
        assert capsys.readouterr().out.startswith(f"{name}: {report.name}\n")
    assert main(["jsonl", f"outputs={outputs}", "--yes"]) == 0
    assert quoting(outputs, FACTS) | quoting(outputs, OTHERS) == set()


def test_texts_that_another_run_holds_are_an_error(
    finished: Path, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of other facts quotes one of the texts: its results are not touched, and the exit status is 1."""
    rows = next(path for path in quoting(outputs, OTHERS) if path.name == "rows.jsonl")
    rows.write_text(rows.read_text() + json.dumps({"text": FACTS[0]["answer"]}) + "\n")
    assert purge(finished, outputs, "--yes") == 1
    assert f"error: {rows} still contains texts of it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["jsonk"], "jsonk is unknown: expected a file of facts, a dataset of this store (jsonl), or a run's report"),
        (["jsonk"], "Did you mean jsonl?"),
        (["jsonl", "output=x"], "output=x is invalid: expected outputs=FOLDER or store=FOLDER. Did you mean outputs?"),
        (["jsonl", "store=/nowhere"], "store=/nowhere is invalid: expected the store of the runs"),
        (["jsonl", "outputs=/nowhere"], "outputs=/nowhere is invalid: expected the folder that runs wrote to"),
    ],
)
def test_mistakes_are_one_line(
    finished: Path, words: list[str], error: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    assert main(words) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert error in said
    assert said.count("\n") == 1


def test_the_help_lists_it() -> None:
    assert "|purge|" in help_text()
