"""Load what a stage reads: the dataset, facts, models, their prompt encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.encoding import fingerprint
from meow_lightning.data.subset import Limited
from meow_lightning.errors import UserError
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.precision import training_precision
from meow_lightning.store.jsonl import read_lines
from meow_lightning.types import Dataset, Fact

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from meow_lightning.data.prompting import PromptEncoder


def load_dataset(work: StageContext) -> Dataset:
    """The dataset the run names, cut short where the run says so."""
    whole = instantiate(work.inputs["dataset"], allow=work.inputs["allow"])
    found: Dataset = whole if work.inputs["limit"] is None else Limited(dataset=whole, limit=work.inputs["limit"])
    check_unchanged(f"dataset={found.name}", fingerprint(found), work.inputs["content"])
    return found


def check_unchanged(what: str, now: Any, then: Any) -> None:
    """Nothing, when what a stage reads is what the plan has read: results lie under the plan's digests.

    Raises:
        UserError: Somebody changed it in between.
    """
    if now != then:
        raise UserError(f"{what} was changed while the run was on; run again, and what is still right is found")


def load_facts(work: StageContext, splits: Sequence[str]) -> list[Fact]:
    """The facts of some splits, one after the other."""
    source = load_dataset(work)
    return [fact for split in splits for fact in source.facts(split)]


def previous_rounds(work: StageContext) -> dict[str, list[str]]:
    """The inverted facts of the round before, by fact in their order; none in the first round."""
    found: dict[str, list[str]] = {}
    for row in read_lines(work.needs["former"] / "inverted.jsonl") if "former" in work.needs else ():
        found.setdefault(row["fact"], []).append(row["answer"])
    return found


def load_model(work: StageContext, folder: Path) -> tuple[PreTrainedModel, PromptEncoder]:
    """A stored model and its codec, as the settings' ``model`` part says, on the CPU."""
    return _load(work, folder, dtype=work.settings["model"]["dtype"])


def load_for_training(work: StageContext, folder: Path) -> tuple[PreTrainedModel, PromptEncoder]:
    """A stored model about to be trained, in the precision its weights are trained in, with its codec."""
    from meow_lightning.models.lora import with_lora

    wish = work.settings["model"]
    model, its_codec = _load(work, folder, dtype=training_precision(work).trained)
    if wish["lora"] is not None:
        model = with_lora(model, **wish["lora"], dropout=0.0, seed=work.settings["seed"])  # type: ignore[assignment]
    return model, its_codec


def _load(work: StageContext, folder: Path, *, dtype: str) -> tuple[PreTrainedModel, PromptEncoder]:
    from meow_lightning.models.load import load_model

    model = load_model(folder, dtype=dtype, attention=work.settings["model"]["attention"])
    return model, load_encoder(work, folder, model)


def load_encoder(work: StageContext, folder: Path, model: PreTrainedModel) -> PromptEncoder:
    """The codec of a tokenizer folder under the run's prompt."""
    from meow_lightning.models.load import load_codec

    return load_codec(folder, prompt=work.settings["model"]["prompt"], model=model)


def evaluator(work: StageContext) -> tuple[PreTrainedModel, PromptEncoder]:
    """The model under ``needs["model"]`` in evaluation mode on this process's device, and its codec."""
    from meow_lightning.distributed import device

    model, its_codec = load_model(work, work.needs["model"] / "model")
    return model.eval().to(device(work.runtime.accelerator)), its_codec  # type: ignore[arg-type, return-value]
