"""Range check shared by the datasets."""

from __future__ import annotations

from meow_lightning.errors import invalid_option


def check_range(option: str, given: object, low: int, high: int | None) -> None:
    """Check that an option is an integer within its range.

    Args:
        option: Name of the option.
        given: Its value; from the command line possibly a fraction or a string.
        low: Smallest allowed value.
        high: Largest allowed value, ``None`` for no limit.

    Raises:
        UserError: The value is out of range or not an integer; the message suggests the nearest allowed value.
    """
    nearest = low
    if isinstance(given, int) and not isinstance(given, bool):
        nearest = max(low, given if high is None else min(given, high))
        if given == nearest:
            return
    expected = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"
    raise invalid_option(option, given, expected, did_you_mean=nearest)
