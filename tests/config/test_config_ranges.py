"""Numbers that cannot work are refused before any stage: every numeric option of every file in conf/ is tried."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import pytest
from helpers import hydra
from helpers.hydra import CONF
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ValidationError

from meow_lightning.config.hydra_errors import summarize_error
from meow_lightning.config.mistakes import accepts, range_of
from meow_lightning.config.ranges import FINITE, Range, Seed, Temperature
from meow_lightning.config.signature import argument_types, checked_type
from meow_lightning.config.training_options import Warmup
from meow_lightning.config.validation import resolved
from meow_lightning.errors import UserError, mistakes_of
from meow_lightning.methods.npo import Npo
from meow_lightning.methods.wga import Wga
from meow_lightning.pipeline.build import graph

GROUPS = ("dataset", "model", "method", "inversion", "memo", "optim", "evaluation", "trainer", "logger", "callbacks")
ASKS = {
    "file": ["inversion.path=x"], "local": ["inversion.model=x"], "jsonl": ["dataset.forget=x"],
    "documents": ["dataset.forget=x"], "tinymem": ["method=npo"],
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
    "method.rounds.memorized_above", "optim.sam_rho", "method.belief_weight",
    "method.kl_weight", "method.neighbours", "method.rho", "method.ascent_weight", "method.wasserstein_weight",
    "Uld.beta", "method.inverted_share", "inversion.demonstrations",
    "inversion.max_retries_per_fact", "Endpoint.temperature", "Local.temperature", "inversion.retries", "memo.verify",
    "evaluation.selection_fraction",
    "callbacks.checkpoint_seconds", "callbacks.memo_every_epochs", "callbacks.memo_every_steps", "callbacks.memo_facts",
    "callbacks.evaluate_every_epochs",
}  # fmt: skip
NEGATIVE = {"method.delta"}
NEEDING_MODELS = ("inversion=file", "inversion=local", "inversion=self", "inversion=target")  # or a file
READING_FILES = ("dataset=documents", "dataset=jsonl", "dataset=knowundo", "dataset=lume", "dataset=tofu")


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
        if isinstance(changed.dataset.get("forget"), str):
            changed.dataset.forget = str(facts)
        config = resolved(changed)
        if path.startswith("dataset."):  # how many there are is known to the dataset alone
            config.dataset.instantiate(allow=[])
    except UserError as error:
        return mistakes_of(error)[0]
    except ValidationError as error:  # of the few options that OmegaConf itself holds to a type
        return summarize_error(error, [])
    return ""


def name_of(cfg: DictConfig, path: str) -> set[str]:
    """The names under which an option may stand in the lists above."""
    kinds = {f"{group}.": f"{cfg[group]._target_.rpartition('.')[2]}." for group in ("method", "inversion")}
    return {path, path.rpartition(".")[0], *(path.replace(group, kind) for group, kind in kinds.items())}


def test_the_walk_sees_every_group():
    seen = {path for paths in leaves().values() for path in paths}
    assert len(seen) > 100
    assert {path.partition(".")[0] for path in seen} == {*GROUPS, "seed", "limit"} - {"logger"}
    assert seen >= SILENT


@pytest.mark.parametrize("word", leaves())
def test_numbers_that_cannot_work_are_refused_by_their_option(word, tmp_path):
    cfg, facts = composed()[word], tmp_path / "facts.jsonl"
    row = {"question": "Where was Ada Brook born?", "answer": "Ada Brook was born in Lima."}
    facts.write_text(json.dumps({"text": " ".join(row.values())} if word == "dataset=documents" else row))
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
        ("inversion.extra", {"a": [math.nan]}, "inversion.extra.a=[nan] is invalid: expected finite numbers, not nan"),
        ("seed", -1, "seed=-1 is invalid: expected a number from 0 to 2,147,483,647"),
    ],
)
def test_messages(path, value, said):
    cfg = hydra.composed("inversion=endpoint", "inversion.model=m", "inversion.base_url=http://localhost/v1")
    OmegaConf.update(cfg, path, value, force_add=True)
    with pytest.raises(UserError) as caught:
        resolved(cfg)
    assert mistakes_of(caught.value) == (said,)


@pytest.mark.parametrize(
    ("hint", "inside", "outside"),
    [
        (Warmup, (0, 0.5, 1, 20.0), (-1, 2.5, math.nan, True)),
        (Temperature, (0, 0.001, 100), (1e-4, 101, "1")),
        (Seed, (0, 2**31 - 1), (-1, 2**31, 0.0)),
        (Annotated[float, Range(0, 1, above=True, below=True)], (1e-9, 0.999), (0.0, 1.0)),
        (Annotated[float, FINITE], (-7e30, 3), (math.inf, 1e39)),
    ],
)
def test_ends_belong_to_a_range_or_not(hint, inside, outside):
    checked = checked_type(hint)
    assert [value for value in inside if not accepts(value, checked)] == []
    assert [value for value in outside if accepts(value, checked)] == []


def test_each_method_has_its_own_range_of_an_argument():
    strict, loose = (range_of(argument_types(method)["beta"]) for method in (Npo, Wga))
    assert strict is not None and strict.above
    assert loose is not None and not loose.above


def test_a_number_without_a_range_has_to_be_finite():
    def own(*, mine: float) -> None: ...

    assert range_of(argument_types(own)["mine"]) is FINITE


def test_a_width_that_no_head_gets_its_share_of():
    with pytest.raises(
        UserError, match=r"^model.architecture.hidden_size=32 is invalid: expected a multiple of 6 .*mean 30"
    ):
        hydra.options("model.architecture.hidden_size=32", "model.architecture.heads=3")
    hydra.options("model.architecture.hidden_size=32", "model.architecture.heads=4")


def test_a_plan_of_the_shipped_files_is_in_range():
    for word, cfg in composed().items():
        if word not in (*READING_FILES, "dataset=known", *NEEDING_MODELS) and word[:6] != "model=":
            assert graph(resolved(cfg)).artifacts, word
