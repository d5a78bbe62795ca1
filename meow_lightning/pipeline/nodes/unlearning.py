"""A cell's config to the artifacts of its unlearning: asking, inverting, scoring, unlearning; a loop's round by round.

A loop's rounds are all planned beforehand, so that keys, plans and stores are as of any other cell. A round that gets
nothing new to train costs nothing: its unlearned model and what is measured of it are those of the round before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from meow_lightning.config.instantiate import component_config, instantiate
from meow_lightning.config.recipes import (
    OPTIM,
    RECIPE,
    check_numbers,
    method_recipe,
    training_overrides,
    value_for_model,
)
from meow_lightning.config.schema import Inversion
from meow_lightning.config.validation import check_call, check_measure, check_types
from meow_lightning.data.encoding import content_digest
from meow_lightning.data.refusals import with_refusals
from meow_lightning.errors import UserError, check_choice
from meow_lightning.inversion.local import DATE
from meow_lightning.memo.measure import Kind, Text
from meow_lightning.pipeline.nodes.models import TRAINED, Models
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.integrity import digest as file_digest
from meow_lightning.types import Fact

GIVEN = ("folder", "device", "room")  # what a writer that computes by itself is given when it is at work
KEPT_PARTS = ("question", "answer", "value", "alternatives", "phrasings")  # what rules and cleaning read of kept facts
# A teacher is asked in its own words; the day that chat templates print is pinned.
TEACHER_PROMPT = {"template": "auto", "answer_prefix": "", "system": None, "date": DATE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The artifacts of one round.

    Attributes:
        asked: What a writer said.
        inverted: The inverted facts that are left of it, those of former rounds first.
        candidates: MEMO of those that are new, on the target model.
        unlearned: The target model after training on the selected ones.
        scores: MEMO of the true answers on that model, as the loop measures it.
        answers: What that model says to the forget set; ``None`` in the last round, where nobody is asked after it.
    """

    asked: Artifact
    inverted: Artifact
    candidates: Artifact
    unlearned: Artifact
    scores: Artifact
    answers: Artifact | None


class Rounds(Models):
    """Builds the artifacts of a cell's unlearning, on top of those of its models."""

    @cached_property
    def writer(self) -> Any:
        """The class of who writes inverted facts, its options checked.

        Raises:
            UserError: For options that cannot be.
        """
        node = self.options["inversion"]
        check_types("inversion", {key: node[key] for key in Inversion.__annotations__ if key in node}, Inversion)
        found = check_call("inversion", node, allow=self.allow, **dict.fromkeys(GIVEN))
        # What cannot be read or understood is said before any work.
        instantiate(node, allow=self.allow, **(dict.fromkeys(GIVEN) if found.runs_locally else {}))
        return found

    @cached_property
    def loop(self) -> dict[str, Any] | None:
        """How a loop asks again; ``None`` for a method of one round."""
        wish = self.options["method"].get("rounds")
        if wish is None:
            return None
        name = self.options["model"]["name"]
        if "inverted" not in self.method.streams:
            raise UserError(
                f"method.rounds asks for inverted facts, and method={self.options['method']['name']} trains on none"
            )
        check_numbers(wish["memorized_above"], "method.rounds.memorized_above", float)
        above = value_for_model(wish["memorized_above"], "method.rounds.memorized_above", name)
        return {**wish, "memorized_above": above}

    def asked(self, number: int, former: Round | None) -> Artifact:
        """What a writer says: about every fact in the first round, then about those that are still held."""
        node, loop = self.options["inversion"], self.loop
        unkeyed_options = ("candidates", *self.writer.unkeyed_options)  # how many are wanted is the count
        keyed: dict[str, Any] = {
            key: value for key, value in component_config(node).items() if key not in unkeyed_options
        }
        if "path" in node:
            keyed["file"] = file_digest(Path(node["path"]))
        needs = (
            {"teacher": self.given("teacher", self.roles.teacher(), TEACHER_PROMPT)} if self.writer.runs_locally else {}
        )
        settings: dict[str, Any] = {
            "inversion": keyed, "max_retries_per_fact": node["max_retries_per_fact"], "facts": self.facts("forget"),
            "rounds": None, "count": node.get("candidates"),
        }  # fmt: skip
        # filtering, which decides about which facts the writer is asked again, reads the kept facts
        if self.writer.reads_other_facts or node["max_retries_per_fact"]:
            settings["others"] = self.facts("retain", *KEPT_PARTS)
        if loop is not None:
            settings["count"] = loop["candidates"] or settings["count"]
            every = len(self.dataset.facts("forget")) * (node["max_retries_per_fact"] + 1)
            if (
                loop["max_requests"] is not None and loop["max_requests"] < every
            ):  # else it cannot bind in the first round
                settings["rounds"] = {"max_requests": loop["max_requests"]}
        if loop is not None and former is not None and former.answers is not None:
            settings["rounds"] = {name: loop[name] for name in ("memorized_above", "requery", "max_requests")}
            needs |= {
                "former": former.inverted, "asked": former.asked, "scores": former.scores, "answers": former.answers,
            }  # fmt: skip
        inputs = {
            "inversion": node,
            "runs_locally": self.writer.runs_locally,
            "reuse": self.options["cache"] != "refresh",
        }
        return self.artifact("propose", self._label(number), settings, needs, **inputs)

    def inverted(self, number: int, asked: Artifact, former: Round | None) -> Artifact:
        """What is left of it after cleaning."""
        node, least = self.options["inversion"], self.options["method"]["select"]["k"]
        fill = {"least": least, "candidates": 8, "seed": self.options["seed"]}
        settings = {
            "facts": self.facts("forget"), "fill": fill if node["on_shortage"] == "rules" and not former else None,
            "others": self.facts("retain", *KEPT_PARTS),
        }  # fmt: skip
        needs = {"asked": asked} | ({"former": former.inverted} if former else {})
        return self.artifact(
            "filter", self._label(number), settings, needs, at_least=least, on_shortage=node["on_shortage"]
        )  # fmt: skip

    def check_windows(
        self, kind: Kind, answers: Callable[[Fact], Sequence[str]], *, node: Mapping[str, Any] | None = None
    ) -> None:
        """Nothing, when a measure can cut some answers of every fact: that of ``node``, else that of ``memo``.

        Raises:
            UserError: For the first that it cannot.
        """
        measure = self.measure if node is None else check_measure(node, allow=self.allow)
        for fact in self.dataset.facts("forget") if not measure.needs_codec else ():
            for position, answer in enumerate(answers(fact)):
                measure.check(Text(fact.id, kind, position, fact.question, answer), None)

    @cached_property
    def unlearned(self) -> Artifact:
        """The model after the method: after the last round, where it goes in rounds."""
        if "inverted" in self.method.streams:
            return self.rounds[-1].unlearned
        self._check_streams()
        return self._trained("unlearned", {}) if self.method.streams else self._start()

    @cached_property
    def rounds(self) -> list[Round]:
        """The rounds of a method that trains on inverted facts, one where it has no loop."""
        self._check_streams()
        self._check_select()
        self._check_loop()
        if self.writer.reads_other_facts:
            self.check_windows("candidate", lambda fact: fact.inverted)
        found: list[Round] = []
        last = self.loop["count"] if self.loop else 1
        for number in range(1, last + 1):
            found.append(self._round(number, found[-1] if found else None, last=number == last))
        return found

    def _round(self, number: int, former: Round | None, *, last: bool) -> Round:
        asked = self.asked(number, former)
        inverted = self.inverted(number, asked, former)
        label = self._label(number)
        known = {"known": former.inverted} if former else {}
        candidates = self.score(f"target candidates {label}".strip(), self.target, {"inverted": inverted, **known})
        needs = {"inverted": inverted, "candidates": candidates}
        name = label if label and not last else "unlearned"
        unlearned = self._trained(name, {**needs, **({"before": former.unlearned} if former else {})})
        cut_unit = self.loop["cut_unit"] if self.loop else None
        scores = self.score(f"{name} held", unlearned, {"before": former.scores} if former else {}, cut_unit=cut_unit)
        before = {"before": former.answers} if former and former.answers else {}
        answers = None if last else self.answer(name, unlearned, ("forget",), before)
        return Round(
            asked=asked, inverted=inverted, candidates=candidates, unlearned=unlearned, scores=scores, answers=answers
        )

    def _label(self, number: int) -> str:
        return f"round {number}" if self.loop else ""

    def _start(self) -> Artifact:
        start = self.target if self.method.start == "target" else self.retain
        if start is None:
            raise UserError(
                f"method={self.options['method']['name']} starts from the retain model, but "
                f"{self.roles.retain_missing_reason}"
            )
        return start

    def _trained(self, label: str, needs: dict[str, Artifact]) -> Artifact:
        options = self.options
        recipe: dict[str, Any] = {name: options["optim"][name] for name in OPTIM} | training_overrides(options["optim"])
        for name in RECIPE:
            recipe[name], self.origin[f"optim.{name}"] = method_recipe(options, name, options["model"]["name"])
        settings: dict[str, Any] = {
            "method": component_config(options["method"]),
            "recipe": recipe, "seed": options["seed"], "model": self.trained,
            "rows": {name: self._rows(name) for name in self.method.streams if name != "inverted"},
        }  # fmt: skip
        if needs:
            select = options["method"]["select"]
            settings["select"] = select | {"k": self.loop["k"]} if self.loop and "before" in needs else select
        # In the first round fewer than are to be picked are a mistake unless the run puts up with them.
        inputs = {"on_shortage": self.options["inversion"]["on_shortage"]} if needs and "before" not in needs else {}
        inputs |= {"reference": self.method.reference, "evaluation": options["evaluation"]}
        if options["optim"]["checkpoint"] == "best":
            settings["checkpoint"], needs = self.checkpoint_choice(), {**needs, **self.retain_predictions_needs()}
        return self.artifact("unlearn", label, settings, {"start": self._start(), **needs}, **inputs)

    def _rows(self, name: str) -> str:
        """The digest of what is trained of a stream."""
        if name == "idk":
            return content_digest(with_refusals(self.dataset.facts("forget"), self.options["seed"]))
        return self.facts(name, *TRAINED)

    def _check_streams(self) -> None:
        for name in self.method.streams:
            if name not in ("inverted", "idk") and not self.dataset.facts(name):
                raise UserError(
                    f"method={self.options['method']['name']} trains on the {name} set, and "
                    f"dataset={self.dataset.name} has none; give one or choose a method that needs none, such as meow"
                )

    def _check_select(self) -> None:
        wish = self.options["method"].get("select")
        if wish is None:
            name = self.options["method"]["name"]
            raise UserError(f"method={name} trains on inverted facts, so conf/method/{name}.yaml needs `select`")
        check_choice("method.select.strategy", wish["strategy"], ("largest", "smallest", "random"))
        check_choice("method.select.rows", wish["rows"], ("selected", "official"))
        each = self.loop["candidates"] if self.loop else None
        asked = each or self.options["inversion"].get("candidates")
        if asked is not None and wish["k"] > asked:
            option = "method.rounds.candidates" if each else "inversion.candidates"
            raise UserError(
                f"method.select.k={wish['k']} inverted facts are to be picked, but {option}={asked} are "
                f"written per fact; give k <= {asked} or more candidates"
            )

    def _check_loop(self) -> None:
        loop, name = self.loop, self.options["inversion"]["name"]
        if loop is None:
            return
        if loop["cut_unit"] is not None and "cut_unit" not in self.options["memo"]:
            name = self.options["memo"]["name"]
            raise UserError(
                f"method.rounds.cut_unit={loop['cut_unit']} is for MEMO, and memo={name} counts in tokens; say null"
            )
        if loop["cut_unit"] is not None:
            node = {**self.options["memo"], "cut_unit": loop["cut_unit"], "stride": 1}
            self.check_windows("answer", lambda fact: (fact.answer,), node=node)
        facts = len(self.dataset.facts("forget"))
        if loop["max_requests"] is not None and loop["max_requests"] < facts:
            raise UserError(
                f"method.rounds.max_requests={loop['max_requests']} cannot ask about each of the {facts} facts "
                f"once; give {facts} or more"
            )
        if self.options["method"]["select"]["rows"] == "official" and loop["count"] > 1:
            raise UserError(
                "method.select.rows=official trains four rows of a fact at most, so what a loop adds would not be "
                "trained; say method.select.rows=selected or method.rounds.count=1"
            )
        if not self.writer.can_retry and loop["count"] > 1:
            raise UserError(
                f"method={self.options['method']['name']} asks for further inverted facts, and inversion={name} has "
                "nothing more to say; say inversion=rules, local or endpoint, or method=meow"
            )
        count = loop["candidates"] or self.options["inversion"].get("candidates")
        if count is not None and loop["k"] > count:
            raise UserError(
                f"method.rounds.k={loop['k']} inverted facts are to be picked in a round, and {count} are written in "
                f"it; give k <= {count} or more candidates"
            )
