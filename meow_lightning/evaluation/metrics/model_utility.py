"""Model utility: harmonic mean of nine metrics off the forget set (TOFU, Maini et al. 2024, section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping

from meow_lightning.errors import UserError
from meow_lightning.types import Definition

INPUTS = tuple(
    f"{name}/{number}"
    for name in ("retain", "real_authors", "world_facts")
    for number in ("probability", "rouge_l_recall", "truth_ratio")
)
"""The nine metrics that model utility averages; none comes from the forget set."""

DEFINITION = Definition(
    name="model_utility",
    id="model_utility.1",
    unit="share",
    direction="higher",
    text="Harmonic mean of probability, ROUGE-L recall and truth ratio on retain set, real authors and world facts.",
)


def model_utility(numbers: Mapping[str, float]) -> float:
    """Compute ``9 / sum_i 1/x_i`` over the nine ``INPUTS``, 0 to 1; one zero makes it 0.

    Args:
        numbers: At least the nine inputs by name, each 0 to 1; others are ignored.

    Raises:
        UserError: An input is missing.
    """
    missing = [name for name in INPUTS if name not in numbers]
    if missing:
        raise UserError(f"model utility combines nine metrics; missing: {', '.join(missing)}. Evaluate those sets too")
    inputs = [numbers[name] for name in INPUTS]
    if 0.0 in inputs:
        return 0.0
    return len(inputs) / sum(1.0 / number for number in inputs)
