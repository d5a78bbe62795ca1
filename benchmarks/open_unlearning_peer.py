"""open-unlearning's metrics out of a checkout that the user brings, called one by one."""

from __future__ import annotations

import copy
import importlib
import json
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError
from meow_lightning.evaluation.protocols.registry import PROTOCOLS
from meow_lightning.types import Fact

Numbers = dict[str, float]


class Theirs:
    """open-unlearning's metrics, called one by one.

    Args:
        checkout: Folder of the repository.
        folder: Where rows are written for its datasets.
        tokenizer: The models' tokenizer.
        args: Its ``template_args``.

    Raises:
        UserError: The folder holds no such repository, or a package is missing.
    """

    def __init__(self, checkout: Path, folder: Path, tokenizer: Any, args: Mapping[str, Any]) -> None:
        source = source_of(checkout)
        harness: Any = types.ModuleType("evals.lm_eval")
        harness.LMEvalEvaluator = type("LMEvalEvaluator", (), {})
        sys.modules["evals.lm_eval"] = harness  # wants a package that no metric here needs
        sys.path.insert(0, str(source))
        try:
            self.registry = importlib.import_module("evals.metrics").METRICS_REGISTRY
            self.data, self.collators = (importlib.import_module(f"data.{name}") for name in ("qa", "collators"))
            self.mia = importlib.import_module("evals.metrics.mia.utils").mia_auc
            self.reference = importlib.import_module("evals.metrics.mia.reference").ReferenceAttack
        except ImportError as error:
            raise UserError(f"--checkout={checkout}: {error}; install that package beside this project's") from error
        self.folder, self.args = folder, dict(args)
        self.tokenizer = copy.deepcopy(tokenizer)
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        template = self.tokenizer.apply_chat_template
        self.tokenizer.apply_chat_template = lambda *given, **named: template(*given, **named, return_dict=False)

    def metric(self, name: str, model: Any, **given: Any) -> dict[str, Any]:
        """What a metric function returns."""
        found: dict[str, Any] = self.registry[name]._metric_fn(model, **given)
        return found

    def on(self, facts: Sequence[Fact], answer: str, *, generate: bool = False) -> dict[str, Any]:
        """Dataset, collator and batch size of one set, of true answers, paraphrases or wrong ones."""
        path = self.folder / f"{answer}-{len(list(self.folder.iterdir()))}.jsonl"
        rows = [{"question": fact.question, "answer": getattr(fact, answer)} for fact in facts]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        data = self.data.QADataset(
            {"path": "json", "data_files": str(path), "split": "train", "cache_dir": str(self.folder.parent / "cache")},
            self.args, self.tokenizer, predict_with_generate=generate,
        )  # fmt: skip
        side = "left" if generate else "right"
        collator = self.collators.DataCollatorForSupervisedDataset(self.tokenizer, padding_side=side, index="index")
        return {"data": data, "collators": collator, "batch_size": PROTOCOLS["open_unlearning"].batch_size}

    def probability(self, model: Any, facts: Sequence[Fact], answer: str) -> dict[str, Any]:
        """Its ``probability`` of one column."""
        return self.metric("probability", model, **self.on(facts, answer))

    def set_numbers(self, model: Any, name: str, facts: Sequence[Fact]) -> tuple[Numbers, dict[str, Any]]:
        """(numbers of one evaluation set, its truth ratios)."""
        options = name in ("real_authors", "world_facts")
        true, wrong = self.probability(model, facts, "answer"), self.probability(model, facts, "perturbed")
        correct = true if options else self.probability(model, facts, "paraphrase")
        how = "closer_to_1_better" if name == "forget" else "true_better"
        ratio = self.metric("truth_ratio", model, aggregator=how, pre_compute={"correct": correct, "wrong": wrong})
        if options:
            true = self.metric("probability_w_options", model, pre_compute={"correct": true, "wrong": wrong})
        rouge = self.rouge(model, facts, "answer")
        ones = [each["rouge1_recall"] for each in rouge["value_by_index"].values()]
        found = {
            "probability": true["agg_value"], "rouge_l_recall": rouge["agg_value"],
            "rouge_1_recall": sum(ones) / len(ones), "truth_ratio": ratio["agg_value"],
        }  # fmt: skip
        if name == "forget":
            for mine, its in (("exact_memorisation", "memorization"), ("extraction_strength", None)):
                metric = f"exact_{its}" if its else mine
                found[mine] = self.metric(metric, model, **self.on(facts, "answer"))["agg_value"]
        given = {"correct": correct, "wrong": wrong}
        found["truth_probability"] = self.metric(
            "truth_ratio", model, aggregator="prob_mean", pre_compute=given
        )["agg_value"]  # fmt: skip
        for mine, column in (("paraphrase", "paraphrase"), ("perturbed", "perturbed")):
            if column == "perturbed" or not options:
                found[f"{mine}_rouge_l_recall"] = self.rouge(model, facts, column)["agg_value"]
        return {f"{name}/{number}": float(value) for number, value in found.items()}, ratio

    def rouge(self, model: Any, facts: Sequence[Fact], answer: str) -> dict[str, Any]:
        """Its ``rouge`` of greedy answers against one column; configs/generation/default.yaml."""
        from omegaconf import OmegaConf

        settings = {"do_sample": False, "top_p": None, "temperature": None, "max_new_tokens": 200, "use_cache": True}
        return self.metric(
            "rouge", model, **self.on(facts, answer, generate=True), tokenizer=self.tokenizer,
            generation_args=OmegaConf.create(settings), rouge_type="rougeL_recall",
        )  # fmt: skip

    def batch(self, facts: Sequence[Fact], answer: str) -> dict[str, Any]:
        """Its training batch of some facts: ``input_ids``, ``attention_mask`` and ``labels``."""
        given = self.on(facts, answer)
        made = given["collators"]([given["data"][place] for place in range(len(facts))])
        return {name: made[name] for name in ("input_ids", "attention_mask", "labels")}

    def attacks(self, model: Any, retain: Any, forget: Sequence[Fact], holdout: Sequence[Fact]) -> Numbers:
        """AUC of every attack, and the mean score of the forget set, of which more is seen."""
        sides = {"forget": self.on(forget, "answer"), "holdout": self.on(holdout, "answer")}
        both = {name: side["data"] for name, side in sides.items()}
        given = {**sides["forget"], "data": both}
        more: dict[str, dict[str, Any]] = {
            "loss": {}, "zlib": {"tokenizer": self.tokenizer}, "min_k": {"k": 0.4}, "min_k_plus_plus": {"k": 0.4},
            "gradnorm": {"p": 2, "batch_size": 1},
        }  # fmt: skip
        found = {name: self.metric(f"mia_{name}", model, **{**given, **extra}) for name, extra in more.items()}
        found["reference"] = self.mia(
            self.reference, model, data=both, collator=given["collators"], batch_size=given["batch_size"],
            reference_model=retain,
        )  # fmt: skip
        mine = {f"membership/{OURS_OF.get(name, name)}": value for name, value in found.items()}
        scores = {f"{name}_score": value["forget"]["agg_value"] for name, value in mine.items()}
        return {f"{name}_auc": float(value["agg_value"]) for name, value in mine.items()} | scores


OURS_OF = {"min_k": "min_k_40", "min_k_plus_plus": "min_k_plus_plus_40", "gradnorm": "gradient_norm"}


def source_of(checkout: Path) -> Path:
    """The folder of open-unlearning's modules in a checkout of it.

    Raises:
        UserError: There are none.
    """
    source = checkout / "src"
    if not (source / "evals" / "metrics" / "memorization.py").is_file():
        raise UserError(
            f"--checkout={checkout} holds no src/evals/metrics/memorization.py; give the folder of a clone of "
            "github.com/locuslab/open-unlearning"
        )
    return source
