"""A stage whose code changed must move its VERSION, or somebody must say that its results stay the same.

``make bless`` (this file run as a program) writes down the code as it is now.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "meow_lightning"
BLESSED = Path(__file__).with_name("stage_fingerprints.json")
STAGES = ("finetune", "propose", "filter", "score", "verify", "unlearn", "predict", "evaluate", "report")
# What carries work about or watches it, and cannot change what comes out.
PLUMBING = {"config", "schema", "store", "types", "parallel", "callbacks", "stages/work", "stages/__init__"}
DATASETS = ("data/fictional", "data/fictional_words", "data/tofu", "data/jsonl")
# What a stage reaches through its options instead of an import.
BY_OPTION = {
    "finetune": (*DATASETS, "models/tiny"),
    "propose": (*DATASETS, *(f"inversion/{name}" for name in ("rules", "file", "local", "endpoint"))),
    "filter": DATASETS,
    "score": ("memo/profile", "memo/baselines"),
    "verify": ("memo/profile", "memo/baselines"),
    "unlearn": tuple(f"methods/{path.stem}" for path in (PACKAGE / "methods").glob("*.py")),
}


def bare(tree: ast.Module) -> str:
    """The code of a module without its docstrings."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body = body[1:] or [ast.Pass()]
    return ast.dump(tree)


def reached(stage: str) -> list[str]:
    """The modules that a stage's results depend on."""
    found: set[str] = set()
    todo = [f"stages/{stage}", *BY_OPTION.get(stage, ())]
    while todo:
        name = todo.pop()
        if name in found or name in PLUMBING or name.split("/")[0] in PLUMBING:
            continue
        found.add(name)
        for node in ast.walk(ast.parse((PACKAGE / f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("meow_lightning"):
                paths = ["/".join(node.module.split(".")[1:])]
                paths += [f"{paths[0]}/{each.name}".lstrip("/") for each in node.names]
                todo += [path for path in paths if path and (PACKAGE / f"{path}.py").exists()]
    return sorted(found)


def fingerprint(stage: str) -> str:
    code = "\n".join(bare(ast.parse((PACKAGE / f"{name}.py").read_text())) for name in reached(stage))
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def version(stage: str) -> int:
    return importlib.import_module(f"meow_lightning.stages.{stage}").VERSION


@pytest.mark.parametrize("stage", STAGES)
def test_changed_code_moves_the_version_or_is_blessed(stage: str) -> None:
    blessed = json.loads(BLESSED.read_text())[stage]
    now = {"version": version(stage), "fingerprint": fingerprint(stage)}
    assert now == blessed, (
        f"the code that makes {stage} changed: if its results come out differently, move VERSION in "
        f"meow_lightning/stages/{stage}.py; then, either way, run `make bless`"
    )


def test_what_a_stage_reaches_is_found() -> None:
    assert {"stages/unlearn", "losses", "module", "data/plan", "methods/meow", "memo/select"} <= set(reached("unlearn"))
    assert {"evaluation/likelihood", "memo/engine", "losses"} <= set(reached("answer"))
    assert not any(name.startswith("report") for name in reached("answer"))


def test_docstrings_do_not_count() -> None:
    assert bare(ast.parse('def f():\n    "a"\n    return 1')) == bare(ast.parse('def f():\n    "b"\n    return 1'))
    assert bare(ast.parse("def f():\n    return 1")) != bare(ast.parse("def f():\n    return 2"))


if __name__ == "__main__":
    content = {stage: {"version": version(stage), "fingerprint": fingerprint(stage)} for stage in STAGES}
    BLESSED.write_text(json.dumps(content, indent=1) + "\n")
