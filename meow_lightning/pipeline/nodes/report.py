"""The node `report`: the options that the report shows, and its notes on the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from meow_lightning.config.attack_options import AttackConfig
from meow_lightning.config.instantiate import component_class
from meow_lightning.config.recipes import PLAIN, RECIPE, training_overrides
from meow_lightning.config.schema import InversionConfig
from meow_lightning.data.examples import Dataset
from meow_lightning.data.requests import Request
from meow_lightning.data.values.language import foreign_note
from meow_lightning.evaluation.checkpoint_selection import held_out
from meow_lightning.evaluation.protocols.registry import counted_rows
from meow_lightning.memo.memo import Profile
from meow_lightning.pipeline.nodes.attack import extraction_settings
from meow_lightning.pipeline.nodes.context import BuildContext
from meow_lightning.pipeline.nodes.slim import slim_settings
from meow_lightning.pipeline.nodes.translator import translations
from meow_lightning.pipeline.nodes.unlearn import Recipe, recipe_of
from meow_lightning.report.metric_trust import FILE as TRUST
from meow_lightning.report.metric_trust import read_trusts
from meow_lightning.report.seed_spread import FOLDER, read_spreads, settings_digest
from meow_lightning.stages.common.needs import ReportInputs
from meow_lightning.stages.common.prompts import TRANSLATIONS
from meow_lightning.stages.judge import READER
from meow_lightning.store.artifact import Artifact
from meow_lightning.types import Fact

SHOWN = ("dataset", "model", "method", "memo", "optim", "evaluation", "seed")
UNUSED = ("curve", "proposer", "translator")  # options of attacks that are shown only where they are set


def report(ctx: BuildContext, inputs: ReportInputs[Artifact], requests: Sequence[Request] = ()) -> Artifact:
    """Write the report of a run, with the requests to forget that arrive one after another, if they do."""
    recipe = recipe_of(ctx) if ctx.method.streams else Recipe({}, {})
    shown = _shown_options(ctx, recipe)
    digest = settings_digest(shown, [each for artifact in inputs.results.walk() for each in artifact.versions])
    spread = read_spreads(FOLDER).get(digest)
    settings: dict[str, Any] = {
        **({} if spread is None else {"spread": spread}), **({"keeps_start": True} if ctx.method.keeps_start else {}),
        **({"extractions": asked} if (asked := extraction_settings(ctx, inputs.evaluation.extractions)) else {}),
        **slim_settings(ctx), "digest": digest, "trust": _trust(),
        "name": ctx.config.run_name, "results_key": inputs.results.key, "options": shown, "origin": recipe.origin,
        "public": ctx.dataset.public, "disclaimer": ctx.config.disclaimer,
        "notes": [
            *ctx.dataset.caveats(), *ctx.roles.notes(), *_toy_note(ctx), *_measure_note(ctx), *_answer_prefix_note(ctx),
            *_selection_note(ctx), *_requests_note(ctx, requests),
            *([] if ctx.writer is None else language_note(ctx.dataset, ctx.config.inversion)),
        ],
    }  # fmt: skip
    if requests:
        settings["requests"] = [{"facts": len(each.facts), "groups": list(each.groups)} for each in requests]
    translated = {
        f"{TRANSLATIONS}/{name}": made for name, each in ctx.attacks.items() if (made := translations(ctx, each))
    }
    return ctx.artifact("report", "", settings, {**inputs.to_needs(), **translated})


def _trust() -> dict[str, Any]:
    """Read what a page needs of the measured trust in metrics: how it was measured, and each one's overall number."""
    trust = read_trusts(TRUST)
    overall = {name: {"overall": each["overall"]} for name, each in trust["metrics"].items()}
    return {"measured": trust["measured"], "command": trust["command"], "metrics": overall}


def _shown_options(ctx: BuildContext, recipe: Recipe) -> dict[str, Any]:
    """Select the options that determine the numbers, with the hyperparameters that unlearning used."""
    plain = ctx.config.plain()
    shown = {name: plain[name] for name in SHOWN}
    if ctx.config.attacks:
        shown["attacks"] = {
            name: _shown_attack(attack, allow=ctx.config.trusted_packages)
            for name, attack in ctx.config.attacks.items()
        }
    if ctx.config.protocol.sequential:
        shown["protocol"] = plain["protocol"]
    if ctx.config.probe.judge is not None:
        judge = {name: value for name, value in plain["probe"]["judge"].items() if name != READER or value is not None}
        shown["probe"] = {**plain["probe"], "judge": judge}
    if ctx.config.ability.tasks:
        shown["ability"] = {key: value for key, value in plain["ability"].items() if key != "folder"}
    if ctx.writer is not None:
        hidden = {*ctx.writer.unkeyed_options} - {"path", "model"}
        shown["inversion"] = {key: value for key, value in plain["inversion"].items() if key not in hidden}
    if ctx.config.method.select is not None:
        shown["method"] = {**shown["method"], "select": ctx.config.method.select.keyed}
    if ctx.repetition is not None:
        shown["method"] = {
            **shown["method"],
            "rounds": {**shown["method"]["rounds"], "memorized_above": ctx.repetition.memorized_above},
        }  # fmt: skip
    shown["memo"].pop("verify")  # does not change any number
    shown["optim"] = {
        **{key: value for key, value in shown["optim"].items() if key not in PLAIN},
        **training_overrides(ctx.config.optim),
        **{key: recipe.values[key] for key in RECIPE if key in recipe.values},
    }
    return shown


def _shown_attack(attack: AttackConfig, *, allow: Iterable[str]) -> dict[str, Any]:
    """List the options of an attack, without a curve that is not measured and language models that it has not."""
    shown = {name: value for name, value in attack.plain().items() if name not in UNUSED or value is not None}
    for writer, chosen in (("proposer", attack.proposer), ("translator", attack.translator)):
        if chosen is not None:
            hidden = {*component_class(chosen.keyed, allow=allow).unkeyed_options} - {"model"}
            shown[writer] = {name: value for name, value in shown[writer].items() if name not in hidden}
    return shown


def _requests_note(ctx: BuildContext, requests: Sequence[Request]) -> list[str]:
    inverted = ctx.writer is not None and bool(requests)
    return ["Inverted facts and their selection are those of the model that forgets all requests at once."] * inverted


def _toy_note(ctx: BuildContext) -> list[str]:
    toy = ctx.config.model.architecture is not None and not ctx.dataset.public
    return ["No model was provided (model.target= or model.base=): a toy model is trained on the facts here."] * toy


def _measure_note(ctx: BuildContext) -> list[str]:
    name = ctx.config.memo.name
    other = not isinstance(ctx.measure, Profile)
    return [f"Memorization is measured with {name.upper()} (memo={name}) wherever this report says MEMO."] * other


def _answer_prefix_note(ctx: BuildContext) -> list[str]:
    words = ctx.config.model.prompt.answer_prefix.strip()
    if ctx.retain_predictions is None or ctx.protocol == "tofu" or not words:
        return []
    return [
        f"The retain model's log may count the words {words!r} as part of the answer, as TOFU's code does, but the "
        "models here do not: evaluation.protocol=tofu scores both alike."
    ]


def language_note(dataset: Dataset, inversion: InversionConfig) -> list[str]:
    """Warn of own facts in other languages where rules write or fill up the inverted ones.

    Args:
        dataset: The dataset of the run.
        inversion: The options of a run that needs inverted facts.
    """
    if dataset.public or "rules" not in (inversion.name, inversion.on_shortage):
        return []
    return foreign_note([fact for fact in dataset.facts("forget") if isinstance(fact, Fact)])


def _selection_note(ctx: BuildContext) -> list[str]:
    share = ctx.selection_fraction
    if not share:
        return []
    sets = {name: len(counted_rows(ctx.protocol, facts)) for name, facts in ctx.dataset.evaluation().items()}
    remaining = ", ".join(f"{name} {n - len(held_out(name, n, share))} of {n}" for name, n in sets.items())
    return [
        f"Questions held out to select an epoch (evaluation.selection_fraction={share}) count in no metric; "
        f"remaining: {remaining}."
    ]
