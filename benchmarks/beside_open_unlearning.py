# ruff: noqa: T201
"""`evaluation.protocol=open_unlearning` beside open-unlearning's own metrics: the same models and rows, one run.

    git clone https://github.com/locuslab/open-unlearning FOLDER      (the protocol follows d3d7cf9, December 2025)
    OMP_NUM_THREADS=1 python benchmarks/beside_open_unlearning.py --checkout FOLDER --prompt chat
    MEOW_DATA_DIR=DATA OMP_NUM_THREADS=1 python benchmarks/beside_open_unlearning.py --checkout FOLDER --rows 40

Its metric functions, datasets and collator are imported from FOLDER/src and called with the arguments of its
configs/eval/tofu_metrics; they need scikit-learn beside this project's packages. Two things are put in their way: a
tokenizer whose chat template gives a list of ids, as before transformers 5, and no lm-evaluation-harness.

The models are tiny Llamas trained here for some steps: one on retain rows and half of the forget and the holdout rows,
one on retain rows alone, so that neither all nor nothing is known. The rows are TOFU's forget01 where MEOW_DATA_DIR
names a folder, else those that this project ships. Printed: number, ours, theirs, difference. The exit status is 1
where a difference is above 1e-6 and not among the known ones below. Not compared: models with dropout, which
open-unlearning takes gradient norms with, and runs in bfloat16, its default on a GPU.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import os
import sys
import tempfile
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from options import count

from meow_lightning.data.collate import collate
from meow_lightning.data.fictional import Fictional
from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.data.tofu import Tofu
from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics.membership import ATTACKS, reference_score
from meow_lightning.evaluation.protocols.open_unlearning_metrics import attack_score
from meow_lightning.evaluation.protocols.predict import predict_under_protocol
from meow_lightning.evaluation.protocols.registry import PROTOCOLS, generation_batches
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.models.tiny import llama, tokenizer_from
from meow_lightning.types import AnswerRow, Fact

ALLOWED = 1e-6
SIZE: dict[str, int] = {"hidden_size": 96, "layers": 2, "heads": 4, "intermediate_size": 192, "context": 512}
VOCABULARY, RATE, BATCH = 1024, 3e-3, 8
CHAT = (
    "{% for turn in messages %}{{ '<|' ~ turn.role ~ '|>\\n' ~ turn.content ~ '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
SETS = ("forget", "retain", "real_authors", "world_facts", "holdout")
KNOWN: Mapping[str, tuple[float, str]] = {
    "membership/gradient_norm_score": (2e-5, "its norms are summed in float32, ours in float64"),
}
"""Number, to how large a share of it a difference may be, and its cause."""

TokenBatch = dict[str, list[AnswerRow]]
Numbers = dict[str, float]


class Prompt(NamedTuple):
    """How a question is put, for both programs."""

    template: str  # of Codec
    answer_prefix: str
    pads_with_end: bool  # no padding token of its own, so end tokens inside prompts are hidden
    args: dict[str, Any]  # template_args of open-unlearning's model configs


PROMPTS = {
    "chat": Prompt("chat", "", False, {"apply_chat_template": True}),
    "chat_hidden": Prompt("chat", "", True, {"apply_chat_template": True}),
    "tags": Prompt(
        "Question: {question}\n", "Answer: ", True,
        {
            "apply_chat_template": False, "user_start_tag": "Question: ", "user_end_tag": "\n",
            "asst_start_tag": "Answer: ", "asst_end_tag": "\n\n",
        },
    ),
    "inst": Prompt(
        "[INST] {question} [/INST]", "", False,
        {
            "apply_chat_template": False, "user_start_tag": "[INST] ", "user_end_tag": " [/INST]",
            "asst_start_tag": "", "asst_end_tag": " ",
        },
    ),
}  # fmt: skip


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
        from omegaconf import OmegaConf

        options = name in ("real_authors", "world_facts")
        true, wrong = self.probability(model, facts, "answer"), self.probability(model, facts, "perturbed")
        correct = true if options else self.probability(model, facts, "paraphrase")
        how = "closer_to_1_better" if name == "forget" else "true_better"
        ratio = self.metric("truth_ratio", model, aggregator=how, pre_compute={"correct": correct, "wrong": wrong})
        if options:
            true = self.metric("probability_w_options", model, pre_compute={"correct": true, "wrong": wrong})
        # configs/generation/default.yaml
        settings = {"do_sample": False, "top_p": None, "temperature": None, "max_new_tokens": 200, "use_cache": True}
        rouge = self.metric(
            "rouge", model, **self.on(facts, "answer", generate=True), tokenizer=self.tokenizer,
            generation_args=OmegaConf.create(settings), rouge_type="rougeL_recall",
        )  # fmt: skip
        ones = [each["rouge1_recall"] for each in rouge["value_by_index"].values()]
        found = {
            "probability": true["agg_value"], "rouge_l_recall": rouge["agg_value"],
            "rouge_1_recall": sum(ones) / len(ones), "truth_ratio": ratio["agg_value"],
        }  # fmt: skip
        if name == "forget":
            for mine, its in (("exact_memorisation", "memorization"), ("extraction_strength", None)):
                metric = f"exact_{its}" if its else mine
                found[mine] = self.metric(metric, model, **self.on(facts, "answer"))["agg_value"]
        return {f"{name}/{number}": float(value) for number, value in found.items()}, ratio

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


def facts_of(rows: int) -> tuple[str, dict[str, list[Fact]]]:
    """(where they are from, the first rows of every evaluation set)."""
    folder = os.environ.get("MEOW_DATA_DIR")
    dataset: Any
    if folder:
        dataset, source = Tofu(split="forget01", folder=f"{folder}/tofu", hub="", retain_authors=None), "TOFU forget01"
    else:
        dataset = Fictional(split="forget10", authors=80, candidates=3, phrasings=1, retain_eval=rows, seed=0)
        source = "this project's fictional authors"
    return source, {name: facts[:rows] for name, facts in dataset.evaluation().items()}


def theirs_of(theirs: Theirs, model: Any, retain: Any, sets: Mapping[str, Sequence[Fact]]) -> Numbers:
    """All numbers of a model by open-unlearning, forget quality and privacy leakage against the retain model."""
    found: Numbers = {}
    ratios = {}
    for name in SETS[:-1]:
        numbers, ratios[name] = theirs.set_numbers(model, name, sets[name])
        found |= numbers
    kinds = ("probability", "rouge_l_recall", "truth_ratio")
    nine = {f"{name}/{kind}": {"agg_value": found[f"{name}/{kind}"]} for name in SETS[1:-1] for kind in kinds}
    found["model_utility"] = float(theirs.metric("hm_aggregate", model, pre_compute=nine)["agg_value"])
    _, reference = theirs.set_numbers(retain, "forget", sets["forget"])
    logs = {"retain_model_logs": {"retain": reference}}
    quality = theirs.metric("ks_test", model, pre_compute={"forget": ratios["forget"]}, reference_logs=logs)
    found["forget_quality"] = float(quality["agg_value"])
    pair = sets["forget"], sets["holdout"]
    found |= theirs.attacks(model, retain, *pair)
    auc = theirs.attacks(retain, retain, *pair)["membership/min_k_40_auc"]
    leak = theirs.metric(
        "privleak", model, ref_value=0.5,
        pre_compute={"forget": {"agg_value": found["membership/min_k_40_auc"]}},
        reference_logs={"retain_model_logs": {"retain": {"agg_value": auc}}},
    )  # fmt: skip
    return found | {"privacy_leakage/min_k_40": float(leak["agg_value"]) / 100}


def ours_of(models: Mapping[str, Any], codec: PromptEncoder, sets: Mapping[str, Sequence[Fact]]) -> Numbers:
    """All numbers of the target model under ``evaluation.protocol=open_unlearning``."""
    rows: TokenBatch = {}
    for role, model in models.items():
        rows[role] = []
        for name, facts in sets.items():
            for group in generation_batches("open_unlearning", [len(facts)]):
                asked = [(name, number, facts[number]) for number in group]
                rows[role] += predict_under_protocol(
                    "open_unlearning", model, codec, asked, batch=BATCH, gradients=("forget", "holdout"), progress=None
                )
    values = evaluate(rows, {}, truth_ratio_mean="geometric", protocol="open_unlearning").values["target"]
    mine, retain = ([row for row in rows[role] if row.set == "forget"] for role in ("target", "retain"))
    scores = {
        f"membership/{attack.name}": [attack_score(attack, row) for row in mine]
        for attack in ATTACKS if attack.score is not None
    }  # fmt: skip
    scores["membership/reference"] = [
        reference_score(one.truth.logps, other.truth.logps) for one, other in zip(mine, retain, strict=True)
    ]
    # there a higher score speaks against membership
    return values | {f"{name}_score": -fmean(each) for name, each in scores.items()}


def trained(codec: PromptEncoder, facts: Sequence[Fact], *, steps: int, seed: int) -> Any:
    """A tiny Llama after some steps on the facts."""
    tokenizer = codec.tokenizer
    torch.manual_seed(seed)
    model: Any = llama(vocab_size=len(tokenizer), end_id=codec.end_id, pad_id=codec.pad_id, **SIZE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    rows, rng = [codec.encode(fact.question, fact.answer) for fact in facts], Random(seed)
    for _ in range(steps):
        batch = collate(rng.sample(rows, min(BATCH, len(rows))), pad_id=codec.pad_id)
        labels = batch.input_ids_BT.masked_fill(batch.loss_mask_BT == 0, -100)
        model(input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def table(ours: Numbers, theirs: Numbers) -> tuple[list[str], int]:
    """(lines of the table, how many numbers differ without a known cause)."""
    lines, unknown = ["| number | ours | theirs | difference | |", "|---|---|---|---|---|"], 0
    for name, value in theirs.items():
        off = abs(ours[name] - value) if name in ours else float("inf")
        share, cause = KNOWN.get(name, (0.0, ""))
        explained = off <= ALLOWED or off <= share * abs(value)
        why = "" if off <= ALLOWED else cause if explained else "NOT EXPLAINED"
        unknown += not explained
        mine = f"{ours[name]:.7f}" if name in ours else "none"
        lines.append(f"| {name} | {mine} | {value:.7f} | {off:.1e} | {why} |")
    return lines, unknown


def main(arguments: Sequence[str]) -> int:
    """The exit status: 0, or 1 where something differs or cannot be had."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("--checkout", type=Path, required=True, help="folder of a clone of open-unlearning")
    parser.add_argument("--prompt", choices=sorted(PROMPTS), default="chat", help="how questions are put (chat)")
    parser.add_argument("--rows", type=count, default=16, help="rows of every evaluation set (16)")
    parser.add_argument("--steps", type=count, default=120, help="training steps of each model (120)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (0)")
    given = parser.parse_args(arguments)
    try:
        source_of(given.checkout)
        lines, unknown = compared(given)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    print("\n".join(lines))
    return int(unknown > 0)


def compared(given: argparse.Namespace) -> tuple[list[str], int]:
    """(what is printed, how many numbers differ without a known cause)."""
    prompt = PROMPTS[given.prompt]
    source, sets = facts_of(given.rows)
    texts = [f"{fact.question}\n{fact.answer}" for facts in sets.values() for fact in facts]
    frame = "<|user|>\n<|assistant|>\nQuestion: Answer: [INST] [/INST]"
    tokenizer = tokenizer_from([*texts, frame], vocab_size=VOCABULARY)
    if prompt.template == "chat":
        tokenizer.chat_template = CHAT
    if prompt.pads_with_end:
        tokenizer.pad_token = tokenizer.eos_token
    codec = PromptEncoder(
        tokenizer=tokenizer, template=prompt.template, answer_prefix=prompt.answer_prefix, system=None, date=None,
        context=SIZE["context"], end_ids=frozenset(),
    )  # fmt: skip
    kept = [fact for name in SETS[1:-1] for fact in sets[name]]
    # half of each side, so that no attack is right or wrong about all rows
    learned = [*sets["forget"][::2], *sets["holdout"][::2]]
    models = {
        "target": trained(codec, [*learned, *kept], steps=given.steps, seed=given.seed),
        "retain": trained(codec, kept, steps=given.steps, seed=given.seed),
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rows").mkdir()
        theirs = Theirs(given.checkout, Path(folder) / "rows", tokenizer, prompt.args)
        its = theirs_of(theirs, models["target"], models["retain"], sets)
    lines, unknown = table(ours_of(models, codec, sets), its)
    return [f"{source}, {given.rows} rows a set, prompt {given.prompt}, {given.steps} steps\n", *lines], unknown


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
