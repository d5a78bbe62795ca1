"""Who may know whom, and how long a file may be: the rules of the house, held over the source itself."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "meow_lightning"
FILES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "hydra_plugins").glob("*.py"), ROOT / "run.py"])
NAMES = [str(path.relative_to(ROOT)) for path in FILES]

# From the ground up; a module may import its own floor and those below it.
FLOORS = (
    ("types", "__init__", "parallel", "folders", "durable", "holders", "disclosure", "words", "pace"),
    ("losses", "data", "models", "optimizers"),
    ("methods", "module", "sharded", "training", "callbacks", "memo", "evaluation", "inversion", "report"),
    (
        "schema",
        "ranges",
        "config",
        "integrity",
        "store",
        "stories",
        "machine",
        "estimate",
        "timing",
        "remedies",
        "asking",
    ),
    ("stages",),
    ("worker",),
    ("runners",),
    ("recipe", "roles", "cellgraph", "cellmodels", "cellrounds", "written", "sizes", "texts", "admission"),
    ("waits",),
    ("execute", "pipeline", "tracking", "wandb_run"),
    ("preflight", "standing"),
    ("terminal",),
    ("plans", "status", "verify_store"),
    ("cell",),
    ("jobs",),
    ("queueing",),
    ("launching",),
    ("sweep", "expected", "overview", "seeds"),
    ("mistakes",),
    ("quoting", "flags"),
    ("cli",),
)
# What people start: these speak on the terminal.
COMMANDS = {
    "meow_lightning/cli.py",
    "meow_lightning/evaluation/__main__.py",
    "meow_lightning/memo/__main__.py",
    "meow_lightning/verify_store.py",
}
STREAMS = {"sys.stdout.write", "sys.stderr.write"}
FILE_LINES, FUNCTION_LINES = 350, 60  # most of a file, and of a function
HYDRA = {
    "meow_lightning/config.py",
    "meow_lightning/schema.py",
    "meow_lightning/cli.py",
    "meow_lightning/mistakes.py",
    "meow_lightning/quoting.py",
    "meow_lightning/flags.py",
    "meow_lightning/cell.py",
    "run.py",
}
LIGHT = (
    "methods",
    "pipeline",
    "roles",
    "store",
    "integrity",
    "durable",
    "holders",
    "waits",
    "config",
    "cli",
    "execute",
    "cell",
    "terminal",
    "stages",
    "inversion",
    "tracking",
    "wandb_run",
    "standing",
    "status",
    "plans",
    "overview",
    "stories",
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


def definitions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree(name)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def hold(offenders: Iterable[str]) -> None:
    """Fail with the list of all offenders, if there are any."""
    found = list(offenders)
    assert not found, "\n".join(["", *found])


def floor(part: str) -> int:
    found = next((number for number, parts in enumerate(FLOORS) if part in parts), None)
    assert found is not None, f"{part} stands on no floor; put it into FLOORS"
    return found


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


def test_hydra_is_known_to_the_door_alone():
    hold(
        f"{name} imports {module}"
        for name in NAMES
        if name not in HYDRA and not name.startswith("hydra_plugins/")
        for module in imports(name, guarded=True)
        if module.split(".")[0] in ("hydra", "omegaconf")
    )


def test_imports_go_down_only():
    hold(
        f"{name} imports {module}"
        for name in OWN
        for module in imports(name, guarded=True)
        if module.startswith("meow_lightning.")
        and floor(module.split(".")[1]) > floor(part(name))
        and module.split(".")[1] != part(name)
    )


def test_settings_and_store_are_known_to_stages_and_above():
    hold(
        f"{name} imports {module}"
        for name in OWN
        if floor(part(name)) < floor("config")
        for module in imports(name, guarded=True)
        if module.startswith(
            ("meow_lightning.config.validation", "meow_lightning.store.store", "meow_lightning.stages")
        )
    )


def test_memo_does_not_know_the_evaluation():
    hold(
        f"{name} imports {module}"
        for name in OWN
        if part(name) == "memo"
        for module in imports(name, guarded=True)
        if module.startswith("meow_lightning.evaluation")
    )


def test_methods_know_losses_and_types_alone():
    hold(
        f"{name} imports {module}"
        for name in OWN
        if part(name) == "methods"
        for module in imports(name, guarded=True)
        if module.startswith("meow_lightning.") and module.split(".")[1] not in ("methods", "losses", "types")
    )


def test_planning_does_not_wait_for_heavy_libraries():
    hold(
        f"{name} imports {module}"
        for name in NAMES
        if name not in OWN or part(name) in LIGHT
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
        if part(name) not in ("types", "memo")  # records, not settings
        for node in definitions(name)
        if node.name == "__init__" and any([*node.args.defaults, *filter(None, node.args.kw_defaults)])
    )
