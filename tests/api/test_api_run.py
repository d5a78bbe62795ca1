from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import meow_lightning as meow


@pytest.mark.parametrize("word", ["-m", "sweep=tiny_methods", "plan=true", "status=true", "sede=1", "seed=-1"])
def test_what_starts_no_single_run_is_refused(word: str, tmp_path: Path) -> None:
    with pytest.raises(meow.UserError, match=word.partition("=")[0]):
        meow.run([word], outputs=tmp_path)


def test_a_run_that_stops_early_has_neither_model_nor_report(tmp_path: Path) -> None:
    run = meow.run(["debug=fast", "goal=propose", "logger=none", "trainer.parallel_stages=1"], outputs=tmp_path / "a b")
    assert (run.results, run.model, run.report) == (None, None, None)
    assert {name.split()[0] for name in run.artifacts} == {"propose"}
    assert all((folder / "replies.jsonl").is_file() for folder in run.artifacts.values())


def test_a_script_of_two_lines_runs_stages_in_helper_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import meow_lightning as meow\n"
        "run = meow.run(['debug=fast', 'goal=propose', 'logger=none', 'trainer.parallel_stages=2'], outputs='out')\n"
        "print('artifacts', *run.artifacts)\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(meow.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("artifacts propose") == 1
