from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from helpers.common import artifact
from helpers.hub_server import TOKEN, Hub

from meow_lightning.cli.main import help_text
from meow_lightning.cli.push import GROUPS, command_of, main
from meow_lightning.config.composition import compose_options
from meow_lightning.models.pretrained_folder import METHOD
from meow_lightning.models.unlearning_layers import CORRECTIONS
from meow_lightning.report.model_card import UNKNOWN_LICENCE
from meow_lightning.stages.results.evaluate import EvaluateResult
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store
from meow_lightning.types import Definition, Results

SECRET = "zanzibarium"  # in everything about a private dataset that a card must not hold
FILES = ("config.json", "model.safetensors", "tokenizer.json")


def definition(name: str, label: str, order: int) -> Definition:
    return Definition(
        name=name, id=f"{name}.1", unit="share", direction="lower", text=f"Meaning of {label}.", label=label,
        order=order, main=True,
    )  # fmt: skip


RESULTS = Results(
    definitions=(
        definition("forget/value_accuracy", "forget value accuracy", 1), definition("memo/answers", "MEMO", 2),
    ),
    values={
        "target": {"forget/value_accuracy": 0.9, "memo/answers": 0.4},
        "unlearned": {"forget/value_accuracy": 0.125}, "retain": {"forget/value_accuracy": 0.05},
    },
    missing={"unlearned": {"memo/answers": f"the {SECRET} log has none"}},
)  # fmt: skip
INTERVALS = {"unlearned": {"forget/value_accuracy": [0.0625, 0.25]}}


def store(what: Artifact, outputs: Path, files: dict[str, str]) -> Path:
    shelf = Store(root=outputs / "store", cache="use")
    folder = shelf.begin(what)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    if what.stage == "evaluate":
        EvaluateResult(RESULTS, INTERVALS, {}).write(folder)
    shelf.finish(what, {})
    return shelf.path(what)


def run(
    outputs: Path, *words: str, public: bool = True, scratch: bool = False, method: str = "npo", more: str = ""
) -> str:
    """Store a finished run; returns the name of its report."""
    composed = compose_options([*words, f"method={method}"]).plain()
    options = {name: composed[name] for name in (*GROUPS, "seed")}
    base = replace(artifact("finetune", "base"), settings={"vocab_size": 1} if scratch else {"given": {}})
    trained = "finetune" if method in ("none", "retrain") else "unlearn"
    unlearned, numbers = artifact(trained, "unlearned", base), artifact("evaluate", "results")
    settings = {
        "name": "run-s0", "options": options, "origin": {}, "public": public, "notes": [f"of {SECRET}"],
        "disclaimer": None if public else f"for the {SECRET} bank",
    }  # fmt: skip
    report = replace(artifact("report", "", unlearned, numbers, base), settings=settings)
    store(base, outputs, {"model/config.json": "{}"})
    store(unlearned, outputs, {f"model/{name}": name for name in (*FILES, *filter(None, (more,)), "notes.pkl")})
    store(numbers, outputs, {})
    store(report, outputs, {})
    name = f"run-s0-{report.key[:6]}"
    (outputs / "reports" / name).mkdir(parents=True)
    return str(outputs / "reports" / name)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub on this machine, and a token for it."""
    with Hub() as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
        yield server


@pytest.mark.parametrize("method", ["none", "retrain"])
def test_a_run_that_unlearns_nothing_has_nothing_to_push(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = run(tmp_path / "outputs", "dataset=tofu", "model=tiny", method=method)
    assert main([name, "ada/forgot", "--dry-run"]) == 1
    assert f"has no unlearned model: method={method} unlearns nothing" in capsys.readouterr().err


def test_the_model_arrives_with_its_card_and_nothing_else(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = run(tmp_path / "outputs", "dataset=tofu", "model=tiny", more=CORRECTIONS)
    assert main([name, "ada/forgot", "--private"]) == 0
    said = capsys.readouterr()
    assert said.out == f"4 files pushed: {hub.url}/ada/forgot\n"
    assert TOKEN not in said.out + said.err
    assert hub.tokens - {""} == {TOKEN}
    assert hub.private == {"ada/forgot": True}
    sent = hub.files["ada/forgot"]
    assert {each: sent[each].decode() for each in FILES} == {each: each for each in FILES}
    assert sent.keys() == {*FILES, "README.md"}, "neither Gram matrices nor pickles"
    record = json.loads(next((tmp_path / "outputs" / "runs" / "pushed").glob("*.json")).read_text())
    assert record["repository"] == "ada/forgot"


def test_the_card_states_numbers_intervals_definitions_settings_and_limits(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.licences["HuggingFaceTB/SmolLM2-135M-Instruct"] = "apache-2.0"
    assert main([run(tmp_path, "model=smollm2_135m_instruct", "seed=3"), "ada/forgot", "--dry-run"]) == 0
    card = capsys.readouterr().out
    assert hub.files == {}, "a dry run sends nothing"
    metadata = huggingface_hub.ModelCard(card).data
    assert (metadata.license, metadata.base_model) == ("apache-2.0", "HuggingFaceTB/SmolLM2-135M-Instruct")
    assert {"machine-unlearning", "npo", "tofu"} <= set(metadata.tags)
    assert "| forget value accuracy | ↓ | 0.900 | 0.125<br>0.062 to 0.250 | 0.050 |" in card
    assert "| MEMO | ↓ | 0.400 | — not measured | — not measured |" in card
    assert "- **forget value accuracy** (share): Meaning of forget value accuracy." in card
    assert "**Unlearning is no proof of deletion.**" in card
    assert "method=npo" in card
    assert "seed=3" in card
    assert "| optim.betas | `[0.9, 0.999]` |" in card
    assert "The base model is under `apache-2.0`" in card
    assert card.endswith(
        "config.json (11 B)\nmodel.safetensors (17 B)\ntokenizer.json (14 B)\n"
        "nothing was sent; without --dry-run, 4 files go to ada/forgot\n"
    )


def private_run(tmp_path: Path, **more: Any) -> str:
    folder = tmp_path / f"{SECRET}-model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (tmp_path / f"{SECRET}.jsonl").write_text('{"question": "Who?", "answer": "Ada."}\n')
    return run(
        tmp_path / "outputs", "dataset=jsonl", f"dataset.forget={tmp_path}/{SECRET}.jsonl", f"model.target={folder}",
        f"model.prompt.template=the {SECRET} bank: {{question}}", public=False, **more,
    )  # fmt: skip


def test_a_card_of_private_facts_names_neither_texts_nor_paths(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = private_run(tmp_path)
    (tmp_path / f"{SECRET}-model" / "README.md").write_text("---\nlicense: mit\n---\n")
    assert main([name, "ada/forgot"]) == 0
    card = hub.files["ada/forgot"]["README.md"].decode()
    assert SECRET not in card
    assert str(tmp_path) not in card
    assert huggingface_hub.ModelCard(card).data.license == "mit"
    assert "The dataset is private" in card
    assert "dataset=jsonl dataset.forget=FILE" in card
    assert capsys.readouterr().out.startswith("note: its weights were trained on private facts")
    pushed = tmp_path / "outputs" / "runs" / "pushed"
    assert [path for path in (pushed, *pushed.iterdir()) if path.stat().st_mode & 0o077] == []


def test_an_unknown_licence_is_said_to_be_unknown(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([private_run(tmp_path), "ada/forgot", "--dry-run"]) == 0
    card = capsys.readouterr().out
    assert UNKNOWN_LICENCE in card
    assert "license:" not in card


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert TOKEN not in said.err
    return said.err


def test_every_failure_of_the_hub_is_one_line(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = run(tmp_path / "outputs", "model=tiny")
    hub.files["ada/taken"] = {"README.md": b"old"}
    assert "ada/taken exists already at" in fails(capsys, name, "ada/taken")
    assert hub.files["ada/taken"] == {"README.md": b"old"}
    assert main([name, "ada/taken", "--update"]) == 0
    assert hub.files["ada/taken"].keys() == {*FILES, "README.md"}
    capsys.readouterr()
    hub.broken["/commit/main"] = 413
    assert "HTTP 413" in (half := fails(capsys, name, "ada/half"))
    assert "the same command with --update completes it" in half
    hub.broken = {"/create": 401}
    assert "rejects the token (HTTP 401); it needs a token that may write to ada" in fails(capsys, name, "ada/new")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "the hub at http://127.0.0.1:9 does not answer" in fails(capsys, name, "ada/new")
    monkeypatch.delenv("HF_TOKEN")
    assert "needs a token that may write to ada: run `hf auth login`, or set HF_TOKEN" in fails(capsys, name, "ada/new")


def test_a_model_that_would_not_be_the_unlearned_one_elsewhere_is_refused(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "method=uld answers only through this method" in fails(
        capsys, run(tmp_path / "uld", method="uld", more=METHOD), "ada/forgot"
    )
    assert "its tokenizer was trained on the private facts" in fails(
        capsys, private_run(tmp_path, scratch=True), "ada/forgot"
    )
    assert hub.files == {}


@pytest.mark.parametrize("repository", ["forgot", "ada/for got", "a/b/c"])
def test_a_name_that_no_hub_allows_is_invalid(
    repository: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"REPOSITORY={repository} is invalid: expected owner/name" in fails(capsys, "run", repository)


def test_the_command_of_a_public_run_composes_to_the_same_options() -> None:
    words = [
        "model=tiny",
        "dataset=fictional",
        "dataset.split=forget05",
        "method=npo",
        "memo.stride=7",
        "optim.lr=2e-5",
    ]
    made = compose_options(words)
    options = {name: made.plain()[name] for name in (*GROUPS, "seed")}
    command = command_of({"options": options, "origin": {}, "public": True})
    assert command.startswith("meow-lightning dataset=fictional model=tiny method=npo ")
    assert compose_options(command.split()[1:]).plain() == made.plain()


def test_the_help_lists_it() -> None:
    assert "|push|" in help_text()
