"""Who may know whom, and how long a file may be: the rules of the house, held over the source itself."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "meow_lightning"
FILES = sorted([*PACKAGE.rglob("*.py"), ROOT / "run.py"])
NAMES = [str(path.relative_to(ROOT)) for path in FILES]

# What people start: these speak on the terminal.
COMMANDS = {
    "meow_lightning/cli/chat.py",
    "meow_lightning/cli/command.py",
    "meow_lightning/cli/dashboard.py",
    "meow_lightning/cli/completion.py",
    "meow_lightning/cli/fuse.py",
    "meow_lightning/cli/leaderboard.py",
    "meow_lightning/cli/main.py",
    "meow_lightning/cli/purge.py",
    "meow_lightning/cli/push.py",
    "meow_lightning/cli/sweeps.py",
    "meow_lightning/cli/undo.py",
    "meow_lightning/cli/verify_store.py",
    "meow_lightning/evaluation/__main__.py",
    "meow_lightning/memo/__main__.py",
}
STREAMS = {"sys.stdout.write", "sys.stderr.write"}
FILE_LINES, FUNCTION_LINES = 350, 60  # most of a file, and of a function
HYDRA = ("config", "cli", "sweep", "experiment", "run")  # parts that may know Hydra and OmegaConf
LIGHT = (  # parts that a plan imports, so that it does not wait for heavy libraries
    "methods",
    "pipeline",
    "planning",
    "store",
    "config",
    "cli",
    "console",
    "experiment",
    "stages",
    "inversion",
    "tracking",
    "sweep",
    "run",
)
HEAVY = {"openai", "torch", "transformers", "peft", "pytorch_lightning", "datasets", "wandb", "matplotlib"}


@cache
def tree(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(encoding="utf-8"))


def unguarded(node: ast.AST, *, functions: bool) -> Iterator[ast.AST]:
    """Everything below a node but what only type checkers read and, unless asked for, what functions hold."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and not functions:
            continue
        yield child
        yield from unguarded(child, functions=functions)


def imports(name: str, *, functions: bool = True, guarded: bool = False) -> set[str]:
    """The dotted modules that a file imports."""
    nodes = ast.walk(tree(name)) if guarded else unguarded(tree(name), functions=functions)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{each.name}" for each in node.names}
            assert node.level == 0, f"{name} imports relatively"
    return found


def definitions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree(name)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def defaults(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """The arguments that have a default."""
    positional = node.args.args[len(node.args.args) - len(node.args.defaults) :]
    named = (each for each, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if default)
    yield from (each.arg for each in (*positional, *named))


def hold(offenders: Iterable[str]) -> None:
    """Fail with the list of all offenders, if there are any."""
    found = list(offenders)
    assert not found, "\n".join(["", *found])


def part(name: str) -> str:
    """The part of the package that a file belongs to: its folder, or its own name."""
    return name.removeprefix("meow_lightning/").split("/")[0].removesuffix(".py")


OWN = [name for name in NAMES if name.startswith("meow_lightning/")]


def test_the_walk_sees_what_it_must():
    assert len(OWN) > 50
    assert "torch" in imports("meow_lightning/training/module.py", functions=False)
    assert "torch" not in imports("meow_lightning/distributed.py", functions=False)
    assert "torch" in imports("meow_lightning/distributed.py", functions=True)
    assert "torch" not in imports("meow_lightning/methods/losses.py", functions=False)


def test_hydra_is_known_above_the_stages_alone():
    hold(
        f"{name} imports {module}"
        for name in NAMES
        if part(name) not in HYDRA
        for module in imports(name, guarded=True)
        if module.split(".")[0] in ("hydra", "omegaconf")
    )


def test_the_import_contracts_hold(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


def test_methods_import_models_types_errors_ranges_and_streams_alone():
    allowed = ("meow_lightning.config.ranges.", "meow_lightning.data.streams.")
    hold(
        f"{name} imports {module}"
        for name in OWN
        if part(name) == "methods" and not name.endswith("__init__.py")  # which reads the files of conf/method
        for module in imports(name, guarded=True)
        if module.startswith("meow_lightning.") and not module.startswith(allowed)
        if module.split(".")[1] not in ("methods", "models", "types", "errors")
    )


def test_planning_does_not_wait_for_heavy_libraries():
    hold(
        f"{name} imports {module}"
        for name in NAMES
        if part(name) in LIGHT
        for module in imports(name, functions=False)
        if module.split(".")[0] in HEAVY
    )


def test_files_are_short():
    counts = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in NAMES}
    hold(f"{name} has {count} lines" for name, count in counts.items() if count > FILE_LINES)


def test_functions_are_short():
    hold(
        f"{name}:{node.lineno} {node.name} has {count} lines"
        for name in NAMES
        for node in definitions(name)
        if (count := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
    )


def test_nothing_prints_but_the_command_line():
    hold(
        f"{name}:{node.lineno} calls {called}"
        for name in NAMES
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Call)
        and ((called := ast.unparse(node.func)) == "print" or (called in STREAMS and name not in COMMANDS))
    )


def test_no_error_is_swallowed():
    hold(
        f"{name}:{node.lineno} " + ("a bare except" if node.type is None else "except: pass")
        for name in NAMES
        for node in ast.walk(tree(name))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or all(isinstance(each, ast.Pass) for each in node.body))
    )


def test_no_setting_has_a_default_in_a_constructor():
    hold(
        f"{name}:{node.lineno} a default in a constructor"
        for name in OWN
        if part(name) not in ("types", "memo", "integrations")  # records and other libraries' classes, not settings
        for node in definitions(name)
        if node.name == "__init__" and {*defaults(node)} - {"retain", "retain_weight"}  # no term, whose weight is free
    )
