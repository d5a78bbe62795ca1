from __future__ import annotations

import json
import socket
import sys

import pytest

from meow_lightning.cli.dashboard import answering_attacks, main
from meow_lightning.cli.main import main as program


def test_a_dry_run_prints_the_specification_without_key_network_or_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def connected(*unused: object) -> None:
        raise AssertionError("connected")

    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr(socket.socket, "connect", connected)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    words = ["dashboard", "--entity", "e", "--project", "p", "--group", "tiny_methods", "--report", "--dry-run"]
    assert program(words) == 0
    printed = json.loads(capsys.readouterr().out)
    kept = ("kind", "entity", "project", "group", "groupby")
    assert [printed[name] for name in kept] == ["report", "e", "p", "tiny_methods", "method.name"]
    plane = printed["sections"][0]["panels"][0]
    assert plane == {
        "kind": "scatter", "title": "TOFU plane: utility against forget quality", "x": "model_utility",
        "numbers": ["forget_quality/log10_p"], "options": [],
    }  # fmt: skip


def test_attacks_that_only_look_or_search_have_no_panel_of_answers() -> None:
    found = answering_attacks()
    assert {"relearn", "quantise_int4", "prefix", "multiple_choice"} <= set(found)
    assert not {"logit_lens", "activation_patching", "sample", "instruction", "quick"} & set(found)


def test_a_missing_key_is_one_line_and_ends_non_zero(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert main(["--entity", "e", "--project", "p"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: meow-lightning dashboard needs a W&B key: run `wandb login`, or use --dry-run\n"


def test_entity_and_project_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--project", "p"])
    assert "--entity" in capsys.readouterr().err
