from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.wandb_server import Server

from meow_lightning.errors import UserError
from meow_lightning.tracking import wandb as wandb_module
from meow_lightning.tracking.base import Number, RunEnd
from meow_lightning.tracking.csv import Csv
from meow_lightning.tracking.disclosure import SHAREABLE
from meow_lightning.tracking.tracker import SyncedKeys
from meow_lightning.tracking.wandb import RunName, Wandb, has_wandb_key, unreachable_reason

UTILITY = Number("model_utility", 0.25, "higher")
KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c"
RUN = RunName(project="p", group="g", name="run", key="0123456789ab", job="unlearn", tags=("meow", "tiny"))


def wandb(folder: Path, mode: str, *, texts: bool = True, private: bool = False) -> Wandb:
    return Wandb(
        folder=folder, run=RUN, mode=mode, config={"seed": 0}, texts=texts, log_model=False, private=private
    )  # fmt: skip


def test_unknown_mode_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"logger.mode=of is invalid: expected one of auto, online, offline"):
        wandb(tmp_path, "of")


def test_a_key_is_seen_in_the_environment_and_in_netrc(tmp_path, monkeypatch, no_login):
    assert not has_wandb_key()
    (tmp_path / "netrc").write_text("machine somewhere.else\n")
    assert not has_wandb_key()
    (tmp_path / "netrc").write_text("machine api.wandb.ai\n login user\n password x\n")
    assert has_wandb_key()
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert has_wandb_key()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_wandb_records_offline_without_key_or_network_and_asks_nothing(tmp_path, monkeypatch, no_login, capsys):
    def asked(*words: object) -> str:
        raise AssertionError("asked")

    monkeypatch.setattr("builtins.input", asked)
    sink = wandb(tmp_path / "runs", "auto")
    sink.point("unlearn unlearned", {"step": 1, "loss": 3.0})
    (tmp_path / "report.html").write_text("<p>what was said</p>")
    line = sink.close(RunEnd(outcome="finished", numbers=[UTILITY], report=tmp_path))
    assert line.startswith("W&B offline; to upload: wandb sync ")
    folder = Path(line.rpartition(" ")[2])
    assert folder.is_dir()
    assert folder.is_relative_to(tmp_path / "runs")
    assert folder.name.startswith("offline-run-")
    assert folder.name.endswith("0123456789ab")
    assert [path for path in files(folder) if path.suffix == ".wandb"]


def test_the_api_key_is_in_no_file(tmp_path, monkeypatch, no_login):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    sink = wandb(tmp_path / "runs", "offline")
    sink.point("unlearn unlearned", {"step": 1, "loss": 3.0})
    sink.close(RunEnd(outcome="finished"))
    written = files(tmp_path / "runs")
    assert written
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []


def test_online_without_a_key_is_refused_before_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(
        UserError, match=r"^logger\.mode=online needs a W&B key: run `wandb login`, or set logger.mode=offline$"
    ):
        wandb(tmp_path, "online")


@pytest.fixture
def server(no_login, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with Server() as made:
        monkeypatch.setenv("WANDB_BASE_URL", made.url)
        yield made


def recorded_offline(sink: Wandb, folder: Path) -> None:
    """The run was begun offline, under the run's key, and can be uploaded."""
    assert sink.opening.endswith("; this run is recorded offline")
    assert "\n" not in sink.opening
    sink.point("unlearn unlearned", {"step": 1, "loss": 3.0})
    line = sink.close(RunEnd(outcome="finished", numbers=[UTILITY]))
    assert line.startswith("W&B offline; to upload: wandb sync ")
    made = Path(line.rpartition(" ")[2])
    assert made.parent == folder / "wandb"
    assert made.name.startswith("offline-run-")
    sys.modules["wandb"].teardown()  # writes the rest of the record, as the end of the program does
    assert b"unlearn_unlearned/loss" in (made / f"run-{RUN.key}.wandb").read_bytes()


def test_a_key_and_a_server_that_refuses_go_on_offline(server: Server, tmp_path: Path) -> None:
    server.close()
    begun = time.monotonic()
    sink = wandb(tmp_path, "auto")
    assert time.monotonic() - begun < 15
    assert sink.opening.startswith(f"W&B at {server.url} does not answer ([Errno 111] Connection refused); ")
    recorded_offline(sink, tmp_path)


def test_a_key_and_a_server_that_never_answers_go_on_offline(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_module, "PROBE_TIMEOUT", 0.5)
    server.hang = True
    sink = wandb(tmp_path, "auto")
    assert re.search(r" does not answer \((nothing within 0.5 s|timed out)\); ", sink.opening)
    recorded_offline(sink, tmp_path)


def test_a_server_that_lets_no_run_begin_leaves_the_runs_id_free(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_module, "INIT_TIMEOUT", 2.0)
    server.hang_posts = True  # what asks whether it is there gets an answer
    sink = wandb(tmp_path, "auto")
    assert sink.opening.startswith(f"W&B at {server.url} rejects the run (")
    recorded_offline(sink, tmp_path)


def test_explicit_online_mode_is_an_error_if_no_server_answers(server: Server, tmp_path: Path) -> None:
    server.close()
    with pytest.raises(UserError, match=rf"^W&B at {server.url} does not answer \(.*\); set logger.mode=offline$"):
        wandb(tmp_path, "online")


def test_an_online_run_sends_and_one_whose_network_goes_ends_in_time(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = wandb(tmp_path / "whole", "auto")
    assert sink.opening == ""
    sink.point("unlearn unlearned", {"step": 1, "loss": 3.0})
    assert sink.close(RunEnd(outcome="finished")) == f"W&B: {server.url}/e/p/runs/{RUN.key}"
    assert server.received
    monkeypatch.setattr(wandb_module, "FINISH_TIMEOUT", 2.0)
    sink = wandb(tmp_path / "cut", "auto")
    server.hang = True
    sink.point("unlearn unlearned", {"step": 1, "loss": 3.0})
    begun = time.monotonic()
    line = sink.close(RunEnd(outcome="finished"))
    assert time.monotonic() - begun < 15
    assert line.startswith("W&B did not receive all of the run within 2 s; to upload: wandb sync ")
    assert list(Path(line.rpartition(" ")[2]).glob("*.wandb"))


def test_unreachable_takes_any_status_for_an_answer(server: Server) -> None:
    assert unreachable_reason(server.url, seconds=5) is None
    server.status = 503
    assert unreachable_reason(server.url, seconds=5) is None
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    assert unreachable_reason(f"http://127.0.0.1:{port}", seconds=5) == "[Errno 111] Connection refused"


SEND = """
import sys
from pathlib import Path
from meow_lightning.tracking.base import RunEnd
from meow_lightning.tracking.wandb import RunName, Wandb
folder = Path(sys.argv[1])
run = RunName(project="p", group="g", name="run", key="0123456789ab", job="unlearn", tags=())
private = sys.argv[2] == "private"
sink = Wandb(folder=folder, run=run, mode="offline", config={}, texts=False, log_model=False, private=private)
sink.point("unlearn unlearned", {"step": 1, "loss": 3.0})
sink.close(RunEnd(outcome="finished", report=folder))
"""


@pytest.mark.parametrize("kind", ["private", "public"])
def test_neither_code_nor_command_line_nor_host_of_a_private_run_is_recorded(
    tmp_path: Path, no_login: None, kind: str
) -> None:
    secret = "zanzibarium"
    (tmp_path / "report.html").write_text(f"<p>{secret}</p>")
    (tmp_path / SHAREABLE).write_text("<p>numbers alone</p>")
    (program := tmp_path / "program.py").write_text(f"# {secret}\n{SEND}")
    for words in (["init", "-q"], ["add", "program.py"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    environment = {**os.environ, "WANDB_SAVE_CODE": "true", "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, str(program), str(tmp_path), kind, f"dataset.forget=/{secret}.jsonl"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=120)
    written = {path: path.read_bytes() for path in files(tmp_path / "wandb")}
    holding = [path.name for path, content in written.items() if secret.encode() in content]
    assert not [path for path in written if "code" in path.parts or path.suffix == ".patch"]
    assert any(b"numbers alone" in content for content in written.values())
    record = next(content for path, content in written.items() if path.suffix == ".wandb")
    assert b"unlearn_unlearned/loss" in record
    # As a length-delimited field: "vm" alone also stands in random identifiers.
    host = os.uname().nodename.encode()
    assert (bytes([len(host)]) + host in record) == (kind == "public")
    # A public run may say how it was started.
    assert holding == ([] if kind == "private" else ["run-0123456789ab.wandb"])


def test_files_of_a_private_run_are_their_owners_alone(tmp_path: Path, no_login: None) -> None:
    sink = wandb(tmp_path / "runs", "offline", private=True)
    sink.point("unlearn unlearned", {"step": 1, "loss": 3.0})
    folder = Path(sink.close(RunEnd(outcome="finished")).rpartition(" ")[2])
    Csv(folder=tmp_path / "runs", run="run", private=True).close(RunEnd(outcome="finished"))
    SyncedKeys(tmp_path / "runs" / "synced" / "synced.json", private=True).add({"a"})
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # The link to W&B's log of connections is left: runs of one process, private or not, share it, in the user's cache.
    own = [path for path in files(tmp_path) if not path.is_symlink()]
    assert len(own) > 4
    assert [path for path in own if path.stat().st_mode & 0o077] == []
