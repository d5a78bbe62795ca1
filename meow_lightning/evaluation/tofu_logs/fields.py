"""Values of logs, checked: losses, row numbers, and how errors show what was given."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from meow_lightning.errors import UserError
from meow_lightning.types import Likelihood

MAX_SHOWN = 160  # characters
# Valid range of losses (means of -log p): rounding may leave them slightly below 0, and none reaches a million nats.
_LOWEST, _HIGHEST = -1e-3, 1e6
_ROW_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)


def likelihood(mean_loss: Any, column: str, row: str) -> Likelihood:
    """Convert a mean loss to a likelihood of a single token.

    Args:
        mean_loss: The loss, in nats.
        column: Name of the value in the log, for error messages.
        row: Name of the row, likewise.

    Raises:
        UserError: It is no number, not finite or out of range.
    """
    if isinstance(mean_loss, bool) or not isinstance(mean_loss, int | float):
        raise UserError(f"{row}: {column}={shown(mean_loss)} is invalid: expected a mean loss in nats")
    if not _LOWEST <= mean_loss <= _HIGHEST:  # NaN fails too
        raise UserError(
            f"{row}: {column}={shown(mean_loss)} is invalid: expected a mean loss in nats from 0 to {_HIGHEST:.0f}; "
            "log the loss itself (not its logarithm or probability), and check whether training diverged"
        )
    return Likelihood(ids=(0,), logps=(-float(mean_loss),), hits=(), mean=(), std=())


def check_row_numbers(numbers: Collection[str], where: str) -> None:
    """Check that rows are numbered.

    Args:
        numbers: The keys of a table of rows.
        where: Name of the table, for error messages.

    Raises:
        UserError: A key is no number, or there is none.
    """
    invalid = sorted(number for number in numbers if not _ROW_NUMBER.fullmatch(number))
    if invalid:
        raise UserError(f"{where}: row number {shown(invalid[0])} is invalid: expected 0, 1, 2 and so on")
    if not numbers:
        raise UserError(f"{where} has no rows; remove the part or evaluate that set")


def check_no_gaps(numbers: Collection[str], where: str) -> None:
    """Check that numbered rows begin at 0 and leave none out.

    Args:
        numbers: The keys of a table of rows, each a number.
        where: Name of the table, for error messages.

    Raises:
        UserError: A number is missing.
    """
    missing = next((number for number in range(len(numbers)) if str(number) not in numbers), None)
    if missing is not None:
        raise UserError(
            f"{where}: row {missing} is missing from {len(numbers)} rows up to {max(map(int, numbers))}: expected rows "
            "numbered from 0 without gaps; evaluate that set again"
        )


def listed(table: Mapping[str, Any]) -> str:
    """List the first keys of a table.

    Args:
        table: A table of a log.
    """
    names = [repr(key if len(key) <= MAX_SHOWN else f"{key[:MAX_SHOWN]}…") for key in list(table)[:6]]
    return ", ".join([*names, f"and {len(table) - 6} more"] if len(table) > 6 else names) or "nothing"


def shown(value: Any) -> str:
    """Show a value, cut to a line.

    Args:
        value: Any value of a log.
    """
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
