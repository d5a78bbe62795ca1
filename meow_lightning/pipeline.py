"""A cell's config to its graph of artifacts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from meow_lightning.cellgraph import Graph, cell_name
from meow_lightning.config import build, check_call, check_least, check_measure, choose, described, without
from meow_lightning.data.limited import Limited
from meow_lightning.data.rows import digest, digest_of, fingerprint
from meow_lightning.evaluation.logs import stand_in
from meow_lightning.memo.measure import Kind, Text
from meow_lightning.memo.profile import Profile
from meow_lightning.recipe import OPTIM, RECIPE, per_model
from meow_lightning.roles import Given, Roles, check_model
from meow_lightning.stages import stage
from meow_lightning.store import Artifact
from meow_lightning.store import digest as file_digest
from meow_lightning.types import Dataset, Fact, UserError

TRAINED = ("question", "answer", "phrasings")  # what training reads of a fact
ASKED = ("id", "question", "answer", "paraphrase", "perturbed", "value")  # what answering reads of it


@lru_cache(maxsize=8)
def _dataset(node: str, allow: tuple[str, ...], limit: int | None) -> tuple[Dataset, str]:
    whole = build(json.loads(node), allow=allow)
    dataset: Dataset = whole if limit is None else Limited(dataset=whole, limit=limit)
    return dataset, fingerprint(dataset)


def dataset_of(options: Mapping[str, Any]) -> tuple[Dataset, str]:
    """(dataset, digest of its content) of some options, cut short where they say so; read once, however often asked."""
    if options["limit"] is not None and options["limit"] < 1:
        raise UserError(f"limit={options['limit']} is too small; at least 1 is needed")
    return _dataset(json.dumps(options["dataset"], sort_keys=True), tuple(options["allow"]), options["limit"])


class _Cell:
    """Builds the artifacts of one cell from its resolved options."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self.allow = list(options["allow"])
        for name in ("dataset", "method", "inversion"):
            check_call(name, options[name], allow=self.allow)
        check_model(options["model"])
        for name in ("evaluation", "method"):
            check_least(name, options[name])
        self.measure = check_measure(options["memo"], allow=self.allow)  # not after the models are trained
        self.method = check_call("method", options["method"], allow=self.allow)
        self.dataset, content = dataset_of(options)
        self.roles = Roles(options)
        self.inputs = {
            "dataset": options["dataset"], "content": content, "limit": options["limit"],
            "allow": self.allow, "memo": options["memo"],
        }  # fmt: skip
        self.origin: dict[str, str] = {}

    def artifact(
        self, stage_name: str, label: str, settings: Mapping[str, Any], needs: Mapping[str, Artifact], **inputs: Any
    ) -> Artifact:
        return Artifact(
            stage=stage_name, label=label, version=stage(stage_name).VERSION, settings=settings, needs=needs,
            inputs={**self.inputs, **inputs},
        )  # fmt: skip

    @property
    def model(self) -> dict[str, Any]:
        """What of the model every stage that asks one must know."""
        return {name: self.options["model"][name] for name in ("prompt", "dtype", "attention")}

    @property
    def trained(self) -> dict[str, Any]:
        """What of the model every stage that trains one must know."""
        model, lora = self.options["model"], self.options["model"]["lora"]
        mixed = model["precision"] == "mixed" and model["dtype"] == "bfloat16"  # there is nothing to mix in float32
        return {
            **self.model, "precision": "mixed" if mixed else "plain", "lora": None if lora["rank"] is None else lora,
        }  # fmt: skip

    def facts(self, split: str, *parts: str) -> str:
        """The digest of what a stage reads of a split: some parts of each fact, all of them when none is named."""
        return digest_of(self.dataset.facts(split), parts)

    def stream(self, rows: int, seed: int) -> str:
        """The digest of a stretch of the dataset's stream."""
        return digest_of(self.dataset.stream(rows, seed), TRAINED)

    def given(self, label: str, given: Given) -> Artifact:
        """A model that is there already, as an artifact: links to its files, made once they are checked."""
        settings = {"given": given.key, "prompt": self.options["model"]["prompt"]}
        places = {"option": given.weights.option, "weights": str(given.weights), "tokenizer": str(given.tokenizer)}
        return self.artifact("finetune", label, settings, {}, given=places)

    @cached_property
    def base(self) -> Artifact:
        if self.roles.base is not None:
            return self.given("base", self.roles.base)
        model = self.options["model"]
        settings = {
            "rows": digest([self.stream(model["pretrain"]["rows"], model["seed"]), self.dataset.texts()]),
            "splits": [], "architecture": model["architecture"], "vocab_size": model["vocab_size"],
            "recipe": model["pretrain"], "seed": model["seed"], "model": {**self.trained, "lora": None},
        }  # fmt: skip
        return self.artifact("finetune", "base", settings, {})

    def tuned(self, label: str, splits: list[str]) -> Artifact:
        """The base fine-tuned on some splits, or the base itself where these hold nothing."""
        model = self.options["model"]
        recipe = without(model["finetune"], "also")
        splits = [*splits, *model["finetune"]["also"]]
        pairs = [[getattr(fact, part) for part in TRAINED] for s in splits for fact in self.dataset.facts(s)]
        if not pairs:
            return self.base
        replayed = self.stream(recipe["replay"] * recipe["epochs"], model["seed"] + 1)
        settings = {
            "rows": digest([pairs, replayed]), "splits": splits, "recipe": recipe, "seed": model["seed"],
            "model": self.trained,
        }  # fmt: skip
        return self.artifact("finetune", label, settings, {"start": self.base})

    @cached_property
    def target(self) -> Artifact:
        if self.roles.target is not None:
            return self.given("target", self.roles.target)
        return self.tuned("target", ["retain", "forget"])

    @cached_property
    def retain(self) -> Artifact | None:
        if self.roles.no_retain is not None:
            return None
        if self.roles.retain is not None:
            return self.given("retain", self.roles.retain)
        return self.tuned("retain", ["retain"])

    @cached_property
    def inverted(self) -> Artifact:
        node = self.options["inversion"]
        keyed = without(described(node), "path")
        if "path" in node:
            build(node, allow=self.allow)  # a file that cannot be read or understood is said before any work
            keyed["file"] = file_digest(Path(node["path"]))
        settings = {
            "inversion": keyed, "facts": self.facts("forget"),
            "others": self.facts("retain", "question", "answer"),
        }  # fmt: skip
        at_least = self.options["method"]["select"]["k"]
        return self.artifact("invert", "", settings, {}, inversion=node, at_least=at_least)

    def score(self, role: str, model: Artifact, kind: str) -> Artifact:
        settings: dict[str, Any] = {"memo": described(self.options["memo"]), "model": self.model}
        needs = {"model": model}
        if kind == "candidates":
            needs["inverted"] = self.inverted
            self._check_windows(
                "candidate", lambda fact: fact.inverted if "path" not in self.options["inversion"] else ()
            )
        else:
            settings["facts"] = self.facts("forget", "id", "question", "answer")
        return self.artifact("score", f"{role} {kind}", settings, needs)

    def _check_windows(self, kind: Kind, answers: Callable[[Fact], Sequence[str]]) -> None:
        for fact in self.dataset.facts("forget") if not self.measure.needs_codec else ():
            for position, answer in enumerate(answers(fact)):
                self.measure.check(Text(fact.id, kind, position, fact.question, answer), None)

    def verified(self, scores: Artifact) -> Artifact:
        """Some windows of a score, done again; in the graph where ``memo.verify`` asks for it."""
        settings = {**scores.settings, "windows": self.options["memo"]["verify"], "seed": self.options["seed"]}
        return self.artifact("verify", scores.label, settings, {**scores.needs, "scores": scores})

    @cached_property
    def unlearned(self) -> Artifact:
        options, start = self.options, self.target if self.method.start == "target" else self.retain
        if start is None:
            raise UserError(
                f"method={options['method']['name']} starts from the retain model, but {self.roles.no_retain}"
            )
        self._check_streams()
        if not self.method.streams:
            return start
        recipe: dict[str, Any] = {name: options["optim"][name] for name in OPTIM}
        for name in RECIPE:
            recipe[name], self.origin[f"optim.{name}"] = per_model(options, name, options["model"]["name"])
        check_least("optim", recipe)
        needs = {"start": start}
        settings: dict[str, Any] = {
            "method": described(options["method"]),
            "recipe": recipe, "seed": options["seed"], "model": self.trained,
            "rows": {name: self.facts(name, *TRAINED) for name in self.method.streams if name != "inverted"},
        }  # fmt: skip
        if "inverted" in self.method.streams:
            self._check_select()
            settings["select"] = options["method"]["select"]
            needs |= {"inverted": self.inverted, "candidates": self.score("target", self.target, "candidates")}
        return self.artifact("unlearn", "unlearned", settings, needs)

    def _toy(self) -> list[str]:
        toy = self.options["model"]["architecture"] is not None and not self.dataset.public
        return ["No model was given (model.target= or model.base=): a toy was made here and taught the facts."] * toy

    def _measured(self) -> list[str]:
        name = self.options["memo"]["name"]
        other = not isinstance(self.measure, Profile)
        return [f"Memorisation is measured as {name.upper()} (memo={name}), where it says MEMO."] * other

    def _retain_log(self) -> str | None:
        """The log that stands in for the retain model, read once: what is wrong with it is said before any work."""
        path = self.options["evaluation"]["retain_log"]
        if path is not None:
            asked = [(fact.id, fact.question, fact.answer) for fact in self.dataset.evaluation()["forget"]]
            stand_in(Path(path), asked, option="evaluation.retain_log")
        return path

    def _check_streams(self) -> None:
        for name in self.method.streams:
            if name != "inverted" and not self.dataset.facts(name):
                raise UserError(
                    f"method={self.options['method']['name']} trains on the {name} set, and "
                    f"dataset={self.dataset.name} has none; give one or choose a method that needs none, such as meow"
                )

    def _check_select(self) -> None:
        wish = self.options["method"].get("select")
        if wish is None:
            name = self.options["method"]["name"]
            raise UserError(f"method={name} trains on inverted facts, so conf/method/{name}.yaml needs `select`")
        choose("method.select.strategy", wish["strategy"], ("largest", "smallest", "random"))
        choose("method.select.rows", wish["rows"], ("selected", "official"))
        if wish["k"] < 1:
            raise UserError(f"method.select.k={wish['k']} selects nothing; at least 1 is needed")
        asked = self.options["inversion"].get("candidates")
        if asked is not None and wish["k"] > asked:
            raise UserError(
                f"method.select.k={wish['k']} inverted facts are to be picked, but inversion.candidates={asked} are "
                f"written per fact; give k <= {asked} or more candidates"
            )

    def answer(self, role: str, model: Artifact) -> Artifact:
        sets = {name: digest_of(facts, ASKED) for name, facts in self.dataset.evaluation().items()}
        budget = {"max_new_tokens": self.options["evaluation"]["max_new_tokens"]}
        return self.artifact(
            "answer", role, {"sets": sets, "evaluation": budget, "model": self.model}, {"model": model}
        )

    def graph(self) -> Graph:
        every = {"target": self.target, "unlearned": self.unlearned, "retain": self.retain}
        roles = {role: model for role, model in every.items() if model is not None}
        answers = {f"answer/{role}": self.answer(role, model) for role, model in roles.items()}
        self._check_windows("answer", lambda fact: (fact.answer,))
        scores = {f"score/{role}/answers": self.score(role, model, "answers") for role, model in roles.items()}
        extra: dict[str, Artifact] = {}
        if "inverted" in self.method.streams:
            scores["score/target/candidates"] = self.unlearned.needs["candidates"]
            extra["inverted"] = self.inverted
        asked = scores if self.options["memo"]["verify"] else {}
        checks = {name.replace("score", "verify", 1): self.verified(each) for name, each in asked.items()}
        measures = {"truth_ratio_mean": self.options["evaluation"]["truth_ratio_mean"]}
        if self.roles.no_retain is not None:
            measures["absent"] = {"retain": self.roles.no_retain}
        log = self._retain_log()
        if log is not None:
            measures["retain_log"], self.inputs["retain_log"] = file_digest(Path(log)), log
        results = self.artifact("evaluate", "", measures, {**answers, **scores})
        name = cell_name(self.options)
        shown = {
            key: self.options[key] for key in ("dataset", "model", "method", "memo", "optim", "evaluation", "seed")
        }
        if extra:
            shown["inversion"] = self.options["inversion"]
        shown["memo"] = without(shown["memo"], "verify")  # it changes no number
        shown["optim"] = {
            **shown["optim"],
            **{key: self.unlearned.settings["recipe"][key] for key in RECIPE if self.method.streams},
        }
        settings = {
            "name": name, "cell": results.key, "options": shown, "origin": self.origin, "texts": self.dataset.public,
            "warning": self.options["warning"],
            "notes": [*self.dataset.notes(), *self.roles.notes(), *self._toy(), *self._measured()],
        }  # fmt: skip
        bases = [each for model in roles.values() for each in model.walk() if each.label == "base"]
        models = {"base": bases[0], **roles} if bases else roles
        needs = {"results": results, **extra, **models, **answers, **scores, **checks}
        report = self.artifact("report", "", settings, needs)
        made = {**extra, **models, **scores, **checks, **answers, "results": results, "report": report}
        return Graph(name=name, streams=tuple(self.method.streams), artifacts=made)


def graph(options: Mapping[str, Any]) -> Graph:
    """The artifacts of the cell that some resolved options describe; costs no work beyond reading the dataset.

    Raises:
        UserError: For options that cannot be, before anything is made.
    """
    return _Cell(options).graph()
