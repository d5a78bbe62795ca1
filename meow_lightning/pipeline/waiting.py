"""Waiting for what other processes make: asked for the less often the longer it is, and never in silence."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meow_lightning.resources.format import format_duration
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.lock_holders import Holder
from meow_lightning.store.store import Store

PATIENCE = 1.0  # seconds at most between two looks; a lock on a shared file system is asked of its server
SAY_AFTER = (5.0, 60.0)  # seconds of waiting after which the holder is named
SAY_EVERY = 600.0  # seconds between two words after that


@dataclass
class _Wait:
    since: float
    next: float = 0.0
    said: int = 0
    stopped: bool = False


class Waits:
    """When to ask for locks that others hold, and what to say meanwhile.

    Args:
        store: Whose locks.
        say: Takes a line for people.
    """

    def __init__(self, *, store: Store, say: Callable[[str], None]) -> None:
        self._store, self._say = store, say
        self._waits: dict[str, _Wait] = {}

    def due(self, artifact: Artifact) -> bool:
        """Whether it is time to ask for the lock of a result."""
        wait = self._waits.get(artifact.key)
        return wait is None or time.monotonic() >= wait.next

    def over(self, artifact: Artifact) -> None:
        """Note that the lock is ours now."""
        self._waits.pop(artifact.key, None)

    def refused(self, artifact: Artifact) -> bool:
        """Note that somebody holds the lock; returns whether that is new."""
        now = time.monotonic()
        new = artifact.key not in self._waits
        wait = self._waits.setdefault(artifact.key, _Wait(now))
        passed = now - wait.since
        wait.next = now + min(PATIENCE, passed / 10)
        holder = self._store.holder(artifact)
        stopped = passed >= SAY_AFTER[0] and holder is not None and holder.stopped
        if passed >= _due(wait.said) or stopped > wait.stopped:
            wait.said += passed >= _due(wait.said)
            self._say(waiting_line(artifact, holder, passed, progress(self._store.partial(artifact))))
        wait.stopped = stopped
        return new


def _due(said: int) -> float:
    """After how many seconds of waiting there is something to say for the n-th time, counted from 0."""
    more = max(0, said - len(SAY_AFTER) + 1)
    return SAY_AFTER[min(said, len(SAY_AFTER) - 1)] + more * SAY_EVERY


def waiting_line(artifact: Artifact, holder: Holder | None, passed: float, state: dict[str, Any] | None) -> str:
    """Who is waited for, how far that one is, and what to do where it hangs.

    Args:
        artifact: What is waited for.
        holder: Who makes it.
        passed: Seconds waited so far.
        state: How far it is, as :func:`progress` reads it.
    """
    who = "another process; see status=true" if holder is None else f"{holder.described()}; {holder.remedy()}"
    ago = max(0.0, time.time() - state["time"]) if state else 0.0
    far = f" (at {state['done']} of {state['total']} {state['unit']} {format_duration(ago)} ago)" if state else ""
    return f"{artifact.title}: waiting for {format_duration(passed)}{far} for {who}"


def progress(folder: Path) -> dict[str, Any] | None:
    """How far the stage in a folder is, as ``StageContext.progress`` notes it; ``None`` before it first says so."""
    try:
        found = json.loads((folder / "progress.json").read_bytes())
        return {**found, "time": float(found["time"]), **{name: found[name] for name in ("done", "total", "unit")}}
    except (OSError, ValueError, TypeError, KeyError):
        return None
