"""unlearn: train the start model with the method on its streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.encoding import encode, training_segments
from meow_lightning.data.refusals import with_refusals
from meow_lightning.distributed import device, rank
from meow_lightning.errors import UserError
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.carry_over import SAME, carry_over
from meow_lightning.stages.common.checkpoint_selection import evaluation_curve, restore_best
from meow_lightning.stages.common.loading import load_dataset, load_for_training
from meow_lightning.stages.common.reference_model import Weights, add_reference_logps, reference_model
from meow_lightning.stages.common.resuming import drop_damaged
from meow_lightning.stages.common.training import optim, save, train
from meow_lightning.store.jsonl import read_lines, write_lines
from meow_lightning.types import Encoded, Method, Segments

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from transformers import PreTrainedModel

    from meow_lightning.data.batch_plan import BatchPlan
    from meow_lightning.data.prompting import PromptEncoder

VERSION = 4
MAKES = ("model/config.json", "model/tokenizer_config.json")
CURVE_SLOTS = 64  # largest generation batch while training occupies the memory


def run(work: StageContext) -> None:
    """Write ``model/`` and, for methods that train on inverted facts, ``selected.jsonl``.

    A later round trains again from the start model, on the inverted facts selected in earlier rounds and those selected
    from the new ones. If nothing is new, the model of the previous round is carried over.
    """
    if "previous" in work.needs and not any(read_lines(work.needs["candidate_scores"] / "scores.jsonl")):
        work.warn("no new inverted facts to train on: the previous round's model is kept")
        return carry_over(work)
    if rank() == 0:
        (work.folder / SAME).unlink(missing_ok=True)  # may be left by a killed run without new candidates
    drop_damaged(work)
    from meow_lightning.training.module import TrainingModule

    method = instantiate(work.settings["method"], allow=work.inputs["allow"])
    model, codec = load_for_training(work, work.needs["start"] / "model")
    # Some methods need the device's kernels to prepare the model.
    model.to(device(work.runtime.accelerator))  # type: ignore[arg-type]
    method.prepare(model, work.settings["seed"])
    plan = _plan(work, codec, method, model)
    model.train()
    module = TrainingModule(
        model=model, method=method, plan=plan, optim=optim(work, plan),
        log_every=work.runtime.log_every, reference=reference_model(work, method, model),
    )  # fmt: skip
    model = train(work, module, pad_id=codec.pad_id, callbacks=_probes(work, codec, plan))
    restore_best(work, model, steps_per_epoch=plan.steps_per_epoch)
    return save(work, model, codec, finish=lambda plain: method.finalize(plain, Weights(work.needs["start"] / "model")))


def _plan(work: StageContext, codec: PromptEncoder, method: Method, model: PreTrainedModel) -> BatchPlan:
    from meow_lightning.data.batch_plan import BatchPlan, StreamData

    recipe, source = work.settings["recipe"], load_dataset(work)
    texts: dict[str, list[Segments]] = {}
    for name in method.streams:
        if name == "inverted":
            picked = _select(work)
            texts[name] = [Segments(row["question"], row["answer"]) for row in picked]
        elif name == "idk":
            texts[name] = [Segments(*pair) for pair in with_refusals(source.facts("forget"), work.settings["seed"])]
        elif name in method.paired and method.streams[0] == "inverted":
            truth = {example.id: example.segments for example in source.facts(name)}
            texts[name] = [truth[row["fact"]] for row in picked]
        else:
            texts[name] = training_segments(source.facts(name))

    def planned(rows: dict[str, list[Encoded]]) -> BatchPlan:
        return BatchPlan(
            streams={name: StreamData(rows=each) for name, each in rows.items()},
            global_batch_size=recipe["global_batch_size"], batch_tokens=recipe.get("batch_tokens"),
            epochs=recipe["epochs"], seed=work.settings["seed"], paired=method.paired,
        )  # fmt: skip

    rows = {name: encode(codec, text) for name, text in texts.items()}
    plan = planned(rows)  # fail on an impossible plan before the start model is evaluated
    if method.reference not in ("logprobs", "both"):
        return plan
    return planned({
        name: each if name == "retain" else add_reference_logps(work, model, each, name=name, pad_id=codec.pad_id)
        for name, each in rows.items()
    })  # fmt: skip


def _select(work: StageContext) -> list[dict]:
    """Select inverted facts by their MEMO scores, one row each, and write ``selected.jsonl`` for the report.

    A fact with fewer candidates than ``method.select.k`` contributes all of them.

    Raises:
        UserError: A fact has too few, and ``inversion.on_shortage`` does not allow that.
    """
    from meow_lightning.memo.select import layout, select

    selection = work.settings["select"]
    inverted = {(row["fact"], row["position"]): row for row in read_lines(work.needs["filtered"] / "inverted.jsonl")}
    earlier = read_lines(work.needs["previous"] / "selected.jsonl") if "previous" in work.needs else ()
    picked: dict[str, list[int]] = {row["fact"]: row["positions"] for row in earlier}
    new = candidates(work)
    for fact in dict.fromkeys(fact for fact, _ in inverted) if "previous" not in work.needs else new:
        scored = new.get(fact, [])
        k = min(selection["k"], len(scored))
        if k < selection["k"] and work.inputs.get("on_shortage", "warn") not in ("warn", "few"):
            raise UserError(
                f"fact {fact} has {len(scored)} inverted facts that can be measured, fewer than method.select.k="
                f"{selection['k']}; set inversion.on_shortage=warn to train on those, or lower method.select.k"
            )
        if not k:
            continue
        scores = [row["score"] for row in scored]
        chosen = select(scores, k=k, strategy=selection["strategy"], seed=work.settings["seed"], fact=fact)
        picked[fact] = [*picked.get(fact, ()), *(scored[i]["position"] for i in chosen)]
    write_lines(work.folder / "selected.jsonl", [{"fact": fact, "positions": each} for fact, each in picked.items()])
    return [
        inverted[fact, position] for fact, each in picked.items() for position in layout(each, rows=selection["rows"])
    ]


def candidates(work: StageContext) -> dict[str, list[dict]]:
    """Read the new scored candidates, by fact."""
    rows: dict[str, list[dict]] = {}
    for row in read_lines(work.needs["candidate_scores"] / "scores.jsonl"):
        rows.setdefault(row["fact"], []).append(row)
    return rows


def _probes(work: StageContext, codec: PromptEncoder, plan: BatchPlan) -> list[pl.Callback]:
    return [*_memo_curve(work, codec, plan), *evaluation_curve(work, codec, steps_per_epoch=plan.steps_per_epoch)]


def _memo_curve(work: StageContext, codec: PromptEncoder, plan: BatchPlan) -> list[pl.Callback]:
    """Build the probe of the ``memo`` measure on a fixed sample of the forget set, if ``callbacks`` enables it."""
    import random

    from meow_lightning.generation.batch_size import AdaptiveBatchSize
    from meow_lightning.memo.measure import true_answer
    from meow_lightning.training.callbacks.memo import MemoProbe

    every = work.runtime.memo_every_steps or plan.steps_per_epoch * work.runtime.memo_every_epochs
    if not every or not work.runtime.memo_facts:
        return []
    forget = load_dataset(work).facts("forget")
    node = work.inputs["memo"]
    sample = random.Random(0).sample(forget, min(work.runtime.memo_facts, len(forget)))
    return [
        MemoProbe(
            codec=codec, texts=[true_answer(example) for example in sample],
            by=instantiate(node, allow=work.inputs["allow"], name=node["name"]),
            slots=AdaptiveBatchSize(
                min(work.runtime.generation_batch_size or CURVE_SLOTS, CURVE_SLOTS), note=work.warn
            ),
            every=every,
        )
    ]  # fmt: skip
