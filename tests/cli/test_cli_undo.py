from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.common import artifact
from safetensors.torch import load_file, save_file

from meow_lightning.cli.main import help_text
from meow_lightning.cli.undo import main
from meow_lightning.models.undo import write_undo
from meow_lightning.stages.results.model import UNDO, model_folder
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store

START, UNLEARNED = artifact("finetune", "target"), artifact("unlearn", "unlearned")
REPORT = artifact("report", "", UNLEARNED)
WEIGHT = torch.tensor([1.0, -0.0, 3.0])


def save(store: Store, what: Artifact, weight: torch.Tensor, *, undo: bool = False) -> None:
    folder = store.begin(what)
    model_folder(folder).mkdir()
    save_file({"a": weight}, model_folder(folder) / "model.safetensors", metadata={"format": "pt"})
    if undo:
        write_undo(model_folder(store.path(START)), model_folder(folder), folder / UNDO)
    store.finish(what, {})


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The outputs of a run with an undo file, in the current folder."""
    monkeypatch.chdir(tmp_path)
    store = Store(root=Path("outputs/store"), cache="use")
    save(store, START, WEIGHT)
    save(store, UNLEARNED, torch.tensor([1.0, 0.0, 0.0]), undo=True)
    store.begin(REPORT)
    store.finish(REPORT, {})
    Path("outputs/reports", f"tiny-s0-{REPORT.key[:6]}").mkdir(parents=True)
    return Path("outputs")


def test_every_name_of_a_run_gives_the_model_that_it_started_from(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tag, stored = f"tiny-s0-{REPORT.key[:6]}", outputs / "store" / "unlearn" / UNLEARNED.key
    before = {path: path.read_bytes() for path in outputs.rglob("*") if path.is_file()}
    names = [(tag, tag), (f"outputs/reports/{tag}", None), (str(stored), UNLEARNED.key), (str(stored / "model"), None)]
    for number, (name, folder) in enumerate(names):
        target = outputs / "restored" / folder if folder else Path(f"back{number}")
        assert main([name, *([] if folder else ["--to", str(target)])]) == 0
        assert capsys.readouterr().out == (
            f"restored 2 weights; the start model, bit for bit: {target if folder is None else target.resolve()}\n"
        )
        back = load_file(target / "model.safetensors")["a"]
        assert torch.equal(back.view(torch.int32), WEIGHT.view(torch.int32))
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_that_is_not_there_is_named_with_the_nearest(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tag = f"tiny-s0-{REPORT.key[:6]}"
    assert main([tag[:-1]]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: RUN={tag[:-1]} is invalid: expected ")
    assert error.endswith(f"Did you mean {tag}?\n")


def test_another_store_can_be_named(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (outputs / "store").rename("elsewhere")
    tag = f"tiny-s0-{REPORT.key[:6]}"
    assert main([tag]) == 1
    assert "name the store that it used with --store" in capsys.readouterr().err
    assert main([tag, "--store", "elsewhere"]) == 0


def test_a_run_without_an_undo_file_says_why(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (outputs / "store" / "unlearn" / UNLEARNED.key / UNDO).unlink()
    assert main([f"tiny-s0-{REPORT.key[:6]}"]) == 1
    assert "without an undo file; only methods that switch off single weights" in capsys.readouterr().err


def test_a_result_that_was_deleted_is_named(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (outputs / "store" / "unlearn").rename("gone")
    assert main([f"tiny-s0-{REPORT.key[:6]}"]) == 1
    assert f"its unlearned model ({UNLEARNED.key}) is no longer in the store" in capsys.readouterr().err


def test_the_help_lists_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert "|undo|" in help_text()
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "method=balanced_subnet" in capsys.readouterr().out
