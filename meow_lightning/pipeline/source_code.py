"""Digests of the source code behind a result: of some modules and of everything they import from the package.

Modules are compared by their syntax trees, so comments, docstrings and layout do not count. Parsing the package takes
most of a second, so the store caches the digest of every file by its content.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from meow_lightning.store.durable import write_json
from meow_lightning.store.folders import owner_only

PACKAGE = "meow_lightning"
# Modules that only handle settings, files and errors: changing them does not change results.
INFRASTRUCTURE = frozenset({"config", "store", "resources", "tracking", "errors"})
# Fields of a syntax tree that are redundant, or that only some versions of Python have.
REDUNDANT = frozenset({"ctx", "kind", "type_comment", "type_ignores", "type_params"})
BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")  # fields that hold statements
MEMORY = ".code.json"  # file in the root of the store
FOLDER = "*"
REMEMBERED = 2000  # maximum number of files in the cache


class Module(NamedTuple):
    """A source file: the digest of its syntax tree and the names that it imports from the package.

    The name ``FOLDER`` stands for all modules beside a package that looks through its own folder.
    """

    digest: str
    imports: tuple[str, ...]


class SourceCode:
    """The modules of a package, each read once, on first use.

    Args:
        folder: Folder of the package.
        memory: Cache file that maps the SHA-256 of a file's content to its :class:`Module`; it need not exist.
    """

    def __init__(self, folder: Path, *, memory: Path) -> None:
        self._memory = memory
        self._paths = {_name(path.relative_to(folder)): path for path in folder.rglob("*.py")}
        self._modules: dict[str, Module] = {}
        self._digests: dict[frozenset[str], str | None] = {}
        self._known: dict[str, Module] | None = None
        self._saved = True

    def digest(self, roots: Iterable[str]) -> str | None:
        """Compute the digest of some modules and of everything they import: 16 hex digits of a SHA-256.

        ``None`` if the source of one of them is not available.

        Args:
            roots: Names of modules; modules of other packages are ignored.
        """
        wanted = frozenset(root for root in roots if root.split(".")[0] == PACKAGE)
        if wanted not in self._digests:
            self._digests[wanted] = self._digest(wanted) if wanted <= self._paths.keys() else None
        return self._digests[wanted]

    def reached(self, roots: Iterable[str]) -> list[str]:
        """List the given modules and those that they import, directly or indirectly, sorted."""
        reached: set[str] = set()
        pending = [*roots]
        while pending:
            name = pending.pop()
            if name not in reached and name in self._paths and not _infrastructure(name):
                reached.add(name)
                for each in self._module(name).imports:
                    pending += self._modules_in(name) if each == FOLDER else [each]
        return sorted(reached)

    def save(self, *, private: bool) -> None:
        """Write new digests to the cache file; call it only from processes that compute results.

        Args:
            private: Whether only the owner may read the file, as the results of a private dataset.
        """
        if not self._saved and self._known is not None and self._memory.parent.is_dir():
            self._saved = True
            with suppress(OSError), owner_only(private):  # the cache only saves time
                write_json(self._memory, dict([*self._known.items()][-REMEMBERED:]))

    def _modules_in(self, package: str) -> list[str]:
        return [name for name in self._paths if name.rpartition(".")[0] == package]

    def _digest(self, roots: Iterable[str]) -> str:
        content = [[name, self._module(name).digest] for name in self.reached(roots)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def _module(self, name: str) -> Module:
        if name not in self._modules:
            if self._known is None:
                self._known = _load(self._memory)
            source = self._paths[name].read_bytes()
            key = hashlib.sha256(source).hexdigest()
            if key not in self._known:
                self._known[key], self._saved = parsed(source), False
            self._modules[name] = self._known[key]
        return self._modules[name]


def parsed(source: bytes) -> Module:
    """Parse a source file; one with a syntax error is digested as text and imports nothing."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return Module(digest=hashlib.sha256(source).hexdigest(), imports=())
    imports = tuple(sorted(set(_imports(tree))))
    return Module(digest=hashlib.sha256(_plain(tree).encode()).hexdigest(), imports=imports)


@lru_cache(maxsize=16)
def installed_code(memory: Path) -> SourceCode:
    """Return the modules of this package, read once per process."""
    return SourceCode(Path(__file__).resolve().parents[1], memory=memory)


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join((PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)))


def _infrastructure(name: str) -> bool:
    return name.split(".")[1] in INFRASTRUCTURE if "." in name else False


def _imports(node: ast.AST) -> Iterator[str]:
    """Yield the names that a block imports from the package, also inside functions, but not under ``TYPE_CHECKING``.

    ``from a.b import c`` yields both ``a.b`` and ``a.b.c``, since ``c`` may be a module; ``import pkgutil`` yields
    ``FOLDER``.
    """
    for block in BLOCKS:
        for child in getattr(node, block, ()):
            if isinstance(child, ast.ImportFrom) and _in_package(child.module):
                yield str(child.module)
                yield from (f"{child.module}.{each.name}" for each in child.names)
            elif isinstance(child, ast.Import):
                yield from (each.name for each in child.names if _in_package(each.name))
                yield from (FOLDER for each in child.names if each.name == "pkgutil")
            elif not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
                yield from _imports(child)


def _in_package(name: str | None) -> bool:
    return name is not None and name.split(".")[0] == PACKAGE


def _plain(node: Any) -> str:
    """Format a syntax tree as text without docstrings and positions, the same in all versions of Python."""
    if isinstance(node, ast.AST):
        fields = [(name, getattr(node, name, None)) for name in node._fields if name not in REDUNDANT]
        words = [f"{name} {_plain(value)}" for name, value in fields if value is not None and value != []]
        return f"({type(node).__name__} {' '.join(words)})"
    if isinstance(node, list):
        return f"[{' '.join(_plain(each) for each in node if not _is_docstring(each))}]"
    return repr(node)


def _is_docstring(node: Any) -> bool:
    """Whether a statement is a bare string: a docstring, or the description of an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _load(memory: Path) -> dict[str, Module]:
    try:
        stored = json.loads(memory.read_text(encoding="utf-8"))
        return {key: Module(digest=digest, imports=tuple(imports)) for key, (digest, imports) in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):  # missing or damaged: the digests are computed again
        return {}
