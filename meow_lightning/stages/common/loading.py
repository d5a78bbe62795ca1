"""Load the inputs of a stage: the dataset, facts, models and their prompt encoders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.encoding import fingerprint
from meow_lightning.data.examples import Dataset, Example
from meow_lightning.data.requests import during_request
from meow_lightning.data.subset import LimitedDataset
from meow_lightning.errors import UserError
from meow_lightning.methods.base import BaseMethod
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.precision import training_precision
from meow_lightning.stages.common.stored_method import has_own_inference, method_of
from meow_lightning.stages.results.filter import FilterResult
from meow_lightning.stages.results.model import model_folder
from meow_lightning.types import Fact

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from meow_lightning.data.prompting import PromptEncoder


def load_dataset(work: StageContext) -> Dataset:
    """Load the run's dataset, cut to ``limit`` if it is set; during a request, as it is then.

    Raises:
        UserError: It has changed since planning.
    """
    full = instantiate(work.inputs["dataset"], allow=work.inputs["allow"])
    limit = work.inputs["limit"]
    dataset: Dataset = full if limit is None else LimitedDataset(dataset=full, limit=limit)
    dataset = during_request(dataset, work.inputs)
    check_unchanged(f"dataset={dataset.name}", fingerprint(dataset), work.inputs["content"])
    return dataset


def check_unchanged(what: str, now: Any, then: Any) -> None:
    """Check that an input has not changed since planning: results are stored under the digests of the plan.

    Args:
        what: The input, for the message.
        now: Its digest now.
        then: Its digest at planning.

    Raises:
        UserError: It has changed.
    """
    if now != then:
        raise UserError(f"{what} changed during the run; run again: results that are still valid are reused")


def load_examples(work: StageContext, split: str) -> list[Example]:
    """Load the examples of a split."""
    return [*load_dataset(work).facts(split)]


def load_facts(work: StageContext, split: str) -> list[Fact]:
    """Load the facts of a split, without its passages, which have no question."""
    return [example for example in load_examples(work, split) if isinstance(example, Fact)]


def previous_rounds(work: StageContext) -> dict[str, list[str]]:
    """Read the inverted facts of the previous round, by fact and in order; empty in the first round."""
    previous = work.needs.get("previous_filtered")
    return FilterResult.read(previous).answers if previous else {}


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A stored model on the CPU.

    Attributes:
        method: The method that reads it; the base class for a plain checkpoint.
        model: What the method loaded; for a plain checkpoint, the model itself.
        codec: Its prompt encoder.
    """

    method: BaseMethod
    model: Any
    codec: PromptEncoder

    def inference(self) -> torch.nn.Module:
        """Return the model that answers, in evaluation mode; the only door of everything that evaluates a model."""
        return self.method.inference(self.model).eval()


def load_stored(work: StageContext, folder: Path, *, dtype: str) -> StoredModel:
    """Load a stored model, of whatever method, as the ``model`` settings describe.

    Args:
        work: The stage's context.
        folder: Folder of the model.
        dtype: Precision of its weights.

    Raises:
        UserError: It cannot be loaded, or its method is of a package that is not trusted.
    """
    method = method_of(folder, allow=work.inputs.get("allow", ()))
    model = method.load(folder, dtype=dtype, attention=work.settings["model"]["attention"])
    return StoredModel(method, model, load_encoder(work, folder, model))


def load_for_training(work: StageContext, folder: Path) -> tuple[PreTrainedModel, PromptEncoder]:
    """Load a stored model for training, in the precision of trained weights, with its prompt encoder.

    Raises:
        UserError: The model is used through its method, so its weights alone are not what would be unlearned.
    """
    stored = load_stored(work, folder, dtype=training_precision(work).trained)
    if has_own_inference(stored.method):
        raise UserError(
            f"{work.stage} {work.label}: the model to start from answers through {type(stored.method).__name__}, so "
            "its weights cannot be trained by another method; start from a plain model"
        )
    return with_adapters(work, stored.model), stored.codec


def with_adapters(work: StageContext, model: PreTrainedModel) -> PreTrainedModel:
    """Add the adapters of the ``model`` settings to a model; without any it stays as it is."""
    from meow_lightning.models.lora import with_lora

    lora = work.settings["model"]["lora"]
    if lora is None:
        return model
    return with_lora(  # type: ignore[return-value]
        model, rank=lora["rank"], alpha=lora["alpha"], dropout=0.0, seed=work.settings["seed"]
    )


def load_encoder(work: StageContext, folder: Path, model: PreTrainedModel) -> PromptEncoder:
    """Load the prompt encoder of a tokenizer folder with the run's prompt settings."""
    from meow_lightning.models.load import load_codec

    return load_codec(folder, prompt=work.settings["model"]["prompt"], model=model)


def evaluator(work: StageContext, need: str = "model") -> tuple[PreTrainedModel, PromptEncoder]:
    """Load a model as it answers, on this process's device, and its prompt encoder.

    Args:
        work: The stage's context.
        need: Name of the model among the needs of the stage.
    """
    from meow_lightning.distributed import device

    stored = load_stored(work, model_folder(work.needs[need]), dtype=work.settings["model"]["dtype"])
    return stored.inference().to(device(work.runtime.accelerator)), stored.codec  # type: ignore[return-value]
