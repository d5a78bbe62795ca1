"""Nodes of requests to forget that arrive one after another: every request unlearns from the model of the one before.

A request is unlearned as a run of its own would unlearn it: by the same nodes, on the dataset as it is then. So each of
its results has a key, and a run that was killed continues at the request that it had reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from meow_lightning.data.encoding import fingerprint
from meow_lightning.data.requests import REQUEST, Request, divide, during_request
from meow_lightning.errors import invalid_option
from meow_lightning.pipeline.graph import Round
from meow_lightning.pipeline.nodes.context import UNLEARNED, BuildContext
from meow_lightning.pipeline.nodes.models import InitialModels
from meow_lightning.pipeline.nodes.predict import predict
from meow_lightning.pipeline.nodes.rounds import build_rounds
from meow_lightning.pipeline.nodes.score import score_answers
from meow_lightning.pipeline.nodes.unlearn import unlearned_model
from meow_lightning.stages.common.sequence_needs import SequenceInputs, ServedInputs
from meow_lightning.stages.common.stored_method import has_own_inference
from meow_lightning.store.artifact import Artifact

JOINT = "joint"


def requests_of(ctx: BuildContext) -> tuple[Request, ...]:
    """Divide the facts to forget among the requests of ``protocol``; empty for a run that forgets them at once.

    Raises:
        UserError: They cannot be divided so, or the method cannot start from the model of an earlier request.
    """
    protocol = ctx.config.protocol
    if not protocol.sequential:
        return ()
    expected = "once: every request starts from the model of the one before, but"
    if ctx.method.start != "target":
        reason = f"{expected} method={ctx.method_name} starts from the retain model"
        raise invalid_option("protocol", protocol.name, reason, did_you_mean="protocol=once")
    if has_own_inference(ctx.method):
        reason = f"{expected} the model of method={ctx.method_name} answers through the method and cannot be trained on"
        raise invalid_option("protocol", protocol.name, reason, did_you_mean="protocol=once")
    return divide(ctx.dataset, requests=protocol.requests, group_by=protocol.group_by, order=protocol.order)


def unlearn_in_rounds(ctx: BuildContext, models: InitialModels) -> tuple[tuple[Round, ...], Artifact]:
    """Build the rounds of the method, if it has any, and the model after unlearning."""
    rounds = build_rounds(ctx, models)
    return rounds, rounds[-1].unlearned if rounds else unlearned_model(ctx, models)


def serve(
    ctx: BuildContext, models: InitialModels, requests: Sequence[Request], joint: Artifact
) -> SequenceInputs[Artifact] | None:
    """Unlearn the requests one after another, and measure the model after each as that of the run is measured.

    Args:
        ctx: The run.
        models: The models before unlearning.
        requests: The requests.
        joint: The model that forgets all facts at once.
    """
    served: list[ServedInputs[Artifact]] = []
    for number, request in enumerate(requests, start=1):
        later = [fact for each in requests[number:] for fact in each.facts]
        _, model = unlearn_in_rounds(_during(ctx, number, request, later), models)
        served.append(_measured(ctx, f"request {number}" if number < len(requests) else UNLEARNED, model))
        models = replace(models, target=model)
    return SequenceInputs(requests=tuple(served), joint=_measured(ctx, JOINT, joint)) if served else None


def _during(ctx: BuildContext, number: int, request: Request, later: Sequence[str]) -> BuildContext:
    """Return the context with the dataset as it is during a request."""
    inputs = {**ctx.inputs, REQUEST: {"forget": list(request.facts), "later": list(later)}}
    dataset = during_request(ctx.dataset, inputs)
    return replace(
        ctx, dataset=dataset, inputs={**inputs, "content": fingerprint(dataset)}, label=f"request {number}"
    )  # fmt: skip


def _measured(ctx: BuildContext, label: str, model: Artifact) -> ServedInputs[Artifact]:
    return ServedInputs(
        model=model, predictions=predict(ctx, label, model), scores=score_answers(ctx, f"{label} answers", model)
    )
