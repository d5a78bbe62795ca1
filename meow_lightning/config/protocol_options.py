"""Options of the protocol: whether facts are forgotten at once or in requests that arrive one after another."""

from __future__ import annotations

from typing import Annotated, Literal

from meow_lightning.config.options import Options, consistency
from meow_lightning.config.ranges import Range, Seed
from meow_lightning.errors import UserError, invalid_option


class Protocol(Options):
    """``protocol``: whether facts are forgotten at once or in requests that arrive one after another."""

    name: Literal["once", "sequential"]
    """Name of the choice."""
    requests: Annotated[int, Range(2, 1000)] | None
    """Number of requests; null for one per group."""
    group_by: str | None
    """What keeps facts in one request; null to divide them one by one."""
    order: Seed | None
    """Seed of a random order of the requests; null for that of the dataset."""

    @property
    def sequential(self) -> bool:
        """Whether requests arrive one after another."""
        return self.name == "sequential"

    @property
    def suffix(self) -> str:
        """Addition to the name of the method in the name of a run; empty for the default."""
        return f"_{self.name}" if self.sequential else ""

    @consistency
    def _check_requests(self) -> None:
        only_sequential = ("requests", "group_by", "order")
        given = [(name, getattr(self, name)) for name in only_sequential if getattr(self, name) is not None]
        if not self.sequential and given:
            name, value = given[0]
            expected = "null for protocol=once, which forgets all facts at once; set protocol=sequential"
            raise invalid_option(f"protocol.{name}", value, expected)
        if self.sequential and self.requests is None and self.group_by is None:
            raise UserError(
                "protocol=sequential needs protocol.requests (a number of requests) or protocol.group_by (one request "
                "per group); set protocol.requests=4"
            )
