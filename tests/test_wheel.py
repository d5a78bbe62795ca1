"""The package as people install it: a wheel in a folder of its own, used where there is no checkout."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = {"memo": "meow_lightning.memo", "evaluate": "meow_lightning.evaluation"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, f"--wheel-dir={folder}", str(ROOT)], check=True, timeout=120)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the package and its script, inside the git repository of another project."""
    project = tmp_path_factory.mktemp("project")
    git = ["git", "-C", str(project), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message=other"], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, f"--target={project / 'packages'}", str(wheel)], check=True, timeout=120)
    return project / "packages"


@pytest.fixture
def call(installed: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs a command in an empty folder with the installed package alone; gives what it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(installed)}

    def run(*words: str) -> str:
        program = {"meow-lightning": str(installed / "bin" / "meow-lightning"), "python": sys.executable}[words[0]]
        done = subprocess.run(
            [program, *words[1:]], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=170,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_wheel_holds_every_configuration_file_template_and_one_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"meow_lightning/{path.relative_to(ROOT)}"
        for folder in ("conf", "experiments")
        for path in (ROOT / folder).rglob("*.yaml")
    }
    assert len(wanted) > 50
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "meow_lightning" / "report" / "templates").iterdir()}
    assert {f"meow_lightning/report/templates/{name}" for name in ("report.html", "page.css", "page.js")} <= templates
    wanted |= {f"meow_lightning/data/tofu_values.{ending}" for ending in ("json", "LICENSE")}
    assert wanted | templates <= names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"meow_lightning"}


def test_the_installed_package_is_the_one_that_runs(call: Callable[..., str], installed: Path) -> None:
    code = "import meow_lightning.config.files as files; print(files.__file__, files.CONF, files.EXPERIMENTS)"
    package = installed / "meow_lightning"
    assert call("python", "-c", code).split() == [
        str(package / "config" / "files.py"), str(package / "conf"), str(package / "experiments"),
    ]  # fmt: skip


def test_help_names_the_installed_command(call: Callable[..., str]) -> None:
    said = call("meow-lightning", "--help")
    assert "  meow-lightning method=" in said
    assert "run.py" not in said
    assert "tiny_ascent" in said


@pytest.mark.parametrize(
    "words",
    [
        ("debug=fast",), ("-m", "method=meow,none", "debug=fast"), ("sweep=tiny_ascent", "debug=fast"),
        ("hydra/launcher=slurm", "-m", "seed=0,1"),
    ],
)  # fmt: skip
def test_plans_work_without_a_checkout_and_leave_nothing(
    call: Callable[..., str], tmp_path: Path, words: tuple[str, ...]
) -> None:
    assert "finetune" in call("meow-lightning", "plan=true", *words)
    assert list(tmp_path.iterdir()) == []


def test_a_method_in_a_folder_of_ones_own_can_be_run(call: Callable[..., str], tmp_path: Path) -> None:
    page = (ROOT / "docs" / "extend" / "method.md").read_text(encoding="utf-8")
    code, config, target = re.findall(r"```(?:python|yaml) title=\S+\n(.*?)```", page, re.DOTALL)
    (tmp_path / "bounded_ascent.py").write_text(code, encoding="utf-8")
    (tmp_path / "conf" / "method").mkdir(parents=True)
    own = re.sub(r"^_target_: .*\n", target, config, flags=re.MULTILINE)
    (tmp_path / "conf" / "method" / "bounded_ascent.yaml").write_text(own, encoding="utf-8")
    (command,) = re.findall(r"^python -m .*bounded_ascent$", page, re.MULTILINE)
    call(*shlex.split(command), "debug=fast", "logger=none", "goal=unlearn")
    (manifest,) = (tmp_path / "outputs" / "store" / "unlearn").glob("*/manifest.json")
    assert "bounded_ascent.BoundedAscent" in manifest.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MODULES)
def test_subcommands_name_themselves_as_they_were_started(call: Callable[..., str], name: str) -> None:
    assert call("meow-lightning", name, "--help").startswith(f"usage: meow-lightning {name} ")
    assert call("python", "-m", MODULES[name], "--help").startswith(f"usage: python -m {MODULES[name]} ")


def test_an_empty_store_is_whole(call: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    assert call("meow-lightning", "verify-store", "store") == "0 results, 0 damaged\n"


def test_a_small_job_runs_and_records_no_foreign_commit(call: Callable[..., str], tmp_path: Path) -> None:
    call("meow-lightning", "debug=fast", "goal=unlearn", "logger=none")
    (manifest,) = (tmp_path / "outputs" / "store" / "unlearn").glob("*/manifest.json")
    assert json.loads(manifest.read_text(encoding="utf-8"))["commit"] is None
