"""The files below ``conf/``: all compose, all bind, all are typed and documented."""

from __future__ import annotations

import importlib
import inspect
import re
import typing
from pathlib import Path

import pytest
import yaml
from helpers import hydra
from helpers.hydra import CONF
from omegaconf import OmegaConf

from meow_lightning.config.instantiate import component_arguments
from meow_lightning.config.schema import GROUPS
from meow_lightning.config.validation import check_call, check_measure, resolved
from meow_lightning.pipeline.nodes.context import RUNTIME_ARGUMENTS
from meow_lightning.stages import stages

FILES = sorted(path for path in CONF.rglob("*.yaml") if path.parent != CONF)
CHOICES = [(str(path.parent.relative_to(CONF)), path.stem) for path in FILES]
# The file of each group that documents every key; its siblings only set them.
DOCUMENTED = [
    "config",
    "dataset/fictional",
    "dataset/tofu",
    "dataset/jsonl",
    "recipe/tofu",
    "model/tiny",
    "optim/adamw",
    "memo/clean",
    "trainer/cpu",
    "callbacks/default",
]
DOCUMENTED += ["evaluation/tofu", "logger/wandb", "inversion/rules", "inversion/file"]
DOCUMENTED += ["inversion/local", "inversion/endpoint", "method/meow_loop"]
SELF_EXPLAINING = {"forget01", "forget05", "forget10", "tofu", "name", "_target_", "seed", "dir", "subdir", "chdir"}
# Options that only a user can give.
NAMELESS = (
    ("inversion=file", "inversion.path"),
    ("dataset=jsonl", "dataset.forget"),
    ("inversion=local", "inversion.model"),
    ("inversion=endpoint", "inversion.model"),
    ("inversion=endpoint", "inversion.base_url"),
)


def composed(*words: str) -> dict:
    cfg = hydra.composed(*words)
    for word, key in NAMELESS:
        OmegaConf.update(cfg, key, "file.jsonl") if word in words else None
    return resolved(cfg)


def test_there_are_files():
    assert len(FILES) > 15


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_file_composes_binds_and_bears_its_name(group, choice):
    words = {
        "recipe": ["model=own", f"recipe@model.finetune={choice}"],
        "inversion/prompt": ["inversion=endpoint", f"inversion/prompt={choice}"],
    }.get(group, [f"{group}={choice}"])
    options = composed(*words)
    if "name" in options.get(group, {}):
        assert options[group]["name"] == choice
    if group == "attacks":
        assert options[group][choice]["name"] == choice
    for name in ("dataset", "method", "inversion"):
        check_call(name, options[name], allow=[], **dict.fromkeys(RUNTIME_ARGUMENTS))
    assert check_measure(options["memo"], allow=[]).name == options["memo"]["name"]


@pytest.mark.parametrize(("group", "choice"), [each for each in CHOICES if each[0] in GROUPS or each[0] == "model"])
def test_typed_groups_have_exactly_the_keys_of_their_files(group, choice):
    options = composed(f"{group}={choice}")
    for path, typed in GROUPS.items():
        node = options
        for word in path.split("."):
            node = node.get(word) or {}
        if path.split(".")[0] == group and node:
            needed, known = typed.__required_keys__, set(typing.get_type_hints(typed))
            assert needed <= set(node) <= known, path


def test_every_typed_group_is_met():
    options = composed("method=meow_loop", "inversion=endpoint")
    for path in GROUPS:
        node = options
        for word in path.split("."):
            node = node[word]


def test_the_architecture_binds_with_what_the_tokenizer_adds():
    nodes = [composed(f"model={choice}")["model"]["architecture"] for group, choice in CHOICES if group == "model"]
    assert any(nodes)
    for node in filter(None, nodes):
        module, _, name = node["_target_"].rpartition(".")
        signature = inspect.signature(getattr(importlib.import_module(module), name))
        signature.bind(**component_arguments(node), vocab_size=300, end_id=0, pad_id=1)


@pytest.mark.parametrize("choice", [choice for group, choice in CHOICES if group == "method"])
def test_a_method_that_trains_has_a_number_for_every_model(choice):
    node = composed(f"method={choice}")["method"]
    if check_call("method", node, allow=[]).streams:
        for name in ("lr", "epochs", "global_batch_size"):
            assert {"default", "tiny"} <= set(node[name]), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_file_begins_with_a_sentence(path):
    first = next(line for line in path.read_text().splitlines() if not line.startswith("# @package"))
    assert re.match(r"# \S.{15,}", first)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_scalar_says_what_it_is(name):
    bare, blocks = [], []
    seen: set[str] = set()
    for line in (CONF / f"{name}.yaml").read_text().splitlines():
        found = re.match(r"( *)([\w_]+):(.*)", line)
        if not found:
            continue
        indent, key, rest = len(found.group(1)), found.group(2), found.group(3)
        blocks = [*(block for block in blocks if block[0] < indent), (indent, key)]
        commented = "#" in rest
        if commented:
            seen.add(key)
        opens = not rest.strip() or rest.strip().startswith("#")
        # A key that an earlier block of the same file explains (pretrain before finetune) needs no second comment.
        if (
            not opens
            and not commented
            and key not in SELF_EXPLAINING | seen
            and "hydra" not in dict(map(reversed, blocks))
        ):
            bare.append(key)
    assert bare == []


def without_texts(path: Path) -> str:
    """The lines of a file without those of its texts, which hold no keys."""
    return re.sub(r"^(\w+: \|.*\n)(?:  .*\n|\n)*", r"\1", path.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_key_without_a_comment_is_explained_in_a_sibling(path):
    siblings = "\n".join(map(without_texts, path.parent.glob("*.yaml")))
    if path.parent.name == "debug":  # sets other groups' keys
        return
    explained = set(re.findall(r"^ *([\w_]+):.*#", siblings, re.MULTILINE))
    keys = set(re.findall(r"^ *([\w_]+): *[^ #\n]", without_texts(path), re.MULTILINE))
    assert keys - explained - SELF_EXPLAINING == set()


def test_the_stages_that_config_names_are_all_stages():
    found = re.search(r"^goal:.*\n(?: +#.*\n)*", (CONF / "config.yaml").read_text(), re.MULTILINE)
    assert all(name in found[0] for name in stages())


# What a table may sweep: what is compared, and of what else one axis at most, where that is the table's subject.
COMPARED = {"seed", "method", "model", "dataset", "dataset.split"}
SUBJECTS = {
    "tiny_ascent": ["optim.epochs"],  # where gradient ascent forgets as much as MEOW
    "tuned_last": ["optim.lr", "optim.epochs"],  # the recipes themselves
    # the same with one rule for all of when to stop
    "tuned_best": ["optim.checkpoint", "evaluation.selection_fraction", "optim.epochs", "optim.lr"],
    "tiny_loop": ["method.rounds.requery"],  # whether asking again about what is held pays
    "ablation_k": ["method.select.k"],  # how many inverted facts it takes
    "ablation_strategy": ["method.select.strategy"],  # whether it matters which
    "ablation_candidates": ["inversion.candidates"],  # whether a choice among more is worth its price
    "ablation_memo": ["memo.mode"],  # whether what MEMO cuts matters
    "memo_ma_el": ["memo"],  # whether another measure would choose and say the same
}


def test_a_table_says_which_runs_and_sets_no_hyper_parameter() -> None:
    tables = sorted((CONF.parent / "experiments" / "sweep").glob("*.yaml"))
    assert {*SUBJECTS} < {path.stem for path in tables}
    for path in tables:
        content = yaml.safe_load(path.read_text())
        assert path.read_text().startswith("# @package _global_\n# "), f"{path.name} does not say what it is for"
        assert set(content) == {"hydra"}
        assert content["hydra"]["mode"] == "MULTIRUN"
        params = content["hydra"]["sweeper"]["params"]
        assert [option for option in params if option not in COMPARED] == SUBJECTS.get(path.stem, []), path.name


@pytest.mark.parametrize("path", sorted((CONF.parent / "experiments" / "sweep").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_runs_of_a_table_compose_and_none_comes_twice(path: Path) -> None:
    params = yaml.safe_load(path.read_text())["hydra"]["sweeper"]["params"]
    swept = {option: str(values).split(",") for option, values in params.items()}
    for option, values in swept.items():
        assert len(set(values)) == len(values), option
        if (CONF / option).is_dir():
            assert set(values) <= {choice for group, choice in CHOICES if group == option}
    for place in (0, -1):
        options = composed(*(f"{option}={values[place]}" for option, values in swept.items()))
        check_call("method", options["method"], allow=[])
        check_measure(options["memo"], allow=[])


def test_an_experiment_knows_no_method_seed_or_sweep() -> None:
    for path in sorted((CONF / "experiment").glob("*.yaml")):
        content = yaml.safe_load(path.read_text())
        assert not {"hydra", "seed", "sweep"} & set(content)
        overridden = {key for entry in content.get("defaults", []) for key in entry}
        assert "override /method" not in overridden
