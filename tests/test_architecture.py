"""Who may know whom, and how long a file may be: the rules of the house, held over the source itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "meow_lightning"
FILES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "hydra_plugins").glob("*.py"), ROOT / "run.py"])
NAMES = [str(path.relative_to(ROOT)) for path in FILES]

# From the ground up; a module may import its own floor and those below it.
FLOORS = (
    ("types", "__init__", "parallel", "folders"),
    ("losses", "data", "models", "optimizers"),
    ("methods", "module", "sharded", "training", "callbacks", "memo", "evaluation", "inversion", "report"),
    ("schema", "config", "store", "stories", "machine", "estimate", "remedies", "asking"),
    ("stages",),
    ("worker",),
    ("runners",),
    ("recipe", "roles", "cellgraph", "cellmodels", "cellrounds", "sizes"),
    ("execute", "pipeline", "tracking"),
    ("preflight", "standing"),
    ("terminal",),
    ("plans", "status"),
    ("cell",),
    ("jobs",),
    ("queueing",),
    ("launching",),
    ("sweep", "expected", "overview", "seeds"),
    ("mistakes",),
    ("cli",),
)
# What people start: these speak on the terminal.
COMMANDS = {"meow_lightning/cli.py", "meow_lightning/evaluation/__main__.py", "meow_lightning/memo/__main__.py"}
HYDRA = {
    "meow_lightning/config.py",
    "meow_lightning/schema.py",
    "meow_lightning/cli.py",
    "meow_lightning/mistakes.py",
    "meow_lightning/cell.py",
    "run.py",
}
LIGHT = (
    "methods",
    "pipeline",
    "roles",
    "store",
    "config",
    "cli",
    "execute",
    "cell",
    "terminal",
    "stages",
    "inversion",
    "tracking",
    "standing",
    "status",
    "plans",
    "overview",
    "stories",
)
HEAVY = {"openai", "torch", "transformers", "peft", "pytorch_lightning", "datasets", "wandb", "matplotlib"}


def tree(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(encoding="utf-8"))


def unguarded(node: ast.AST, *, functions: bool) -> Iterator[ast.AST]:
    """Everything below a node but what only type checkers read and, unless asked for, what functions hold."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, (ast.FunctionDef, ast.Lambda)) and not functions:
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


def floor(part: str) -> int:
    return next(number for number, parts in enumerate(FLOORS) if part in parts)


def part(name: str) -> str:
    """The part of the package that a file belongs to: its folder, or its own name."""
    return Path(name).relative_to("meow_lightning").parts[0].removesuffix(".py")


OWN = [name for name in NAMES if name.startswith("meow_lightning/")]


def test_the_walk_sees_what_it_must():
    assert len(OWN) > 50
    assert "torch" in imports("meow_lightning/module.py", functions=False)
    assert "torch" not in imports("meow_lightning/parallel.py", functions=False)
    assert "torch" in imports("meow_lightning/parallel.py", functions=True)
    assert "torch" not in imports("meow_lightning/losses.py", functions=False)


@pytest.mark.parametrize("name", NAMES)
def test_hydra_is_known_to_the_door_alone(name):
    known = {each for each in imports(name, guarded=True) if each.split(".")[0] in ("hydra", "omegaconf")}
    assert not known or name in HYDRA or name.startswith("hydra_plugins/")


@pytest.mark.parametrize("name", OWN)
def test_imports_go_down_only(name):
    mine = floor(part(name))
    for module in imports(name, guarded=True):
        if module.startswith("meow_lightning."):
            other = module.split(".")[1]
            assert floor(other) <= mine or other == part(name), f"{name} imports {module}"


@pytest.mark.parametrize("name", [name for name in OWN if floor(part(name)) < floor("config")])
def test_settings_and_store_are_known_to_stages_and_above(name):
    for module in imports(name, guarded=True):
        assert not module.startswith(("meow_lightning.config", "meow_lightning.store", "meow_lightning.stages")), module


@pytest.mark.parametrize("name", [name for name in OWN if part(name) == "memo"])
def test_memo_does_not_know_the_evaluation(name):
    assert not [module for module in imports(name, guarded=True) if module.startswith("meow_lightning.evaluation")]


@pytest.mark.parametrize("name", [name for name in OWN if part(name) == "methods"])
def test_methods_know_losses_and_types_alone(name):
    own = {module.split(".")[1] for module in imports(name, guarded=True) if module.startswith("meow_lightning.")}
    assert own <= {"methods", "losses", "types"}


@pytest.mark.parametrize(
    "name", [name for name in NAMES if not name.startswith("meow_lightning/") or part(name) in LIGHT]
)
def test_planning_does_not_wait_for_heavy_libraries(name):
    heavy = {module.split(".")[0] for module in imports(name, functions=False)} & HEAVY
    assert heavy == set()


@pytest.mark.parametrize("name", NAMES)
def test_files_are_short(name):
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("name", NAMES)
def test_functions_are_short(name):
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno + 1 <= 60, node.name


@pytest.mark.parametrize("name", NAMES)
def test_nothing_prints_but_the_command_line(name):
    calls = {ast.unparse(node.func) for node in ast.walk(tree(name)) if isinstance(node, ast.Call)}
    assert "print" not in calls
    if name not in COMMANDS:
        assert not calls & {"sys.stdout.write", "sys.stderr.write"}


@pytest.mark.parametrize("name", NAMES)
def test_no_error_is_swallowed(name):
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"bare except in line {node.lineno}"
            assert not all(isinstance(each, ast.Pass) for each in node.body), f"except: pass in line {node.lineno}"


@pytest.mark.parametrize("name", OWN)
def test_no_setting_has_a_default_in_a_constructor(name):
    if part(name) in ("types", "memo"):  # records, not settings
        return
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            given = [default for default in (*node.args.defaults, *node.args.kw_defaults) if default is not None]
            assert given == [], f"line {node.lineno}"
