"""Error messages for invalid options on the command line: Hydra's errors in one line, with a suggestion."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from meow_lightning.config.files import CONF, EXPERIMENTS
from meow_lightning.config.program import program

if TYPE_CHECKING:
    from omegaconf import DictConfig

CHANGES = (
    "dataset",
    "model",
    "method",
    "inversion",
    "memo",
    "optim",
    "evaluation",
    "ability",
    "attacks",
    "probe",
    "protocol",
)  # groups that change the results
OPTIONAL = ("debug", "experiment", "sweep")
GROUPS = (*CHANGES, "trainer", "logger", "callbacks", "debug", "experiment", "sweep")
_CHOICE = re.compile(r"\w+=(\w+|\[\w+(,\w+)*\])")  # one choice of a group, or several
KINDS = {"Integer": "an integer", "Float": "a number", "bool": "true or false"}


def choices(group: str) -> list[str]:
    """List the choices of a config group."""
    return sorted(path.stem for root in (CONF, EXPERIMENTS) for path in (root / group).glob("*.yaml"))


def summarize_error(error: Exception, words: Sequence[str]) -> str:
    """Summarize a composition error of Hydra or OmegaConf in one line, with the closest valid option if any.

    Args:
        error: The error.
        words: The command line, which chooses the config files.
    """
    from meow_lightning.errors import invalid_option, nearest

    text = "\n".join(str(part) for part in (error, error.__cause__) if part is not None)
    full_key = re.search(r"full_key: (\S+)", text)
    key = full_key.group(1) if full_key else "an option"
    if match := re.search(r"Could not find '(.+)/([^'/]*)'", text):
        group, given = match.groups()
        allowed = re.findall(r"^\t([\w-]+)$", text, re.MULTILINE)
        expected = f"one of {', '.join(allowed)}" if allowed else "no choice, since the group is empty"
        return str(invalid_option(group, given, expected, did_you_mean=nearest(given, allowed)))
    if match := re.search(r"Could not load '(.+)/([^'/]*)'", text):  # one of a list of choices
        group, given = match.groups()
        return str(invalid_option(group, given, f"one of {', '.join(choices(group))}",
                                  did_you_mean=nearest(given, choices(group))))  # fmt: skip
    if match := re.search(r"Could not override '([^']+)'|but config group '([^']+)' does not exist", text):
        return _unknown_key(match.group(1) or match.group(2), words)
    if match := re.search(r"You must specify '([^']+)'|Missing mandatory value: (\S+)", text):
        option = match.group(1) or key
        return f"{option} is required: set it on the command line, as in {option}=…"
    if match := re.search(r"Value '(.*?)'(?: of type '\w+')? (?:could not be converted to|is not a valid) (\w+)", text):
        return str(invalid_option(key, match.group(1), KINDS.get(match.group(2), match.group(2))))
    if hasattr(error, "problem_mark"):
        return f"a config file is not valid YAML: {' '.join(text.split())}"
    if match := re.search(r"Ambiguous value for argument '(.+)'", text):
        return f"{match[1]} has several values, which require -m: {program()} -m {shlex.join(words)}"
    if (word := getattr(error, "override", None)) is not None:
        return f"{word} is not a valid option; {_correction(word, words)}"
    if text.startswith("Error merging override") and error.__cause__ is not None:
        return f"{text.splitlines()[0].removeprefix('Error merging override ')}: {str(error.__cause__).splitlines()[0]}"
    return text.split("\n")[0]


def sweep_mistakes(first: str, words: Sequence[str]) -> list[str]:
    """List all mistakes of the command line of a sweep whose composition failed, one line each.

    Where a sweep's file does not compose, Hydra never learns that it is one, and complains of several values instead.

    Args:
        first: The mistake that Hydra reports, as :func:`summarize_error` words it.
        words: The command line, quoted for Hydra's grammar.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    found, rest = list[str](), list(words)
    while True:
        try:
            compose_sweep(rest)
            return list(dict.fromkeys(found)) or [first]
        except (HydraException, OmegaConfBaseException) as error:
            found.append(summarize_error(error, rest))
        right = _without_cause(rest, found[-1])
        if len(right) == len(rest):
            return list(dict.fromkeys(found))
        rest = right


def composition_mistakes(first: str, words: Sequence[str]) -> list[str]:
    """List all mistakes of a command line whose composition failed, one line each.

    Hydra ends at the first mistake; the others are found by composing again without the words that caused it.

    Args:
        first: Its first mistake, as :func:`summarize_error` words it.
        words: The command line, quoted for Hydra's grammar.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from meow_lightning.config.validation import resolved
    from meow_lightning.errors import UserError, mistakes_of

    found, rest = [first], list(words)
    while right := _without_cause(rest, found[-1]):
        if len(right) == len(rest):
            break
        rest = right
        try:
            resolved(compose_words(rest))
        except (HydraException, OmegaConfBaseException) as further:
            found.append(summarize_error(further, rest))
            continue
        except UserError as further:
            found += mistakes_of(further)
        break
    return list(dict.fromkeys(found))


def _without_cause(words: Sequence[str], line: str) -> list[str]:
    """Leave out the words that an error line is about."""
    right: list[str] = []
    for word in words:
        name = word.partition("=")[0].lstrip("+~")
        if not line.startswith((f"{name}=", f"{name} ", f"{word} ")):
            right.append(word)
        elif "=" not in word and right:
            right.pop()  # the shell has split the value of the word before it
    return right


def compose_words(words: Sequence[str]) -> DictConfig:
    """Compose the configuration of a command line; Hydra's global state is lost.

    Args:
        words: The command line, quoted for Hydra's grammar.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return compose("config", overrides=list(words))


def compose_sweep(words: Sequence[str]) -> DictConfig:
    """Compose what the runs of a sweep share, without the swept values; otherwise as :func:`compose_words`."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        return loader.load_configuration(
            "config", list(words), run_mode=RunMode.MULTIRUN, from_shell=False, validate_sweep_overrides=False
        )


def _correction(word: str, words: Sequence[str]) -> str:
    """Suggest a correction for a word that is not of the form ``name=value``."""
    if "=" in word:
        return f"there is no option of the name before the = (all options: {program()} --cfg job)"
    before = words[words.index(word) - 1] if word in words[1:] else ""
    if "=" in before:  # the shell has split a value at its spaces
        return f"use name=value, and quote a value that contains spaces: {shlex.quote(f'{before} {word}')}"
    return "use name=value, such as seed=1"


def _unknown_key(given: str, words: Sequence[str]) -> str:
    from meow_lightning.errors import suggestion

    group, _, rest = given.partition(".")
    if group == "hydra":
        return f"{given} is not an option (all options: {program()} --cfg hydra)"
    known = known_keys(words)
    if rest and group in known:
        first = rest.split(".")[0]
        owners = [] if f"{group}.{first}" in known else _choices_with(group, first)
        inner = [key.removeprefix(f"{group}.") for key in known if key.startswith(f"{group}.")]
        near = suggestion(rest, inner).replace("mean ", f"mean {group}.")
        shown = owners if len(owners) < 5 else [*owners[:3], f"{len(owners) - 3} others"]
        parent = given.rpartition(".")[0]
        siblings = [key.rpartition(".")[2] for key in known if key.rpartition(".")[0] == parent]
        listed = f"; options of {parent}: {', '.join(siblings)}" if siblings else ""
        hint = f"; it belongs to {group}={' or '.join(shown)}" if owners else near or listed
    else:
        namesakes = [key for key in known if key.rpartition(".")[2] == given]
        hint = f". Did you mean {' or '.join(namesakes[:4])}?" if namesakes else suggestion(given, known)
    return f"{given} is not an option{hint} (all options: {program()} --cfg job)"


def _choices_with(group: str, key: str) -> list[str]:
    """List the choices of a group whose file contains a key, or whose options stand under it."""
    pattern = re.compile(rf"^{re.escape(key)}:", re.MULTILINE)

    def has(name: str) -> bool:
        text = (CONF / group / f"{name}.yaml").read_text(encoding="utf-8")
        own = re.match(rf"# @package {group}\.(\w+)$", text, re.MULTILINE)  # a choice beside others of its group
        return own[1] == key if own else pattern.search(text) is not None

    return [name for name in choices(group) if has(name)]


@cache
def _known_keys(chosen: tuple[str, ...]) -> list[str]:
    from omegaconf import OmegaConf

    content = OmegaConf.to_container(compose_words(chosen), resolve=False)

    def walk(node: object, path: str) -> list[str]:
        descendants = (
            [key for name, value in node.items() for key in walk(value, f"{path}.{name}".lstrip("."))]
            if isinstance(node, dict)
            else []
        )
        return [*([path] if path else []), *descendants]

    return [key for key in walk(content, "") if not key.endswith("_target_")]


def known_keys(words: Sequence[str]) -> list[str]:
    """List every option of a run in dotted form, and the config groups.

    Args:
        words: The command line; only its choices of config groups are used.
    """
    return _known_keys(tuple(word for word in words if word.partition("=")[0] in GROUPS and _CHOICE.fullmatch(word)))
