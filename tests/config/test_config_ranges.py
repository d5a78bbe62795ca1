"""Numbers that cannot work are refused before any stage: every numeric option of every file in conf/ is tried."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from helpers import hydra
from helpers.hydra import CONF
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ValidationError

from meow_lightning.config.hydra_errors import summarize_error
from meow_lightning.config.instantiate import instantiate
from meow_lightning.config.ranges import FINITE, RANGES, check_ranges, range_of
from meow_lightning.config.validation import resolved
from meow_lightning.errors import UserError
from meow_lightning.pipeline.build import graph

GROUPS = ("dataset", "model", "method", "inversion", "memo", "optim", "evaluation", "trainer", "logger", "callbacks")
ASKS = {
    "file": ["inversion.path=x"], "local": ["inversion.model=x"], "jsonl": ["dataset.forget=x"],
    "endpoint": ["inversion.model=x", "inversion.base_url=http://localhost"],
}  # fmt: skip
# Numbers that are null by default.
SILENT = {
    "limit", "model.lora.rank", "optim.lr", "optim.epochs", "optim.global_batch_size", "optim.batch_tokens",
    "trainer.micro_batch_tokens", "trainer.generation_batch_size",
    "method.rounds.max_requests", "inversion.requests_per_minute", "inversion.max_requests",
    "inversion.max_total_tokens",
}  # fmt: skip
# What the YAML documents as allowed: 0, and a number below it.
ZERO = {
    "seed", "dataset.seed", "model.seed", "inversion.seed", "dataset.perturb", "model.finetune.replay",
    "model.finetune.steps", "model.finetune.known",
    *(f"{group}.{name}" for group in ("optim", "model.pretrain", "model.finetune")
      for name in ("lr", "epochs", "weight_decay", "max_grad_norm", "warmup")),
    "method.lr", "method.epochs", "method.retain_weight", "method.beta1", "method.beta2", "method.mu0", "method.eta",
    "method.eps", "method.delta", "method.layer", "method.alpha", "Wga.beta", "Undial.beta",
    "method.rounds.memorized_above",
    "inversion.max_retries_per_fact", "inversion.temperature", "inversion.retries", "memo.verify",
    "evaluation.selection_fraction",
    "callbacks.checkpoint_seconds", "callbacks.memo_every_epochs", "callbacks.memo_every_steps", "callbacks.memo_facts",
    "callbacks.evaluate_every_epochs",
}  # fmt: skip
NEGATIVE = {"method.delta"}


@lru_cache(maxsize=1)
def composed() -> dict[str, DictConfig]:
    """One composed run for each file of each group, by its word."""
    found = {}
    for group in GROUPS:
        for path in sorted((CONF / group).glob("*.yaml")):
            word = f"{group}={path.stem}"
            found[word] = hydra.composed(word, *ASKS.get(path.stem, []))
    return found


def numbers(node: Any, path: str) -> Iterator[str]:
    """The dotted options below a node that hold a number, or may; of a list the list."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from numbers(value, f"{path}.{key}".lstrip("."))
    else:
        first = node[0] if isinstance(node, list) and node else node
        if path in SILENT or (isinstance(first, (int, float)) and not isinstance(first, bool)):
            yield path


@lru_cache(maxsize=1)
def leaves() -> dict[str, list[str]]:
    """The options that hold a number, by the word that chooses a file; each option of what is alike in many once."""
    found: dict[str, list[str]] = {}
    seen = set()
    for word, cfg in composed().items():
        for path in numbers(OmegaConf.to_container(cfg, resolve=True), ""):
            what = (cfg.method._target_ if path.startswith("method.") else "", path)
            if what not in seen:
                found.setdefault(word, []).append(path)
                seen.add(what)
    return found


def refused(cfg: DictConfig, path: str, value: float, facts: Path) -> str:
    """What a run says to an option; empty where it takes it."""
    changed = OmegaConf.merge(cfg)
    try:
        OmegaConf.update(changed, path, [value, 0.9] if path.endswith("betas") else value, merge=False)
        options = resolved(changed)
        if "forget" in options["dataset"]:
            options["dataset"]["forget"] = str(facts)
        if path.startswith("dataset."):  # how many there are is known to the dataset alone
            instantiate(options["dataset"], allow=[])
    except UserError as error:
        return str(error)
    except ValidationError as error:  # of the few options that OmegaConf itself holds to a type
        return summarize_error(error, [])
    return ""


def name_of(cfg: DictConfig, path: str) -> set[str]:
    """The names under which an option may stand in the lists above."""
    kind = cfg.method._target_.rpartition(".")[2]
    return {path, path.rpartition(".")[0], path.replace("method.", f"{kind}.")}


def test_the_walk_sees_every_group():
    seen = {path for paths in leaves().values() for path in paths}
    assert len(seen) > 100
    assert {path.partition(".")[0] for path in seen} == {*GROUPS, "seed", "limit"} - {"logger"}
    assert seen >= SILENT
    bounds = {path for path in RANGES if path[0].islower()}
    assert bounds <= seen | {path.rpartition(".")[0] for path in seen}, "a range of an option that nobody has"


@pytest.mark.parametrize("word", leaves())
def test_numbers_that_cannot_work_are_refused_by_their_option(word, tmp_path):
    cfg, facts = composed()[word], tmp_path / "facts.jsonl"
    facts.write_text(json.dumps({"question": "Where was Ada Brook born?", "answer": "Ada Brook was born in Lima."}))
    for path in leaves()[word]:
        names = name_of(cfg, path)
        wrong = [math.nan, math.inf, -math.inf, 1e30, 10**30]
        wrong += [] if names & NEGATIVE else [-1, -0.5]
        wrong += [] if names & ZERO else [0]
        for value in wrong:
            said = refused(cfg, path, value, facts)
            assert said.startswith(f"{path}="), f"{path}={value}: {said or 'taken'}"
            assert "\n" not in said
        for value in [0] * bool(names & ZERO) + [-1] * bool(names & NEGATIVE):
            assert refused(cfg, path, value, facts) == "", f"{path}={value}"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("optim.lr", math.nan, "optim.lr=nan is invalid: expected a number from 0 to 1"),
        ("optim.max_grad_norm", math.nan, "optim.max_grad_norm=nan is invalid: expected a number from 0 to 1e+06"),
        ("optim.eps", 0.0, "optim.eps=0.0 is invalid: expected a number from 1e-30 to 1"),
        (
            "optim.betas",
            [0.0, 0.9],
            "optim.betas=[0.0, 0.9] is invalid: expected numbers above 0 and below 1, not 0.0",
        ),
        ("optim.betas", [0.9, 1], "optim.betas=[0.9, 1] is invalid: expected numbers above 0 and below 1, not 1"),
        (
            "optim.warmup",
            2.5,
            "optim.warmup=2.5 is invalid: expected an integer number of steps, or a fraction of all steps below 1",
        ),
        (
            "inversion.temperature",
            1e-9,
            "inversion.temperature=1e-09 is invalid: expected a number from 0.001 to 100, or 0",
        ),
        ("inversion.top_p", 0, "inversion.top_p=0 is invalid: expected a number above 0 and at most 1"),
        ("method.lr", {"tiny": 2}, "method.lr.tiny=2 is invalid: expected a number from 0 to 1"),
        ("method.own", math.inf, "method.own=inf is invalid: expected a finite number"),
        ("inversion.extra", {"a": [math.nan]}, "inversion.extra.a=[nan] is invalid: expected finite numbers, not nan"),
        ("seed", -1, "seed=-1 is invalid: expected a number from 0 to 2,147,483,647"),
    ],
)
def test_messages(path, value, said):
    options = OmegaConf.create()
    OmegaConf.update(options, path, value)
    with pytest.raises(UserError) as caught:
        check_ranges(OmegaConf.to_container(options))
    assert str(caught.value) == said


def test_ends_belong_to_a_range_or_not_and_texts_are_none_of_its_business():
    check_ranges({"optim": {"warmup": "epoch", "lr": None, "betas": [1e-9, 0.999]}, "evaluation": {"level": 0.999}})
    check_ranges({"inversion": {"temperature": 0, "top_p": 1.0}, "plan": True, "method": {"mine": -7e30}})
    check_ranges({"optim": {"warmup": 0.5}, "model": {"pretrain": {"warmup": 20.0}}})


def test_the_class_of_a_method_decides_where_its_word_means_two_things():
    assert range_of("method.beta", "Npo").above
    assert not range_of("method.beta", "Wga").above
    assert range_of("method.nobody_knows", "Npo") is FINITE
    assert range_of("optim.beta", "Npo") is FINITE


def test_a_width_that_no_head_gets_its_share_of():
    sizes = {"_target_": "meow_lightning.models.tiny.llama", "hidden_size": 32, "heads": 3}
    with pytest.raises(
        UserError, match=r"^model.architecture.hidden_size=32 is invalid: expected a multiple of 6 .*mean 30"
    ):
        check_ranges({"model": {"architecture": sizes}})
    check_ranges({"model": {"architecture": {**sizes, "heads": 4}}})


def test_a_plan_of_the_shipped_files_is_in_range():
    for word, cfg in composed().items():
        if word not in ("dataset=jsonl", "dataset=tofu", "inversion=file", "inversion=local") and word[:6] != "model=":
            assert graph(resolved(cfg)).artifacts, word
