"""Losses and gradients of the shared methods beside open-unlearning's trainers: the same model and rows."""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from meow_lightning.config.methods import build_method
from meow_lightning.data.batch_plan import counts
from meow_lightning.data.collate import collate, collate_without_targets
from meow_lightning.methods.base import PrepareContext
from meow_lightning.training.module import total_loss
from meow_lightning.types import Encoded, TokenBatch

ALL_POSITIONS = "open-unlearning's divergence covers prompts and padding, ours the answers"
LABELS = "open-unlearning reads the label -100 of prompts and padding as token V - 100, which enters its mean"
UNSHIFTED = "open-unlearning takes the logits at the answer's tokens, which predict the next ones; ours those before"
PRIMITIVE = "ours is the function whose gradient both follow, (p^b - 1) / b; open-unlearning prints sg[p^b] log p"
POSITIONS = "where end tokens are hidden, open-unlearning counts them as positions, our layers do not"
ENTROPY = "open-unlearning's value includes the entropy of its target, which has no gradient"


class Pair(NamedTuple):
    """A method in both programs.

    Attributes:
        trainer: Class of open-unlearning.
        given: Its attributes besides ``gamma``, ``alpha``, ``retain_loss_type`` and the models.
        method: Our method, the name of a file in ``conf/method``.
        options: Its options.
        loss: Why the loss may differ; empty if it may not.
        gradient: Likewise for the gradient.
    """

    trainer: str
    given: Mapping[str, Any]
    method: str
    options: Mapping[str, Any]
    loss: str = ""
    gradient: str = ""


PAIRS = {
    "grad_ascent": Pair("GradAscent", {}, "grad_ascent", {}),
    "grad_diff": Pair("GradDiff", {}, "grad_diff", {}),
    "npo": Pair("NPO", {"beta": 0.1}, "npo_gd", {"beta": 0.1}),
    "simnpo": Pair("SimNPO", {"beta": 4.5, "delta": 0.5, "gamma": 0.125}, "simnpo", {"delta": 0.5}),
    "dpo": Pair("DPO", {"beta": 0.1}, "dpo_gd", {"beta": 0.1}),
    "wga": Pair("WGA", {"beta": 0.7}, "wga", {"beta": 0.7}, loss=PRIMITIVE),
    "satimp": Pair("SatImp", {"beta1": 5.0, "beta2": 1.0, "gamma": 0.1}, "satimp", {}),
    "rmu": Pair("RMU", {"retain_loss_type": "EMBED_DIFF", "steering_coeff": 2.0}, "rmu", {"layer": 1}),
    "ceu": Pair("CEU", {"ignore_first_n_answer_tokens": 0}, "ceu", {"skip_first": False}, loss=ENTROPY),
    "kl": Pair("GradDiff", {"retain_loss_type": "KL"}, "kl", {}, ALL_POSITIONS, ALL_POSITIONS),
    "npo_kl": Pair(
        "NPO", {"beta": 0.1, "retain_loss_type": "KL"}, "npo_kl", {"beta": 0.1}, ALL_POSITIONS, ALL_POSITIONS
    ),
    "undial": Pair("UNDIAL", {"beta": 10.0, "alpha": 0.0}, "undial", {}, LABELS, LABELS),
    "pdu": Pair(
        "PDU", {"preferences": [1.0, 1.0], "retain_loss_eps": 0.3, "primal_dual": False, "loss_names": ("f", "r")},
        "pdu", {"mu0": 1.0, "eta": 0.0}, UNSHIFTED, UNSHIFTED,
    ),
}  # fmt: skip


def trainers() -> Mapping[str, Any]:
    """Import open-unlearning's trainers, whose folder is on the path; deepspeed, which they import, need not be there.

    Raises:
        ImportError: Another package is missing.
    """
    if "deepspeed" not in sys.modules:
        speed: Any = types.ModuleType("deepspeed")
        speed.__spec__ = importlib.machinery.ModuleSpec("deepspeed", None)
        speed.DeepSpeedEngine = type("DeepSpeedEngine", (), {})
        sys.modules["deepspeed"] = speed
    registry: Mapping[str, Any] = importlib.import_module("trainer").TRAINER_REGISTRY
    return registry


def compare(
    model: Any, start: Any, ours: Mapping[str, list[Encoded]], theirs: Mapping[str, Any], *, pad_id: int, hidden: bool
) -> tuple[dict[str, float], dict[str, float], dict[str, str]]:
    """Compute losses and gradients of every pair.

    Args:
        model: The model in training.
        start: The frozen start model.
        ours: Our rows: ``forget``, with the start model's log-probabilities, ``retain`` and ``idk``, which answers the
            questions of ``forget`` otherwise.
        theirs: open-unlearning's batches of the same names, ``input_ids``, ``attention_mask`` and ``labels`` each.
        pad_id: Token id of padding.
        hidden: Whether open-unlearning's collator hides the end tokens of prompts and answers from attention, because
            they are its padding too; ours see them in a run and are hidden here, so that the losses can be compared.

    Returns:
        Our numbers by name, open-unlearning's, and the cause of every difference that is known. The number of a
        gradient is its norm, of the other program's the norm plus that of the difference.
    """
    registry, mine, its, causes = trainers(), {}, {}, {}
    for name, pair in PAIRS.items():
        loss, gradient = ours_of_pair(model, start, pair, ours, pad_id=pad_id, hidden=hidden)
        other, other_gradient = theirs_of_pair(registry[pair.trainer], model, start, pair, theirs)
        mine[f"loss/{name}"], its[f"loss/{name}"] = loss, other
        norm = gradient.norm().item()
        mine[f"gradient/{name}"] = 1.0
        its[f"gradient/{name}"] = 1.0 + (gradient - other_gradient).norm().item() / norm
        counted = POSITIONS if hidden and pair.method == "rmu" else ""
        causes |= {f"loss/{name}": pair.loss or counted, f"gradient/{name}": pair.gradient or counted}
    return mine, its, {name: cause for name, cause in causes.items() if cause}


def batch_of(rows: list[Encoded], *, pad_id: int, hidden: bool) -> TokenBatch:
    """Collate our rows, with their end tokens hidden from attention where open-unlearning hides them."""
    batch = collate(rows, pad_id=pad_id)
    return collate_without_targets(batch, pad_id=pad_id) if hidden else batch


def direction(width: int) -> torch.Tensor:
    """Return RMU's direction of norm 1, the same for both programs."""
    drawn = torch.rand(width, generator=torch.Generator().manual_seed(0))
    return drawn / drawn.norm()


def ours_of_pair(
    model: Any, start: Any, pair: Pair, rows: Mapping[str, list[Encoded]], *, pad_id: int, hidden: bool
) -> tuple[float, torch.Tensor]:
    """Compute our loss and gradient of a pair."""
    method = build_method(pair.method, **pair.options)
    given = {name: rows[name][:1] if pair.method == "rmu" else rows[name] for name in method.streams}
    if pair.method == "rmu":
        method.prepare(PrepareContext(model=model, batches=lambda _: iter(()), seed=0, device=torch.device("cpu")))
    batch = {name: batch_of(each, pad_id=pad_id, hidden=hidden) for name, each in given.items()}
    parts = method.loss(model, batch, start)
    return _gradient(model, total_loss(parts, counts(given)))


def theirs_of_pair(
    trainer: Any, model: Any, start: Any, pair: Pair, batches: Mapping[str, Any]
) -> tuple[float, torch.Tensor]:
    """Call ``compute_loss`` of a trainer that was never set up: it reads nothing else than these attributes."""
    made = trainer.__new__(trainer)
    vars(made).update(
        {"gamma": 1.0, "alpha": 1.0, "retain_loss_type": "NLL", "model": model, "ref_model": start, **pair.given}
    )
    given = {name: dict(batches[name]) for name in ("forget", "retain")}
    if pair.trainer == "DPO":
        given["forget"] = {"original": dict(batches["forget"]), "alternate": dict(batches["idk"])}
    if pair.trainer == "RMU":  # of several rows it averages sums and counts apart; of one, that is the mean
        given = {name: {key: value[:1] for key, value in each.items()} for name, each in given.items()}
        layers = (each.model.layers[pair.options["layer"]] for each in (model, start))
        made.model_module, made.ref_module = layers
        made.control_vec = direction(model.config.hidden_size)[None, None] * pair.given["steering_coeff"]
    made.log = lambda *_: None
    return _gradient(model, made.compute_loss(model, given))


def _gradient(model: Any, loss: torch.Tensor) -> tuple[float, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    found = [
        (weight.new_zeros(weight.shape) if weight.grad is None else weight.grad).double().flatten()
        for weight in model.parameters()
    ]
    model.zero_grad(set_to_none=True)
    return loss.item(), torch.cat(found)
