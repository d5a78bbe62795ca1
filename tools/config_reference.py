"""Reference of all options, rendered from ``conf/`` and the schema; an MkDocs hook for ``reference/config.md``.

Defaults and meanings stand in the YAML files (a key's comment says what it means, its unit and range), types and ranges
in the typed options (``meow_lightning/config/schema.py``) and in the signatures that ``_target_`` names.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from meow_lightning.config.files import CONF, EXPERIMENTS
from meow_lightning.config.instantiate import component_class
from meow_lightning.config.mistakes import alternatives, range_of
from meow_lightning.config.options import Options, option_types
from meow_lightning.config.ranges import FINITE
from meow_lightning.config.schema import RunConfig
from meow_lightning.config.signature import argument_types
from meow_lightning.config.training_options import Launcher

PAGE = "reference/config.md"
GLOBAL = "# @package _global_"
# Option prefix of a group that differs from its name.
PLACES = {
    "recipe": "model.finetune", "proposer": "attacks.instruction.proposer",
    "proposer/prompt": "attacks.instruction.proposer.prompt",
    "judge": "probe.judge.reader", "judge/prompt": "probe.judge.reader.prompt",
    "translator": "attacks.translation.translator", "translator/prompt": "attacks.translation.translator.prompt",
}  # fmt: skip
EVERYWHERE = {
    "name": "name of the choice, in reports and in the names of folders",
    "_target_": "what implements it: `package.module.Class`, called with the other options of the choice",
}
TWINS = {  # same options, explained only once
    "model.finetune.": "model.pretrain.", "attacks.quantise_int4.": "attacks.quantise_int8.",
}  # fmt: skip
OPTIONS = {**dict(option_types(RunConfig, "")), **dict(option_types(Launcher, "hydra.launcher"))}
TYPES = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null", dict: "mapping"}
# Groups that config.yaml does not list.
FURTHER = (
    "inversion/prompt", "proposer", "proposer/prompt", "translator", "translator/prompt", "judge",
    "judge/prompt", "recipe", "hydra/launcher",
    "hydra/sweeper",
)  # fmt: skip
EXPLAINS = {"hydra/launcher": "slurm"}  # choice whose comments explain the options of a group without a default


class Entry(NamedTuple):
    """One key of a YAML file: its dotted option, its value as one line of YAML, and its comment."""

    option: str
    value: str
    comment: str


class Choice(NamedTuple):
    """One YAML file: its leading comment, its keys, and the object that ``_target_`` names."""

    group: str
    name: str
    about: str
    entries: list[Entry]
    called: Any


def config_reference() -> str:
    """Render every option of every file of ``conf/`` as Markdown."""
    parts = [_section("Run", "what belongs to no group", [_choice(CONF / "config.yaml", "")])]
    intros = _intros()
    for group in [*intros, *FURTHER]:
        found = _choices(group)
        if found:
            parts.append(_section(f"{group}=", intros.get(group, ""), found))
    tables = [
        f"| `{folder.name}={path.stem}` | {_cell(_about(path.read_text(encoding='utf-8')))} |\n"
        for folder in sorted(EXPERIMENTS.iterdir())
        for path in sorted(folder.glob("*.yaml"))
        if path.read_text(encoding="utf-8").startswith(GLOBAL)
    ]
    return "\n".join([*parts, f"## Sweeps\n\n| choice | runs |\n| --- | --- |\n{''.join(tables)}"])


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Append the reference to its page; called by mkdocs."""
    return f"{markdown}\n{config_reference()}" if page.file.src_uri == PAGE else markdown


@cache
def meanings() -> dict[str, str]:
    """Collect the meaning of every option: its comment in the default choice of its group, else the first one found.

    Options without a comment take that of their twin in another mapping, or of the mapping that contains them.
    """
    found: dict[str, str] = {}
    for choice in _every():
        for option, _, comment in choice.entries:
            if comment:
                found.setdefault(option, comment)
    for choice in _every():
        for option, *_ in choice.entries:
            twin = next((option.replace(here, there) for here, there in TWINS.items() if option.startswith(here)), "")
            parent, _, name = option.rpartition(".")
            found.setdefault(option, found.get(twin) or EVERYWHERE.get(name) or found.get(parent, ""))
    return found


@cache
def _every() -> list[Choice]:
    groups = [*_intros(), *FURTHER]
    return [_choice(CONF / "config.yaml", ""), *(choice for group in groups for choice in _choices(group))]


def _intros() -> dict[str, str]:
    """Map the groups of ``config.yaml``, in order, to the comments in its defaults list."""
    text = (CONF / "config.yaml").read_text(encoding="utf-8")
    return dict(re.findall(r"^  - (\w+): (?:\w+|\[\]) +# (.+)$", text, re.MULTILINE))


@cache
def _choices(group: str) -> list[Choice]:
    """List the files of a group, the default first."""
    default = re.search(rf"^  - {group}: (\w+)", (CONF / "config.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    first = default[1] if default else EXPLAINS.get(group)
    paths = sorted((CONF / group).glob("*.yaml"), key=lambda path: (path.stem != first, path.stem))
    return [_choice(path, group) for path in paths]


def _choice(path: Path, group: str) -> Choice:
    text = path.read_text(encoding="utf-8")
    place = "" if text.startswith(GLOBAL) else PLACES.get(group, group.replace("/", "."))
    if own := re.match(r"# @package (\w+\.\w+)$", text, re.MULTILINE):  # a choice beside others of its group
        place = own[1]
    node = yaml.compose(text)
    entries = list(_entries(node, text.splitlines(), f"{place}." if place else ""))
    implementation = next((value for option, value, _ in entries if option == f"{place}._target_"), "")
    called = (
        component_class({"_target_": implementation}, allow=[])
        if implementation.startswith("meow_lightning.")
        else None
    )
    return Choice(group, path.stem, _about(text), entries, called)


def _about(text: str) -> str:
    """Extract the leading comment of a file."""
    lines = re.sub(r"\A# @package .*", "", text).lstrip().splitlines()
    first = next(at for at, line in enumerate([*lines, ""]) if not line.startswith("#"))
    return " ".join(line.lstrip("# ") for line in lines[:first])


def _entries(node: yaml.MappingNode, lines: list[str], place: str) -> Iterator[Entry]:
    """Yield the keys of a mapping and of its nested mappings of options."""
    for key, value in node.value:
        option = f"{place}{key.value}"
        if key.value == "defaults":
            continue
        opened = isinstance(value, yaml.MappingNode) and bool(value.value) and _holds_options(option)
        comment = (
            "" if node.flow_style else _comment(key, value, lines)
        )  # the comment of a one-line mapping is about all of it
        yield Entry(option, "" if opened else _one_line(value), comment)
        if opened:
            yield from _entries(value, lines, f"{option}.")


def _holds_options(option: str) -> bool:
    """Whether the keys of a mapping are options rather than keys of a lookup, such as model names."""
    return option.startswith("hydra") or _is_group(OPTIONS.get(option, Any))


def _is_group(hint: Any) -> bool:
    return any(inspect.isclass(part) and issubclass(part, Options) for part in alternatives(hint))


def _one_line(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return (
            "…" if node.style == "|" else node.value if node.style is None else f'"{node.value}"'.replace("\n", "\\n")
        )
    text = yaml.serialize(_flowing(node), width=10**6)
    return " ".join(text.split())


def _flowing(node: yaml.Node) -> yaml.Node:
    if isinstance(node, yaml.CollectionNode):
        node.flow_style = True
        for each in node.value:
            for part in each if isinstance(each, tuple) else (each,):
                _flowing(part)
    return node


def _comment(key: yaml.Node, value: yaml.Node, lines: list[str]) -> str:
    """Extract the comment on the line of a key, with its continuation lines."""
    at = key.end_mark.line
    inline = value.start_mark.line == at and not (isinstance(value, yaml.ScalarNode) and value.style == "|")
    after = value.end_mark.column if inline and value.end_mark.line == at else key.end_mark.column
    found = re.search(r"(?:^|\s)# ?(.*)", lines[at][after:])
    if not found:
        return ""
    parts = [found[1].strip()]
    for line in lines[at + 1 :]:
        more = re.match(r"(\s*)# ?(.*)", line)
        if not more or len(more[1]) <= key.start_mark.column + 2:
            break
        parts.append(more[2].strip())
    return " ".join(parts)


def _section(title: str, intro: str, choices: list[Choice]) -> str:
    """Render a section: the options of a group with their meanings, then the values that each choice sets."""
    known, shown = meanings(), set()
    rows = ["| option | default | type | range | meaning |\n| --- | --- | --- | --- | --- |\n"]
    for choice in choices:
        for option, value, _ in choice.entries:
            if option in shown or not (value or known[option]):  # a mapping without a comment needs no row
                continue
            shown.add(option)
            kind, interval = _kind(option, value, choice.called), _interval(_hint(option, choice.called))
            cells = (f"`{option}`", _code(value), kind, interval, known[option])
            rows.append(f"| {' | '.join(map(_cell, cells))} |\n")
    parts = [f"## {title}\n", f"{_sentence(intro)}\n" if intro else "", "".join(rows)]
    if len(choices) > 1:
        parts += [_values(choice) for choice in choices]
    return "\n".join(filter(None, parts))


def _values(choice: Choice) -> str:
    """Render the values that one file sets."""
    known = meanings()
    first = next(each for each in _choices(choice.group) if each.called is not None or each is choice).called
    rows = []
    for option, value, comment in choice.entries:
        interval = _interval(_hint(option, choice.called))
        notes = [
            "" if comment == known[option] else comment,
            f"range {interval}" if interval != _interval(_hint(option, first)) else "",
        ]
        if value:
            rows.append(f"| `{option}` | {_cell(_code(value))} | {_cell('; '.join(filter(None, notes)))} |\n")
    return (
        f"### {choice.group}={choice.name}\n\n{_cell(choice.about)}\n\n"
        f"| option | value | note |\n| --- | --- | --- |\n{''.join(rows)}"
    )


def _kind(option: str, value: str, called: Any) -> str:
    """Describe the type of an option in words; list its choices if the type has them."""
    hint = _hint(option, called)
    if hint is not Any and not _is_group(hint):
        return _spelled(hint)
    parsed = None if value in ("", "…", "???") else yaml.safe_load(value)
    return "" if parsed is None else "list" if isinstance(parsed, list) else TYPES.get(type(parsed), "")


def _hint(option: str, called: Any) -> Any:
    """Find the type of an option, with its range: that of the typed options, else of the component's argument."""
    if option in OPTIONS:
        return OPTIONS[option]
    name = option.partition(".")[2]
    return argument_types(called).get(name, Any) if called is not None and "." not in name else Any


def _spelled(hint: Any) -> str:
    parts = alternatives(hint)
    bare = [part for part in parts if part is not int or float not in parts]
    if any(typing.get_origin(part) is dict for part in bare):
        return "number, or one by model" if len(bare) > 1 else "mapping"
    return " or ".join(_word(part) for part in bare)


def _word(part: Any) -> str:
    origin, parts = typing.get_origin(part), typing.get_args(part)
    if origin is Literal:
        return " | ".join(f"`{each}`" for each in parts)
    return f"list of {_spelled(parts[0])}" if parts else TYPES.get(part, "")


def _interval(hint: Any) -> str:
    allowed = range_of(hint)
    if allowed is None:
        return ""
    if allowed is FINITE:
        return "any"
    ends = ("(" if allowed.above else "[", ")" if allowed.below else "]")
    return f"{'0 or ' * allowed.zero}{ends[0]}{allowed.low:g}, {allowed.high:g}{ends[1]}"


def _code(value: str) -> str:
    return f"`{value}`" if value else ""


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _cell(text: str) -> str:
    """Escape text for a table cell: bars, and braces outside code that would be read as attributes."""
    parts = text.replace("|", "\\|").split("`")
    parts[::2] = [re.sub(r"(\{[^{}]*\})", r"`\1`", part) for part in parts[::2]]
    return "`".join(parts)


if __name__ == "__main__":
    print(config_reference())
