"""The tokens of an answer that carry its fact."""

from __future__ import annotations

from collections.abc import Sequence

from meow_lightning.data.examples import Example, expected_texts
from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.data.values.matching import value_pattern
from meow_lightning.types import Encoded


def value_row(codec: PromptEncoder, example: Example) -> Encoded | None:
    """Encode an example up to the end of its value: the tokens of the value are scored, all before are the prompt.

    Of several values, the first one that the answer contains counts. A token that only begins or ends in the value
    belongs to it. What follows the value is cut off: it does not change what a causal model predicts before.

    Args:
        codec: The model's prompts and tokens.
        example: The question with its true answer.

    Returns:
        The row; ``None`` if the example marks no value, or none that occurs in its answer.
    """
    expected = expected_texts(example)
    match = next((found for each in expected if (found := value_pattern(each).search(example.answer))), None)
    if match is None:
        return None
    row = codec.encode(*example.segments)
    before, until = (codec.partial_ids(example.question, example.answer[:end]) for end in match.span())
    start, end = _shared(row.ids, before), _shared(row.ids, until)
    end += end < len(until)  # a token that goes on after the value is encoded otherwise where the text ends with it
    return Encoded(ids=row.ids[: max(end, start + 1)], prompt=start)


def _shared(first: Sequence[int], second: Sequence[int]) -> int:
    """Count the tokens with which both begin."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count
