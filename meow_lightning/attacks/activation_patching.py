"""Activation patching: whether the hidden states of an unlearned model still carry a fact into the target model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from meow_lightning.attacks.base import LayerAttack, LayerNumber
from meow_lightning.config.ranges import NonNegative
from meow_lightning.config.signature import checked_ranges
from meow_lightning.types import Encoded, Role

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@checked_ranges("attacks")
class ActivationPatching(LayerAttack):
    """Put the output of one layer of another model into the target model, and measure what the target model loses.

    At the positions that predict the value's tokens, layer by layer, with the mean log-probability over these tokens:

        D_l(model) = log p(target) - log p(target with layer l's output taken from the model)

    Layers with D_l(retain) > ``threshold`` hold the fact. Over them, the unlearning depth score of a question
    (arXiv 2605.24614, and its public code) is

        UDS = sum_l clip(D_l(unlearned) / D_l(retain), 0, 1) D_l(retain) / sum_l D_l(retain)

    0 if the unlearned model's states carry the fact as the target model's do, 1 if no more than the retain model's. A
    question without such a layer does not count. The published values have a plain prompt of question and answer, and
    words of TOFU's answers that their authors marked; here the prompt is the run's, and the words are ``value``.

    Args:
        threshold: Loss in nats above which a layer holds the fact, 0 or more.
    """

    version: ClassVar[int] = 1
    patches: ClassVar[bool] = True
    unit: ClassVar[str] = "loss of the target model, nats per token"
    numbers: ClassVar[tuple[LayerNumber, ...]] = (
        LayerNumber(
            name="uds", id="unlearning_depth_score.1", unit="share", direction="higher",
            text="Unlearning depth score: how much of the log-probability of the value's tokens the target model "
            "loses if the output of a layer is taken from this model, as a share of what it loses with the retain "
            "model's, over the layers that hold the fact; mean over the questions with such a layer. 0: the hidden "
            "states carry the fact as the target model's do; 1: no more than the retain model's.",
            label="unlearning depth score (UDS)",
            uncounted="has a layer whose output from the retain model costs the target model anything noticeable",
        ),
    )  # fmt: skip

    def __init__(self, *, threshold: NonNegative) -> None:
        self.threshold = threshold

    def read(
        self, model: PreTrainedModel, rows: Sequence[Encoded], *, target: PreTrainedModel | None, pad_id: int,
        batch: int,
    ) -> Iterator[list[float]]:  # fmt: skip
        """Yield D_l by layer, for every row.

        Raises:
            ValueError: There is no target model, or its layers do not fit those of the model.
        """
        import torch

        from meow_lightning.data.collate import collate
        from meow_lightning.models.layer_states import layer_count, patched_logps, recorded_states

        if target is None or layer_count(target) != layer_count(model):
            raise ValueError("activation patching needs a target model with as many layers as the model")
        for start in range(0, len(rows), batch):
            chunk = rows[start : start + batch]
            padded, sizes = collate(chunk, pad_id=pad_id), [row.scored for row in chunk]
            device = next(model.parameters()).device
            with torch.inference_mode():
                tokens = type(padded)(*(tensor.to(device) for tensor in padded))
                whole = patched_logps(target, tokens, layer=None, states_ND=None)
                lost = [
                    whole - patched_logps(target, tokens, layer=layer, states_ND=states)
                    for layer, states in enumerate(recorded_states(model, tokens))
                ]
            by_row = [torch.stack([each.mean() for each in layer.split(sizes)]) for layer in lost]
            yield from torch.stack(by_row, dim=1).tolist()

    def values(self, role: Role, layers: Mapping[Role, Sequence[float]]) -> dict[str, float | None]:
        """Compute the unlearning depth score where there is a retain model; 0 for the target model."""
        if "retain" not in layers:
            return {}
        retain = layers["retain"]
        own = layers.get(role, [0.0] * len(retain))
        return {"uds": unlearning_depth_score(own, retain, threshold=self.threshold)}


def unlearning_depth_score(unlearned: Sequence[float], retain: Sequence[float], *, threshold: float) -> float | None:
    """Compute the unlearning depth score of one question; see :class:`ActivationPatching`.

    Args:
        unlearned: D_l with the states of the unlearned model, by layer, in nats.
        retain: D_l with those of the retain model.
        threshold: Loss above which a layer holds the fact, in nats.

    Returns:
        0 to 1; ``None`` if no layer holds the fact.
    """
    holding = [(own, lost) for own, lost in zip(unlearned, retain, strict=True) if lost > threshold]
    total = sum(lost for _, lost in holding)
    if total <= 0:
        return None
    return sum(min(max(own / lost, 0.0), 1.0) * lost for own, lost in holding) / total
