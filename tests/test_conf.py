"""The files below ``conf/``: all compose, all bind, all are typed and documented."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest
import yaml
from helpers import hydra
from helpers.hydra import CONF
from omegaconf import OmegaConf

from meow_lightning.config.instantiate import component_class
from meow_lightning.config.mistakes import alternatives
from meow_lightning.config.options import Options
from meow_lightning.config.schema import RunConfig
from meow_lightning.config.validation import resolved
from meow_lightning.stages import stages

FILES = sorted(path for path in CONF.rglob("*.yaml") if path.parent != CONF)
CHOICES = [(str(path.parent.relative_to(CONF)), path.stem) for path in FILES]
# The file of each group that documents every key; its siblings only set them.
DOCUMENTED = [
    "config",
    "dataset/fictional",
    "dataset/tofu",
    "dataset/jsonl",
    "dataset/documents",
    "dataset/known",
    "recipe/tofu",
    "model/tiny",
    "optim/adamw",
    "memo/clean",
    "trainer/cpu",
    "callbacks/default",
]
DOCUMENTED += ["probe/slim", "evaluation/tofu", "logger/wandb", "inversion/rules", "inversion/file"]
DOCUMENTED += [
    "proposer/local",
    "translator/local",
    "judge/local",
    "inversion/local",
    "inversion/endpoint",
    "inversion/self",
    "inversion/target",
    "method/meow_loop",
]
SELF_EXPLAINING = {"forget01", "forget05", "forget10", "tofu", "name", "_target_", "seed", "dir", "subdir", "chdir"}
# Options that only a user can give.
NAMELESS = (
    ("inversion=file", "inversion.path"),
    ("dataset=jsonl", "dataset.forget"),
    ("dataset=documents", "dataset.forget"),
    ("inversion=local", "inversion.model"),
    ("inversion=endpoint", "inversion.model"),
    ("inversion=endpoint", "inversion.base_url"),
    ("translator@attacks.translation.translator=local", "attacks.translation.translator.model"),
    ("translator@attacks.translation.translator=endpoint", "attacks.translation.translator.model"),
    ("translator@attacks.translation.translator=endpoint", "attacks.translation.translator.base_url"),
    ("judge@probe.judge.reader=local", "probe.judge.reader.model"),
    ("proposer@attacks.instruction.proposer=local", "attacks.instruction.proposer.model"),
    ("proposer@attacks.instruction.proposer=endpoint", "attacks.instruction.proposer.model"),
    ("proposer@attacks.instruction.proposer=endpoint", "attacks.instruction.proposer.base_url"),
)


def composed(*words: str) -> RunConfig:
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
        "proposer/prompt": [
            "attacks=instruction",
            "proposer@attacks.instruction.proposer=local",
            f"proposer/prompt@attacks.instruction.proposer.prompt={choice}",
        ],
        "proposer": ["attacks=instruction", f"proposer@attacks.instruction.proposer={choice}"],
        "judge/prompt": [
            "probe=slim",
            "judge@probe.judge.reader=local",
            f"judge/prompt@probe.judge.reader.prompt={choice}",
        ],
        "judge": ["probe=slim", f"judge@probe.judge.reader={choice}"],
        "translator/prompt": [
            "attacks=translation",
            "translator@attacks.translation.translator=local",
            f"translator/prompt@attacks.translation.translator.prompt={choice}",
        ],
        "translator": ["attacks=translation", f"translator@attacks.translation.translator={choice}"],
    }.get(group, [f"{group}={choice}"])
    options = composed(*words)
    if "name" in options.plain().get(group, {}):
        assert options.plain()[group]["name"] == choice
    if group == "proposer/prompt":
        assert options.attacks["instruction"].proposer.prompt.version > 0
    if group == "judge/prompt":
        assert options.probe.judge.reader.prompt.version > 0
    if group == "judge":
        assert options.probe.judge.reader.name == choice
    if group == "translator/prompt":
        assert options.attacks["translation"].translator.prompt.version > 0
    if group == "translator":
        assert options.attacks["translation"].translator.name == choice
    if group == "proposer":
        assert options.attacks["instruction"].proposer.name == choice
    if group == "attacks" and choice == "none":
        assert options.attacks == {}
    elif group == "attacks" and choice not in ("quick", "full"):  # these take several others
        assert options.attacks[choice].name == choice
    assert options.memo.instantiate(allow=[]).name == options.memo.name


@pytest.mark.parametrize(("group", "choice"), [each for each in CHOICES if each[0] in RunConfig.model_fields])
def test_the_options_of_a_file_are_kept_as_they_are(group, choice):
    cfg = hydra.composed(f"{group}={choice}")
    for word, key in NAMELESS:
        OmegaConf.update(cfg, key, "file.jsonl") if word == f"{group}={choice}" else None
    given = OmegaConf.to_container(cfg, resolve=True)
    assert composed(f"{group}={choice}").plain() == given
    assert list(composed(f"{group}={choice}").plain()[group]) == list(given[group])


def test_every_option_of_the_tree_has_a_meaning():
    undocumented = []
    for typed in every_group(Options):
        fields = typed.model_fields.items()
        undocumented += [
            f"{typed.__name__}.{name}"
            for name, field in fields
            if not (
                field.description
                or any(
                    inspect.isclass(part) and issubclass(part, Options)
                    for part in alternatives(field.rebuild_annotation())
                )
            )
        ]
    assert undocumented == []


def every_group(typed: type[Options]) -> list[type[Options]]:
    """A class of options with its subclasses."""
    return [typed, *(each for child in typed.__subclasses__() for each in every_group(child))]


def test_the_architecture_binds_with_what_the_tokenizer_adds():
    nodes = [
        composed(f"model={choice}").plain()["model"]["architecture"] for group, choice in CHOICES if group == "model"
    ]
    assert any(nodes)
    for node in filter(None, nodes):
        module, _, name = node["_target_"].rpartition(".")
        signature = inspect.signature(getattr(importlib.import_module(module), name))
        signature.bind(
            **{key: value for key, value in node.items() if key != "_target_"}, vocab_size=300, end_id=0, pad_id=1
        )


@pytest.mark.parametrize("choice", [choice for group, choice in CHOICES if group == "method"])
def test_a_method_that_trains_has_a_number_for_every_model(choice):
    method = composed(f"method={choice}").method
    if component_class(method.keyed, allow=[]).streams:
        for name in ("lr", "epochs", "global_batch_size"):
            assert {"default", "tiny"} <= set(getattr(method, name)), name


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
    "smollm2_rates": ["optim.lr"],  # two tries for every method
    "smollm2_methods": ["optim.lr"],  # likewise, on facts that it knows
    "smollm2_selection": ["method.select.k", "method.select.strategy"],  # both on a real model
    "memo_ma_el": ["memo"],  # whether another measure would choose and say the same
}


def test_a_table_says_which_runs_and_sets_no_hyper_parameter() -> None:
    tables = sorted((CONF.parent / "experiments" / "sweep").glob("*.yaml"))
    assert {*SUBJECTS} < {path.stem for path in tables}
    for path in tables:
        content = yaml.safe_load(path.read_text())
        assert path.read_text().startswith("# @package _global_\n# "), f"{path.name} does not say what it is for"
        assert set(content) <= {"hydra", "defaults"}
        chosen = {key for entry in content.get("defaults", []) for key in entry}
        assert chosen <= {"override /experiment", "override /attacks"}, path.name
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
        options.method.instantiate(allow=[])
        options.memo.instantiate(allow=[])


def test_an_experiment_knows_no_method_seed_or_sweep() -> None:
    for path in sorted((CONF / "experiment").glob("*.yaml")):
        content = yaml.safe_load(path.read_text())
        assert not {"hydra", "seed", "sweep"} & set(content)
        overridden = {key for entry in content.get("defaults", []) for key in entry}
        assert "override /method" not in overridden
