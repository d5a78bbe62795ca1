"""Logit lens: decode the hidden states of every layer with the model's own head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from meow_lightning.attacks.base import LayerAttack, LayerNumber
from meow_lightning.config.ranges import Number, Range
from meow_lightning.config.signature import checked_ranges
from meow_lightning.types import Encoded, Role

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@checked_ranges("attacks")
class LogitLens(LayerAttack):
    """Decode the hidden state of every layer with the model's own last norm and head (nostalgebraist 2020).

    At the position before the first token of the value, layer l gives p_l = softmax(head(norm(h_l)))[first token]. A
    model whose last layers alone suppress a fact still shows it below. Per question, with P = max over l of p_l of the
    unlearned, the target and the retain model:

        erasure = 1 - clip((P_unlearned - P_retain) / (P_target - P_retain), 0, 1)

    0 if the model shows the value as the target model does, 1 if no more than the retain model. A question counts if
    P_target - P_retain > ``threshold``. The public code of UDS (arXiv 2605.24614) scores all tokens of the value with
    the target model's norm and head, and weighs layers as UDS does; its numbers are not comparable.

    Args:
        threshold: Difference between the target and the retain model above which a question counts, 0 to 1.
    """

    version: ClassVar[int] = 1
    unit: ClassVar[str] = "probability of the value's first token"
    numbers: ClassVar[tuple[LayerNumber, ...]] = (
        LayerNumber(
            name="probability", id="logit_lens_probability.1", unit="share", direction="lower",
            text="Mean over the questions with a marked value of the largest probability that any layer gives to the "
            "value's first token, decoded by the model's own last norm and head, after the true answer's words before "
            "it.",
            label="logit lens, largest probability", uncounted="marks a value that occurs in its answer",
        ),
        LayerNumber(
            name="erasure", id="logit_lens_erasure.1", unit="share", direction="higher",
            text="Mean of 1 - clip((unlearned - retain) / (target - retain), 0, 1) of these probabilities, over the "
            "questions on which the target model's is noticeably larger than the retain model's. 0: the layers show "
            "the value as those of the target model do; 1: no more than those of the retain model.",
            label="logit lens, erasure",
            uncounted="has a value that the layers of the target model show noticeably better than those of the retain "
            "model",
        ),
    )  # fmt: skip

    def __init__(self, *, threshold: Annotated[Number, Range(0, 1)]) -> None:
        self.threshold = threshold

    def read(
        self, model: PreTrainedModel, rows: Sequence[Encoded], *, target: PreTrainedModel | None, pad_id: int,
        batch: int,
    ) -> Iterator[list[float]]:  # fmt: skip
        """Yield the probability of the value's first token by layer, for every row."""
        import torch

        from meow_lightning.data.collate import collate
        from meow_lightning.models.layer_states import decoded_states, recorded_states

        for start in range(0, len(rows), batch):
            first = [row._replace(ids=row.ids[: row.prompt + 1]) for row in rows[start : start + batch]]
            padded = collate(first, pad_id=pad_id)
            device = next(model.parameters()).device
            with torch.inference_mode():
                tokens = type(padded)(*(tensor.to(device) for tensor in padded))
                logits_NLV = decoded_states(model, recorded_states(model, tokens))  # noqa: N806
                ids = tokens.input_ids_BT[tokens.loss_mask_BT.bool()]
                logps_NLV = logits_NLV.log_softmax(-1)  # noqa: N806
                found = logps_NLV.gather(-1, ids[:, None, None].expand(-1, logps_NLV.shape[1], 1)).squeeze(-1).exp()
            yield from found.tolist()

    def values(self, role: Role, layers: Mapping[Role, Sequence[float]]) -> dict[str, float | None]:
        """Compute the largest probability, and the erasure where there is a retain model."""
        largest = {each: max(found) for each, found in layers.items()}
        values: dict[str, float | None] = {"probability": largest[role]}
        if "retain" in largest:
            values["erasure"] = erasure(
                largest[role], target=largest["target"], retain=largest["retain"], threshold=self.threshold
            )
        return values


def erasure(unlearned: float, *, target: float, retain: float, threshold: float) -> float | None:
    """Compute 1 - clip((unlearned - retain) / (target - retain), 0, 1); ``None`` if target - retain <= threshold.

    Args:
        unlearned: Largest probability over the layers of the unlearned model, 0 to 1.
        target: That of the target model.
        retain: That of the retain model.
        threshold: See :class:`LogitLens`.
    """
    if target - retain <= threshold:
        return None
    return 1 - min(max((unlearned - retain) / (target - retain), 0.0), 1.0)
