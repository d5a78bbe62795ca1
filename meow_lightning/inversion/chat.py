"""A writer whose requests go to a chat model, on a server or in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from meow_lightning.inversion.base import GenerationRequest, GenerationResponse, LoadFacts, ShouldContinue, Writer

# Options of a server that say where, how fast and how much it is asked, but not for what.
SERVER_OPTIONS = ("base_url", "key_env", "concurrency", "requests_per_minute", "timeout", "deadline", "reply_bytes",
                  "retries", "max_requests", "max_total_tokens")  # fmt: skip


class Chat(Protocol):
    """A chat model; see :class:`Writer` for what each method promises."""

    def check(self) -> None:
        """Check that it is usable."""
        ...

    def load(self) -> None:
        """Load the model, if it runs here."""
        ...

    def notes(self) -> tuple[str, ...]:
        """Return caveats about what was written."""
        ...

    def write(
        self, requests: Sequence[GenerationRequest], *, should_continue: ShouldContinue
    ) -> Iterator[GenerationResponse]:
        """Yield the response to each request as soon as it is available."""
        ...


class ChatWriter(Writer):
    """Writer whose requests go to a chat model.

    Args:
        chat: The chat model.
    """

    def __init__(self, chat: Chat) -> None:
        self._chat = chat

    def check(self) -> None:
        """Check that the chat model is usable; see :meth:`Writer.check`."""
        self._chat.check()

    def load(self) -> None:
        """Load the chat model, if it runs here."""
        self._chat.load()

    def notes(self) -> tuple[str, ...]:
        """Return the caveats of the chat model."""
        return self._chat.notes()

    def write(
        self, requests: Sequence[GenerationRequest], *, load_facts: LoadFacts, should_continue: ShouldContinue
    ) -> Iterator[GenerationResponse]:
        """Yield the response to each request as soon as it is available.

        Args:
            requests: The requests.
            load_facts: Unused: a request says all that the model is to know.
            should_continue: Called before each request or batch.

        Raises:
            UserError: The chat model cannot continue; responses yielded before remain valid.
        """
        yield from self._chat.write(requests, should_continue=should_continue)
