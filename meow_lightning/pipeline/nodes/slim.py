"""Nodes of the SlimPLM probe: a pruned proxy of every model, and the answers of both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meow_lightning.attacks.base import ModelAttack
from meow_lightning.config.attack_options import AttackConfig
from meow_lightning.config.packages import package_versions
from meow_lightning.config.probe_options import Reader
from meow_lightning.data.encoding import digest_of
from meow_lightning.errors import UserError, invalid_option
from meow_lightning.evaluation.known_judge import PACKAGES
from meow_lightning.evaluation.retrieval import corpus_digest, corpus_of
from meow_lightning.pipeline.nodes.attack import attack_settings, irreplaceable
from meow_lightning.pipeline.nodes.context import BuildContext
from meow_lightning.pipeline.nodes.models import TEACHER_PROMPT, provided_model
from meow_lightning.pipeline.nodes.predict import OWN_PROTOCOL
from meow_lightning.pipeline.nodes.run_attack import RunAttack, run_attack
from meow_lightning.stages.common.slim import READ
from meow_lightning.stages.judge import ANSWERS, READER
from meow_lightning.stages.results.model import MODEL
from meow_lightning.stages.slim import slim_questions
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.integrity import MANIFEST
from meow_lightning.store.jsonl import read_json
from meow_lightning.types import Role

ASKED_FIELDS = ("id", "question", "answer", "value", "values")  # of a fact, read by the stage
OPTION = "probe.judge.reader"
OF_JUDGE = ("set_aside", "c", "threshold")  # options of the judge that no answer depends


def slim_answers(ctx: BuildContext, models: Mapping[Role, Artifact]) -> dict[Role, Artifact]:
    """Ask every model and its proxy, by role; empty with ``probe=none``.

    Args:
        ctx: The run.
        models: The models, by role.

    Raises:
        UserError: The options do not fit the run, a package is not installed, or the given proxy is stale.
    """
    probe = ctx.config.probe
    if probe.judge is None or probe.gate is None or probe.pruning is None:
        return {}
    _check(ctx)
    passages = corpus_of(ctx.dataset, probe.gate.corpus)
    judge = {name: value for name, value in probe.judge.plain().items() if name not in (*OF_JUDGE, READER)}
    gate = {**probe.gate.plain(), "corpus": corpus_digest(passages)}
    packages = package_versions(PACKAGES, option="probe=slim", extra="probe", instead="probe=none")
    settings = {
        "judge": judge, "gate": gate, "max_new_tokens": ctx.config.evaluation.max_new_tokens,
        "facts": [[each.name, each.purpose, digest_of(each, ASKED_FIELDS)]
                  for each in ctx.dataset.evaluation().values()],
        "packages": packages, "model": ctx.inference_settings,
    }  # fmt: skip
    pruning = _pruning(ctx, probe.pruning)
    proxies = {role: _proxy(ctx, role, model, pruning) for role, model in models.items()}
    answered = {
        role: ctx.artifact("slim", role, settings, {"model": model, "proxy": proxies[role]}, corpus=probe.gate.corpus)
        for role, model in models.items()
    }
    return answered if probe.judge.reader is None else _read(ctx, probe.judge.reader, answered)


def _read(ctx: BuildContext, chosen: Reader, answered: Mapping[Role, Artifact]) -> dict[Role, Artifact]:
    """Have a language model judge the answers."""
    model = ctx.roles.other(f"{OPTION}.model", chosen.model, words=())
    reader = provided_model(ctx, READER, model, TEACHER_PROMPT)
    node = chosen.plain()
    keyed = {name: value for name, value in node.items() if name not in ("name", "model")}
    settings = {READER: keyed, "max_new_tokens": ctx.config.evaluation.max_new_tokens}
    given = {READER: {"option": OPTION, "node": node}}
    return {
        role: ctx.artifact("judge", role, settings, {ANSWERS: each, READER: reader}, **given)
        for role, each in answered.items()
    }


def slim_settings(ctx: BuildContext) -> dict[str, Any]:
    """Build what `evaluate` and `report` need to know of the judge; empty with ``probe=none``.

    Args:
        ctx: The run.
    """
    judge = ctx.config.probe.judge
    if judge is None:
        return {}
    read = {} if judge.reader is None else {READ: True}
    return {"probe": {**{name: getattr(judge, name) for name in OF_JUDGE}, "seed": judge.seed, **read}}


def _check(ctx: BuildContext) -> None:
    """Check that the models can be pruned, and asked with prompts of the run."""
    if ctx.protocol != OWN_PROTOCOL:
        raise UserError(
            f"probe=slim asks with the prompts of the model, but evaluation.protocol={ctx.protocol} has prompts of its "
            f"own; set probe=none or evaluation.protocol={OWN_PROTOCOL}"
        )
    if not slim_questions(ctx.dataset):
        raise UserError(
            f"probe=slim asks questions whose value is marked, but dataset={ctx.dataset.name} has none; set probe=none"
        )


def _pruning(ctx: BuildContext, chosen: AttackConfig) -> RunAttack:
    """Build the attack that prunes the models."""
    pruning = run_attack("probe.pruning", chosen, ctx.config, ctx.dataset)
    if not isinstance(pruning.attack, ModelAttack) or pruning.attack.trains:
        expected = "an attack on the model that does not train, such as attacks@probe.pruning=prune"
        raise invalid_option("probe.pruning._target_", chosen.target, expected)
    return pruning


def _proxy(ctx: BuildContext, role: Role, model: Artifact, pruning: RunAttack) -> Artifact:
    """Prune a model, unless the proxy of the unlearned model is given."""
    given = ctx.config.probe.proxy
    if given is not None and role == "unlearned":
        check_current(Path(given), model)
        source = ctx.roles.other("probe.proxy", given, words=("null",))
        return provided_model(ctx, f"{role} proxy", source, ctx.config.model.prompt.plain())
    if role in irreplaceable(ctx, pruning):
        raise UserError(
            f"probe=slim prunes every model, but the weights of method={ctx.method_name} answer only together with "
            "modules attached to them; set probe=none"
        )
    settings = attack_settings(ctx, pruning)
    return ctx.artifact("attack", f"{role} proxy", settings, {"model": model}, trains=False)


def check_current(folder: Path, model: Artifact) -> None:
    """Refuse a proxy that was made from other weights than those of the model it would speak for.

    Args:
        folder: ``probe.proxy``, the folder ``model`` of a stored result.
        model: The unlearned model of the run.

    Raises:
        UserError: It is stale, or its origin is unknown.
    """
    try:
        manifest = read_json(folder.parent / MANIFEST)
        origin = manifest["needs"]["model"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        expected = f"the folder {MODEL} of a result of the stage attack, whose manifest names the model it is made from"
        raise invalid_option("probe.proxy", folder, expected) from error
    if origin != model.key:
        raise UserError(
            f"probe.proxy={folder} is stale: it was made from the model {origin}, but the unlearned model of this run "
            f"is {model.key}, and a proxy of other weights tells what those know; leave probe.proxy out to prune it "
            "here, or give a proxy of this model"
        )
