"""The node `probe`: what the target model answers, for a dataset whose splits depend on it; and such a dataset."""

from __future__ import annotations

from pathlib import Path

from meow_lightning.config.schema import RunConfig
from meow_lightning.data.encoding import digest_of
from meow_lightning.data.probed import ProbedDataset, probed_dataset
from meow_lightning.errors import UserError
from meow_lightning.pipeline.nodes.context import BuildContext
from meow_lightning.pipeline.nodes.models import provided_model
from meow_lightning.stages.probe import ASKED_FIELDS
from meow_lightning.stages.results.probe import ProbeResult
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store


def probed_context(config: RunConfig) -> tuple[BuildContext, Artifact | None, bool]:
    """Load the components of a run, with the splits that follow from the target model's answers.

    Args:
        config: The options.

    Returns:
        The context; the model's answers, ``None`` if the dataset does not depend on them; and whether the splits are
        final: while the answers are not in the store, every question counts as known.

    Raises:
        UserError: A component rejects its arguments, or no target model is given to ask.
    """
    planned = BuildContext.of(config)
    dataset = probed_dataset(planned.dataset)
    if dataset is None:
        return planned, None, True
    probe = _probe(planned, dataset)
    store = Store(root=Path(config.store), cache=config.cache)
    if store.find(probe) is None:
        return planned, probe, False
    return BuildContext.of(config, probed=str(ProbeResult.path(store.path(probe)).resolve())), probe, True


def _probe(ctx: BuildContext, dataset: ProbedDataset) -> Artifact:
    target = ctx.roles.target
    if target is None:
        raise UserError(
            f"dataset={dataset.name} asks a model which facts it knows, so it needs model.target=FOLDER (the model), "
            "such as model=own model.target=./my-model"
        )
    settings = {
        "questions": digest_of(dataset.questions(), ASKED_FIELDS), "probe": dataset.probe_settings()._asdict(),
        "model": ctx.inference_settings,
    }  # fmt: skip
    model = provided_model(ctx, "target", target, ctx.config.model.prompt.plain())
    return ctx.artifact("probe", "target", settings, {"model": model})
