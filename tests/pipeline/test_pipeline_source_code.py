from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from meow_lightning.pipeline import source_code
from meow_lightning.pipeline.source_code import MEMORY, SourceCode, installed_code, parsed
from meow_lightning.stages import stages

PACKAGE = Path(source_code.__file__).parents[1]
STAGE = "meow_lightning.stages.one"
FILES = {
    "stages/one.py": '''"""A stage."""

from typing import TYPE_CHECKING

from meow_lightning.data import rows
from meow_lightning.store.files import write

if TYPE_CHECKING:
    from meow_lightning.models.typed import Model


def run(work: "Model") -> None:
    """Do it."""
    import meow_lightning.models.late

    if work:
        from meow_lightning.losses import total as summed
    write(rows.read(1, 2))  # and no more
''',
    "data/__init__.py": "",
    "data/rows.py": "def read(a, b):\n    return a + b\n",
    "losses.py": "def total():\n    return 0\n",
    "models/late.py": "LATE = 1\n",
    "models/typed.py": "class Model: ...\n",
    "store/files.py": "def write(what): ...\n",
    "unused.py": "UNUSED = 1\n",
}
REACHED = [STAGE, *(f"meow_lightning.{name}" for name in ("data", "data.rows", "losses", "models.late"))]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / "meow_lightning" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "meow_lightning" / name).write_text(content)
    return tmp_path / "meow_lightning"


def code(package: Path) -> SourceCode:
    return SourceCode(package, memory=package.parent / MEMORY)


def digest(package: Path) -> str | None:
    return code(package).digest([STAGE])


def test_imports_are_followed_into_functions_but_not_for_annotations_and_infrastructure(package: Path) -> None:
    assert code(package).reached([STAGE]) == sorted(REACHED)


@pytest.mark.parametrize("name", ["stages/one.py", "data/rows.py", "losses.py", "models/late.py"])
def test_a_change_of_what_is_imported_changes_the_digest(package: Path, name: str) -> None:
    before = digest(package)
    (package / name).write_text(FILES[name].replace("1", "3").replace("0", "2").replace("+", "-"))
    assert digest(package) != before


@pytest.mark.parametrize("name", ["models/typed.py", "store/files.py", "unused.py"])
def test_a_change_of_anything_else_does_not(package: Path, name: str) -> None:
    before = digest(package)
    (package / name).write_text("CHANGED = 1\n")
    assert digest(package) == before


def test_comments_docstrings_and_layout_do_not_count() -> None:
    one = parsed(b'def f(a, b="x"):\n    """Add."""\n    return (a +\n        b)  # sum\n')
    other = parsed(b"# head\ndef f(\n    a,\n    b='x',\n):\n    'More.'\n\n    return a + b\n")
    assert one == other
    attribute = b'class A:\n    """Text."""\n    x = 1\n    """What x is."""\n'
    assert parsed(attribute) == parsed(b"class A:\n    x = 1\n")


@pytest.mark.parametrize(
    "changed",
    [
        "def f(a, b='y'):\n    return a + b",
        "def f(a, b='x'):\n    return a - b",
        "def f(a, c='x'):\n    return a + b",
        "def f(a, *, b='x'):\n    return a + b",
        "def f(a, b=b'x'):\n    return a + b",
        "def f(a, b='x'):\n    a + b",
        "async def f(a, b='x'):\n    return a + b",
        "@g\ndef f(a, b='x'):\n    return a + b",
    ],
)
def test_computed_results_count(changed: str) -> None:
    assert parsed(changed.encode()) != parsed(b"def f(a, b='x'):\n    return a + b")


def test_a_file_that_cannot_be_parsed_counts_by_its_text(package: Path) -> None:
    (package / "losses.py").write_text("def total(:\n")
    first = digest(package)
    (package / "losses.py").write_text("def total(::\n")
    assert None not in (first, digest(package))
    assert digest(package) != first


def test_without_the_source_nothing_is_known_and_other_packages_do_not_count(package: Path) -> None:
    assert code(package).digest([STAGE, "meow_lightning.stages.two"]) is None
    assert code(package).digest([STAGE, "elsewhere.methods"]) == digest(package)


def test_a_process_keeps_to_the_code_that_it_found(package: Path) -> None:
    running = code(package)
    before = running.digest([STAGE])
    (package / "losses.py").write_text("def total():\n    return 1\n")
    assert running.digest([STAGE]) == before != digest(package)


def test_parsed_files_are_cached_by_content(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = code(package)
    before = first.digest([STAGE])
    memory = package.parent / MEMORY
    assert not memory.exists()
    first.save(private=False)
    assert memory.exists()
    parsed_now: list[bytes] = []
    monkeypatch.setattr(source_code, "parsed", lambda source: parsed_now.append(source) or parsed(source))
    assert digest(package) == before
    assert parsed_now == []
    (package / "losses.py").write_text("def total():\n    return 1\n")
    assert digest(package) != before
    assert parsed_now == [b"def total():\n    return 1\n"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"a": 1}', '{"a": [1]}'])
def test_a_damaged_memory_is_made_anew(package: Path, damage: str) -> None:
    before = digest(package)
    (package.parent / MEMORY).write_text(damage)
    again = code(package)
    assert again.digest([STAGE]) == before
    again.save(private=False)
    assert (package.parent / MEMORY).read_text() != damage


def test_no_memory_is_made_where_there_is_no_store(package: Path) -> None:
    nowhere = SourceCode(package, memory=package.parent / "store" / MEMORY)
    assert nowhere.digest([STAGE]) == digest(package)
    nowhere.save(private=False)
    assert not (package.parent / "store").exists()


def test_every_stage_has_a_digest_that_costs_little_once_it_is_remembered(tmp_path: Path) -> None:
    first = installed_code(tmp_path / MEMORY)
    digests = [first.digest([f"meow_lightning.stages.{name}"]) for name in stages()]
    assert len({*digests} - {None}) == len(stages())
    first.save(private=False)
    installed_code.cache_clear()
    began = time.process_time()
    again = installed_code(tmp_path / MEMORY)
    assert [again.digest([f"meow_lightning.stages.{name}"]) for name in stages()] == digests
    assert time.process_time() - began < 0.3


def test_an_installed_copy_is_the_same_code(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "meow_lightning", ignore=shutil.ignore_patterns("__pycache__"))
    copy, roots = SourceCode(tmp_path / "meow_lightning", memory=tmp_path / MEMORY), ["meow_lightning.stages.unlearn"]
    assert copy.digest(roots) == SourceCode(PACKAGE, memory=tmp_path / MEMORY).digest(roots)


def test_stages_reach_what_they_compute_with_and_not_each_other() -> None:
    found = {
        name: installed_code(Path("nowhere")).reached([f"meow_lightning.stages.{name}"])
        for name in ("unlearn", "predict", "evaluate")
    }
    assert {"meow_lightning.training.module", "meow_lightning.memo.select"} <= {*found["unlearn"]}
    assert "meow_lightning.methods.rmu" not in found["unlearn"]
    assert "meow_lightning.evaluation.loglikelihood" in found["predict"]
    assert "meow_lightning.evaluation.metrics.forget_quality" not in found["predict"]
    assert "meow_lightning.evaluation.metrics.rouge" in found["evaluate"]
