# ruff: noqa: T201
"""Beside open-unlearning: every shared number of evaluation, losses and gradients, in one run.

    git clone https://github.com/locuslab/open-unlearning FOLDER      (the protocol follows d3d7cf9, December 2025)
    OMP_NUM_THREADS=1 python benchmarks/beside_open_unlearning.py --checkout FOLDER --prompt chat
    MEOW_DATA_DIR=DATA OMP_NUM_THREADS=1 python benchmarks/beside_open_unlearning.py --checkout FOLDER --rows 40
    ... --model MODEL --steps 4         a model of yours with a chat template, in the place of the tiny one
    ... --questions paraphrased         TOFU's other words, its question_key=paraphrased_question
    ... --rounds 3                      CPU-seconds of evaluation and steps too, taking turns

Its metric functions, datasets, collator and trainers are imported from FOLDER/src. Metrics are called with the
arguments of its configs/eval/tofu_metrics under our evaluation.protocol=open_unlearning, losses on the same batch (each
program tokenizes it, ours as that protocol does). They need scikit-learn beside this project's packages. Three things
are put in their way: a tokenizer whose chat template gives a list of ids, as before transformers 5, no
lm-evaluation-harness, and no deepspeed.

The models are tiny Llamas trained here for some steps, or MODEL after them: one on retain rows and half of the forget
and the holdout rows, one on retain rows alone, so that neither all nor nothing is known; the second is also the frozen
start model of the losses. The rows are TOFU's forget01 where MEOW_DATA_DIR names a folder, else those that this project
ships. Printed: number, ours, theirs, difference; `gradient/...` is 1 and 1 + the norm of the gradients' difference over
that of ours. The exit status is 1 where a difference is above 1e-5 (of numbers above 1, above that share of them, since
both compute in float32) and has no known cause. Not compared: models with dropout, which open-unlearning takes gradient
norms with, and runs in bfloat16, its default on a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from beside_losses import batch_of, compare
from beside_speed import ratios
from open_unlearning_peer import Numbers, Theirs, source_of
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
from meow_lightning.evaluation.suite.inputs import SideInputs
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.models.load import load_codec, load_model
from meow_lightning.models.logprobs import answer_logps
from meow_lightning.models.tiny import llama, tokenizer_from
from meow_lightning.types import AnswerRow, Encoded, Fact

ALLOWED = 1e-5
SIZE: dict[str, int] = {"hidden_size": 96, "layers": 2, "heads": 4, "intermediate_size": 192, "context": 512}
VOCABULARY, RATE, OWN_RATE, BATCH = 1024, 3e-3, 2e-5, 8
EXTRA = ("truth_probability", "paraphrase_rouge_l_recall", "perturbed_rouge_l_recall")
CHAT = (
    "{% for turn in messages %}{{ '<|' ~ turn.role ~ '|>\\n' ~ turn.content ~ '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
SETS = ("forget", "retain", "real_authors", "world_facts", "holdout")
KNOWN: Mapping[str, tuple[float, str]] = {
    "membership/gradient_norm_score": (2e-5, "its norms are summed in float32, ours in float64"),
    "membership/min_k_plus_plus_40_score": (
        1e-5,
        "its variance is a difference of float32 sums, ours a sum of squares",
    ),
}
"""Number, to how large a share of it a difference may be, and its cause."""

TokenBatch = dict[str, list[AnswerRow]]


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


def facts_of(rows: int, questions: str = "trained") -> tuple[str, dict[str, list[Fact]]]:
    """(where they are from, the first rows of every evaluation set)."""
    folder = os.environ.get("MEOW_DATA_DIR")
    dataset: Any
    if folder:
        dataset = Tofu(
            split="forget01", folder=f"{folder}/tofu", hub="", retain_authors=None, questions=questions
        )  # fmt: skip
        source = f"TOFU forget01, {questions} questions"
    elif questions != "trained":
        raise UserError("--questions=paraphrased needs TOFU: set MEOW_DATA_DIR to the folder that holds tofu/")
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
    examples: dict[str, Any] = {fact.id: fact for facts in sets.values() for fact in facts}
    values = evaluate(
        rows, {}, truth_ratio_mean="geometric", protocol="open_unlearning",
        side_inputs=SideInputs(extra_metrics=EXTRA, examples=examples),
    ).values["target"]  # fmt: skip
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


def trained(
    codec: PromptEncoder, facts: Sequence[Fact], *, steps: int, seed: int, own: Path | None
) -> Any:  # fmt: skip
    """A tiny Llama after some steps on the facts, or the user's own model."""
    torch.manual_seed(seed)
    model: Any = (
        llama(vocab_size=len(codec.tokenizer), end_id=codec.end_id, pad_id=codec.pad_id, **SIZE)
        if own is None
        else load_model(own, dtype="float32", attention="sdpa")
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE if own is None else OWN_RATE, weight_decay=0.0)
    rows, rng = [codec.encode(fact.question, fact.answer) for fact in facts], Random(seed)
    for _ in range(steps):
        batch = collate(rng.sample(rows, min(BATCH, len(rows))), pad_id=codec.pad_id)
        labels = batch.input_ids_BT.masked_fill(batch.loss_mask_BT == 0, -100)
        model(input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def table(ours: Numbers, theirs: Numbers, causes: Mapping[str, str]) -> tuple[list[str], int]:
    """(lines of the table, how many numbers differ without a known cause); ``causes`` explain any difference."""
    lines, unknown = ["| number | ours | theirs | difference | |", "|---|---|---|---|---|"], 0
    for name, value in theirs.items():
        off = abs(ours[name] - value) if name in ours else float("inf")
        share, cause = KNOWN.get(name, (0.0, ""))
        agrees = off <= ALLOWED * max(1.0, abs(value))
        explained = agrees or name in causes or off <= share * abs(value)
        why = "" if agrees else causes.get(name, cause) if explained else "NOT EXPLAINED"
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
    parser.add_argument("--model", type=Path, help="folder of a model with a chat template, instead of the tiny one")
    parser.add_argument(
        "--questions",
        choices=("trained", "paraphrased"),
        default="trained",
        help="wording of TOFU's questions (trained)",
    )
    parser.add_argument("--rounds", type=int, default=0, help="turns of measuring CPU-seconds; 0 measures none (0)")
    given = parser.parse_args(arguments)
    try:
        source_of(given.checkout)
        with contextlib.redirect_stdout(sys.stderr):  # its modules print what they evaluate
            lines, unknown = compared(given)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    print("\n".join(lines))
    return int(unknown > 0)


def compared(given: argparse.Namespace) -> tuple[list[str], int]:
    """(what is printed, how many numbers differ without a known cause)."""
    source, sets = facts_of(given.rows, given.questions)
    codec, args = _own_codec(given.model) if given.model else _tiny_codec(PROMPTS[given.prompt], sets)
    kept = [fact for name in SETS[1:-1] for fact in sets[name]]
    # half of each side, so that no attack is right or wrong about all rows
    learned = [*sets["forget"][::2], *sets["holdout"][::2]]
    models = {
        role: trained(codec, facts, steps=given.steps, seed=given.seed, own=given.model)
        for role, facts in (("target", [*learned, *kept]), ("retain", kept))
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rows").mkdir()
        theirs = Theirs(given.checkout, Path(folder) / "rows", codec.tokenizer, args)
        its = theirs_of(theirs, models["target"], models["retain"], sets)
        start = copy.deepcopy(models["retain"]).requires_grad_(False)
        rows, batches = _step(theirs, start, codec, sets)
        mine, losses, causes = compare(
            models["target"], start, rows, batches, pad_id=codec.pad_id, hidden=_hides(theirs)
        )
        lines, unknown = table(ours_of(models, codec, sets) | mine, its | losses, causes)
        if given.rounds:
            lines += ratios(theirs, models["target"], start, codec, sets, rows, batches, rounds=given.rounds)
    model = given.model or f"prompt {given.prompt}"
    return [f"{source}, {given.rows} rows a set, {model}, {given.steps} steps\n", *lines], unknown


def _tiny_codec(prompt: Prompt, sets: Mapping[str, Sequence[Fact]]) -> tuple[PromptEncoder, dict[str, Any]]:
    """(codec of a tokenizer trained on the facts, open-unlearning's template arguments)."""
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
    return codec, prompt.args


def _own_codec(folder: Path) -> tuple[PromptEncoder, dict[str, Any]]:
    """The same of the user's model, which is asked in its own chat template."""
    model = load_model(folder, dtype="float32", attention="sdpa")
    prompt = {"template": "chat", "answer_prefix": "", "system": None, "date": None}
    return load_codec(folder, prompt=prompt, model=model), PROMPTS["chat"].args


def _hides(theirs: Theirs) -> bool:
    """Whether open-unlearning's collator takes end tokens for padding."""
    return bool(theirs.tokenizer.pad_token_id == theirs.tokenizer.eos_token_id)


def _step(
    theirs: Theirs, start: Any, codec: PromptEncoder, sets: Mapping[str, Sequence[Fact]]
) -> tuple[dict[str, list[Encoded]], dict[str, Any]]:
    """(our rows, its batches) of the first facts of forget and retain set, paraphrases as alternative answers."""
    forget, retain = sets["forget"][:BATCH], sets["retain"][:BATCH]
    # its template ends an answer with tokens of its own, which our training rows leave out
    encode = PROTOCOLS["open_unlearning"].row
    asked = [encode(codec, fact.question, fact.answer) for fact in forget]
    with torch.inference_mode():
        logps = answer_logps(start, batch_of(asked, pad_id=codec.pad_id, hidden=_hides(theirs))).tolist()
    rows = {
        "forget": [row._replace(reference=logp) for row, logp in zip(asked, logps, strict=True)],
        "retain": [encode(codec, fact.question, fact.answer) for fact in retain],
        "idk": [encode(codec, fact.question, fact.paraphrase or "") for fact in forget],
    }
    batches = {
        "forget": theirs.batch(forget, "answer"), "retain": theirs.batch(retain, "answer"),
        "idk": theirs.batch(forget, "paraphrase"),
    }  # fmt: skip
    return rows, batches


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
