"""Evaluation during unlearning: a curve over epochs, and the selection of an epoch on held-out rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from meow_lightning.distributed import barrier, rank
from meow_lightning.errors import UserError
from meow_lightning.evaluation.checkpoint_selection import held_out_rows, numbered
from meow_lightning.evaluation.predictions import by_set
from meow_lightning.evaluation.protocols.registry import counted_rows
from meow_lightning.evaluation.tofu_logs.reader import read_retain_log
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.loading import check_unchanged, load_dataset
from meow_lightning.stages.results.model import SelectedEpoch
from meow_lightning.stages.results.predict import PredictResult
from meow_lightning.store.integrity import digest
from meow_lightning.types import AnswerRow

if TYPE_CHECKING:
    import pytorch_lightning as pl
    import torch

    from meow_lightning.data.prompting import PromptEncoder
    from meow_lightning.training.callbacks.best_checkpoint import BestCheckpoint

SLOTS = 64  # largest generation batch while training occupies the memory


def evaluation_curve(work: StageContext, codec: PromptEncoder, *, steps_per_epoch: int) -> list[pl.Callback]:
    """Build the callback that evaluates the model during training: every epoch to select one, else as configured.

    Args:
        work: The stage's context.
        codec: The model's prompt encoder.
        steps_per_epoch: Optimizer steps of an epoch.
    """
    from meow_lightning.generation.batch_size import AdaptiveBatchSize
    from meow_lightning.training.callbacks.best_checkpoint import BestCheckpoint
    from meow_lightning.training.callbacks.evaluation import EvaluationProbe, PredictionSettings

    selection = work.settings.get("checkpoint")
    epochs = 1 if selection else work.runtime.evaluate_every_epochs
    if not epochs:
        return []
    evaluation: dict[str, Any] = selection or work.inputs["evaluation"]
    share = evaluation["selection_fraction"]
    (work.folder / "resume").mkdir(exist_ok=True)
    if selection:
        restart_if_damaged(work, BestCheckpoint(work.folder / "resume"))
    return [
        EvaluationProbe(
            codec=codec,
            questions=[
                (name, index, fact)
                for name, facts in _facts(work, selection).items()
                for index, fact in enumerate(held_out_rows(name, facts, share))
            ],
            retain=_retain(work, share) if selection else [], every=steps_per_epoch * epochs,
            how=PredictionSettings(
                max_new_tokens=evaluation["max_new_tokens"], batch=work.runtime.eval_batch_size,
                slots=AdaptiveBatchSize(min(work.runtime.generation_batch_size or SLOTS, SLOTS), note=work.warn),
                truth_ratio_mean=evaluation["truth_ratio_mean"],
            ),
            best=BestCheckpoint(work.folder / "resume") if selection else None,
        )
    ]  # fmt: skip


def restart_if_damaged(work: StageContext, best: BestCheckpoint) -> None:
    """Restart an interrupted training whose best epoch cannot be read: it would select another epoch."""
    if rank() == 0 and best.damaged():
        work.warn("the best epoch so far was damaged on the disk, so training was restarted")
        for path in best.folder.iterdir():
            if path.name.startswith(("best", "last")):
                path.unlink()
    barrier(work.runtime.accelerator)


def restore_best(work: StageContext, model: torch.nn.Module, *, steps_per_epoch: int) -> None:
    """Load the weights of the selected epoch into the trained model, and report which epoch it is.

    Args:
        work: The stage's context.
        model: The trained model.
        steps_per_epoch: Optimizer steps of an epoch.

    Raises:
        UserError: No epoch had both forget quality and model utility.
    """
    if "checkpoint" not in work.settings or not work.settings["recipe"]["epochs"]:
        return
    from meow_lightning.training.callbacks.best_checkpoint import BestCheckpoint

    barrier(work.runtime.accelerator)
    best = BestCheckpoint(work.folder / "resume")
    chosen = best.epoch()
    if chosen is None:
        raise UserError(
            "optim.checkpoint=best: no epoch had both forget quality and model utility, so none can be selected; the "
            "training curve shows which is missing; set optim.checkpoint=last to keep the last epoch"
        )
    if rank() == 0:  # the process that saves the model
        best.put(model)
        number = chosen.step // steps_per_epoch
        SelectedEpoch(number, chosen).write(work.folder)
        how = "forgotten" if chosen.forgotten else "the nearest to forgotten, which no epoch reached"
        work.warn(
            f"epoch {number} of {work.settings['recipe']['epochs']} was selected ({how}; on "
            f"the held-out rows: model utility {chosen.utility:.3f}, log10 p {chosen.log10_p:.1f}, answer recall "
            f"{chosen.excess_recall:+.2f} relative to the retain model)"
        )


def _facts(work: StageContext, selection: dict[str, Any] | None) -> dict[str, list[Any]]:
    """Load the evaluation sets; to select an epoch, only the rows that ``evaluation.protocol`` counts."""
    name = selection["protocol"] if selection else "none"
    return {each: counted_rows(name, facts) for each, facts in load_dataset(work).evaluation().items()}


def _retain(work: StageContext, share: float) -> list[AnswerRow]:
    """Read the retain model's predictions on the held-out rows, or those of the log that replaces it."""
    protocol = work.settings["checkpoint"]["protocol"]
    if "retain_predictions" in work.needs:
        rows = list(PredictResult.read(work.needs["retain_predictions"]).rows)
    else:
        log, option = Path(work.inputs["retain_predictions"]), "evaluation.retain_predictions"
        check_unchanged(f"{option}={log}", digest(log), work.settings["checkpoint"]["retain_predictions"])
        forget = counted_rows(protocol, load_dataset(work).evaluation()["forget"])
        rows = read_retain_log(log, [(fact.id, fact.question, fact.answer) for fact in forget], option=option)
    sets = {name: counted_rows(protocol, each) for name, each in by_set(rows).items()}
    return [row for name, each in sets.items() for row in numbered(held_out_rows(name, each, share))]
