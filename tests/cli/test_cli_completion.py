from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from meow_lightning.cli.completion import completion_file, completion_script
from meow_lightning.cli.main import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "shell", "file"),
    [
        ([], "bash", ".local/share/bash-completion/completions/meow-lightning"),
        (["zsh"], "zsh", ".local/share/meow-lightning/completion.zsh"),
        (["=fish"], "fish", ".config/fish/completions/meow-lightning.fish"),
    ],
)
def test_the_script_is_written_once_and_nothing_else(words, shell, file, home: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/bash")
    command = (
        [f"--install-completion{words[0]}"] if words and words[0].startswith("=") else ["--install-completion", *words]
    )
    assert main(command) == 0
    first = capsys.readouterr().out
    assert first.startswith(f"written: {home / file}\n")
    assert [path for path in home.rglob("*") if path.is_file()] == [home / file]
    before = (home / file).stat().st_mtime_ns
    assert main(command) == 0
    assert capsys.readouterr().out == first.replace("written:", "already installed:")
    assert (home / file).stat().st_mtime_ns == before
    assert (home / file).read_text() == completion_script(shell)


def test_scripts_are_for_the_installed_command(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py"])
    assert "complete -o nospace -o default -F hydra_bash_completion meow-lightning" in completion_script("bash")
    assert completion_script("zsh").splitlines()[0].endswith("bashcompinit")
    assert "complete -c meow-lightning " in completion_script("fish")
    assert sys.argv == ["run.py"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_the_choices_of_an_option(home: Path) -> None:
    assert main(["--install-completion", "bash"]) == 0
    program = home / "bin" / "meow-lightning"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m meow_lightning.cli "$@"\n')
    program.chmod(0o755)
    script = (
        f'source "{completion_file("bash")}"; COMP_LINE="meow-lightning method=simn" COMP_POINT=26 COMP_CWORD=1; '
        'hydra_bash_completion; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, cwd=home, env=environment, check=False
    )
    assert done.stdout.split() == ["method=simnpo"], done.stderr


@pytest.mark.parametrize("shell", ["tcsh", "zhs"])
def test_another_shell_is_one_line(shell: str, home: Path, capsys) -> None:
    assert main(["--install-completion", shell]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: --install-completion={shell} is invalid: expected one of bash, zsh, fish")
    assert (shown.out, len(shown.err.splitlines())) == ("", 1)
    assert not any(home.iterdir())


def test_a_file_that_cannot_be_written_is_one_line(home: Path, capsys) -> None:
    (home / ".local").write_text("a file where a folder should be")
    assert main(["--install-completion", "bash"]) == 1
    assert " cannot be written (Not a directory)" in capsys.readouterr().err
