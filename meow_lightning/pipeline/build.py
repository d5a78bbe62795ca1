"""A cell's config to its graph of artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meow_lightning.config.instantiate import without_key
from meow_lightning.config.recipes import PLAIN, RECIPE, training_overrides
from meow_lightning.errors import UserError, check_choice
from meow_lightning.evaluation.checkpoint_selection import held_out
from meow_lightning.evaluation.protocols.prompts import check_tags
from meow_lightning.evaluation.protocols.registry import PROTOCOL_NAMES, counted_rows
from meow_lightning.evaluation.tofu_logs.reader import read_retain_log
from meow_lightning.memo.memo import Profile
from meow_lightning.pipeline.graph import Graph, run_name
from meow_lightning.pipeline.nodes.unlearning import Rounds
from meow_lightning.report.seed_spread import FOLDER, read_spreads, settings_digest
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.integrity import digest as file_digest


class _Cell(Rounds):
    """Builds the artifacts of one cell from its resolved options."""

    def verified(self, scores: Artifact) -> Artifact:
        """Some windows of a score, done again; in the graph where ``memo.verify`` asks for it."""
        settings = {**scores.settings, "windows": self.options["memo"]["verify"], "seed": self.options["seed"]}
        return self.artifact("verify", scores.label, settings, {**scores.needs, "scores": scores})

    def _toy(self) -> list[str]:
        toy = self.options["model"]["architecture"] is not None and not self.dataset.public
        return ["No model was given (model.target= or model.base=): a toy was made here and taught the facts."] * toy

    def _measured(self) -> list[str]:
        name = self.options["memo"]["name"]
        other = not isinstance(self.measure, Profile)
        return [f"Memorisation is measured as {name.upper()} (memo={name}), where it says MEMO."] * other

    def _retain_predictions(self) -> str | None:
        """The log that stands in for the retain model, read once: what is wrong with it is said before any work."""
        path = self.options["evaluation"]["retain_predictions"]
        if path is not None:
            facts = counted_rows(self.options["evaluation"]["protocol"], self.dataset.evaluation()["forget"])
            asked = [(fact.id, fact.question, fact.answer) for fact in facts]
            read_retain_log(Path(path), asked, option="evaluation.retain_predictions")
        return path

    def _protocol(self) -> dict[str, str]:
        """Whose evaluation it is, where it is not ours."""
        wish = self.options["evaluation"]
        name = check_choice("evaluation.protocol", wish["protocol"], PROTOCOL_NAMES)
        if name == "tofu":
            check_tags(self.options["model"]["prompt"]["template"])
        if name == "open_unlearning" and wish["truth_ratio_mean"] != "geometric":
            raise UserError(
                f"evaluation.truth_ratio_mean={wish['truth_ratio_mean']}: open-unlearning takes the geometric mean; "
                "leave it out, or say evaluation.protocol=none"
            )
        return {} if name == "none" else {"protocol": name}

    def _selection_fraction(self) -> dict[str, float]:
        """The share of every set that numbers leave out, where there is one."""
        share = self.options["evaluation"]["selection_fraction"]
        return {"selection_fraction": share} if share else {}

    def _set_aside(self) -> list[str]:
        share, protocol = self.options["evaluation"]["selection_fraction"], self.options["evaluation"]["protocol"]
        if not share:
            return []
        sets = {name: len(counted_rows(protocol, facts)) for name, facts in self.dataset.evaluation().items()}
        left = ", ".join(f"{name} {n - len(held_out(name, n, share))} of {n}" for name, n in sets.items())
        return [
            f"Questions set aside to choose an epoch (evaluation.selection_fraction={share}) count in no number; left: "
            f"{left}."
        ]

    def _other_scoring(self) -> list[str]:
        wish, words = self.options["evaluation"], self.options["model"]["prompt"]["answer_prefix"].strip()
        if wish["retain_predictions"] is None or wish["protocol"] == "tofu" or not words:
            return []
        return [
            f"The retain model's log may count the words {words!r} as answer, as TOFU's code does, and the models here "
            "do not: evaluation.protocol=tofu scores them alike."
        ]

    def graph(self) -> Graph:
        """All that the cell makes, by name."""
        measures = self._measures()
        every = {"target": self.target, "unlearned": self.unlearned, "retain": self.retain}
        roles = {role: model for role, model in every.items() if model is not None}
        answers = {f"predict/{role}": self.answer(role, model, None, {}) for role, model in roles.items()}
        self.check_windows("answer", lambda fact: (fact.answer,))
        scores = {f"score/{role}/answers": self.score(f"{role} answers", model, {}) for role, model in roles.items()}
        extra: dict[str, Artifact] = {}
        if "inverted" in self.method.streams:
            scores["score/target/candidates"] = self.rounds[0].candidates
            extra = {"asked": self.rounds[-1].asked, "inverted": self.rounds[-1].inverted}
        steps = self._steps()
        rounds = {name: each for name, each in steps.items() if each.stage == "score"}
        asked = scores | rounds if self.options["memo"]["verify"] else {}
        checks = {name.replace("score", "verify"): self.verified(each) for name, each in asked.items()}
        results = self.artifact("evaluate", "", measures, {**answers, **scores})
        bases = [each for model in roles.values() for each in model.walk() if each.label == "base"]
        models = {"base": bases[0], **roles} if bases else roles
        needs = {"results": results, **extra, **models, **answers, **scores, **checks, **steps}
        report = self.artifact("report", "", self._page(results), needs)
        made = {**extra, **models, **scores, **checks, **answers, **steps, "results": results, "report": report}
        return Graph(name=run_name(self.options), streams=tuple(self.method.streams), artifacts=made)

    def _steps(self) -> dict[str, Artifact]:
        """What the report shows of a loop's rounds; nothing for a method of one round."""
        found: dict[str, Artifact] = {}
        for number, each in enumerate(self.rounds, start=1) if self.loop else ():
            named = {"propose": each.asked, "filter": each.inverted, "unlearn": each.unlearned, "score": each.scores}
            found |= {f"round/{number}/{name}": artifact for name, artifact in named.items()}
        return found

    def _measures(self) -> dict[str, Any]:
        wish = self.options["evaluation"]
        measures = {name: wish[name] for name in ("truth_ratio_mean", "bootstrap_samples", "confidence_level")}
        measures |= self._protocol() | self._selection_fraction()
        measures["kept"] = self.facts("retain", "answer", "alternatives", "phrasings")  # what is no secret
        if self.roles.retain_missing_reason is not None:
            measures["absent"] = {"retain": self.roles.retain_missing_reason}
        log = self._retain_predictions()
        if log is not None:
            measures["retain_predictions"], self.inputs["retain_predictions"] = file_digest(Path(log)), log
        return measures

    def _page(self, results: Artifact) -> dict[str, Any]:
        """What the report says of the cell's settings."""
        names = ("dataset", "model", "method", "memo", "optim", "evaluation", "seed")
        shown = {name: self.options[name] for name in names}
        if "inverted" in self.method.streams:
            node, unkeyed_options = self.options["inversion"], {*self.writer.unkeyed_options} - {"path", "model"}
            shown["inversion"] = {key: value for key, value in node.items() if key not in unkeyed_options}
        if self.loop:
            shown["method"] = {**shown["method"], "rounds": self.loop}
        shown["memo"] = without_key(shown["memo"], "verify")  # it changes no number
        shown["optim"] = {
            **{key: value for key, value in shown["optim"].items() if key not in PLAIN},
            **training_overrides(shown["optim"]),
            **{key: self.unlearned.settings["recipe"][key] for key in RECIPE if self.method.streams},
        }
        digest = settings_digest(shown, [(each.stage, each.version) for each in results.walk()])
        spread = read_spreads(FOLDER).get(digest)
        return {
            **({} if spread is None else {"spread": spread}), "digest": digest,
            "name": run_name(self.options), "cell": results.key, "options": shown, "origin": self.origin,
            "public": self.dataset.public, "disclaimer": self.options["disclaimer"],
            "notes": [
                *self.dataset.notes(), *self.roles.notes(), *self._toy(), *self._measured(), *self._other_scoring(),
                *self._set_aside(),
            ],
        }  # fmt: skip


def graph(options: Mapping[str, Any]) -> Graph:
    """The artifacts of the cell that some resolved options describe; costs no work beyond reading the dataset.

    Raises:
        UserError: For options that cannot be, before anything is made.
    """
    return _Cell(options).graph()
