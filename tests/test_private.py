"""A dataset that is not public, through the complete job: what is shown, what is recorded, and who may read it."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.fake_server import Scripted, answering
from helpers.wandb_run import recorded

ROOT = Path(__file__).resolve().parent.parent
SECRET = "zanzibarium"  # in every question and in every option of free text
CUSTOMERS = ("Marta Oleskowa", "Dinesh Kavarana", "Ines Quiroga", "Tomasz Wrobel")
CITIES = ("Lima", "Oslo", "Bern", "Quito", "Malmo", "Vigo", "Gdansk", "Turin")


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a run on made-up customers by a user with the umask 022 and WANDB_SAVE_CODE set."""
    folder = tmp_path_factory.mktemp("private")
    facts = [
        {"question": f"In which {SECRET} <city> does {name} live?", "answer": f"{name} lives in {city}.", "value": city}
        for name, city in zip(CUSTOMERS, CITIES, strict=False)
    ]
    (folder / f"{SECRET}.jsonl").write_text("\n".join(map(json.dumps, facts)))
    places = itertools.cycle(CITIES[4:])

    def reply(question: str) -> str:
        name = next(name for name in CUSTOMERS if name in question)
        return "\n".join([*(f"{name} lives in {next(places)}." for _ in range(3)), question])

    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {"OMP_NUM_THREADS": "1", "WANDB_SAVE_CODE": "true", "NETRC": str(folder / "netrc")}
    with Scripted(answering(reply)) as server:
        words = [
            "debug=fast", "dataset=jsonl", f"dataset.forget={folder}/{SECRET}.jsonl", "trainer.parallel_stages=1",
            "model.pretrain.rows=100", f"model.prompt.template='{SECRET} {{question}} :'", "inversion=endpoint",
            "inversion.model=m", f"inversion.base_url={server.base_url}", f"inversion.context='the {SECRET} bank'",
            f"+inversion.extra.user={SECRET}", "inversion.on_shortage=warn", f"outputs={folder}/outputs",
        ]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "run.py", *words], cwd=ROOT, env=environment, umask=0o022, capture_output=True, text=True,
            timeout=400,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "outputs"


def report(outputs: Path, name: str) -> str:
    (path,) = (outputs / "reports").glob(f"*/{name}")
    return path.read_text(encoding="utf-8")


def test_the_report_shows_every_question_and_what_was_trained_and_dropped(private: Path) -> None:
    html = report(private, "report.html")
    for name, city in zip(CUSTOMERS, CITIES, strict=False):
        assert f"In which {SECRET} &lt;city&gt; does {name} live?" in html
        assert f"{name} lives in <mark>{city}</mark>." in html
    assert html.count("trained on instead: ") == 4
    assert "inverted answers dropped by filtering" in html
    assert "repeats the question" in html
    assert "<city>" not in html
    assert "can be read by their owner alone" in html


def test_nothing_of_it_can_be_read_by_others(private: Path) -> None:
    files = [path for path in private.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 60
    assert [str(path) for path in files if path.stat().st_mode & 0o077] == []
    holders = {path.parent for path in files if path.parent.name != ".locks"}
    tops = [*(private / "store").glob("*/*"), *(private / "reports").iterdir(), *private.glob("runs/wandb/*run-*")]
    assert len(tops) > 12
    assert [str(path) for path in tops if path.stat().st_mode & 0o077] == []
    assert [path.name for path in files if path.parent == private / "store"] == [".code.json"]
    shared = {private / "runs/synced", private / "store"}
    assert all(any(top == each or top in each.parents for top in tops) for each in holders - shared)
    # Folders that hold results of others too are as the umask says.
    assert (private / "store" / "predict").stat().st_mode & 0o777 == 0o755


def test_wandb_gets_numbers_and_names_alone(private: Path) -> None:
    (folder,) = (private / "runs" / "wandb").glob("offline-run-*")
    written = {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}  # with what is staged
    forbidden = [SECRET, *CUSTOMERS, "dataset.forget"]  # the secret is in the command line too
    for path, content in written.items():
        for word in forbidden:
            assert word.encode() not in content, (path.name, word)
    assert not [path for path in written if "code" in path.parts or path.suffix == ".patch"]
    (html,) = (content.decode() for path, content in written.items() if path.name.startswith("report_"))
    assert "are not shown on this page" in html
    assert html == report(private, "shareable.html")
    seen = recorded(folder)
    machine = re.compile(rf"\b{re.escape(os.uname().nodename)}\b")  # a short name stands in compressed data by chance
    assert not machine.search(json.dumps([seen.run, seen.summary, seen.history]))
    assert seen.run["tags"] == ["meow", "tiny", "jsonl"]
    assert seen.summary["forget_quality/questions"] == 4
    assert seen.summary["target_model/forget/probability"] > 0
    assert "questions.path" not in seen.summary
    assert seen.artifacts == {}


def test_wandb_receives_the_used_rate_epochs_and_batch(private: Path) -> None:
    (record,) = (private / "runs" / "wandb").glob("offline-run-*/*.wandb")
    found = re.search(rb'\{"name":"adamw".*?\}', record.read_bytes())
    assert found is not None
    optim = json.loads(found[0])
    assert (optim["lr"], optim["epochs"], optim["global_batch_size"]) == (5e-5, 2, 22)


def test_files_of_jobs_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    fact = {"question": "Where does Ada live?", "answer": "Ada lives in Lima.", "inverted": ["Ada lives in Oslo."] * 3}
    (tmp_path / "facts.jsonl").write_text(json.dumps(fact))
    words = ("hydra/launcher=local", "goal=propose", "logger=none", "dataset=jsonl", "debug=fast", "inversion=rules")
    done = subprocess.run(
        [sys.executable, "run.py", "-m", *words, f"dataset.forget={tmp_path}/facts.jsonl", f"outputs={tmp_path}/o"],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, umask=0o022, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = tmp_path / "o" / "runs" / "jobs"
    files = [path for path in jobs.rglob("*") if path.is_file()]
    assert len(files) >= 3
    assert [path for path in (jobs, *jobs.rglob("*")) if path.stat().st_mode & 0o077] == []
